"""Frozen values by the thousand: the same dataclasses, made in a quarter of the time.

The constructor of a frozen dataclass has to set each field through `object.__setattr__`; for a thousand inputs that
costs as much as fifty signatures. `quick` makes the value as an unfrozen twin with the same slots and turns it into
what it stands for before anyone else can hold it. What comes back is frozen and indistinguishable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, field, fields, make_dataclass
from typing import Any, TypeVar, cast

_Value = TypeVar("_Value")


def quick(kind: Callable[..., _Value]) -> Callable[..., _Value]:
    """Return a constructor of the frozen, slotted dataclass `kind`: the same arguments, the same value.

    kind: without `__post_init__` and default factories; what they do is not done here.
    """
    frozen = cast("Any", kind)

    def freeze(self: object) -> None:
        self.__class__ = frozen

    listed = [(one.name, one.type, field(default=one.default, init=one.init)) for one in fields(frozen)]
    if hasattr(frozen, "__post_init__") or any(one.default_factory is not MISSING for one in fields(frozen)):
        raise TypeError(f"expected a plain dataclass, found {frozen.__name__}")
    return make_dataclass(frozen.__name__, listed, slots=True, eq=False, namespace={"__post_init__": freeze})
