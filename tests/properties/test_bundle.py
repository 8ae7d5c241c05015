"""Any value at any place of a bundle: it is refused by code, or says what it said before. Nothing else comes out."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from custody.bundle import parse_bundle
from custody.errors import CustodyError
from custody.follow import start
from signer_node.judge import Cleared, Moment, Pinned, judge
from tests.world import World, make_genesis

Path = tuple[str | int, ...]
WORLD = World(make_genesis())
SPEND = WORLD.spend(WORLD.withdrawal(), [WORLD.coin(0), WORLD.coin(1, 70_000_000, 1, 5)]).approved_by("bob")
RAW = SPEND.bundle().to_bytes()
DOCUMENT: Any = json.loads(RAW)
VALUES: tuple[Any, ...] = (-1, 2**53 - 1, "", "\u0410", "00" * 32, [], [[]], {"a": 1}, True)


def places(value: Any, at: Path = ()) -> Iterator[Path]:
    """Yield the path to every value inside `value`; of a list the first two."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*at, key))


def put(place: Path, value: Any) -> bytes:
    """Return the bundle's bytes with `value` at `place`."""
    if not place:
        return json.dumps(value).encode()
    changed = copy.deepcopy(DOCUMENT)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return json.dumps(changed, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def judged(raw: bytes) -> object:
    """Return what the judge of alpha says to `raw`, or the code with which it is refused before. Others escape."""
    try:
        me, now = Pinned(WORLD.genesis, "alpha"), Moment(WORLD.now, 0)
        return judge(parse_bundle(raw), me, start(WORLD.genesis), now, (), WORLD.book).outcome
    except CustodyError as error:
        return error.code


def test_judge_given_the_bundle_as_it_was_clears_it() -> None:
    """What is changed below is valid before."""
    assert isinstance(judged(RAW), Cleared)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_judge_given_any_value_at_any_place_refuses_by_code(value: Any) -> None:
    """A bundle is cleared only where the value stood there already."""
    for place in places(DOCUMENT):
        raw = put(place, value)
        if isinstance(judged(raw), Cleared):
            assert raw == RAW, place
