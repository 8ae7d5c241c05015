"""The event log copied off this host, each entry at least once: what a restored database lacks is there.

Lines are those of an export (entries, and in front of them the bodies that they name), so that one reader takes all. A
file says itself how far it is, a crash's cut line included; for other collectors the store remembers it.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

import structlog

from coordinator.clock import Clock
from coordinator.collectors import Collector, FileCollector
from coordinator.exporting import named_in
from coordinator.store.port import Store
from custody.audit import Log
from custody.audit.export import body_line, entry_line, read_entry_line
from custody.canonical import decode
from custody.errors import CustodyError, MalformedError
from custody.fields import Fields

STREAM_SECONDS = 1.0
MAX_WAIT_SECONDS = 60.0  # a collector that is back is noticed within a minute
LAG_ALARM = 10_000  # entries; the stream is broken rather than slow
_BATCH_BYTES = 256 * 1024  # of entries; their bodies come on top
_TAIL_BYTES = 4 * 1024 * 1024  # holds the last whole line: a body of at most 3 MiB, or an entry
_MAX_DOUBLINGS = 6
log = structlog.get_logger("coordinator")


@dataclass(frozen=True, slots=True)
class Lag:
    """What a collector has not taken yet. entries: how many events.  oldest_s: age of the first of them in seconds."""

    entries: int = 0
    oldest_s: int = 0


class EventStream:
    """Copies the event log to one collector.

    size: events that it took.  lag: what it did not, as last told in the log (`stream.lag`).

    Args:
        store: where the events are, and the position of what is no file.
        collector: who takes them.
        clock: for the age of what waits.
        size: how many it took before.
    """

    def __init__(self, store: Store, collector: Collector, clock: Clock, size: int) -> None:
        self._store, self._collector, self._clock = store, collector, clock
        self.size = size
        self.lag = Lag()

    async def step(self) -> int:
        """Hand over what is missing; return how many entries that were. Raises what the collector raises."""
        began = self.size
        while (head := self._store.head(Log.EVENT).size) > self.size:
            entries = await self._store.entries(Log.EVENT, self.size, head, _BATCH_BYTES)
            bodies = await self._store.bodies(sorted({digest for raw in entries for digest in named_in(raw)}))
            lines = [body_line(body) for body in bodies.values()]  # first: an entry that was taken has its bodies there
            lines += [entry_line(raw, self.size + at, Log.EVENT) for at, raw in enumerate(entries)]
            await self._collector.take(lines)
            taken = self.size + len(entries)
            if not isinstance(self._collector, FileCollector):
                await self._store.remember(position_name(self._collector), str(taken).encode())
            self.size = taken
        return self.size - began

    async def run(self) -> None:
        """Stream until cancelled; a collector that does not take it is tried again, less and less often."""
        failures = 0
        while True:
            try:
                await self.step()
                failures = 0
            except (OSError, CustodyError) as error:
                failures += 1
                reason = error.code if isinstance(error, CustodyError) else type(error).__name__
                log.error("stream.failed", collector=self._collector.name, error=reason, failures=failures)
            await self.tell_lag()
            await asyncio.sleep(wait_after(failures))

    async def tell_lag(self) -> Lag:
        """Return what waits, and log it where it is not what was told last."""
        try:
            lag = await self._measured()
        except CustodyError as error:
            log.error("stream.lag_unknown", collector=self._collector.name, error=error.code)
            return self.lag
        if lag != self.lag:
            self.lag = lag
            log.info("stream.lag", collector=self._collector.name, entries=lag.entries, oldest_s=lag.oldest_s)
            if lag.entries > LAG_ALARM:
                log.error("stream.behind", collector=self._collector.name, entries=lag.entries)
        return lag

    async def _measured(self) -> Lag:
        waiting = self._store.head(Log.EVENT).size - self.size
        if waiting <= 0:
            return Lag()
        oldest = (await self._store.entries(Log.EVENT, self.size, self.size + 1, _BATCH_BYTES))[0]
        return Lag(waiting, max(0, self._clock.now() - Fields(decode(oldest), "event").time("time")))


async def open_stream(store: Store, collector: Collector, clock: Clock) -> EventStream:
    """Return the stream to `collector`, going on where it stopped. Raises UnavailableError STORE_UNREADABLE."""
    if isinstance(collector, FileCollector):
        return EventStream(store, collector, clock, await asyncio.to_thread(_streamed, collector.path))
    kept = await store.recall(position_name(collector))
    return EventStream(store, collector, clock, 0 if kept is None else int(kept))


def position_name(collector: Collector) -> str:
    """Return under which name the store remembers how far a collector is; another address begins anew."""
    return f"stream/{collector.name}/{hashlib.sha256(collector.address.encode()).hexdigest()[:32]}"


def wait_after(failures: int) -> float:
    """Return how many seconds to wait after so many failures in a row."""
    return min(MAX_WAIT_SECONDS, STREAM_SECONDS * 2.0 ** min(failures, _MAX_DOUBLINGS))


def _streamed(path: Path) -> int:
    """Return how many events the file holds: one more than the index of its last whole entry line."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = file.read().split(b"\n")[:-1]
    for line in reversed(lines):
        try:
            found = read_entry_line(line)
        except MalformedError:
            continue
        if found is not None:
            return found[1] + 1
    return 0
