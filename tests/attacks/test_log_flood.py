"""Filling the disk with the log itself, so that auditing stops (attacks.md section H, 131)."""

from __future__ import annotations

from coordinator.rpc.calls import MAX_EVENTS_A_MINUTE, RecordedCalls, free_text_key
from coordinator.rpc.identity import Identity, Role
from coordinator.store.append import MAX_TEXT_CHARS
from coordinator.store.port import Change, Event
from custody.audit import Log
from tests.fakes.clock import FakeClock
from tests.fakes.store import FakeStore


async def test_atk_131_log_flood_is_bounded_per_field_and_per_peer() -> None:
    """A megabyte in one field is cut, and ten thousand refused calls of one peer leave at most 100 KiB of events."""
    store, clock = FakeStore(), FakeClock()
    await store.record(Change(1, events=(Event("withdrawal.refused", "m" * 10**6, {"found": "x" * 10**6}),)))
    calls = RecordedCalls(store, clock, free_text_key(bytes(32)))
    for number in range(10_000):
        await calls.failed(f"/nowhere/{number}" + "y" * 10_000, Identity(Role.CLIENT, "erp"), "ROLE_DENIED", "ipv4:1:2")

    entries = await store.entries(Log.EVENT, 0, 20_000, 10**9)

    assert len(entries[0]) < 2 * MAX_TEXT_CHARS + 100
    assert len(entries) == 1 + MAX_EVENTS_A_MINUTE
    assert sum(map(len, entries)) < 100 * 1024
