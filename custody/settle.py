"""What one entry of the money log changes, once its T is known; stops and freezes count from their index on.

What cannot be verified under the rules of its index counts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from custody.address import script_of
from custody.approval import read_approval
from custody.entries import (
    Document,
    EntryKind,
    Notice,
    Release,
    Stop,
    StopStatement,
    read_freeze,
    read_stop,
    read_unfreeze,
)
from custody.errors import MalformedError, Refused
from custody.genesis import Genesis
from custody.governing import succeed
from custody.later_wallet import wallet_stands
from custody.message import check_message, read_message
from custody.people import verify_people
from custody.policy import Policy
from custody.quorum import key_holders
from custody.state import Frozen, Logged, Pending, Released, State, family_of, under
from custody.statements import Kind, Signed
from custody.transaction import TxOut
from custody.voiding import void_stands
from custody.withdrawal import Withdrawal, read_withdrawal


def settle(state: State, pending: Pending, t: int) -> State:
    """Return `state` once `pending`, whose T is `t` (UTC seconds), has taken effect, or as it was."""
    body = pending.entry.body
    if isinstance(body, Release):
        if _is_admissible(state, body, pending.statements, t):
            released = Released(pending.index, body, t, state.policy.version)
            return replace(state, releases=(*state.releases, released), spent=state.spent.add(body, t))
    elif isinstance(body, Notice):
        withdrawal_signed = pending.statements[body.withdrawal_digest]
        if _initiated(state, withdrawal_signed):
            return replace(state, notices=(*state.notices, (body.withdrawal_digest, t)))
    elif isinstance(body, Stop):
        return count_stop(state, body, pending.statements[body.statement])
    elif isinstance(body, Document):
        signed = pending.statements[body.statement]
        if pending.entry.kind is EntryKind.FREEZE:
            # Its maker may have come with rules that just began.
            return _date_freeze(count_freeze(state, signed), signed, t)
        if pending.entry.kind is EntryKind.UNFREEZE:
            return _unfreeze(state, signed, t)
        if pending.entry.kind is EntryKind.RULE:
            return succeed_by(state, pending, t)
        if pending.entry.kind is EntryKind.MESSAGE:
            return _count_message(state, pending.index, signed, t)
    return state


def succeed_by(state: State, pending: Pending, t: int) -> State:
    """Take a rule document, a wallet or a void: only its T tells which version is in effect, and who is in office."""
    assert isinstance(pending.entry.body, Document)  # noqa: S101 - parse_entry pairs kind and body
    signed = pending.statements[pending.entry.body.statement]
    if signed.kind is Kind.WALLET:
        wallet = wallet_stands(state.genesis, state.policy, signed, t)
        if isinstance(wallet, Refused):
            return state
        return replace(state, genesis=replace(state.genesis, wallets=(*state.genesis.wallets, wallet)))
    if signed.kind is Kind.VOID:
        void = void_stands(state.rules, state.genesis.hash, signed, t)
        return state if isinstance(void, Refused) else replace(state, rules=state.rules.without(void.rules))
    return under(state, succeed(state.rules, state.genesis, signed, pending.index, t))


def _count_message(state: State, index: int, signed: Signed, t: int) -> State:
    """Take a message that its initiator, in office at `t`, signed; whether to sign it, each signer judges."""
    try:
        message = read_message(signed)
    except MalformedError:
        return state
    if check_message(state.policy, message, signed, state.genesis.hash, t) is not None:
        return state
    return replace(state, messages=(*state.messages, Logged(index, message.digest, t)))


def count_at_once(state: State, pending: Pending) -> State:
    """Take what protects: stops and freezes count from their index on, not only from T."""
    body = pending.entry.body
    if isinstance(body, Stop):
        return count_stop(state, body, pending.statements[body.statement])
    if isinstance(body, Document):
        signed = pending.statements[body.statement]
        if pending.entry.kind is EntryKind.FREEZE:
            return count_freeze(state, signed)
    return state


def count_stop(state: State, body: Stop, signed: Signed) -> State:
    """Return `state` with one more withdrawal stopped, where its statement says so and its maker may."""
    stop = read_stop(signed)
    told = (body.withdrawal_digest, body.cause, body.by)
    if stop in state.stops or (stop.withdrawal_digest, stop.cause, stop.by) != told:
        return state
    return replace(state, stops=(*state.stops, stop)) if may_stop(state, stop, signed) else state


def may_stop(state: State, stop: StopStatement, signed: Signed) -> bool:
    """Return whether `signed` is by the listed person or service that it names."""
    return stop.genesis == state.genesis.hash and bool(key_holders(state.policy, signed) & {stop.by})


def may_freeze(policy: Policy, by: str, signed: Signed) -> bool:
    """Return whether `signed` is by `by`, who is in a group that may freeze."""
    return by in key_holders(policy, signed, groups=policy.admin.freeze.groups)


def count_freeze(state: State, signed: Signed) -> State:
    """Return `state` with one more freeze, which has no T yet, where its maker may."""
    freeze = read_freeze(signed)
    known = freeze.freeze_id in state.lifted or any(f.freeze_id == freeze.freeze_id for f in state.freezes)
    again = any(f.by == freeze.by for f in state.freezes)  # no second one until a quorum re-arms
    if known or again or freeze.genesis != state.genesis.hash or not may_freeze(state.policy, freeze.by, signed):
        return state
    return replace(state, freezes=(*state.freezes, Frozen(freeze.freeze_id, freeze.by, None)))


def _date_freeze(state: State, signed: Signed, t: int) -> State:
    """Give a freeze its T; it stops counting if its maker was no longer in office then."""
    freeze = read_freeze(signed)
    stands = freeze.by in key_holders(state.policy, signed, groups=state.policy.admin.freeze.groups, at=t)
    found: list[Frozen] = []
    for frozen in state.freezes:
        if frozen.freeze_id != freeze.freeze_id or frozen.t is not None:  # a freeze logged twice keeps its first T
            found.append(frozen)
        elif stands:
            found.append(replace(frozen, t=t))
    return replace(state, freezes=tuple(found))


def _unfreeze(state: State, signed: Signed, t: int) -> State:
    """Lift freezes: loosening, so it counts only from its T on, and only by people in office then."""
    unfreeze = read_unfreeze(signed)
    quorum = state.policy.admin.unfreeze
    people = key_holders(state.policy, signed, groups=quorum.groups, at=t, seen=True)
    if unfreeze.genesis != state.genesis.hash or len(people) < quorum.threshold:
        return state
    lifted = state.lifted | frozenset(unfreeze.freeze_ids)
    return replace(state, lifted=lifted, freezes=tuple(f for f in state.freezes if f.freeze_id not in lifted))


def _initiated(state: State, signed: Signed) -> bool:
    """Return whether `signed` is a withdrawal of this genesis, signed by the initiator it names."""
    withdrawal = read_withdrawal(signed)
    return withdrawal.genesis == state.genesis.hash and withdrawal.initiator in key_holders(state.policy, signed)


def _is_admissible(state: State, release: Release, statements: Mapping[bytes, Signed], t: int) -> bool:
    """Return whether `release` counts: its withdrawal and approvals verify at `t`, and it says what they say."""
    try:
        signed = statements[release.withdrawal_digest]
        withdrawal = read_withdrawal(signed)
        approvals = tuple((read_approval(statements[d]), statements[d]) for d in release.approvals)
        payments = payments_of(withdrawal, state.genesis)
    except MalformedError:
        return False
    if verify_people(state.policy, withdrawal, signed, approvals, t) is not None:
        return False
    told = (
        release.withdrawal_id,
        release.wallet_id,
        release.initiator,
        release.relation,
        release.max_fee_sats,
        release.family,
        sorted(release.payments, key=_payment_order),
    )
    true = (
        withdrawal.withdrawal_id,
        withdrawal.wallet_id,
        withdrawal.initiator,
        withdrawal.relation,
        withdrawal.max_fee_sats,
        family_of(state, withdrawal),
        sorted(payments, key=_payment_order),
    )
    return told == true and withdrawal.genesis == state.genesis.hash


def payments_of(withdrawal: Withdrawal, genesis: Genesis) -> tuple[TxOut, ...]:
    """Return the outputs that `withdrawal` asks for, in its order; refuses addresses of another network."""
    return tuple(TxOut(p.amount_sats, script_of(p.address, genesis.network)) for p in withdrawal.payments)


def _payment_order(payment: TxOut) -> tuple[bytes, int]:
    return payment.script, payment.amount
