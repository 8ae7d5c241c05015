"""Values made the quick way are the ordinary ones."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, dataclass, field

import pytest

from custody.quick import quick
from custody.transaction import OutPoint, Transaction, TxIn

OUTPOINT = OutPoint(bytes(range(32)), 7)


def test_quick_given_the_same_arguments_makes_the_same_value() -> None:
    """Equal, of that class and no other, with its defaults, its hash, its words and its copies."""
    plain, made = TxIn(OUTPOINT, sequence=5), quick(TxIn)(OUTPOINT, sequence=5)

    assert type(made) is TxIn
    assert (made, hash(made), repr(made)) == (plain, hash(plain), repr(plain))
    assert pickle.loads(pickle.dumps(made)) == plain  # noqa: S301 - our own bytes
    later = quick(Transaction)(2, (made,), ())
    assert later == Transaction(2, (plain,), ())
    assert later.txid == Transaction(2, (plain,), ()).txid


def test_quick_makes_values_that_nobody_can_change() -> None:
    """Frozen from the moment that anyone holds it."""
    made = quick(OutPoint)(bytes(32), 1)

    with pytest.raises(FrozenInstanceError):
        made.vout = 2  # type: ignore[misc]  # the refusal is what is tested
    with pytest.raises(AttributeError):
        del made.vout
    with pytest.raises(TypeError):
        quick(OutPoint)(bytes(32))  # one is missing


def test_quick_given_a_class_that_does_more_refuses() -> None:
    """What `__post_init__` checks and factories make would be left out."""

    @dataclass(frozen=True, slots=True)
    class Checked:
        number: int

        def __post_init__(self) -> None:
            raise ValueError(self.number)

    @dataclass(frozen=True, slots=True)
    class Listed:
        numbers: tuple[int, ...] = field(default_factory=tuple)

    for kind in (Checked, Listed):
        with pytest.raises(TypeError, match=f"expected a plain dataclass, found {kind.__name__}"):
            quick(kind)
