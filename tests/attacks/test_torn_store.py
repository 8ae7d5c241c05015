"""A disk that is full, fails or tears files: what was acknowledged is there, or the store says that it is not.

research/attacks.md ATK-125, ATK-127.
"""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from coordinator.session import deny
from coordinator.store import Change, Event
from coordinator.store.sql import SqlStore
from custody.audit import Frontier, Log, leaf_hash
from custody.errors import CustodyError, UnavailableError
from tests.fakes.sessions import NOW, drafted
from tests.unit.test_sql_store import PROPOSED, filled, open_store

LARGE = Change(NOW, events=(Event("note.made", "ops", {"text": "x" * 100_000}),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqlStore]:
    """Return an open store."""
    found = open_store(path)
    yield found
    await found.close()


REFUSALS = ("LOG_DAMAGED", "STORE_UNREADABLE", "STORE_UNWRITABLE")


def open_or_code(path: Path) -> SqlStore | str:
    """Return the store, or the code with which it does not start."""
    try:
        return open_store(path)
    except CustodyError as error:
        return error.code


def torn(path: Path, cut: int, of: Path) -> Path:
    """Return a database beside `path` whose file `of` (itself or its log file) has `cut` twentieths of its bytes."""
    made = path.with_name("torn.db")
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            raw = source.read_bytes()
            made.with_name(made.name + suffix).write_bytes(raw[: len(raw) * cut // 20] if source == of else raw)
    return made


@pytest.mark.parametrize("cut", range(21))
async def test_atk_125_open_when_database_is_torn_then_whole_or_refused(path: Path, cut: int) -> None:
    """The file ends somewhere else: every acknowledged entry is there, or start is refused by a code."""
    await filled(path)

    found = open_or_code(torn(path, cut, path))

    if isinstance(found, str):
        assert found in REFUSALS
        assert cut < 20
    else:
        assert cut in (0, 20)  # with no byte left it is a new store: its witnesses know better
        assert [found.head(log).size for log in Log] == ([7, 7] if cut else [0, 0])
        await found.close()


@pytest.mark.parametrize("cut", range(21))
async def test_atk_125_open_when_write_ahead_log_is_torn_then_a_true_prefix_or_refused(path: Path, cut: int) -> None:
    """What SQLite drops from a torn log file is whole transactions, never half of one. Witnesses miss the rest."""
    store = open_store(path)
    heads = [store.head(Log.EVENT)]
    for _ in range(6):
        await store.record(Change(NOW, events=(PROPOSED,)))
        heads.append(store.head(Log.EVENT))
    made = torn(path, cut, path.with_name(path.name + "-wal"))
    await store.close()

    found = open_or_code(made)

    if isinstance(found, str):
        assert found in REFUSALS
    else:
        assert found.head(Log.EVENT) in heads
        assert cut < 20 or found.head(Log.EVENT) == heads[-1]
        await found.close()


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Let no file of this process grow beyond the store's log file as it is now: write(2) fails for real."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = path.with_name(path.name + "-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_atk_127_write_when_disk_is_full_then_nothing_mutates_and_it_recovers(
    path: Path, store: SqlStore
) -> None:
    """No space: every waiting write fails by code, nothing of it is there, and space is all that it takes to go on."""
    session = drafted()
    made, _ = await store.commit(None, session, Change(NOW, events=(PROPOSED,)))
    head = store.head(Log.EVENT)

    with full_disk(path):
        results = await asyncio.gather(
            store.record(LARGE), store.commit(made, deny(session, NOW), LARGE), return_exceptions=True
        )
        assert await store.load(session.digest) == made

    assert [error.code for error in results if isinstance(error, UnavailableError)] == ["STORE_UNWRITABLE"] * 2
    assert store.head(Log.EVENT) == head
    after, committed = await store.commit(made, deny(session, NOW), LARGE)
    assert (after.version, committed.events) == (2, (1,))
    await store.close()
    reopened = open_store(path)
    assert reopened.head(Log.EVENT) == Frontier.append(head, leaf_hash((await reopened.entries(Log.EVENT, 1, 2, 1))[0]))
    await reopened.close()


@pytest.mark.parametrize("moment", ["before_cursor_execute", "commit"])
async def test_atk_127_write_when_device_fails_then_nothing_mutates_and_it_recovers(
    store: SqlStore, moment: str
) -> None:
    """EIO in a statement or in COMMIT: the caller hears, nothing is there, the next write goes through."""
    engine = store._engines[0]
    await store.record(Change(NOW, events=(PROPOSED,)))

    def fail(*_: object) -> None:
        raise OperationalError("COMMIT", None, sqlite3.OperationalError("disk I/O error"))

    event.listen(engine, moment, fail)
    with pytest.raises(UnavailableError) as caught:
        await store.record(Change(NOW, events=(PROPOSED,)))
    event.remove(engine, moment, fail)

    assert caught.value.code == "STORE_UNWRITABLE"
    assert store.head(Log.EVENT).size == 1
    assert (await store.record(Change(NOW, events=(PROPOSED,)))).events == (1,)
