"""One difference between two versions of the rules: where it is, what it does, and the words for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any


class Verdict(Enum):
    """What a change does to the set of payments that could be signed."""

    TIGHTENS = "tightens"
    LOOSENS = "loosens"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. path: "users.alice.groups".  words: for people, what it was and what it is."""

    path: str
    verdict: Verdict
    words: str


def tighter(is_so: bool) -> Verdict:
    """Return TIGHTENS if that was proven, else LOOSENS."""
    return Verdict.TIGHTENS if is_so else Verdict.LOOSENS


def changed(path: str, old: object, new: object, verdict: Verdict = Verdict.LOOSENS) -> Iterator[Change]:
    """Yield the change of one value, where there is one."""
    if old != new:
        yield Change(path, verdict, f"{shown(old)} becomes {shown(new)}")


def changes_of(path: str, old: Any, new: Any, judge: Mapping[str, Callable[[Any, Any], bool]]) -> Iterator[Change]:
    """Yield the changes between two values of one dataclass. judge: by field, whether (new, old) tightens."""
    for field in fields(old):
        mine, theirs = getattr(old, field.name), getattr(new, field.name)
        is_tighter = mine != theirs and field.name in judge and judge[field.name](theirs, mine)
        yield from changed(f"{path}.{field.name}", mine, theirs, tighter(is_tighter))


def pairs(old: Iterable[Any], new: Iterable[Any], key: str = "name") -> Iterator[tuple[str, Any, Any]]:
    """Yield (name, old or None, new or None) for everything that either side lists, in the order of the old."""
    before = {str(getattr(item, key)): item for item in old}
    after = {str(getattr(item, key)): item for item in new}
    for name in [*before, *(name for name in after if name not in before)]:
        if before.get(name) != after.get(name):
            yield name, before.get(name), after.get(name)


def shown(value: object) -> str:
    """Return a value of the document for people."""
    if isinstance(value, bytes):
        return value.hex()[:16]
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return "(" + ", ".join(shown(item) for item in value) + ")"
    if hasattr(value, "__dataclass_fields__"):
        return "{" + ", ".join(f"{f}={shown(getattr(value, f))}" for f in value.__dataclass_fields__) + "}"
    return str(value)
