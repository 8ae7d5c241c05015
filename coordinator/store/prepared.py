"""Statements whose text is made once and that run on the driver's own cursor.

SQLAlchemy says how a statement reads in each database; running it through SQLAlchemy costs 10 to 100 times as much as
the database itself needs, and the one thread that writes has no time for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Connection, Delete, Dialect, Insert, Select, Update
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import IntegrityError as ConstraintError

T = TypeVar("T")
Row = Mapping[str, object]


class Prepared:
    """One statement without lists of unknown length. Its values are given by the names of its bind parameters.

    Args:
        statement: what to run.
        suffix: put behind it, in words that SQLite and PostgreSQL share.
    """

    def __init__(self, statement: Select[Any] | Insert | Update | Delete, suffix: str = "") -> None:
        self._statement, self._suffix = statement, suffix
        self.read_in = cache(self._read_in)

    def _read_in(self, dialect: Dialect) -> tuple[str, tuple[str, ...] | None]:
        """Return the text in one dialect, and the order of its values; None where they go by name."""
        compiled = self._statement.compile(dialect=dialect)
        order = tuple(compiled.positiontup or ()) if compiled.positional else None
        return str(compiled) + self._suffix, order


class Cursor:
    """Runs prepared statements inside the transaction of `connection`; failures are SQLAlchemy's, as everywhere."""

    def __init__(self, connection: Connection) -> None:
        self._dialect = connection.dialect
        self._cursor: DBAPICursor = connection.connection.cursor()

    def run(self, prepared: Prepared, row: Row) -> int:
        """Run it once; return how many rows it changed."""
        self._run(prepared, row)
        return self._cursor.rowcount

    def run_many(self, prepared: Prepared, rows: Sequence[Row]) -> None:
        """Run it for each row, all with the same names."""
        if not rows:
            return
        text, order = prepared.read_in(self._dialect)
        values: Sequence[Any] = rows if order is None else [tuple(map(row.__getitem__, order)) for row in rows]
        self._guarded(text, lambda: self._cursor.executemany(text, values))

    def first(self, prepared: Prepared, row: Row) -> Sequence[Any] | None:
        """Return the first row of a selection, or None."""
        self._run(prepared, row)
        found: Sequence[Any] | None = self._cursor.fetchone()
        return found

    @contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """Run the body; where it raises, nothing that it wrote stays."""
        self._plain("SAVEPOINT job")
        try:
            yield
        except BaseException:
            self._plain("ROLLBACK TO SAVEPOINT job")
            self._plain("RELEASE SAVEPOINT job")
            raise
        self._plain("RELEASE SAVEPOINT job")

    def _run(self, prepared: Prepared, row: Row) -> None:
        text, order = prepared.read_in(self._dialect)
        values: Any = row if order is None else tuple(map(row.__getitem__, order))
        self._guarded(text, lambda: self._cursor.execute(text, values))

    def _plain(self, text: str) -> None:
        self._guarded(text, lambda: self._cursor.execute(text))

    def _guarded(self, text: str, call: Callable[[], T]) -> T:
        driver = self._dialect.loaded_dbapi
        try:
            return call()
        except driver.IntegrityError as error:
            raise ConstraintError(text, None, error, hide_parameters=True) from error
        except driver.Error as error:
            raise DBAPIError(text, None, error, hide_parameters=True) from error
