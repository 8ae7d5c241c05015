"""What only the database adapter has: its check before it opens, its migrations, real failures of the file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from coordinator.session import deny
from coordinator.store import Change, Event, MoneyBody, jobs, writer
from coordinator.store.engine import migrate, write_engine
from coordinator.store.prepared import Prepared
from coordinator.store.schema import metadata
from coordinator.store.sql import SqlStore
from custody.audit import Checkpoint, Log, Subtrees, cosign, leaf_hash, origin_of, sign_checkpoint, with_lines
from custody.entries import EntryKind, Notice, Witnessed, parse_entry
from custody.errors import CustodyError, IntegrityError, UnavailableError
from tests.fakes.sessions import GENESIS, NOW, SEED, drafted

PROPOSED = Event("withdrawal.proposed", "payroll")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store's file is."""
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqlStore]:
    """An empty store."""
    opened = open_store(path)
    yield opened
    await opened.close()


def open_store(path: Path) -> SqlStore:
    """Open the store in `path`."""
    return SqlStore.open(f"sqlite:///{path}")


async def filled(path: Path) -> None:
    """Leave a closed store with seven entries in each log, both vouched for at size five."""
    store = open_store(path)
    for number in range(7):
        if number == 5:
            for log in Log:
                tree = store.head(log)
                note = sign_checkpoint(Checkpoint(origin_of(GENESIS, log), tree.size, tree.root), SEED)
                await store.keep_cosigned(log, 5, with_lines(note, [cosign(note, "w", SEED, NOW)]))
        session = drafted(f"w-{number}")
        money = (MoneyBody(EntryKind.NOTICE, Notice(session.digest)),) if number < 6 else ()
        await store.commit(None, session, Change(NOW, money, (PROPOSED,)))
    await store.close()


def run_sql(path: Path, *statements: str) -> None:
    """Change the file behind the store's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


async def test_open_when_closed_before_then_everything_is_there(path: Path) -> None:
    """Trees and sessions survive; the next entry stands behind the last."""
    await filled(path)

    store = open_store(path)
    committed = await store.record(Change(NOW, events=(PROPOSED,)))

    assert committed.events == (7,)
    assert store.head(Log.MONEY).size == 7
    assert await store.load(drafted("w-6").digest) is not None
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # noqa: PTH116 - nothing else waits here


DAMAGE = {
    "entry_changed": "UPDATE entries SET entry = CAST('{}' AS BLOB) WHERE log = 'event' AND \"index\" = 2",
    "entry_lost": "DELETE FROM entries WHERE log = 'money' AND \"index\" = 3",
    "last_entry_lost": "DELETE FROM entries WHERE log = 'event' AND \"index\" = 6",
    "entry_added": "INSERT INTO entries VALUES ('event', 7, CAST('{}' AS BLOB))",
    "subtree_changed": "UPDATE subtrees SET hash = zeroblob(32) WHERE log = 'event' AND level = 1 AND \"index\" = 0",
    "subtree_lost": "DELETE FROM subtrees WHERE log = 'money' AND level = 2",
    "head_changed": "UPDATE logs SET frontier = zeroblob(96) WHERE log = 'event'",
    "head_of_wrong_shape": "UPDATE logs SET frontier = zeroblob(64) WHERE log = 'event'",
    "head_lost": "DELETE FROM logs WHERE log = 'event'",
    "note_of_another_tree": "UPDATE cosigned_notes SET size = 4 WHERE log = 'money'",
    "note_changed": "UPDATE cosigned_notes SET newest = 'x' WHERE log = 'event'",
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_open_when_damaged_then_refuses_to_start(path: Path, damage: str) -> None:
    """Whatever in the logs contradicts the rest is found before anything is served."""
    await filled(path)
    run_sql(path, DAMAGE[damage])

    with pytest.raises(IntegrityError) as caught:
        open_store(path)

    assert caught.value.code == "LOG_DAMAGED"


async def test_open_when_log_is_cut_back_consistently_then_cosigned_note_tells(path: Path) -> None:
    """A log rewritten with its own hashes still lacks what witnesses vouched for."""
    await filled(path)
    with closing(sqlite3.connect(path)) as connection:
        raws = [row[0] for row in connection.execute("SELECT entry FROM entries WHERE log='event' ORDER BY 1 LIMIT 4")]
    tree = Subtrees(map(leaf_hash, raws)).frontier
    run_sql(
        path,
        "DELETE FROM entries WHERE log = 'event' AND \"index\" >= 4",
        "DELETE FROM subtrees WHERE log = 'event' AND ((level = 1 AND \"index\" >= 2) OR level > 2)",
        f"UPDATE logs SET size = 4, frontier = x'{b''.join(tree.nodes).hex()}' WHERE log = 'event'",  # noqa: S608 - hex
    )

    with pytest.raises(IntegrityError, match="5 entries that witnesses vouched for"):
        open_store(path)


async def test_load_when_body_was_changed_then_damaged(path: Path) -> None:
    """A statement that is not what its digest says is never handed out."""
    await filled(path)
    run_sql(path, "UPDATE bodies SET value = (SELECT value FROM bodies WHERE form = 'raw' LIMIT 1)")
    store = open_store(path)

    with pytest.raises(IntegrityError) as caught:
        await store.load(drafted("w-1").digest)

    assert caught.value.code == "BODY_DAMAGED"
    await store.close()


def test_engine_when_connected_then_commits_survive_power_loss(path: Path) -> None:
    """The writer's connection flushes its log at every COMMIT, and holds the lock from BEGIN on."""
    engine = write_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        with closing(sqlite3.connect(path, timeout=0)) as other, pytest.raises(sqlite3.OperationalError):
            other.execute("BEGIN IMMEDIATE")
    engine.dispose()


def test_migrations_when_run_then_tables_are_those_of_the_schema(path: Path) -> None:
    """The history of the tables ends at what the code expects."""
    with write_engine(f"sqlite:///{path}").begin() as connection:
        migrate(connection)
        migrate(connection)

        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=str)
def test_schema_when_compiled_for_postgresql_then_it_is_understood(table: Table) -> None:
    """No type or option of the tables is SQLite's alone."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy does not annotate it
    made = str(CreateTable(table).compile(dialect=dialect))

    assert f"CREATE TABLE {table.name}" in made
    assert "WITHOUT ROWID" not in made


STATEMENTS = [found for module in (jobs, writer) for found in vars(module).values() if isinstance(found, Prepared)]


@pytest.mark.parametrize("number", range(len(STATEMENTS)))
def test_prepared_statement_when_read_in_postgresql_then_its_values_go_by_name(number: int) -> None:
    """What the writer runs on the driver's cursor is understood by both databases."""
    text, order = STATEMENTS[number].read_in(postgresql.dialect())  # type: ignore[no-untyped-call]

    assert order is None
    assert "%(" in text
    assert "RETURNING" not in text


async def test_open_when_tables_are_newer_then_refuses_to_start(path: Path) -> None:
    """An older program does not touch what a newer one made."""
    await filled(path)
    run_sql(path, "UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(IntegrityError) as caught:
        open_store(path)

    assert caught.value.code == "STORE_VERSION"


async def test_witness_entry_when_reopened_then_still_stands_in_front_of_next(path: Path) -> None:
    """What witnesses vouched for is remembered across a restart."""
    store = open_store(path)
    session = drafted()
    made, _ = await store.commit(None, session, Change(NOW, (MoneyBody(EntryKind.NOTICE, Notice(session.digest)),)))
    tree = store.head(Log.MONEY)
    note = sign_checkpoint(Checkpoint(origin_of(GENESIS, Log.MONEY), tree.size, tree.root), SEED)
    await store.keep_cosigned(Log.MONEY, 1, note)
    await store.close()

    store = open_store(path)
    await store.commit(made, deny(session, NOW), Change(NOW, (MoneyBody(EntryKind.NOTICE, Notice(session.digest)),)))

    entry = parse_entry((await store.entries(Log.MONEY, 1, 2, 1))[0])
    assert entry.body == Witnessed(note)
    assert store.head(Log.MONEY).size == 3
    await store.close()


@pytest.mark.parametrize("reach", ["ABORT", "ROLLBACK"])
async def test_write_when_a_statement_fails_then_no_half_of_its_job_stays(
    path: Path, store: SqlStore, reach: str
) -> None:
    """SQLite undoes the statement: its job alone is refused. It undoes the transaction: nobody's job was written."""
    fault = f"SELECT RAISE({reach}, 'a fault') WHERE NEW.withdrawal_id = 'bad'"
    run_sql(path, f"CREATE TRIGGER fault BEFORE INSERT ON sessions BEGIN {fault}; END")
    sessions = [drafted(name) for name in ("one", "bad", "two")]

    calls = [store.commit(None, session, Change(NOW, events=(PROPOSED,))) for session in sessions]
    results = await asyncio.gather(*calls, return_exceptions=True)

    there = [session for session in sessions if await store.load(session.digest) is not None]
    assert sum(isinstance(result, CustodyError) for result in results) >= 1
    assert len(there) == store.head(Log.EVENT).size
    assert sessions[1] not in there
    assert reach == "ROLLBACK" or len(there) == 2
    run_sql(path, "DROP TRIGGER fault")
    await store.commit(None, sessions[1], Change(NOW, events=(PROPOSED,)))
    assert store.head(Log.EVENT).size == len(there) + 1


async def test_write_when_another_process_wrote_then_refused_once_and_goes_on_from_there(path: Path) -> None:
    """Two processes on one file never fork a tree: who is behind fails, reads, and continues."""
    first, second = open_store(path), open_store(path)
    await first.record(Change(NOW, events=(PROPOSED,)))

    with pytest.raises(UnavailableError) as caught:
        await second.record(Change(NOW, events=(PROPOSED,)))

    assert caught.value.code == "STORE_UNWRITABLE"
    assert (await second.record(Change(NOW, events=(PROPOSED,)))).events == (1,)
    await first.close()
    await second.close()
    await open_store(path).close()


def test_open_when_directory_is_missing_then_unavailable(tmp_path: Path) -> None:
    """No place to write is said at start."""
    with pytest.raises(UnavailableError) as caught:
        open_store(tmp_path / "nowhere" / "store.db")

    assert caught.value.code == "STORE_UNWRITABLE"


def test_open_when_file_is_no_database_then_unavailable(path: Path) -> None:
    """A foreign file is not overwritten."""
    path.write_bytes(b"not a database" * 100)

    with pytest.raises(UnavailableError):
        open_store(path)

    assert path.read_bytes() == b"not a database" * 100


async def test_write_when_closed_then_unavailable(path: Path) -> None:
    """A closed store takes nothing; what was handed in before is durable."""
    store = open_store(path)
    waiting = [asyncio.ensure_future(store.record(Change(NOW, events=(PROPOSED,)))) for _ in range(20)]
    await asyncio.sleep(0)
    await store.close()

    assert len({(await done).events for done in waiting}) == 20
    for call in (store.record(Change(NOW)), store.recall("pin")):
        with pytest.raises(UnavailableError) as caught:
            await call
        assert caught.value.code == "STORE_CLOSED"


async def test_write_when_job_has_a_fault_then_caller_hears_and_thread_lives(store: SqlStore) -> None:
    """A fault of ours is not swallowed, and others can still write."""
    with pytest.raises(AttributeError):
        await store.record(None)  # type: ignore[arg-type]  # the fault

    assert (await store.record(Change(NOW, events=(PROPOSED,)))).events == (0,)
