"""What the writer's thread does for each kind of write, inside a batch: check, write rows, append entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import bindparam, delete, insert, select, update

from coordinator.session import Session
from coordinator.store import schema
from coordinator.store.codec import bodies_of, body_digest, needed_by, write_session
from coordinator.store.port import Change, Committed, Reservation, Versioned
from coordinator.store.prepared import Prepared
from coordinator.store.writer import Turn
from custody.audit import Log
from custody.entries import Release
from custody.errors import ConflictError
from custody.transaction import OutPoint
from custody.withdrawal import read_withdrawal

_SESSIONS, _COINS = schema.sessions, schema.reservations
_DIGEST_BY_NAME = Prepared(
    select(_SESSIONS.c.digest).where(
        _SESSIONS.c.initiator == bindparam("initiator"), _SESSIONS.c.withdrawal_id == bindparam("withdrawal_id")
    )
)
_INSERT_SESSION = Prepared(insert(_SESSIONS))
_UPDATE_SESSION = Prepared(
    update(_SESSIONS)
    .where(_SESSIONS.c.digest == bindparam("of_digest"), _SESSIONS.c.version == bindparam("of_version"))
    .values(version=bindparam("version"), stage=bindparam("stage"), document=bindparam("document"))
)
_FIND_COIN = Prepared(select(_COINS.c.family, _COINS.c.expires_at).where(_COINS.c.outpoint == bindparam("of_outpoint")))
_FREE_COIN = Prepared(
    delete(_COINS).where(_COINS.c.outpoint == bindparam("of_outpoint"), _COINS.c.holder == bindparam("of_holder"))
)
_DROP_COIN = Prepared(delete(_COINS).where(_COINS.c.outpoint == bindparam("of_outpoint")))
_TAKE_COIN = Prepared(insert(_COINS))
_DROP_BODY = Prepared(delete(schema.bodies).where(schema.bodies.c.digest == bindparam("of_digest")))
_FETCH_ROWS = 200  # sessions in memory at once


@dataclass(frozen=True, slots=True)
class SessionStep:
    """One commit of a session, as it was asked for."""

    old: Versioned[Session] | None
    new: Session
    change: Change
    reserve: Reservation | None
    release: frozenset[OutPoint]


def create(turn: Turn, step: SessionStep) -> tuple[Versioned[Session], Committed] | bytes:
    """Make the session, or return the digest of the same one made before."""
    withdrawal = read_withdrawal(step.new.withdrawal)
    names = {"initiator": withdrawal.initiator, "withdrawal_id": withdrawal.withdrawal_id}
    row = turn.cursor.first(_DIGEST_BY_NAME, names)
    found = None if row is None else bytes(row[0])
    if found == step.new.digest:
        return found
    if found is not None:
        name = "/".join(names.values())
        raise ConflictError("WITHDRAWAL_ID_TAKEN", f"expected {name} to be unused, found {found.hex()}")
    with turn.cursor.undone_on_failure():
        plan = turn.plan(step.change, bodies_of(step.new))
        new = with_release(step.new, step.change, plan.committed)
        _move_coins(turn, step)
        values = {
            **names,
            "digest": new.digest,
            "wallet_id": withdrawal.wallet_id,
            "stage": new.stage.value,
            "version": 1,
            "created_at": new.created_at,
            "document": write_session(new),
        }
        turn.cursor.run(_INSERT_SESSION, values)
    return Versioned(new, 1), turn.add(plan)


def advance(turn: Turn, step: SessionStep) -> tuple[Versioned[Session], Committed]:
    """Replace the session's version `old` by `new`."""
    assert step.old is not None  # noqa: S101 - `create` is for the other case
    version = step.old.version
    stored = set(map(body_digest, bodies_of(step.old.value)))
    fresh = [body for body in bodies_of(step.new) if body_digest(body) not in stored]
    with turn.cursor.undone_on_failure():
        plan = turn.plan(step.change, fresh)
        new = with_release(step.new, step.change, plan.committed)
        _move_coins(turn, step)
        row = {
            "of_digest": new.digest,
            "of_version": version,
            "version": version + 1,
            "stage": new.stage.value,
            "document": write_session(new),
        }
        if turn.cursor.run(_UPDATE_SESSION, row) != 1:
            raise ConflictError("SESSION_STALE", f"expected version {version} of {new.digest.hex()}")
    return Versioned(new, version + 1), turn.add(plan)


def next_index(turn: Turn, wallet_id: bytes, branch: int, at_least: int) -> int:
    """Take the next address index of one branch."""
    table = schema.address_indices
    where = (table.c.wallet_id == wallet_id) & (table.c.branch == branch)
    found = turn.connection.scalars(select(table.c.next).where(where)).first()
    index = max(found or 0, at_least)
    if found is None:
        turn.connection.execute(insert(table).values(wallet_id=wallet_id, branch=branch, next=index + 1))
    else:
        turn.connection.execute(update(table).where(where).values(next=index + 1))
    return index


def remember(turn: Turn, name: str, value: bytes) -> None:
    """Keep one small fact."""
    table = schema.memory
    kept = turn.connection.execute(update(table).where(table.c.name == name).values(value=value))
    if kept.rowcount == 0:
        turn.connection.execute(insert(table).values(name=name, value=value))


def keep_cosigned(turn: Turn, log: Log, size: int, note: str) -> None:
    """Keep a cosigned note; the first per size stays, because it fixed the time of what it covers."""
    table = schema.cosigned_notes
    where = (table.c.log == log.value) & (table.c.size == size)
    kept = turn.connection.execute(update(table).where(where).values(newest=note))
    if kept.rowcount == 0:
        turn.connection.execute(insert(table).values(log=log.value, size=size, first=note, newest=note))
        newest = turn.heads.cosigned
        if log is Log.MONEY and (newest is None or newest[0] < size):
            turn.heads = replace(turn.heads, cosigned=(size, note))


def read_outpoint(raw: bytes) -> OutPoint:
    """Return the outpoint of a row."""
    return OutPoint(raw[:32], int.from_bytes(raw[32:], "little"))


def _write_outpoint(outpoint: OutPoint) -> bytes:
    return outpoint.txid + outpoint.vout.to_bytes(4, "little")


def record(turn: Turn, change: Change) -> Committed:
    """Log what changes no session."""
    return turn.add(turn.plan(change))


def forget(turn: Turn, digests: Sequence[bytes], change: Change) -> int:
    """Remove the bodies that no session needs; the first event of `change` tells how many."""
    query = select(_SESSIONS.c.digest, _SESSIONS.c.stage, _SESSIONS.c.document)
    rows = turn.connection.execute(query, execution_options={"yield_per": _FETCH_ROWS})
    needed = {digest for row in rows for digest in needed_by(row.digest, row.stage, row.document)}
    count = 0
    with turn.cursor.undone_on_failure():
        for digest in digests:
            count += 0 if digest in needed else turn.cursor.run(_DROP_BODY, {"of_digest": digest})
        first, *others = change.events
        told = replace(first, fields={**first.fields, "count": count})
        turn.add(turn.plan(replace(change, events=(told, *others))))
    return count


def with_release(session: Session, change: Change, committed: Committed) -> Session:
    """Return the session with the index of its RELEASE, where `change` holds it."""
    for wanted, index in zip(change.money, committed.money, strict=True):
        if isinstance(wanted.body, Release) and wanted.body.withdrawal_digest == session.digest:
            session = replace(session, release_index=index)
    return session


def _move_coins(turn: Turn, step: SessionStep) -> None:
    held = [{**_coin(outpoint), "of_holder": step.new.digest} for outpoint in step.release]
    turn.cursor.run_many(_FREE_COIN, held)
    if step.reserve is not None:
        _take_coins(turn, step.reserve, step.new.digest, step.change.at)


def _take_coins(turn: Turn, wanted: Reservation, holder: bytes, at: int) -> None:
    """Take every coin or none: those of another family must have expired."""
    coins = [_coin(outpoint) for outpoint in sorted(wanted.outpoints, key=_write_outpoint)]
    for coin in coins:
        found = turn.cursor.first(_FIND_COIN, coin)
        if found is not None and bytes(found[0]) != wanted.family and found[1] > at:
            taken = read_outpoint(coin["of_outpoint"])
            raise ConflictError("OUTPOINT_RESERVED", f"expected {taken} to be free until {found[1]}")
    values = {"family": wanted.family, "holder": holder, "expires_at": wanted.expires_at}
    turn.cursor.run_many(_DROP_COIN, coins)
    turn.cursor.run_many(_TAKE_COIN, [{"outpoint": coin["of_outpoint"], **values} for coin in coins])


def _coin(outpoint: OutPoint) -> Mapping[str, bytes]:
    return {"of_outpoint": _write_outpoint(outpoint)}
