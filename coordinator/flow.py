"""The path of a withdrawal, one function per stage, in order of time. Commit, then act; a restart runs the same code.

Each stage takes the stored session, moves it by one `Store.commit` (new state and its log entries in one transaction),
and returns what is stored then, or None where nothing moved. Whoever calls too often or too early changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from coordinator import session as sessions
from coordinator.asking import ask_signers
from coordinator.chain.port import TxState
from coordinator.deciding import Judged, asked_rightly, judge_now, stopped, veto_ends
from coordinator.drafting import draft, facts_of, read_client_psbt
from coordinator.effects import Effect, around
from coordinator.ending import grounds_of, remember_end
from coordinator.parts import Parts
from coordinator.session import Session, Stage
from coordinator.store.port import Change, Event, MoneyBody, Reservation, Versioned
from coordinator.telling import HandedIn, remember
from custody.approval import read_approval
from custody.audit import Log, body_digest
from custody.canonical import Json
from custody.decide import Allow, Deny
from custody.entries import EntryKind, Notice, Stop, StopCause, read_stop
from custody.errors import ConflictError, NotFoundError, Refused
from custody.facts import check_matches
from custody.finalise import finalize
from custody.follow import State, family_of, may_stop
from custody.once import pays_once
from custody.people import check_approval
from custody.psbt import parse
from custody.release import release_of
from custody.statements import Signed
from custody.transaction import OutPoint, TxOut, parse_transaction
from custody.withdrawal import Withdrawal, read_withdrawal

Held = Versioned[Session]
RELEASE_AGAIN_SECONDS = 300  # signers refuse a release that witnesses saw 10 min after the time it names: leave half


async def propose(
    parts: Parts, signed: Signed, client_psbt: bytes | None = None, handed_in: HandedIn | None = None
) -> tuple[Held, bool] | Refused:
    """Take in what an initiator signed, once per (initiator, withdrawal_id); draft its transaction, hold its coins.

    The call that hands it in first is kept where a rule asks for it.

    Returns:
        The session and whether it is new; or why it was not taken in (logged, and nothing else changed).

    Raises:
        ConflictError: WITHDRAWAL_ID_TAKEN by another withdrawal; OUTPOINT_RESERVED.
    """
    now = parts.clock.now()
    withdrawal = read_withdrawal(signed)
    known = await parts.store.load(withdrawal.digest)
    if known is not None:
        return known, False
    taken = await parts.store.by_initiator(withdrawal.initiator, withdrawal.withdrawal_id)
    if taken is not None:  # told before any other refusal: what the name stands for never changes
        name = f"{withdrawal.initiator}/{withdrawal.withdrawal_id}"
        raise ConflictError("WITHDRAWAL_ID_TAKEN", f"expected {name} to be unused, found {taken.value.digest.hex()}")
    psbt = await _drafted(parts, withdrawal, signed, client_psbt, now)
    if isinstance(psbt, Refused):
        with around(parts.hook, Effect.REFUSE):
            await parts.store.record(Change(now, events=(_event("withdrawal.refused", withdrawal, psbt),)))
        return psbt
    session = sessions.draft(sessions.propose(signed, now), psbt, now)
    state = await parts.followed.state(now)
    family = family_of(state, withdrawal) or withdrawal.digest
    async with parts.turns[withdrawal.digest]:  # whoever hands it in again changes nothing of what was kept
        if handed_in is not None and await parts.store.load(withdrawal.digest) is None:
            await remember(parts, withdrawal.digest, state.policy, handed_in)
        with around(parts.hook, Effect.PROPOSE):
            held, committed = await parts.store.commit(
                None,
                session,
                Change(
                    now,
                    events=(_event("withdrawal.proposed", withdrawal, bodies=_names(signed, psbt)),),
                    bodies=(signed, psbt),
                ),
                reserve=Reservation(_coins(session), family, withdrawal.expires_at),
            )
    return held, committed.is_new


async def approve(parts: Parts, signed: Signed, digest: bytes) -> Held | Refused:
    """File one person's approval if it is worth a vote now; the same again changes nothing."""
    now = parts.clock.now()
    async with parts.turns[digest]:
        held = await _held(parts, digest)
        state = await parts.followed.state(now)
        withdrawal = read_withdrawal(held.value.withdrawal)
        worth = check_approval(state.policy, withdrawal, read_approval(signed), signed, now)
        if isinstance(worth, Refused):
            with around(parts.hook, Effect.REFUSE):
                await parts.store.record(Change(now, events=(_event("approval.refused", withdrawal, worth),)))
            return worth
        session = sessions.approve(held.value, signed, now)
        if session is held.value:
            return held
        event = Event("approval.accepted", worth.person, {"withdrawal": digest.hex(), "bodies": [signed.digest.hex()]})
        with around(parts.hook, Effect.APPROVE):
            held, _ = await parts.store.commit(held, session, Change(now, events=(event,), bodies=(signed,)))
        return held


async def stop(parts: Parts, signed: Signed) -> Held | Refused:
    """Log a reject, veto or cancel by who may, so that every signer sees it; end the withdrawal here too.

    A cancel after the release is refused: signatures may be out, so only a superseding self-transfer cancels then.
    """
    now = parts.clock.now()
    said = read_stop(signed)
    async with parts.turns[said.withdrawal_digest]:
        held = await _held(parts, said.withdrawal_digest)
        state = await parts.followed.state(now)
        withdrawal = read_withdrawal(held.value.withdrawal)
        if not may_stop(state, said, signed):
            return Refused("STOP_SIGNATURE", f"a signature by {said.by}, who is listed", "none")
        is_cancel = said.cause is StopCause.CANCEL
        if is_cancel and said.by != withdrawal.initiator:
            return Refused("STOP_NOT_INITIATOR", withdrawal.initiator, said.by)
        is_veto = said.cause is StopCause.VETO
        if state.is_stopped(withdrawal) or (is_veto and said.by in state.vetoes_of(withdrawal)):
            return held  # for ever, at every signer: another word would only lengthen the log that they follow whole
        ended = sessions.cancel(held.value, now) if is_cancel else _rejected(held.value, now)
        if is_veto and ended is not held.value and not await veto_ends(parts, held.value, said, now):
            ended = held.value  # logged, and others of its group may join
        if isinstance(ended, Refused):
            return ended
        body = MoneyBody(EntryKind.STOP, Stop(said.withdrawal_digest, said.cause, said.by, signed.digest))
        change = Change(
            now, money=(body,), events=(_event(f"withdrawal.{said.cause.value}", withdrawal),), bodies=(signed,)
        )
        coins = _coins(held.value) if ended.is_ended else frozenset()  # else they are still being spent
        with around(parts.hook, Effect.STOP):
            stored, _ = await parts.store.commit(held, ended, change, release=coins)
        return stored


def _rejected(session: Session, now: int) -> Session:
    """Return it as rejected where signatures can still be withheld; else as it is: the STOP is logged all the same."""
    return session if Stage.REJECTED not in sessions.MOVES[session.stage] else sessions.reject(session, now)


async def consider(parts: Parts, held: Held) -> Held | None:
    """APPROVING: judge under the newest rules; deny, wait for people or for a delay, or write the RELEASE.

    The lock makes counting the log and adding to it one act: no two withdrawals count the same room.
    """
    async with parts.releasing:
        now = parts.clock.now()
        judged = await judge_now(parts, held.value, now)
        if isinstance(judged, Refused):
            return await _end(parts, held, judged, now)
        if isinstance(judged.decision, Deny):
            return await _end(parts, held, judged.decision.refused, now, judged.decision)
        if not isinstance(judged.decision, Allow) or judged.state.is_frozen(now):
            return None
        if judged.decision.delay.seconds and not await _has_waited(parts, held, judged, judged.decision, now):
            return None
        return await _release(parts, held, judged, now)


async def _release(parts: Parts, held: Held, judged: Judged, now: int) -> Held:
    """Write the RELEASE and the new stage in one transaction: no entry, no signature."""
    approvals = tuple(signed for _, signed in judged.approvals)
    family = family_of(judged.state, judged.withdrawal) or judged.withdrawal.digest
    body = release_of(judged.withdrawal, [a.digest for a in approvals], judged.facts, family, now)
    released = sessions.release(replace(held.value, approvals=approvals), now)
    with around(parts.hook, Effect.RELEASE):
        stored, _ = await parts.store.commit(
            held,
            released,
            Change(
                now,
                money=(MoneyBody(EntryKind.RELEASE, body),),
                events=(_event("withdrawal.released", judged.withdrawal, bodies=_names(held.value.psbt or b"")),),
                bodies=(held.value.withdrawal, *approvals),
            ),
        )
    return stored


async def vouch(parts: Parts, held: Held) -> Held | None:
    """RELEASED: get w witnesses' cosignatures over the log with the RELEASE in it; without them nothing goes out."""
    index = held.value.release_index
    with around(parts.hook, Effect.COSIGN):
        notes = await parts.logs.fresh(Log.MONEY)
    if notes is None or index is None or notes.size <= index:
        return None
    now = parts.clock.now()
    is_late = now - held.value.updated_at > RELEASE_AGAIN_SECONDS
    session = sessions.reconsider(held.value, now) if is_late else sessions.cosigned(held.value, now)
    with around(parts.hook, Effect.VOUCH):
        stored, _ = await parts.store.commit(held, session, Change(now))
    return stored


async def gather(parts: Parts, held: Held) -> Held | None:
    """SIGNING: finalise once m keys signed every input; else ask whoever is next, while there is time and no freeze."""
    now = parts.clock.now()
    withdrawal = read_withdrawal(held.value.withdrawal)
    state = await parts.followed.state(now)
    if refused := await stopped(parts, held.value, now):
        return await _end(parts, held, refused, now)
    if now >= withdrawal.expires_at:
        return await _end(parts, held, Refused("WITHDRAWAL_EXPIRED", f"before {withdrawal.expires_at}", str(now)), now)
    if state.is_frozen(now):
        return None  # signers would refuse for good what may go on once the freeze is lifted
    if finished := await finalise(parts, held, withdrawal, now):
        return finished
    if _is_too_old(state, held.value, now):
        with around(parts.hook, Effect.VOUCH):
            stored, _ = await parts.store.commit(held, sessions.reconsider(held.value, now), Change(now))
        return stored
    asked = await ask_signers(parts, held, withdrawal, now)
    return await _end(parts, held, asked, now) if isinstance(asked, Refused) else asked


async def finalise(parts: Parts, held: Held, withdrawal: Withdrawal, now: int) -> Held | None:
    """Make the transaction from verified signatures, let Bitcoin Core's code judge it, store it before it goes out."""
    book = parts.books[withdrawal.wallet_id]
    state = await parts.followed.state(now)
    found = facts_of(held.value.psbt or b"", withdrawal, state, book)
    if isinstance(found, Refused):
        return await _end(parts, held, found, now)
    psbt, facts = found
    accepted = await parts.verifying.accept(psbt, facts, book, held.value.signatures)
    if not accepted.is_complete:
        return None
    transaction = finalize(psbt, facts, book, accepted)
    spent = [TxOut(fact.amount_sats, fact.script) for fact in facts.inputs]
    raw = transaction.serialize()
    if refused := await parts.chain.check(raw, spent):
        return await _end(parts, held, refused, now)
    final = sessions.finalise(held.value, raw, transaction.txid, now)
    named: dict[str, Json] = {"txid": transaction.txid_hex, "bodies": _names(raw)}
    if transaction.txid != facts.txid:  # P2SH: its scriptSigs change the name by which releases know it
        named["unsigned_txid"] = facts.txid[::-1].hex()
    event = _event("transaction.finalised", withdrawal, None, **named)
    with around(parts.hook, Effect.FINALISE):
        stored, _ = await parts.store.commit(held, final, Change(now, events=(event,), bodies=(raw,)))
    return stored


async def broadcast(parts: Parts, held: Held) -> Held | None:
    """FINAL: hand the stored transaction to the network. Idempotent: after a crash it goes out again."""
    now = parts.clock.now()
    withdrawal, raw = read_withdrawal(held.value.withdrawal), held.value.transaction or b""
    with around(parts.hook, Effect.BROADCAST):
        refused = await parts.chain.broadcast(raw)
    if refused is not None:
        return await _conflicted(parts, held, withdrawal, refused, now)
    event = _event("transaction.broadcast", withdrawal, txid=_txid_hex(held.value))
    with around(parts.hook, Effect.RECORD_BROADCAST):
        stored, _ = await parts.store.commit(held, sessions.broadcast(held.value, now), Change(now, events=(event,)))
    return stored


async def watch(parts: Parts, held: Held) -> Held | None:
    """BROADCAST: follow it until it is deep enough, and send it again while nobody knows it."""
    now = parts.clock.now()
    withdrawal, raw = read_withdrawal(held.value.withdrawal), held.value.transaction or b""
    spent = [txin.outpoint for txin in parse_transaction(raw).inputs]
    status = await parts.chain.status(held.value.txid or b"", spent)
    if status.state is TxState.UNKNOWN:
        await parts.chain.broadcast(raw)
    if status.depth_blocks < parts.confirmations or status.height is None:
        return None
    if status.state is TxState.CONFLICTED:
        other = Refused("TX_CONFLICT", "its coins unspent", f"another transaction at height {status.height}")
        return await _conflicted(parts, held, withdrawal, other, now)
    confirmed = sessions.confirm(held.value, status.height, now)
    event = _event("transaction.confirmed", withdrawal, txid=_txid_hex(held.value), height=status.height)
    with around(parts.hook, Effect.CONFIRM):
        stored, _ = await parts.store.commit(held, confirmed, Change(now, events=(event,)), release=frozenset(spent))
    return stored


STAGES: Mapping[Stage, Callable[[Parts, Held], Awaitable[Held | None]]] = {
    Stage.APPROVING: consider,
    Stage.RELEASED: vouch,
    Stage.SIGNING: gather,
    Stage.FINAL: broadcast,
    Stage.BROADCAST: watch,
}


async def advance(parts: Parts, digest: bytes) -> Held:
    """Run the stages of one withdrawal until nothing moves: after every event, on every tick, after every start."""
    async with parts.turns[digest]:
        held = await _held(parts, digest)
        while (stage := STAGES.get(held.value.stage)) is not None:
            moved = await stage(parts, held)
            if moved is None:
                break
            held = moved
        return held


async def _held(parts: Parts, digest: bytes) -> Held:
    held = await parts.store.load(digest)
    if held is None:
        raise NotFoundError("WITHDRAWAL_UNKNOWN", f"expected a withdrawal {digest.hex()[:16]}")
    return held


async def _drafted(
    parts: Parts, withdrawal: Withdrawal, signed: Signed, client_psbt: bytes | None, now: int
) -> bytes | Refused:
    """Return the PSBT of a new withdrawal, ours or the client's, that passes every check which needs no people."""
    state = await parts.followed.state(now)
    if refused := asked_rightly(parts, state, withdrawal, signed, now):
        return refused
    book = parts.books[withdrawal.wallet_id]
    psbt = await draft(parts, withdrawal, state, book) if client_psbt is None else read_client_psbt(client_psbt)
    if isinstance(psbt, Refused):
        return psbt
    found = facts_of(psbt, withdrawal, state, book)
    if isinstance(found, Refused):
        return found
    refused = check_matches(withdrawal, found[1], book.wallet)
    return refused or pays_once(withdrawal, found[1], state, now) or psbt


async def _end(parts: Parts, held: Held, refused: Refused, now: int, decision: Deny | None = None) -> Held:
    """End a withdrawal that may not go on, give its coins back, and log why: in full, whoever may read how much."""
    ending = {"WITHDRAWAL_EXPIRED": sessions.expire, "STOPPED": sessions.reject, "REJECTED": sessions.reject}
    session = ending.get(refused.code, sessions.deny)(held.value, now)
    more = {} if decision is None else grounds_of(decision)
    event = _event("withdrawal.ended", read_withdrawal(held.value.withdrawal), refused, **more)
    await remember_end(parts, held.value.digest, refused)
    with around(parts.hook, Effect.END):
        stored, _ = await parts.store.commit(held, session, Change(now, events=(event,)), release=_coins(held.value))
    return stored


async def _conflicted(parts: Parts, held: Held, withdrawal: Withdrawal, refused: Refused, now: int) -> Held:
    event = _event("transaction.conflicted", withdrawal, refused)
    session = sessions.conflict(held.value, now)
    with around(parts.hook, Effect.END):
        stored, _ = await parts.store.commit(held, session, Change(now, events=(event,)), release=_coins(held.value))
    return stored


async def _has_waited(parts: Parts, held: Held, judged: Judged, allow: Allow, now: int) -> bool:
    """Return whether the rules' delay has run since the NOTICE; write the NOTICE where there is none yet."""
    noticed = [t for digest, t in judged.state.notices if digest == held.value.digest]
    if noticed and now >= min(noticed) + allow.delay.seconds:
        return True
    if not noticed:
        notice = MoneyBody(EntryKind.NOTICE, Notice(held.value.digest))
        with around(parts.hook, Effect.NOTICE):
            await parts.store.record(Change(now, money=(notice,), bodies=(held.value.withdrawal,)))
    await parts.logs.fresh(Log.MONEY)  # the delay runs from the witnesses' word: asked for until it is there
    return False


def _is_too_old(state: State, session: Session, now: int) -> bool:
    """Return whether no signer takes the release any more (protocol.md step 2), so that it must be written anew."""
    seen = [found.t for found in state.releases_of(session.digest) if found.index == session.release_index]
    return bool(seen) and now - max(seen) > state.policy.limits.bundle_max_age_s


def _coins(session: Session) -> frozenset[OutPoint]:
    return frozenset(txin.outpoint for txin in parse(session.psbt or b"").transaction.inputs)


def _event(kind: str, withdrawal: Withdrawal, refused: Refused | None = None, **more: Json) -> Event:
    fields: dict[str, Json] = {"withdrawal": withdrawal.digest.hex(), "withdrawal_id": withdrawal.withdrawal_id, **more}
    if refused is not None:
        fields |= {"code": refused.code, "expected": refused.expected, "found": refused.found}
    return Event(kind, withdrawal.initiator, fields)


def _txid_hex(session: Session) -> str:
    return (session.txid or b"")[::-1].hex()


def _names(*bodies: Signed | bytes) -> list[str]:
    """Return the digests of what an event names, so that exports carry it."""
    return [body_digest(body).hex() for body in bodies]
