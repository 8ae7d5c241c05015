"""Messages that a wallet signs (BIP-322), from proposal to proof: the path of a payment without coins and chain.

Each is one small record under its digest; every step of it is an event, its entry in the money log is what signers
follow. Nothing here is believed: each signer judges the message, its people and the rules by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from coordinator.bundles import Asked, bundle_of, make_delta
from coordinator.message_store import Kept, listed, load, open_digests, remember
from coordinator.parts import Parts
from coordinator.routing import Standing, next_to_ask
from coordinator.store.port import Change, Event, MoneyBody
from custody.approval import Approval, read_approval
from custody.audit import Log
from custody.bundle import Answer, Behind, Bundle, check_receipt, read_receipt
from custody.canonical import Json
from custody.decide import Allow, Decided, Deny, MessageCase, Need, decide_message
from custody.entries import Document, EntryKind, Stop, StopCause
from custody.errors import ConflictError, DeniedError, MalformedError, Refused, UnavailableError
from custody.genesis import GenesisWallet
from custody.interval import Interval
from custody.message import Message, check_message, read_message
from custody.message_spend import MessageSpend, spend_of
from custody.people import Ballot, check_approval
from custody.policy import Location
from custody.state import Logged, State
from custody.statements import Signed
from custody.v1 import signer_pb2 as wire

MAX_OPEN = 64  # messages that wait at one time; more is a flood by one who may propose
_PROPOSING = b"messages"  # one lock for all that are new


@dataclass(frozen=True, slots=True)
class Footing:
    """Where an open message stands now. index: of its entry, None before it is logged.  decided: what the rules say."""

    state: State
    message: Message
    spend: MessageSpend
    wallet: GenesisWallet
    index: int | None
    decided: Decided


async def propose(parts: Parts, signed: Signed, actor: str) -> tuple[Kept, bool] | Refused:
    """Take in a message that its initiator signed; return it and whether it is new, or why it was not taken in.

    Raises:
        ConflictError: MESSAGE_ID_TAKEN by another message of the same initiator.
    """
    now = parts.clock.now()
    message = read_message(signed)
    async with parts.turns[_PROPOSING]:
        known = await listed(parts)
        if found := next((kept for kept in known if kept.digest == message.digest), None):
            return found, False
        if refused := await _refused(parts, message, signed, known, now):
            await _record(parts, actor, "message.refused", message, refused=refused)
            return refused
        kept = Kept(signed)
        await _record(parts, actor, "message.proposed", message, bodies=(signed,))
        await remember(parts, kept)
    return kept, True


async def approve(parts: Parts, signed: Signed, actor: str) -> Kept | Refused:
    """File one person's approval, or end the message by a reject; the same again changes nothing.

    Raises:
        NotFoundError: MESSAGE_UNKNOWN.
    """
    now = parts.clock.now()
    approval = read_approval(signed)
    async with parts.turns[approval.withdrawal_digest]:
        kept = await load(parts, approval.withdrawal_digest)
        message = read_message(kept.signed)
        state = await parts.followed.state(now)
        worth = check_approval(state.policy, message, approval, signed, now)
        if isinstance(worth, Refused):
            if worth.code == "REJECTED" and kept.is_open:
                return await _reject(parts, kept, message, approval, signed, worth)
            return worth
        if signed in kept.approvals or not kept.is_open:
            return kept
        kept = replace(kept, approvals=(*kept.approvals, signed))
        await _record(parts, actor, "approval.accepted", message, bodies=(signed,))
        await remember(parts, kept)
        return kept


async def advance(parts: Parts, digest: bytes) -> Kept:
    """Move one message on as far as it can go now: log it, ask signers, put the proof together."""
    async with parts.turns[digest]:
        kept = await load(parts, digest)
        if not kept.is_open:
            return kept
        now = parts.clock.now()
        standing = await stand(parts, kept, now)
        if isinstance(standing, Refused):
            return await _end(parts, kept, standing)
        if isinstance(standing.decided, Need):
            return kept
        if standing.index is None:
            kept = await _log(parts, kept, now)
            standing = await stand(parts, kept, now)
            if isinstance(standing, Refused) or standing.index is None:
                return kept
        if standing.state.is_frozen(now) or await parts.logs.fresh(Log.MONEY) is None:
            return kept
        accepted = standing.spend.accept(kept.signatures)
        if accepted.is_complete:
            kept = replace(kept, proof=standing.spend.proof(accepted))
            await _record(parts, "coordinator", "message.signed", standing.message)
            await remember(parts, kept)
            return kept
        return await _ask(parts, kept, standing, now)


async def advance_all(parts: Parts) -> None:
    """Move on every open message."""
    for digest in await open_digests(parts):
        await advance(parts, digest)


async def stand(parts: Parts, kept: Kept, now: int) -> Footing | Refused:
    """Return where an open message stands under the rules of `now`, or what ends it."""
    state, message = await parts.followed.state(now), read_message(kept.signed)
    wallet, book = parts.wallet(message.wallet_id), parts.book(message.wallet_id)
    if wallet is None or book is None:
        return Refused("WALLET_OTHER", "a wallet of this genesis", message.wallet_id.hex())
    spend = spend_of(message, book)
    if isinstance(spend, Refused):
        return spend
    if refused := check_message(state.policy, message, kept.signed, parts.genesis.hash, now):
        return refused
    logged = next((entry for entry in reversed(state.messages) if entry.digest == kept.digest), None)
    decided = _decided(state, message, kept, now if logged is None else logged.t, now)
    if logged is not None and _is_stale(state, decided, logged, now):
        logged, decided = None, _decided(state, message, kept, now, now)
    if isinstance(decided, Deny):
        return decided.refused
    return Footing(state, message, spend, wallet, None if logged is None else logged.index, decided)


def _decided(state: State, message: Message, kept: Kept, at: int, now: int) -> Decided:
    """Return what the rules say now, approvals counted as of `at`."""
    approvals = counting(state, message, kept, at)
    return decide_message(state.policy, MessageCase(message, message.format, approvals, Interval(now, now), at))


def _is_stale(state: State, decided: Decided, logged: Logged, now: int) -> bool:
    """Return whether no signer takes the entry any more, so that it must be written anew."""
    delay_s = decided.delay.seconds if isinstance(decided, Allow) else 0
    return now - (logged.t + delay_s) > state.policy.limits.bundle_max_age_s


def counting(state: State, message: Message, kept: Kept, at: int) -> tuple[tuple[Approval, Signed], ...]:
    """Return the approvals that are worth a vote at `at`, the best of each person."""
    found: dict[str, tuple[Ballot, Approval, Signed]] = {}
    for signed in kept.approvals:
        approval = read_approval(signed)
        ballot = check_approval(state.policy, message, approval, signed, at)
        if isinstance(ballot, Ballot) and (ballot.person not in found or found[ballot.person][0].worth < ballot.worth):
            found[ballot.person] = (ballot, approval, signed)
    return tuple((approval, signed) for _, approval, signed in found.values())


async def take_answer(parts: Parts, answer: Answer, actor: str) -> Kept:
    """File what a node answered: verified signatures, or its refusal.

    Raises:
        NotFoundError: MESSAGE_UNKNOWN.
        DeniedError: GENESIS_OTHER, NODE_UNKNOWN.
        MalformedError: RECEIPT_... where its receipt does not stand.
        ConflictError: MESSAGE_ENDED.
    """
    now = parts.clock.now()
    if answer.genesis != parts.genesis.hash:
        raise DeniedError("GENESIS_OTHER", "expected an answer under this genesis")
    async with parts.turns[answer.withdrawal_digest]:
        kept = await load(parts, answer.withdrawal_digest)
        standing = await stand(parts, kept, now)
        if isinstance(standing, Refused) or not kept.is_open:
            raise ConflictError("MESSAGE_ENDED", "expected a message that waits for signatures")
        if isinstance(answer.outcome, Behind):
            if (link := parts.outbox.link(answer.node)) is not None:
                link.money_size = answer.outcome.size
            return await _file_refusal(parts, kept, answer.node, "LOG_GAP")
        key_index = standing.wallet.key_index(answer.node)
        node = standing.state.policy.roots.node(answer.node)
        if key_index is None or node is None:
            raise DeniedError("NODE_UNKNOWN", f"expected a node of this wallet, found {answer.node}")
        check_receipt(answer, _receipted(kept, standing, answer), node.identity)
        if isinstance(answer.outcome, Refused):
            await _record(parts, actor, "bundle.refused", standing.message, refused=answer.outcome)
            return await _file_refusal(parts, kept, answer.node, answer.outcome.code)
        return await _file_signatures(parts, kept, standing, answer, key_index, actor)


async def bundle_for(parts: Parts, kept: Kept, node: str, node_size: int) -> Bundle | None:
    """Return the bundle of a logged message for `node`, or None where a delta must go first.

    Raises:
        ConflictError: MESSAGE_UNLOGGED or MESSAGE_ENDED.
        UnavailableError: NOT_VOUCHED.
    """
    now = parts.clock.now()
    standing = await stand(parts, kept, now)
    if isinstance(standing, Refused) or not kept.is_open:
        raise ConflictError("MESSAGE_ENDED", "expected a message that waits for signatures")
    if standing.index is None:
        raise ConflictError("MESSAGE_UNLOGGED", "expected a message that people agreed to")
    return await bundle_of(parts, _asked(kept, standing, now), node, node_size)


async def _refused(parts: Parts, message: Message, signed: Signed, known: tuple[Kept, ...], now: int) -> Refused | None:
    """Return why a new message is not taken in."""
    for kept in known:
        other = read_message(kept.signed)
        if (other.initiator, other.message_id) == (message.initiator, message.message_id):
            name = f"{message.initiator}/{message.message_id}"
            raise ConflictError("MESSAGE_ID_TAKEN", f"expected {name} to be unused, found {kept.digest.hex()}")
    if sum(kept.is_open for kept in known) >= MAX_OPEN:
        return Refused("MESSAGES_MANY", f"at most {MAX_OPEN} messages that wait", "more")
    standing = await stand(parts, Kept(signed), now)
    return standing if isinstance(standing, Refused) else None


async def _log(parts: Parts, kept: Kept, now: int) -> Kept:
    """Write the MESSAGE entry: no entry, no signature."""
    message = read_message(kept.signed)
    body = MoneyBody(EntryKind.MESSAGE, Document(kept.digest))
    event = _event("coordinator", "message.released", message)
    async with parts.releasing:
        await parts.store.record(Change(now, money=(body,), events=(event,), bodies=(kept.signed,)))
    await parts.logs.fresh(Log.MONEY)
    kept = replace(kept, asked=(), refused=())
    await remember(parts, kept)
    return kept


async def _ask(parts: Parts, kept: Kept, standing: Footing, now: int) -> Kept:
    """Hand the bundle to whoever is next; an offline node waits for its courier."""
    assert isinstance(standing.decided, Allow)  # noqa: S101 - `advance` asked for nothing else
    if now < _ends(standing):
        return kept
    asked, refused = dict(kept.asked), dict(kept.refused)
    offline = {node.name for node in standing.state.policy.roots.nodes if node.location is Location.OFFLINE}
    nodes = [
        Standing(
            name=slot.node,
            is_offline=slot.node in offline,
            is_ready=parts.outbox.is_ready(slot.node, now),
            asked_at=asked.get(slot.node),
            refused=refused.get(slot.node, ""),
            is_lost=slot.node in asked and not parts.outbox.has_sent(slot.node, kept.digest),
        )
        for slot in standing.wallet.slots
        if slot.node is not None
    ]
    accepted = standing.spend.accept(kept.signatures)
    signed = frozenset(name for at in accepted.signed if (name := standing.wallet.slots[at].node) is not None)
    for node in next_to_ask(nodes, standing.decided.signers, signed, accepted.lacking, now):
        if await _hand_out(parts, kept, standing, node, now):
            kept = replace(kept, asked=tuple({**dict(kept.asked), node: now}.items()))
            await remember(parts, kept)
    return kept


async def _hand_out(parts: Parts, kept: Kept, standing: Footing, node: str, now: int) -> bool:
    """Send `node` its bundle, or first the delta that brings it up; return whether the bundle went out."""
    link = parts.outbox.link(node)
    if link is None:
        return False
    try:
        bundle = await bundle_of(parts, _asked(kept, standing, now), node, link.money_size)
    except UnavailableError:
        return False
    if bundle is None:
        delta = await make_delta(parts, link.money_size)
        if delta is not None:
            parts.outbox.send(node, wire.ConnectResponse(delta=wire.Delta(document=delta.to_bytes())))
        return False
    await parts.store.record(Change(now, events=(_event(node, "bundle.sent", standing.message),)))
    message = wire.Bundle(document=bundle.to_bytes(), release_index=bundle.release_index)
    return parts.outbox.send(node, wire.ConnectResponse(bundle=message), kept.digest)


async def _file_signatures(
    parts: Parts, kept: Kept, standing: Footing, answer: Answer, key_index: int, actor: str
) -> Kept:
    if answer.txid != standing.spend.txid or not isinstance(answer.outcome, tuple):
        raise MalformedError("RECEIPT_MISMATCH", "expected a receipt for this message")
    accepted = standing.spend.accept((*kept.signatures, *answer.outcome))
    fresh = tuple(s for s in accepted.of({key_index}) if s not in kept.signatures)
    kind = "signature.accepted" if fresh else "signature.rejected"
    receipts = () if answer.receipt is None else (answer.receipt,)
    await _record(parts, actor, kind, standing.message, bodies=receipts if fresh else ())
    kept = replace(kept, signatures=(*kept.signatures, *fresh))
    await remember(parts, kept)
    return kept


async def _file_refusal(parts: Parts, kept: Kept, node: str, code: str) -> Kept:
    kept = replace(kept, refused=tuple({**dict(kept.refused), node: code}.items()))
    await remember(parts, kept)
    return kept


async def _reject(
    parts: Parts, kept: Kept, message: Message, approval: Approval, signed: Signed, refused: Refused
) -> Kept:
    """Log a reject, so that every signer sees it, and end the message."""
    body = MoneyBody(EntryKind.STOP, Stop(kept.digest, StopCause.REJECT, approval.approver, signed.digest))
    event = _event(approval.approver, "message.rejected", message)
    await parts.store.record(Change(parts.clock.now(), money=(body,), events=(event,), bodies=(signed,)))
    kept = replace(kept, ended=refused)
    await remember(parts, kept)
    return kept


async def _end(parts: Parts, kept: Kept, refused: Refused) -> Kept:
    await _record(parts, "coordinator", "message.ended", read_message(kept.signed), refused=refused)
    kept = replace(kept, ended=refused)
    await remember(parts, kept)
    return kept


def _receipted(kept: Kept, standing: Footing, answer: Answer) -> int:
    """Return which entry of the message a receipt must name: any of them for signatures, the newest for a no."""
    entries = {entry.index for entry in standing.state.messages if entry.digest == kept.digest}
    named = read_receipt(answer.receipt)[1] if answer.receipt is not None else -1
    is_signed = not isinstance(answer.outcome, Refused)  # what a cold node signed is the same, however often logged
    return named if is_signed and named in entries else standing.index or 0


def _asked(kept: Kept, standing: Footing, now: int) -> Asked:
    logged = next(entry for entry in standing.state.messages if entry.index == standing.index)
    approvals = tuple(signed for _, signed in counting(standing.state, standing.message, kept, logged.t))
    return Asked(kept.signed, approvals, b"", logged.index, kept.signatures)


def _ends(standing: Footing) -> int:
    """Return when the rules' delay has run: it runs from T of the entry."""
    logged = next(entry for entry in standing.state.messages if entry.index == standing.index)
    return logged.t + (standing.decided.delay.seconds if isinstance(standing.decided, Allow) else 0)


def _event(
    actor: str, kind: str, message: Message, refused: Refused | None = None, bodies: tuple[Signed, ...] = ()
) -> Event:
    fields: dict[str, Json] = {"message": message.digest.hex(), "message_id": message.message_id}
    if refused is not None:
        fields |= {"code": refused.code}
    if bodies:
        fields["bodies"] = [body.digest.hex() for body in bodies]
    return Event(kind, actor, fields)


async def _record(
    parts: Parts,
    actor: str,
    kind: str,
    message: Message,
    *,
    refused: Refused | None = None,
    bodies: tuple[Signed, ...] = (),
) -> None:
    event = _event(actor, kind, message, refused, bodies)
    await parts.store.record(Change(parts.clock.now(), events=(event,), bodies=bodies))
