"""The event log copied to a file off this host, each entry at least once: what a restored database lacks is there.

Lines are those of an export (entries, then the bodies that they name), so that one reader takes both. The file itself
says how far it is; a line that a crash cut is written again behind it.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import structlog

from coordinator.exporting import named_in
from coordinator.store.port import LogStore
from custody.audit import Log
from custody.audit.export import body_line, entry_line, read_entry_line
from custody.errors import MalformedError

STREAM_SECONDS = 1.0
LAG_ALARM = 10_000  # entries; the stream is broken rather than slow
_BATCH_BYTES = 1024 * 1024
_TAIL_BYTES = 4 * 1024 * 1024  # holds the last whole line: a body of at most 3 MiB, or an entry
log = structlog.get_logger("coordinator")


class EventStream:
    """Appends to `path`. size: events that are in the file.  lag: events that are not."""

    def __init__(self, store: LogStore, path: Path) -> None:
        self._store, self._path = store, path
        self.size = _streamed(path)

    @property
    def lag(self) -> int:
        """How many durable events are not in the file yet."""
        return max(0, self._store.head(Log.EVENT).size - self.size)

    async def step(self) -> int:
        """Append what is missing, flushed to disk; return how many entries that were."""
        began = self.size
        while self.lag:
            head = self._store.head(Log.EVENT).size
            entries = await self._store.entries(Log.EVENT, self.size, head, _BATCH_BYTES)
            bodies = await self._store.bodies(sorted({digest for raw in entries for digest in named_in(raw)}))
            lines = [body_line(body) for body in bodies.values()]  # first: an entry in the file has its bodies there
            lines += [entry_line(raw, self.size + at, Log.EVENT) for at, raw in enumerate(entries)]
            await asyncio.to_thread(_append, self._path, b"".join(lines))
            self.size += len(entries)
        return self.size - began

    async def run(self) -> None:
        """Stream until cancelled; a full or absent disk is told and tried again."""
        while True:
            try:
                await self.step()
            except OSError as error:
                log.error("stream.failed", error=type(error).__name__, lag=self.lag)
            if self.lag > LAG_ALARM:
                log.error("stream.behind", lag=self.lag)
            await asyncio.sleep(STREAM_SECONDS)


def _append(path: Path, raw: bytes) -> None:
    with path.open("ab") as file:
        if file.tell() and not _ends_whole(path):
            file.write(b"\n")
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


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
