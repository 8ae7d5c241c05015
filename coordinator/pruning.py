"""Retention: bodies that only old events name are removed. No entry and no hash is, and nothing the money log names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from coordinator.exporting import READ_BYTES, named_in
from coordinator.store.port import Change, Event, LogStore
from custody.audit import Log
from custody.canonical import decode
from custody.entries import parse_entry, statements_of
from custody.errors import MalformedError
from custody.fields import Fields

ACTOR = "coordinator"  # whoever runs the command has the database anyway


class PruningStore(LogStore, Protocol):
    """A store that can forget bodies."""

    async def forget(self, digests: Sequence[bytes], change: Change) -> int:
        """Remove those bodies that no session needs, and log `change`, in one transaction; return how many."""
        ...


async def prune(store: PruningStore, before: int, now: int) -> int:
    """Remove the bodies that only events of before `before` (UTC seconds) name; return how many there were.

    What sessions need is kept: the statements of each, and PSBT and transaction of one that may still be paid,
    combined or superseded.

    Raises:
        MalformedError: PRUNE_TIME where `before` is in the future.
    """
    if before > now:
        raise MalformedError("PRUNE_TIME", f"expected a time up to {now}, found {before}")
    old, kept = set[bytes](), set[bytes]()
    async for raw in _all(store, Log.EVENT):
        if named := named_in(raw):
            (old if Fields(decode(raw), "event").time("time") < before else kept).update(named)
    async for raw in _all(store, Log.MONEY):
        kept.update(statements_of(parse_entry(raw)))
    event = Event("bodies.pruned", ACTOR, {"before": before})
    return await store.forget(sorted(old - kept), Change(now, events=(event,)))


async def _all(store: LogStore, log: Log) -> AsyncIterator[bytes]:
    at, size = 0, store.head(log).size
    while at < size:
        for raw in await store.entries(log, at, size, READ_BYTES):
            at += 1
            yield raw
