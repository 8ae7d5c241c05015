"""The one thread that writes: it takes all waiting jobs, runs them in one transaction and commits once for all.

A job that is refused is undone alone (its savepoint) and tells only its own caller. When the database fails, nobody's
job was written, and the next batch reads the trees afresh: the store recovers without a restart.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError as ConstraintError
from sqlalchemy.exc import SQLAlchemyError

from coordinator.store import schema
from coordinator.store.append import Heads, NewEntry, append, graft, is_witness_entry
from coordinator.store.codec import Body, body_digest, read_body, write_body
from coordinator.store.port import Change, Committed
from coordinator.store.prepared import Cursor, Prepared, Row
from custody.audit import Frontier, Log
from custody.entries import named_by
from custody.errors import ConflictError, MalformedError, UnavailableError
from custody.statements import Signed

T = TypeVar("T")
MAX_BATCH = 256  # jobs per COMMIT: beyond it the gain is small and the first caller waits for the last
HASH_BYTES = 32
_INSERT_ENTRY, _INSERT_SUBTREE = Prepared(insert(schema.entries)), Prepared(insert(schema.subtrees))
_INSERT_BODY = Prepared(insert(schema.bodies), " ON CONFLICT DO NOTHING")  # one that is there stays as it is
_FIND_BODY = Prepared(select(schema.bodies.c.digest).where(schema.bodies.c.digest == bindparam("digest")))
_READ_BODY = Prepared(
    select(schema.bodies.c.form, schema.bodies.c.value).where(schema.bodies.c.digest == bindparam("digest"))
)
_MOVE_HEAD = Prepared(
    update(schema.logs)
    .where(schema.logs.c.log == bindparam("of_log"), schema.logs.c.size == bindparam("of_size"))
    .values(size=bindparam("size"), frontier=bindparam("frontier"))
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one job adds to logs and content store. bodies: by digest."""

    heads: Heads
    entries: tuple[NewEntry, ...]
    bodies: Mapping[bytes, Body]
    committed: Committed


class Turn:
    """One batch: its connection, and what its jobs have added so far to logs and content store.

    connection: inside the batch's transaction.  cursor: the same, for prepared statements.  heads: both trees as they
    will be after COMMIT.
    """

    def __init__(self, connection: Connection, heads: Heads) -> None:
        self.connection = connection
        self.cursor = Cursor(connection)
        self.heads = heads
        self._start = heads
        self._entries: list[NewEntry] = []
        self._bodies: dict[bytes, Body] = {}

    def plan(self, change: Change, bodies: Iterable[Body] = ()) -> Plan:
        """Return what `change` and `bodies` would add; nothing is added yet.

        Raises:
            MalformedError: an entry that cannot be, or MISSING_BODY: a money entry names a statement nobody has.
        """
        given = {body_digest(body): body for body in (*change.bodies, *bodies)}
        heads, entries, committed = append(self.heads, change, self._named(change, given))
        return Plan(heads, entries, given, committed)

    def graft(self, log: Log, entries: Iterable[bytes], bodies: Iterable[Body]) -> None:
        """Add entries that this log held before. Raises MalformedError MISSING_BODY as `plan`."""
        heads, added = graft(self.heads, log, entries)
        given = {body_digest(body): body for body in bodies}
        self._check_bodies(added, given)
        self.add(Plan(heads, added, given, Committed()))

    def add(self, plan: Plan) -> Committed:
        """Add what was planned last; `flush` writes it. A job that can still fail has not come this far."""
        self.heads = plan.heads
        self._entries += plan.entries
        for digest, body in plan.bodies.items():
            self._bodies.setdefault(digest, body)
        return plan.committed

    def flush(self) -> None:
        """Write what was added: one statement per table for the whole batch."""
        self.cursor.run_many(_INSERT_BODY, [_body_row(digest, body) for digest, body in self._bodies.items()])
        if not self._entries:
            return
        rows = [{"log": new.log.value, "index": new.index, "entry": new.raw} for new in self._entries]
        self.cursor.run_many(_INSERT_ENTRY, rows)
        nodes = [
            {"log": new.log.value, "level": node.level, "index": node.index, "hash": node.digest}
            for new in self._entries
            for node in new.nodes[1:]  # the leaf is the hash of its entry
        ]
        self.cursor.run_many(_INSERT_SUBTREE, nodes)
        for log in Log:
            self._write_head(log)

    def _write_head(self, log: Log) -> None:
        before, after = self._start.of(log), self.heads.of(log)
        if before.size == after.size:
            return
        place = {"of_log": log.value, "of_size": before.size}
        if self.cursor.run(_MOVE_HEAD, {**place, "size": after.size, "frontier": b"".join(after.nodes)}) != 1:
            # a second process writes this store: our tree would fork
            raise UnavailableError("STORE_UNWRITABLE", f"expected the {log.value} log at size {before.size}")

    def _named(self, change: Change, given: Mapping[bytes, Body]) -> dict[bytes, Signed]:
        """Return the statements that the money entries of `change` name; of two with one digest, the one that stays."""
        found: dict[bytes, Signed] = {}
        for digest in {digest for wanted in change.money for digest in named_by(wanted.body)}:
            row = self.cursor.first(_READ_BODY, {"digest": digest})
            body = self._bodies.get(digest, given.get(digest)) if row is None else read_body(digest, row[0], row[1])
            if isinstance(body, Signed):
                found[digest] = body
        return found

    def _check_bodies(self, entries: Iterable[NewEntry], given: dict[bytes, Body]) -> None:
        """A follower refuses an entry whose statement is missing, so none is ever logged without it."""
        for new in entries:
            for digest in new.names:
                if digest in given or digest in self._bodies:
                    continue
                if self.cursor.first(_FIND_BODY, {"digest": digest}) is None:
                    raise MalformedError("MISSING_BODY", f"expected the statement {digest.hex()}")


def _body_row(digest: bytes, body: Body) -> Row:
    form, value = write_body(body)
    return {"digest": digest, "form": form, "value": value}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a job came to: its value, or what it raises."""

    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    run: Callable[[Turn], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class Writer:
    """Runs jobs on its own thread. heads: both trees as they are on disk.

    Args:
        engine: one connection, which only this thread uses.
        heads: as the start-up check found them.
    """

    def __init__(self, engine: Engine, heads: Heads) -> None:
        self.heads = heads
        self._engine = engine
        self._are_heads_known = True
        self._connection: Connection | None = None  # kept between batches: taking one costs as much as a small batch
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._is_closed = False
        self._door = threading.Lock()  # nothing is put behind the None that ends the thread
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    async def run(self, job: Callable[[Turn], T]) -> T:
        """Return what `job` returns, once it is durable. A cancelled caller's job may still be written.

        Raises:
            CustodyError: what the job raised; nothing of it was written.
            UnavailableError: STORE_UNWRITABLE or STORE_CLOSED.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._door:
            if self._is_closed:
                raise UnavailableError("STORE_CLOSED", "expected an open store")
            self._jobs.put(_Job(job, loop, future))
        return await future

    def close(self) -> None:
        """Finish what was handed in and end the thread. Blocks."""
        with self._door:
            if not self._is_closed:
                self._is_closed = True
                self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        is_open = True
        while is_open:
            jobs, is_open = self._take()
            if jobs:
                _deliver(jobs, self._commit(jobs))
        self._forget()

    def _take(self) -> tuple[list[_Job], bool]:
        """Return all that waits, up to a batch, and whether more may come."""
        first = self._jobs.get()
        if first is None:
            return [], False
        jobs = [first]
        while len(jobs) < MAX_BATCH:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return jobs, False
            jobs.append(job)
        return jobs, True

    def _commit(self, jobs: list[_Job]) -> list[_Outcome]:
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            with self._connection.begin():
                connection = self._connection
                turn = Turn(connection, self.heads if self._are_heads_known else read_heads(connection))
                outcomes = [_run(job, turn) for job in jobs]
                turn.flush()
        except (SQLAlchemyError, UnavailableError) as error:
            self._forget()
            return [_Outcome(error=_unwritable(error))] * len(jobs)
        except Exception as error:  # the thread's main: it must live, and every caller must hear
            self._forget()
            return [_Outcome(error=error)] * len(jobs)
        self.heads, self._are_heads_known = turn.heads, True
        return outcomes

    def _forget(self) -> None:
        """Let go of the connection: the next batch, if there is one, reads the trees as they are on disk."""
        self._are_heads_known = False
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):  # what is broken is thrown away by the pool
                connection.close()


def read_heads(connection: Connection) -> Heads:
    """Return both trees as stored, and what witnesses vouched for last."""
    trees = {row.log: _frontier(row.size, row.frontier) for row in connection.execute(select(schema.logs))}
    table = schema.cosigned_notes
    newest = connection.execute(
        select(table.c.size, table.c.first).where(table.c.log == Log.MONEY.value).order_by(table.c.size.desc()).limit(1)
    ).first()
    entries = schema.entries
    last = connection.execute(
        select(entries.c.entry).where(entries.c.log == Log.MONEY.value).order_by(entries.c.index.desc()).limit(1)
    ).first()
    return Heads(
        money=trees.get(Log.MONEY.value, Frontier()),
        event=trees.get(Log.EVENT.value, Frontier()),
        cosigned=None if newest is None else (newest.size, newest.first),
        is_covered=last is not None and is_witness_entry(last.entry),
    )


def _frontier(size: int, raw: bytes) -> Frontier:
    return Frontier(size, tuple(raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES)))


def _run(job: _Job, turn: Turn) -> _Outcome:
    try:
        return _Outcome(value=job.run(turn))
    except ConstraintError as error:  # two rows for one name: the job's own checks lost a race with another process
        return _Outcome(error=ConflictError("STORE_CONSTRAINT", f"expected a free name: {type(error.orig).__name__}"))
    except SQLAlchemyError:  # the transaction is broken for the whole batch
        raise
    except Exception as error:  # refused, or a fault of ours: undone by its savepoint, told to its own caller
        return _Outcome(error=error)


def _deliver(jobs: list[_Job], outcomes: list[_Outcome]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], _Outcome]]] = {}
    for job, outcome in zip(jobs, outcomes, strict=True):
        by_loop.setdefault(job.loop, []).append((job.future, outcome))
    for loop, told in by_loop.items():
        try:
            loop.call_soon_threadsafe(_tell, told)
        except RuntimeError:  # the loop was closed: nobody waits any more
            continue


def _tell(told: list[tuple[asyncio.Future[Any], _Outcome]]) -> None:
    for future, outcome in told:
        if future.done():  # its caller was cancelled
            continue
        if outcome.error is not None:
            future.set_exception(outcome.error)
        else:
            future.set_result(outcome.value)


def _unwritable(error: SQLAlchemyError | UnavailableError) -> UnavailableError:
    if isinstance(error, UnavailableError):
        return error
    reason = getattr(error, "orig", None) or error
    return UnavailableError("STORE_UNWRITABLE", f"expected to write: {type(reason).__name__}: {str(reason)[:200]}")
