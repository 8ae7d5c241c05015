"""The export file of both logs: what auditors verify offline, read from the store with nothing added."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from coordinator.parts import Parts
from custody.audit import Body, Log, write_export
from custody.canonical import decode
from custody.entries import parse_entry, statements_of
from custody.errors import UnavailableError
from custody.fields import Fields

READ_BYTES = 2 * 1024 * 1024  # one read of the store


async def export_lines(parts: Parts) -> AsyncIterator[bytes]:
    """Yield the lines of an export of all that witnesses vouch for now, with every body that entries name.

    Raises:
        UnavailableError: WITNESSES_MISSING.
    """
    notes: dict[Log, str] = {}
    entries: dict[Log, list[bytes]] = {}
    for log in (Log.MONEY, Log.EVENT):  # the event log last: it covers what money entries say of it
        vouched = await parts.logs.fresh(log)
        if vouched is None:
            raise UnavailableError("WITNESSES_MISSING", "expected enough witnesses' cosignatures")
        notes[log] = vouched.newest
        entries[log] = await _all(parts, log, vouched.size)
    bodies = await _bodies(parts, entries[Log.MONEY], entries[Log.EVENT])
    for line in write_export(parts.genesis.signed, entries, bodies, notes):
        yield line


async def _all(parts: Parts, log: Log, size: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < size:
        found += await parts.store.entries(log, len(found), size, READ_BYTES)
    return found


async def _bodies(parts: Parts, money: Sequence[bytes], events: Sequence[bytes]) -> list[Body]:
    """Return what entries name; a pruned body of an event is left out, which the verifier counts."""
    wanted = {digest for raw in money for digest in statements_of(parse_entry(raw))}
    wanted |= {digest for raw in events for digest in named_in(raw)}
    found = await parts.store.bodies(sorted(wanted))
    return list(found.values())


def named_in(event: bytes) -> tuple[bytes, ...]:
    """Return the digests (32 bytes each) that an event lists in its field "bodies"."""
    if b'"bodies":' not in event:
        return ()
    fields = Fields(decode(event), "event").fields("fields")
    items = fields.items("bodies") if fields.has("bodies") else ()
    return tuple(Fields({"digest": item}, "bodies").hex("digest", 32) for item in items)
