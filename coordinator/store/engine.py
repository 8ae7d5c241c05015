"""How the database is opened: which promises we ask of it, and the migration of its tables."""

from __future__ import annotations

import os
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from custody.errors import IntegrityError, UnavailableError

BUSY_TIMEOUT_MS = 5_000  # a backup tool may hold the file for a moment; nobody else writes
MIGRATIONS = Path(__file__).parent / "migrations"


def write_engine(url: str) -> Engine:
    """Return the engine of the writer's thread: one connection, each transaction holding the write lock from its start.

    A SQLite file is made for its owner only.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        _make_private(Path(parsed.database))
    engine = create_engine(parsed, hide_parameters=True, pool_size=1, max_overflow=0)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_immediate)
    return engine


def read_engine(url: str) -> Engine:
    """Return the engine of the readers: each statement sees all that was committed before it."""
    engine = create_engine(url, hide_parameters=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
    return engine


def migrate(connection: Connection) -> None:
    """Bring the tables up to date inside the connection's transaction.

    Raises:
        IntegrityError: STORE_VERSION: the tables were made by a newer version of this program.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise IntegrityError("STORE_VERSION", f"expected tables that this version knows: {error}") from error


def _set_up_sqlite(dbapi: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    dbapi.isolation_level = None  # we say BEGIN ourselves
    cursor = dbapi.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # in WAL mode NORMAL loses acknowledged commits at power loss
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _make_private(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise UnavailableError("STORE_UNWRITABLE", f"expected to write {path.name}: {error.strerror}") from error
