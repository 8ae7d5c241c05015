"""SIGKILL the process that writes the store under load: every acknowledged commit is there, trees and state agree."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coordinator.session import Stage
from coordinator.store import Page
from coordinator.store.port import MAX_PAGE
from coordinator.store.sql import SqlStore
from custody.audit import Log
from custody.entries import Notice, parse_entry

ROUNDS = 5
TASKS = 64

# Writes from many tasks; acknowledges on stdout, one line each, only after the call returned.
WORKER = """
import asyncio, sys
from coordinator.session import deny
from coordinator.store import Change, Event, MoneyBody
from coordinator.store.sql import SqlStore
from custody.entries import EntryKind, Notice
from tests.fakes.sessions import NOW, drafted

async def write(store, prefix, task):
    for number in range(1_000_000):
        session = drafted(f"{prefix}-{task}-{number}")
        money = (MoneyBody(EntryKind.NOTICE, Notice(session.digest)),)
        made, put = await store.commit(None, session, Change(NOW, money, (Event("withdrawal.proposed", "ops"),)))
        print("proposed", session.digest.hex(), put.events[0], put.money[0], flush=True)
        _, put = await store.commit(made, deny(session, NOW), Change(NOW, events=(Event("withdrawal.denied", "ops"),)))
        print("denied", session.digest.hex(), put.events[0], flush=True)

async def main():
    store = SqlStore.open(sys.argv[1])
    await asyncio.gather(*(write(store, sys.argv[2], task) for task in range(int(sys.argv[3]))))

asyncio.run(main())
"""


def _run_until_killed(directory: Path, turn: int, seconds: float) -> list[list[str]]:
    """Run the worker, kill it `seconds` after its first acknowledgement, return what it acknowledged."""
    acknowledged = directory / "acknowledged"
    with acknowledged.open("wb") as out:
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, f"sqlite:///{directory / 'store.db'}", f"r{turn}", str(TASKS)],
            stdout=out,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )
        deadline = time.monotonic() + 20
        while acknowledged.stat().st_size == 0 and time.monotonic() < deadline and worker.poll() is None:
            time.sleep(0.005)
        time.sleep(seconds)
        worker.send_signal(signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL
    whole = acknowledged.read_text().rpartition("\n")[0]
    return [line.split() for line in whole.splitlines()]


async def _stages(store: SqlStore) -> dict[str, Stage]:
    """Return the stage of every session by digest."""
    stages: dict[str, Stage] = {}
    before = None
    while page := await store.list(frozenset(Stage), Page(MAX_PAGE, before)):
        stages.update({versioned.value.digest.hex(): versioned.value.stage for versioned in page})
        before = page[-1].value.digest
    return stages


@pytest.mark.slow
async def test_store_when_killed_under_load_then_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """Five times: the check at opening passes, acknowledged entries stand where told, sessions match the logs."""
    moments = random.Random(7)  # noqa: S311 (moments to kill at, not keys)
    told: dict[tuple[str, str], tuple[int, ...]] = {}
    for turn in range(ROUNDS):
        lines = _run_until_killed(tmp_path, turn, moments.uniform(0, 0.4))
        assert lines, "the worker acknowledged nothing"
        told.update({(kind, digest): tuple(map(int, indices)) for kind, digest, *indices in lines})

        store = SqlStore.open(f"sqlite:///{tmp_path / 'store.db'}")
        stages = await _stages(store)
        events = await store.entries(Log.EVENT, 0, store.head(Log.EVENT).size, 2**30)
        money = await store.entries(Log.MONEY, 0, store.head(Log.MONEY).size, 2**30)
        await store.close()

        for (kind, digest), indices in told.items():
            assert f'"withdrawal.{kind}"'.encode() in events[indices[0]]
            assert kind == "proposed" or stages[digest] is Stage.DENIED
            if kind == "proposed":
                assert parse_entry(money[indices[1]]).body == Notice(bytes.fromhex(digest))
        denied = sum(b'"withdrawal.denied"' in raw for raw in events)
        assert (len(money), len(events)) == (len(stages), len(stages) + denied)
        assert denied == sum(stage is Stage.DENIED for stage in stages.values())
