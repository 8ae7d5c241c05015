"""Routing at work: hand bundles to the nodes that are next, take what they answer, and believe none of it."""

from __future__ import annotations

from coordinator import session as sessions
from coordinator.bundles import make_bundle, make_delta
from coordinator.deciding import judge_now
from coordinator.drafting import facts_of
from coordinator.effects import Effect, around
from coordinator.parts import Parts
from coordinator.routing import Standing, can_finish, next_to_ask
from coordinator.session import Session, Stage
from coordinator.store.port import Change, Event, Versioned
from custody.bundle import Answer, Behind, check_receipt, read_receipt
from custody.canonical import Json
from custody.decide import Allow, Need
from custody.errors import ConflictError, DeniedError, MalformedError, NotFoundError, Refused, UnavailableError
from custody.genesis import GenesisWallet
from custody.policy import Location
from custody.policy.duties import SignersRequired
from custody.psbt import parse
from custody.signatures import Accepted, InputSignature
from custody.statements import Signed
from custody.v1 import signer_pb2 as wire
from custody.withdrawal import Withdrawal, read_withdrawal

Held = Versioned[Session]


async def ask_signers(parts: Parts, held: Held, withdrawal: Withdrawal, now: int) -> Held | Refused | None:
    """Hand a bundle to each node that is next; None: all that can be asked is asked.

    Refused SIGNERS_REFUSED: so many said no for good that the rest cannot finish it.
    """
    standing, required, accepted = await standing_of(parts, held.value, withdrawal, now)
    slots = _wallet(parts, withdrawal).slots
    signed = frozenset(name for name in (slots[at].node for at in accepted.signed) if name is not None)
    unjudging = sum(1 for at, slot in enumerate(slots) if slot.node is None and at not in accepted.signed)
    if not can_finish(standing, required, signed, unjudging, accepted.lacking):
        said = ", ".join(f"{n.name}: {n.refused}" for n in standing if n.is_out())
        return Refused("SIGNERS_REFUSED", f"{accepted.lacking} more signers", said)
    moved: Held | None = None
    for node in next_to_ask(standing, required, signed, accepted.lacking, now):
        moved = await _hand_out(parts, moved or held, node, now) or moved
    return moved


async def standing_of(
    parts: Parts, session: Session, withdrawal: Withdrawal, now: int
) -> tuple[tuple[Standing, ...], SignersRequired, Accepted]:
    """Return how each judging node stands to this withdrawal, what the rules ask of signers, and who signed."""
    state = await parts.followed.state(now)
    book, wallet = parts.books[withdrawal.wallet_id], _wallet(parts, withdrawal)
    found = facts_of(session.psbt or b"", withdrawal, state, book)
    if isinstance(found, Refused):
        raise ConflictError(found.code, f"expected {found.expected}, found {found.found}")
    accepted = await parts.verifying.accept(*found, book, session.signatures)
    judged = await judge_now(parts, session, now)
    decided = None if isinstance(judged, Refused) else judged.decision
    required = decided.signers if isinstance(decided, Allow | Need) else SignersRequired()
    offline = {node.name for node in state.policy.roots.nodes if node.location is Location.OFFLINE}
    asked = {a.node: a.at for a in session.asked}
    refused = {r.node: r.code for r in session.refusals}
    nodes = [slot.node for slot in wallet.slots if slot.node is not None]
    standing = tuple(
        Standing(
            name=n,
            is_offline=n in offline,
            is_ready=parts.outbox.is_ready(n, now),
            asked_at=asked.get(n),
            refused=refused.get(n, ""),
            is_lost=n in asked and not parts.outbox.has_sent(n, session.digest),
        )
        for n in nodes
    )
    return standing, required, accepted


async def _hand_out(parts: Parts, held: Held, node: str, now: int) -> Held | None:
    """Send `node` its bundle, or first the delta that brings it up; an offline node waits for its courier."""
    link = parts.outbox.link(node)
    if link is None:
        return None
    try:
        bundle = await make_bundle(parts, held.value, node, link.money_size)
    except UnavailableError:
        return None  # the witnesses are away: asked again on the next tick
    if bundle is None:
        delta = await make_delta(parts, link.money_size)
        if delta is not None:
            parts.outbox.send(node, wire.ConnectResponse(delta=wire.Delta(document=delta.to_bytes())))
        return None
    event = Event("bundle.sent", node, {"withdrawal": _hex(held), "node": node})
    with around(parts.hook, Effect.ASK):
        stored, _ = await parts.store.commit(held, sessions.ask(held.value, node, now), Change(now, events=(event,)))
    with around(parts.hook, Effect.HAND_OUT):
        message = wire.Bundle(document=bundle.to_bytes(), release_index=bundle.release_index)
        parts.outbox.send(node, wire.ConnectResponse(bundle=message), held.value.digest)
    return stored


async def take_answer(parts: Parts, answer: Answer, carried_by: str) -> Held:
    """File what a node answered: verified signatures, or its refusal; by name where a signature is bad.

    Args:
        parts: of this coordinator.
        answer: parsed, not yet believed.
        carried_by: who brought it: the node itself, or the operator of its courier.

    Raises:
        DeniedError: NODE_UNKNOWN, GENESIS_OTHER.
        MalformedError: RECEIPT_... where its receipt does not stand.
        ConflictError: LATE_SIGNATURE: recorded, never combined.
    """
    now = parts.clock.now()
    if answer.genesis != parts.genesis.hash:
        raise DeniedError("GENESIS_OTHER", "expected an answer under this genesis")
    async with parts.turns[answer.withdrawal_digest]:
        held = await parts.store.load(answer.withdrawal_digest)
        if held is None:
            raise NotFoundError("WITHDRAWAL_UNKNOWN", "expected an answer to a withdrawal of ours")
        withdrawal = read_withdrawal(held.value.withdrawal)
        at = _wallet(parts, withdrawal).key_index(answer.node)
        if at is None:
            raise DeniedError("NODE_UNKNOWN", f"expected a node of this wallet, found {answer.node}")
        if isinstance(answer.outcome, Behind):
            link = parts.outbox.link(answer.node)
            if link is not None:
                link.money_size = answer.outcome.size
            return await _file_refusal(
                parts, held, answer, Refused("LOG_GAP", "its log", str(answer.outcome.size)), now
            )
        await _check_receipt(parts, held.value, answer, now)
        if isinstance(answer.outcome, Refused):
            return await _file_refusal(parts, held, answer, answer.outcome, now)
        if answer.txid != parse(held.value.psbt or b"").transaction.txid:
            raise MalformedError("RECEIPT_MISMATCH", "expected a receipt for the transaction of this withdrawal")
        actor = f"{answer.node} by {carried_by}"
        return await file_signatures(parts, held, answer.outcome, at, actor, answer.receipt)


async def file_signatures(
    parts: Parts,
    held: Held,
    signatures: tuple[InputSignature, ...],
    key_index: int | None,
    actor: str,
    receipt: Signed | None = None,
) -> Held:
    """Verify each signature over our own PSBT and keep the first valid one of each key; bad ones are logged by name.

    Args:
        parts: of this coordinator.
        held: the session.
        signatures: as they came.
        key_index: whose they must be; None for third-party signers, whose keys tell.
        actor: who brought them.
        receipt: the node's, proven; kept for auditors with the event.
    """
    now = parts.clock.now()
    withdrawal = read_withdrawal(held.value.withdrawal)
    book = parts.books[withdrawal.wallet_id]
    found = facts_of(held.value.psbt or b"", withdrawal, await parts.followed.state(now), book)
    if isinstance(found, Refused):
        raise ConflictError(found.code, f"expected {found.expected}, found {found.found}")
    accepted = await parts.verifying.accept(*found, book, (*held.value.signatures, *signatures))
    owners = set(range(len(book.wallet.keys))) if key_index is None else {key_index}
    fresh = tuple(s for s in accepted.of(owners) if s not in held.value.signatures)
    events = [
        Event(
            "signature.rejected",
            actor,
            {"withdrawal": _hex(held), "code": bad.code, "input": bad.signature.input_index},
        )
        for bad in accepted.rejected
    ]
    bodies = () if receipt is None else (receipt,)
    if fresh:
        named: dict[str, Json] = {"bodies": [body.digest.hex() for body in bodies]} if bodies else {}
        events.append(Event("signature.accepted", actor, {"withdrawal": _hex(held), "count": len(fresh), **named}))
    if held.value.stage is not Stage.SIGNING:  # recorded as late, never combined
        with around(parts.hook, Effect.RECORD_LATE):
            await parts.store.record(Change(now, events=(Event("signature.late", actor, {"withdrawal": _hex(held)}),)))
    session = sessions.add_signatures(held.value, fresh, now)
    with around(parts.hook, Effect.TAKE):
        change = Change(now, events=tuple(events), bodies=bodies if fresh else ())
        stored, _ = await parts.store.commit(held, session, change)
    for at in accepted.signed:  # a declared key is proven by its first verified signature
        await parts.store.remember(proven_name(withdrawal.wallet_id, at), b"1")
    return stored


def proven_name(wallet_id: bytes, key_index: int) -> str:
    """Return under which name the store remembers that a key has signed."""
    return f"proven/{wallet_id.hex()}/{key_index}"


async def _check_receipt(parts: Parts, session: Session, answer: Answer, now: int) -> None:
    """Prove that the node itself said this, of a release of this withdrawal: not always of the newest one.

    A cold signer's answer may be on its way while its release is written anew: what it signed is the same transaction.
    A no to an older release says nothing of the newest.
    """
    state = await parts.followed.state(now)
    node = state.policy.roots.node(answer.node)
    released = {session.release_index or 0}
    if not isinstance(answer.outcome, Refused):
        released |= {found.index for found in state.releases_of(session.digest)}
    named = read_receipt(answer.receipt)[1] if answer.receipt is not None else 0
    index = named if named in released else session.release_index or 0
    check_receipt(answer, index, b"" if node is None else node.identity)


async def _file_refusal(parts: Parts, held: Held, answer: Answer, refused: Refused, now: int) -> Held:
    session = sessions.refuse(held.value, answer.node, refused, now)
    bodies = () if answer.receipt is None else (answer.receipt,)
    named: dict[str, Json] = {"bodies": [body.digest.hex() for body in bodies]} if bodies else {}
    event = Event("bundle.refused", answer.node, {"withdrawal": _hex(held), "code": refused.code, **named})
    with around(parts.hook, Effect.FILE_REFUSAL):
        stored, _ = await parts.store.commit(held, session, Change(now, events=(event,), bodies=bodies))
    return stored


def _hex(held: Held) -> str:
    return held.value.digest.hex()


def _wallet(parts: Parts, withdrawal: Withdrawal) -> GenesisWallet:
    wallet = parts.wallet(withdrawal.wallet_id)
    if wallet is None:
        raise NotFoundError("WALLET_OTHER", "expected a wallet of this genesis")
    return wallet
