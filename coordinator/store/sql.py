"""The store on SQLAlchemy Core: SQLite now, PostgreSQL by another URL.

Writes go through one thread (`writer`), reads through a few of their own. What each method promises stands on the port.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Select, and_, or_, select
from sqlalchemy.exc import SQLAlchemyError

from coordinator.session import Session, Stage
from coordinator.store import jobs, schema
from coordinator.store.append import Heads
from coordinator.store.check import check_logs
from coordinator.store.codec import Body, named_in, read_body, read_session
from coordinator.store.engine import migrate, read_engine, write_engine
from coordinator.store.port import MAX_PAGE, Change, Committed, CosignedNotes, Page, Reservation, Versioned
from coordinator.store.writer import Turn, Writer
from custody.audit import Frontier, Log, leaf_hash
from custody.errors import ConflictError, CustodyError, NotFoundError, UnavailableError
from custody.transaction import OutPoint

T = TypeVar("T")
READ_THREADS = 4  # readers of a write-ahead log do not wait for each other; more would only share the processor
MAX_KEYS_IN_QUERY = 500  # old SQLite builds refuse more than 999 variables
READ_AHEAD_ROWS = 200  # entries fetched at once; reading stops at the caller's limit in bytes
_SESSION = select(
    schema.sessions.c.digest, schema.sessions.c.stage, schema.sessions.c.version, schema.sessions.c.document
)


class SqlStore:
    """Implements `coordinator.store.port.Store`."""

    def __init__(self, writer: Writer, engines: tuple[Engine, Engine]) -> None:
        self._writer = writer
        self._engines = engines
        self._readers = ThreadPoolExecutor(READ_THREADS, "store-reader")

    @staticmethod
    def open(url: str) -> SqlStore:
        """Return the store at `url`, its tables brought up to date and its logs checked. Blocks.

        Args:
            url: "sqlite:////var/lib/keyturn/store.db" or "postgresql+psycopg://...".

        Raises:
            IntegrityError: LOG_DAMAGED: entries, trees and checkpoints do not agree.  STORE_VERSION: tables of a newer
                program.  Do not start.
            UnavailableError: STORE_UNWRITABLE.
        """
        engine = write_engine(url)
        try:
            heads = _open_logs(engine)
        except CustodyError:
            engine.dispose()
            raise
        return SqlStore(Writer(engine, heads), (engine, read_engine(url)))

    def head(self, log: Log) -> Frontier:
        """Return the tree of what is durable."""
        return self._writer.heads.of(log)

    async def load(self, digest: bytes) -> Versioned[Session] | None:
        """Return the session of a withdrawal digest."""
        found = await self._read(lambda c: _sessions(c, _SESSION.where(schema.sessions.c.digest == digest)))
        return found[0] if found else None

    async def by_initiator(self, initiator: str, withdrawal_id: str) -> Versioned[Session] | None:
        """Return the session under an idempotency key."""
        table = schema.sessions.c
        where = (table.initiator == initiator) & (table.withdrawal_id == withdrawal_id)
        found = await self._read(lambda c: _sessions(c, _SESSION.where(where)))
        return found[0] if found else None

    async def list(self, stages: frozenset[Stage], page: Page) -> tuple[Versioned[Session], ...]:
        """Return sessions in any of `stages`, newest first."""
        return await self._read(lambda c: _page(c, stages, page))

    async def commit(
        self,
        old: Versioned[Session] | None,
        new: Session,
        change: Change,
        *,
        reserve: Reservation | None = None,
        release: frozenset[OutPoint] = frozenset(),
    ) -> tuple[Versioned[Session], Committed]:
        """Write `new` and its entries in one transaction."""
        step = jobs.SessionStep(old, new, change, reserve, release)
        if old is None:
            existing = await self._writer.run(lambda turn: jobs.create(turn, step))
            if isinstance(existing, bytes):
                stored = await self.load(existing)
                if stored is None:
                    raise UnavailableError("STORE_UNREADABLE", "expected the session that was found a moment ago")
                return stored, Committed(is_new=False)
            return existing
        return await self._writer.run(lambda turn: jobs.advance(turn, step))

    async def record(self, change: Change) -> Committed:
        """Log what changes no session."""
        return await self._writer.run(lambda turn: jobs.record(turn, change))

    async def reserved(self, at: int) -> Mapping[OutPoint, bytes]:
        """Return the coins that are held at `at`."""
        table = schema.reservations.c
        query = select(table.outpoint, table.family).where(table.expires_at > at)
        rows = await self._read(lambda c: c.execute(query).all())
        return {jobs.read_outpoint(row.outpoint): row.family for row in rows}

    async def next_index(self, wallet_id: bytes, branch: int, at_least: int = 0) -> int:
        """Return an address index that was never returned before."""
        return await self._writer.run(lambda turn: jobs.next_index(turn, wallet_id, branch, at_least))

    async def remember(self, name: str, value: bytes) -> None:
        """Keep one small fact."""
        await self._writer.run(lambda turn: jobs.remember(turn, name, value))

    async def recall(self, name: str) -> bytes | None:
        """Return what was kept under `name`."""
        table = schema.memory.c
        return await self._read(lambda c: c.scalars(select(table.value).where(table.name == name)).first())

    async def entries(self, log: Log, first: int, end: int, max_bytes: int) -> tuple[bytes, ...]:
        """Return canonical entries first..end-1, at most `max_bytes` of them."""
        return await self._read(lambda c: _entries(c, log, range(first, end), max_bytes))

    async def subtrees(self, log: Log, wanted: Iterable[tuple[int, int]]) -> Mapping[tuple[int, int], bytes]:
        """Return the roots of complete subtrees by (level, index)."""
        places = frozenset(wanted)
        return await self._read(lambda c: _subtrees(c, log, places))

    async def cosigned(self, log: Log, size: int | None = None) -> CosignedNotes | None:
        """Return the notes of the tree of `size`, or of the largest that was vouched for."""
        table = schema.cosigned_notes.c
        query = select(table.size, table.first, table.newest).where(table.log == log.value)
        query = query.order_by(table.size.desc()).limit(1) if size is None else query.where(table.size == size)
        row = await self._read(lambda c: c.execute(query).first())
        return None if row is None else CosignedNotes(row.size, row.first, row.newest)

    async def cosigned_sizes(self, log: Log, above: int, limit: int) -> tuple[int, ...]:
        """Return the sizes above `above` that were vouched for."""
        table = schema.cosigned_notes.c
        query = select(table.size).where(table.log == log.value, table.size > above).order_by(table.size).limit(limit)
        return tuple(await self._read(lambda c: c.scalars(query).all()))

    async def keep_cosigned(self, log: Log, size: int, note: str) -> None:
        """Keep a note that w witnesses cosigned."""
        await self._writer.run(lambda turn: jobs.keep_cosigned(turn, log, size, note))

    async def bodies(self, digests: Sequence[bytes]) -> Mapping[bytes, Body]:
        """Return what is stored under `digests`."""
        return await self._read(lambda c: _bodies(c, digests))

    async def graft(self, log: Log, size: int, entries: Sequence[bytes], bodies: Sequence[Body]) -> None:
        """Put back entries that `log` lost behind its first `size`; the caller has proven them.

        Raises:
            ConflictError: LOG_MOVED where the log has another size by now.
        """

        def put_back(turn: Turn) -> None:
            if turn.heads.of(log).size != size:
                raise ConflictError("LOG_MOVED", f"expected {size} entries, found {turn.heads.of(log).size}")
            turn.graft(log, entries, bodies)

        await self._writer.run(put_back)

    async def forget(self, digests: Sequence[bytes], change: Change) -> int:
        """Remove those of the bodies `digests` that no session needs, and log `change`; return how many were there.

        How many is added to the first event of `change` as "count". The caller has proven that no entry needs them.
        """
        return await self._writer.run(lambda turn: jobs.forget(turn, digests, change))

    async def close(self) -> None:
        """Finish what was handed in, then write nothing more."""
        await asyncio.to_thread(self._writer.close)
        self._readers.shutdown()
        for engine in self._engines:
            engine.dispose()

    async def _read(self, query: Callable[[Connection], T]) -> T:
        def run() -> T:
            try:
                with self._engines[1].connect() as connection:
                    return query(connection)
            except SQLAlchemyError as error:
                reason = getattr(error, "orig", None) or error
                raise UnavailableError("STORE_UNREADABLE", f"expected to read: {type(reason).__name__}") from error

        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, run)
        except RuntimeError as error:
            raise UnavailableError("STORE_CLOSED", "expected an open store") from error


def _open_logs(engine: Engine) -> Heads:
    try:
        with engine.begin() as connection:
            migrate(connection)
            return check_logs(connection)
    except SQLAlchemyError as error:
        reason = getattr(error, "orig", None) or error
        raise UnavailableError("STORE_UNWRITABLE", f"expected to open the store: {reason}") from error


def _sessions(connection: Connection, query: Select[Any]) -> tuple[Versioned[Session], ...]:
    rows = connection.execute(query).all()
    named = {row.digest: named_in(row.digest, row.document) for row in rows}
    bodies = _bodies(connection, [digest for digests in named.values() for digest in digests])
    return tuple(Versioned(read_session(row.digest, row.stage, row.document, bodies), row.version) for row in rows)


def _page(connection: Connection, stages: frozenset[Stage], page: Page) -> tuple[Versioned[Session], ...]:
    table = schema.sessions.c
    query = _SESSION.where(table.stage.in_(sorted(stage.value for stage in stages)))
    if page.wallet_id is not None:
        query = query.where(table.wallet_id == page.wallet_id)
    if page.before is not None:
        made = connection.scalars(select(table.created_at).where(table.digest == page.before)).first()
        if made is None:
            raise NotFoundError("PAGE", f"expected the session {page.before.hex()} that ended the page before")
        earlier = (table.created_at < made) | ((table.created_at == made) & (table.digest < page.before))
        query = query.where(earlier)
    newest_first = query.order_by(table.created_at.desc(), table.digest.desc())
    return _sessions(connection, newest_first.limit(min(page.limit, MAX_PAGE)))


def _bodies(connection: Connection, digests: Sequence[bytes]) -> dict[bytes, Body]:
    table, wanted = schema.bodies.c, sorted(set(digests))
    found: dict[bytes, Body] = {}
    for start in range(0, len(wanted), MAX_KEYS_IN_QUERY):
        part = wanted[start : start + MAX_KEYS_IN_QUERY]
        query = select(table.digest, table.form, table.value).where(table.digest.in_(part))
        found.update((row.digest, read_body(row.digest, row.form, row.value)) for row in connection.execute(query))
    return found


def _entries(connection: Connection, log: Log, places: range, max_bytes: int) -> tuple[bytes, ...]:
    table = schema.entries.c
    query = select(table.entry).where(table.log == log.value, table.index >= places.start, table.index < places.stop)
    found: list[bytes] = []
    total = 0
    rows = connection.scalars(query.order_by(table.index), execution_options={"yield_per": READ_AHEAD_ROWS})
    for raw in rows:
        total += len(raw)
        if found and total > max_bytes:
            break
        found.append(raw)
    rows.close()
    return tuple(found)


def _subtrees(connection: Connection, log: Log, wanted: frozenset[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    leaves = sorted(index for level, index in wanted if level == 0)
    entry, node = schema.entries.c, schema.subtrees.c
    found: dict[tuple[int, int], bytes] = {}
    if leaves:
        query = select(entry.index, entry.entry).where(entry.log == log.value, entry.index.in_(leaves))
        found.update(((0, index), leaf_hash(raw)) for index, raw in connection.execute(query))
    nodes = sorted(place for place in wanted if place[0])
    if nodes:
        places = [and_(node.level == level, node.index == index) for level, index in nodes]
        query = select(node.level, node.index, node.hash).where(node.log == log.value, or_(*places))
        found.update(((row[0], row[1]), row[2]) for row in connection.execute(query))
    if missing := wanted - found.keys():
        raise NotFoundError("SUBTREE", f"expected the {log.value} log to reach {min(missing)}")
    return found
