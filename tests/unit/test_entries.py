"""Entries of the money log: each kind comes back as it was; every other shape is refused by code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from custody.canonical import decode, encode
from custody.entries import (
    MAX_ENTRY_BYTES,
    Body,
    Document,
    EntryKind,
    Freeze,
    MoneyEntry,
    Notice,
    Stop,
    StopCause,
    StopStatement,
    Unfreeze,
    Witnessed,
    parse_entry,
    read_freeze,
    read_stop,
    read_unfreeze,
    statements_of,
)
from custody.errors import MalformedError
from custody.release import release_of
from custody.statements import Kind, sign
from tests.fakes.rules import NOW, approval, seed_of, withdrawal
from tests.world import World, make_genesis

WORLD = World(make_genesis())
SPEND = WORLD.spend(WORLD.withdrawal())
APPROVALS = (b"\x01" * 32, b"\x02" * 32)
RELEASE = release_of(SPEND.asked, APPROVALS, SPEND.facts(), SPEND.asked.digest, NOW)
ONE, TWO = b"\x11" * 32, b"\x22" * 32
BODIES: dict[EntryKind, tuple[Body, tuple[bytes, ...]]] = {
    EntryKind.RELEASE: (RELEASE, (SPEND.asked.digest, *APPROVALS)),
    EntryKind.NOTICE: (Notice(ONE), (ONE,)),
    EntryKind.STOP: (Stop(ONE, StopCause.VETO, "dave", TWO), (TWO,)),
    EntryKind.RULE: (Document(ONE), (ONE,)),
    EntryKind.FREEZE: (Document(ONE), (ONE,)),
    EntryKind.UNFREEZE: (Document(ONE), (ONE,)),
    EntryKind.MESSAGE: (Document(ONE), (ONE,)),
    EntryKind.WITNESS: (Witnessed("note\n"), ()),
}
Change = Callable[[dict[str, Any]], object]


def entry(kind: EntryKind) -> MoneyEntry:
    """Return an entry of `kind`."""
    body, names = BODIES[kind]
    return MoneyEntry(kind, NOW, 3, bytes(32), body, ONE if names else b"")


def code_of(kind: EntryKind, change: Change) -> str:
    """Return the code with which the entry is refused after `change`, or OK."""
    document: Any = decode(entry(kind).to_bytes())
    change(document)
    try:
        parse_entry(encode(document))
    except MalformedError as error:
        return error.code
    return "OK"


def test_every_kind_of_entry_is_tested() -> None:
    """A new kind needs a row above."""
    assert set(BODIES) == set(EntryKind)


@pytest.mark.parametrize("kind", EntryKind)
def test_parse_entry_given_to_bytes_returns_the_same_entry(kind: EntryKind) -> None:
    """And it names the statements that must travel with it."""
    assert parse_entry(entry(kind).to_bytes()) == entry(kind)
    assert statements_of(entry(kind)) == BODIES[kind][1]


def test_total_sats_of_a_release_is_what_it_may_cost() -> None:
    """Payments and the largest fee, not the one it pays."""
    assert RELEASE.total_sats == sum(p.amount for p in RELEASE.payments) + SPEND.asked.max_fee_sats


CHANGES: dict[str, tuple[EntryKind, Change, str]] = {
    "an unknown kind": (EntryKind.NOTICE, lambda d: d.update(kind="PAY"), "ENTRY_KIND"),
    "an unknown field": (EntryKind.NOTICE, lambda d: d.update(more=1), "FIELD_UNKNOWN"),
    "an unknown field of the body": (EntryKind.NOTICE, lambda d: d["body"].update(more=1), "FIELD_UNKNOWN"),
    "an unknown field of a release": (EntryKind.RELEASE, lambda d: d["body"].update(more=1), "FIELD_UNKNOWN"),
    "no time": (EntryKind.NOTICE, lambda d: d.pop("time"), "FIELD_MISSING"),
    "a time before all times": (EntryKind.NOTICE, lambda d: d.update(time=-1), "TIME_OUT_OF_RANGE"),
    "a body of another kind": (EntryKind.NOTICE, lambda d: d.update(kind="FREEZE"), "FIELD_MISSING"),
    "an unknown cause": (EntryKind.STOP, lambda d: d["body"].update(cause="mood"), "STOP_CAUSE"),
    "a nameless stop": (EntryKind.STOP, lambda d: d["body"].update(by=""), "FIELD_NAME"),
    "a short digest": (EntryKind.FREEZE, lambda d: d["body"].update(statement="00"), "FIELD_HEX"),
    "a note too long": (EntryKind.WITNESS, lambda d: d["body"].update(note="x" * 16_385), "FIELD_TOO_LONG"),
    "an outpoint of another spelling": (
        EntryKind.RELEASE,
        lambda d: d["body"].update(outpoints=["00" * 32 + ":01"]),
        "OUTPOINT",
    ),
    "an outpoint that is a number": (EntryKind.RELEASE, lambda d: d["body"].update(outpoints=[7]), "FIELD_TYPE"),
    "a payment of minus one": (
        EntryKind.RELEASE,
        lambda d: d["body"].update(payments=[{"script": "00", "sats": -1}]),
        "AMOUNT_OUT_OF_RANGE",
    ),
    "a change index of 2^31": (
        EntryKind.RELEASE,
        lambda d: d["body"].update(change=[{"index": 2**31, "sats": 1}]),
        "FIELD_RANGE",
    ),
    "a relation of nothing": (
        EntryKind.RELEASE,
        lambda d: d["body"].update(relation={"kind": "supersedes", "digests": []}),
        "RELATION",
    ),
    "2,001 outpoints": (
        EntryKind.RELEASE,
        lambda d: d["body"].update(outpoints=["00" * 32 + ":0"] * 2_001),
        "FIELD_TOO_LONG",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_parse_entry_given_one_change_refuses(name: str) -> None:
    """One valid entry, one change, one code."""
    kind, change, code = CHANGES[name]
    assert code_of(kind, lambda _: None) == "OK"
    assert code_of(kind, change) == code


def test_parse_entry_given_too_many_bytes_refuses() -> None:
    """By its size, before it is read."""
    with pytest.raises(MalformedError, match="ENTRY_TOO_LARGE"):
        parse_entry(b" " * (MAX_ENTRY_BYTES + 1))


VETO = StopStatement(bytes(32), ONE, StopCause.VETO, "dave", NOW)


def test_read_stop_given_a_veto_or_a_reject_returns_who_and_why() -> None:
    """A reject is an approval that says so."""
    said, signed = approval(withdrawal(), "bob")

    assert read_stop(sign(Kind.STOP, VETO.to_json(), seed_of("dave"))) == VETO
    rejected = {**said.to_json(), "decision": "reject"}  # type: ignore[dict-item]
    assert read_stop(sign(Kind.APPROVAL, rejected, seed_of("bob"))).cause is StopCause.REJECT
    for wrong, code in (
        (signed, "STOP_CAUSE"),
        (sign(Kind.FREEZE, VETO.to_json(), seed_of("dave")), "STATEMENT_KIND"),
        (sign(Kind.STOP, replace(VETO, cause=StopCause.REJECT).to_json(), seed_of("dave")), "STOP_CAUSE"),
    ):
        with pytest.raises(MalformedError) as raised:
            read_stop(wrong)
        assert raised.value.code == code


def test_read_freeze_and_unfreeze_given_what_was_signed_return_it() -> None:
    """Ids are sorted and distinct, and there is at least one."""
    freeze = Freeze(bytes(32), b"\x05" * 16, "dave", NOW)
    unfreeze = Unfreeze(bytes(32), (b"\x05" * 16, b"\x06" * 16), NOW)

    assert read_freeze(sign(Kind.FREEZE, freeze.to_json(), seed_of("dave"))) == freeze
    assert read_unfreeze(sign(Kind.UNFREEZE, unfreeze.to_json(), seed_of("erin"))) == unfreeze
    for ids in ((), unfreeze.freeze_ids[::-1], unfreeze.freeze_ids[:1] * 2):
        with pytest.raises(MalformedError, match="FREEZE_IDS"):
            read_unfreeze(sign(Kind.UNFREEZE, replace(unfreeze, freeze_ids=ids).to_json(), seed_of("erin")))
    with pytest.raises(MalformedError, match="STATEMENT_KIND"):
        read_freeze(sign(Kind.UNFREEZE, freeze.to_json(), seed_of("dave")))
    with pytest.raises(MalformedError, match="STATEMENT_KIND"):
        read_unfreeze(sign(Kind.FREEZE, unfreeze.to_json(), seed_of("dave")))
