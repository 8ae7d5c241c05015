"""Take over what witnesses and nodes hold and put it in the log: they vouch for no log that leaves it out for long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Protocol

import structlog

from coordinator import flow
from coordinator.effects import Effect, around
from coordinator.parts import Parts
from coordinator.store.port import Change, Event, MoneyBody
from custody.audit import Log
from custody.entries import EntryKind
from custody.errors import ConflictError, CustodyError, NotFoundError, Refused
from custody.follow import State
from custody.held import check_posted, count_receipts, entry_of, is_moot
from custody.statements import Signed

ASK_SECONDS = 5  # witnesses wait 60 s for the log, so there are some tries
log = structlog.get_logger("coordinator")


class HoldingWitness(Protocol):
    """A witness that can say what it holds."""

    async def held(self) -> Iterable[Signed]:
        """Return what it holds, unjudged. Raises UnavailableError."""
        ...

    async def receipts(self, signed: Signed) -> Iterable[Signed]:
        """Return its receipt for what it holds, and others', unjudged. Raises UnavailableError."""
        ...


async def take_over_for_ever(parts: Parts, witnesses: Mapping[str, HoldingWitness]) -> None:
    """Ask every stand-alone witness for what it holds, and log it, until cancelled."""
    while True:
        await asyncio.gather(*(_take_over(parts, name, witness) for name, witness in witnesses.items()))
        await asyncio.sleep(ASK_SECONDS)


async def _take_over(parts: Parts, name: str, witness: HoldingWitness) -> None:
    try:
        for signed in await witness.held():
            is_new = await parts.store.recall(_logged_name(signed)) is None
            refused = await take_in(parts, signed, name, await _receipts(witness, signed) if is_new else ())
            if refused is not None:
                log.warning("held.refused", witness=name, kind=signed.kind.name, code=refused.code)
    except CustodyError as error:  # the others are asked all the same
        log.warning("held.unknown", witness=name, code=error.code)


async def _receipts(witness: HoldingWitness, signed: Signed) -> Iterable[Signed]:
    """Return what there is; the statement itself goes into the log without it too."""
    try:
        return await witness.receipts(signed)
    except CustodyError:
        return ()


async def take_in(parts: Parts, signed: Signed, source: str, receipts: Iterable[Signed] = ()) -> Refused | None:
    """Log `signed` unless the log makes it moot; return why it is not worth logging, or None.

    Args:
        parts: of this coordinator.
        signed: with valid endorsements only; what they are worth is judged here.
        source: who held it.
        receipts: of witnesses, for auditors; those that do not hold are left out.
    """
    async with parts.taking:
        now = parts.clock.now()
        state = await parts.followed.state(now)
        if refused := check_posted(state, signed, now):
            return refused
        if is_moot(state, signed, now) or await parts.store.recall(_logged_name(signed)) is not None:
            return None
        kind, body = entry_of(signed)
        bodies = (signed, *_held_good(state, signed, receipts))
        event = Event("statement.taken", source, {"kind": kind.value, "bodies": [b.digest.hex() for b in bodies]})
        if kind is EntryKind.STOP and await _ended_here(parts, signed, now):
            if len(bodies) > 1:
                await parts.store.record(Change(now, events=(event,), bodies=bodies))
            return None
        with around(parts.hook, Effect.LOG_STATEMENT):
            await parts.store.record(Change(now, money=(MoneyBody(kind, body),), events=(event,), bodies=bodies))
        await parts.store.remember(_logged_name(signed), b"1")
    await parts.logs.fresh(Log.MONEY)
    return None


def _held_good(state: State, signed: Signed, receipts: Iterable[Signed]) -> list[Signed]:
    """Return the receipts for `signed` by the one key of a pinned witness each."""
    roots, genesis = state.policy.roots, state.genesis.hash
    return [
        receipt
        for receipt in receipts
        if len(receipt.endorsements) == 1
        and count_receipts(roots.witnesses, roots.w, genesis, signed.digest, [receipt]).by
    ]


async def _ended_here(parts: Parts, signed: Signed, now: int) -> bool:
    """Stop the withdrawal the usual way; return whether that logged all that there is to log.

    A stop of what was never proposed here, or that comes too late here, still goes into the log: signers judge it.
    """
    try:
        await flow.stop(parts, signed)
    except (NotFoundError, ConflictError):
        return False
    return is_moot(await parts.followed.state(now), signed, now)


def _logged_name(signed: Signed) -> str:
    return f"taken/{signed.digest.hex()}"  # one that counts nothing in the log is still not logged twice
