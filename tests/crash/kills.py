"""SIGKILL a process that writes the store under load, look at what is left, and go on with that same store.

Each kill comes at a moment of chance: in the middle of a batch, of a checkpoint of the write-ahead log, or while a new
store makes its tables. Shared by the test (25 kills) and the soak (1,000).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.session import Stage, deny
from coordinator.store import Change, Event, MoneyBody, Page
from coordinator.store.port import MAX_PAGE
from coordinator.store.sql import SqlStore
from custody.audit import Log
from custody.entries import EntryKind, Notice, parse_entry
from tests.fakes.sessions import NOW, drafted

TASKS = 64
LONGEST_S = 0.15  # of load before a kill: some dozens of commits
KILLS_PER_STORE = 5  # later kills find what earlier ones left; then a new store, so that looking stays fast
START_S = 60.0
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([__name__, "tests.crash.node_kills"])  # imports once: a worker starts in milliseconds


@dataclass(slots=True)
class Told:
    """What the killed processes acknowledged. proposed: digest -> (event index, money index).  denied: event index."""

    proposed: dict[str, tuple[int, int]] = field(default_factory=dict)
    denied: dict[str, int] = field(default_factory=dict)

    def read(self, path: Path) -> int:
        """Take the whole lines of `path`; return how many."""
        lines = path.read_text().rpartition("\n")[0].splitlines()
        for kind, digest, *indices in (line.split() for line in lines):
            if kind == "proposed":
                self.proposed[digest] = (int(indices[0]), int(indices[1]))
            else:
                self.denied[digest] = int(indices[0])
        return len(lines)


def kills(directory: Path, count: int, seed: int) -> Iterator[int]:
    """Kill `count` writers; yield after each how many commits its store has acknowledged so far.

    Raises:
        AssertionError: the store lost, changed or made up something.
        IntegrityError: the store found itself damaged at opening.
    """
    moments = random.Random(seed)  # noqa: S311 (moments to kill at, not keys)
    told = Told()
    for turn in range(count):
        store = directory / f"store-{turn // KILLS_PER_STORE}.db"
        if turn % KILLS_PER_STORE == 0:
            told = Told()
        told.read(_kill_one(store, turn, moments))
        asyncio.run(check(store, told))
        yield len(told.proposed) + len(told.denied)


def _kill_one(store: Path, turn: int, moments: random.Random) -> Path:
    """Start a writer, kill it, return the file of its acknowledgements."""
    acknowledged = store.with_name(f"acknowledged-{turn}")
    acknowledged.touch()
    worker = SERVER.Process(target=_work, args=(str(store), f"r{turn}", str(acknowledged)), daemon=True)
    worker.start()
    if moments.random() < 0.8:  # the rest dies while it starts: in migrations and the check of its logs
        deadline = time.monotonic() + START_S
        while acknowledged.stat().st_size == 0 and worker.is_alive():
            assert time.monotonic() < deadline, "the writer acknowledged nothing"
            time.sleep(0.002)
    time.sleep(moments.uniform(0, LONGEST_S))
    assert worker.is_alive(), f"the writer ended by itself: {worker.exitcode}"
    worker.kill()
    worker.join()
    return acknowledged


async def check(path: Path, told: Told) -> None:
    """Open the store (which recomputes both trees) and compare sessions, entries and acknowledgements."""
    store = await asyncio.to_thread(SqlStore.open, f"sqlite:///{path}")
    try:
        stages = await _stages(store)
        events = await store.entries(Log.EVENT, 0, store.head(Log.EVENT).size, 2**30)
        money = await store.entries(Log.MONEY, 0, store.head(Log.MONEY).size, 2**30)
    finally:
        await store.close()
    for digest, (event, entry) in told.proposed.items():
        assert b'"withdrawal.proposed"' in events[event], digest
        assert parse_entry(money[entry]).body == Notice(bytes.fromhex(digest)), digest
        assert digest in stages, digest
    for digest, event in told.denied.items():
        assert b'"withdrawal.denied"' in events[event], digest
        assert stages[digest] is Stage.DENIED, digest
    denied = sum(stage is Stage.DENIED for stage in stages.values())
    assert denied == sum(b'"withdrawal.denied"' in raw for raw in events)
    assert (len(money), len(events)) == (len(stages), len(stages) + denied)


async def _stages(store: SqlStore) -> dict[str, Stage]:
    stages: dict[str, Stage] = {}
    before = None
    while page := await store.list(frozenset(Stage), Page(MAX_PAGE, before)):
        stages.update({versioned.value.digest.hex(): versioned.value.stage for versioned in page})
        before = page[-1].value.digest
    return stages


def _work(path: str, prefix: str, acknowledged: str) -> None:
    """Write from many tasks until killed; acknowledge one line each, only after the call returned."""
    out = os.open(acknowledged, os.O_WRONLY | os.O_APPEND)

    async def write(store: SqlStore, task: int) -> None:
        number = 0
        while True:
            session = drafted(f"{prefix}-{task}-{number}")
            money = (MoneyBody(EntryKind.NOTICE, Notice(session.digest)),)
            proposed = Change(NOW, money, (Event("withdrawal.proposed", "ops"),))
            made, put = await store.commit(None, session, proposed)
            os.write(out, f"proposed {session.digest.hex()} {put.events[0]} {put.money[0]}\n".encode())
            denied = Change(NOW, events=(Event("withdrawal.denied", "ops"),))
            _, put = await store.commit(made, deny(session, NOW), denied)
            os.write(out, f"denied {session.digest.hex()} {put.events[0]}\n".encode())
            number += 1

    async def main() -> None:
        store = SqlStore.open(f"sqlite:///{path}")
        await asyncio.gather(*(write(store, task) for task in range(TASKS)))

    asyncio.run(main())
