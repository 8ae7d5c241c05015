"""Calls become events: reads by whom, denials and refusals, bounded per peer, with free text as a keyed hash."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.rpc.calls import MAX_EVENTS_A_MINUTE, WINDOW_S, RecordedCalls, free_text_key
from coordinator.rpc.identity import Identity, Role
from custody.audit import Log
from custody.canonical import decode
from custody.errors import UnavailableError
from custody.v1 import audit_pb2, message_pb2, withdrawal_pb2
from tests.fakes.clock import FakeClock
from tests.fakes.store import FakeStore

OLGA = Identity(Role.OPERATOR, "olga")
ALPHA = Identity(Role.SIGNER, "alpha")
GET = "/custody.v1.WithdrawalService/GetWithdrawal"
PEER = "ipv4:203.0.113.7:50123"
KEY = free_text_key(b"\x05" * 32)


class World:
    """A recorder over a store in memory."""

    def __init__(self) -> None:
        self.store, self.clock = FakeStore(), FakeClock()
        self.calls = RecordedCalls(self.store, self.clock, KEY)

    async def events(self) -> list[Any]:
        """Return all events, decoded."""
        return [decode(raw) for raw in await self.store.entries(Log.EVENT, 0, 10_000, 10**9)]


def get(tag: int = 1) -> withdrawal_pb2.GetWithdrawalRequest:
    """Return a request for one withdrawal."""
    return withdrawal_pb2.GetWithdrawalRequest(digest=bytes([tag]) * 32)


async def test_begun_given_read_records_who_and_what_before_the_answer() -> None:
    """A read of a withdrawal says by whom, of which, and no address in clear."""
    world = World()

    await world.calls.begun(GET, OLGA, get(), PEER)

    (event,) = await world.events()
    assert (event["kind"], event["actor"]) == ("withdrawal.read", "operator/olga")
    assert event["fields"]["withdrawal"] == "01" * 32
    assert event["fields"]["address"] == world.calls.keyed("ipv4:203.0.113.7")
    assert "203.0" not in str(event)


async def test_begun_given_read_of_a_message_names_it_as_one() -> None:
    """A message is no withdrawal: stories of withdrawals leave it out."""
    world = World()
    method = "/custody.v1.MessageService/GetMessage"

    await world.calls.begun(method, OLGA, message_pb2.GetMessageRequest(digest=b"\x02" * 32), PEER)

    (event,) = await world.events()
    assert (event["kind"], event["fields"]["message"]) == ("message.read", "02" * 32)
    assert "withdrawal" not in event["fields"]


async def test_begun_given_store_away_raises_so_that_nothing_is_answered() -> None:
    """What cannot be logged is not read; it is recorded once the store is back."""
    world = World()
    world.store.deny["record"] = UnavailableError("STORE_UNWRITABLE", "full")
    with pytest.raises(UnavailableError):
        await world.calls.begun(GET, OLGA, get(), PEER)

    world.store.deny.clear()
    await world.calls.begun(GET, OLGA, get(), PEER)

    assert len(await world.events()) == 1


async def test_begun_given_same_read_again_is_one_event_a_minute() -> None:
    """A page that polls does not fill the log, and the next event counts what was left out."""
    world = World()
    for _ in range(5):
        await world.calls.begun(GET, OLGA, get(), PEER)
    world.clock.advance(WINDOW_S)
    await world.calls.begun(GET, OLGA, get(), PEER)

    events = await world.events()

    assert len(events) == 2
    assert events[1]["fields"]["left_out"] == 4


async def test_begun_given_node_that_follows_the_log_records_nothing() -> None:
    """Nodes read the log all the time; people's reads are events."""
    world = World()
    for identity in (ALPHA, OLGA):
        await world.calls.begun("/custody.v1.AuditService/ListEntries", identity, audit_pb2.ListEntriesRequest(), PEER)

    assert [event["actor"] for event in await world.events()] == ["operator/olga"]


async def test_failed_given_denial_and_refusal_records_each_by_its_kind() -> None:
    """Whoever is not admitted, and whatever a service refuses, is in the log with its code."""
    world = World()
    await world.calls.failed(GET, None, "IDENTITY_MISSING", PEER)
    await world.calls.failed(GET, ALPHA, "ROLE_DENIED", PEER)
    await world.calls.failed(GET, OLGA, "WITHDRAWAL_UNKNOWN", PEER)

    told = [(event["kind"], event["actor"], event["fields"]["code"]) for event in await world.events()]

    assert told == [
        ("call.denied", "unadmitted", "IDENTITY_MISSING"),
        ("call.denied", "signer/alpha", "ROLE_DENIED"),
        ("call.refused", "operator/olga", "WITHDRAWAL_UNKNOWN"),
    ]


async def test_failed_given_store_away_counts_it_and_raises_nothing() -> None:
    """A refusal that cannot be logged is still a refusal: nothing was done."""
    world = World()
    world.store.deny["record"] = UnavailableError("STORE_UNWRITABLE", "full")

    await world.calls.failed(GET, OLGA, "WITHDRAWAL_UNKNOWN", PEER)

    assert world.calls.left_out["operator/olga"] == 1


async def test_keyed_given_another_key_differs() -> None:
    """Free text cannot be guessed back without the coordinator's key."""
    assert World().calls.keyed("x") != RecordedCalls(FakeStore(), FakeClock(), bytes(32)).keyed("x")
    assert len(bytes.fromhex(World().calls.keyed("x"))) == 32


async def test_flood_given_one_peer_is_bounded_and_counted() -> None:
    """One peer that asks a thousand different things in a minute leaves its share of events and a count."""
    world = World()
    for tag in range(1_000):
        request = withdrawal_pb2.GetWithdrawalRequest(digest=tag.to_bytes(32))
        await world.calls.begun(GET, OLGA, request, PEER)
    await world.calls.begun(GET, Identity(Role.CLIENT, "erp"), get(), PEER)
    world.clock.advance(WINDOW_S)
    await world.calls.begun(GET, OLGA, get(), PEER)

    events = await world.events()

    assert len(events) == MAX_EVENTS_A_MINUTE + 2
    assert events[-1]["fields"]["left_out"] == 1_000 - MAX_EVENTS_A_MINUTE
