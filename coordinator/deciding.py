"""What the rules say of a withdrawal now, on the same facts and by the same code as at every signer."""

from __future__ import annotations

from dataclasses import dataclass, replace

from coordinator.drafting import facts_of
from coordinator.parts import Parts
from coordinator.session import Session
from coordinator.telling import told
from custody.approval import Approval, read_approval
from custody.decide import Case, Decided, Deny, check_feerate, decide
from custody.entries import StopStatement
from custody.errors import Refused
from custody.facts import Facts, check_matches, own_payees
from custody.follow import State, family_of
from custody.interval import Interval
from custody.once import pays_once
from custody.people import Ballot, check_approval, check_initiator
from custody.psbt import Psbt
from custody.statements import Signed
from custody.withdrawal import Withdrawal, read_withdrawal


@dataclass(frozen=True, slots=True)
class Judged:
    """A withdrawal whose hard checks hold, and what the rules say. approvals: those that count now, one per person."""

    withdrawal: Withdrawal
    state: State
    psbt: Psbt
    facts: Facts
    approvals: tuple[tuple[Approval, Signed], ...]
    decision: Decided


async def judge_now(parts: Parts, session: Session, now: int) -> Judged | Refused:
    """Return the judgement of `session` at `now` (UTC seconds), or the first hard check that does not hold."""
    state = await parts.followed.state(now)
    withdrawal = read_withdrawal(session.withdrawal)
    if refused := asked_rightly(parts, state, withdrawal, session.withdrawal, now):
        return refused
    if stop := state.is_stopped(withdrawal):
        return Refused("STOPPED", "no stop in the log", f"{stop.cause.value} by {stop.by}")
    book = parts.books[withdrawal.wallet_id]
    found = facts_of(session.psbt or b"", withdrawal, state, book)
    if isinstance(found, Refused):
        return found
    psbt, facts = found
    refused = (
        check_matches(withdrawal, facts, book.wallet)
        or check_feerate(state.policy.limits, facts.fee_sats, facts.vsize_vb)
        or pays_once(withdrawal, facts, state, now)
    )
    if refused:
        return refused
    approvals = counting_approvals(state, withdrawal, session, now)
    case = Case(
        withdrawal=withdrawal,
        facts=facts,
        approvals=approvals,
        families=state.spent,
        family=family_of(state, withdrawal) or withdrawal.digest,
        time=Interval(now, now),
        own_scripts=own_payees(facts, book),
        coordinator=await told(parts, state, session, facts, book, now),
    )
    decision = decide(state.policy, case)
    if not isinstance(decision, Deny) and (vetoed := state.vetoed_by(withdrawal, decision.delay.vetoes)):
        return Refused("STOPPED", "no veto by as many as the rules say", f"vetoes by {', '.join(vetoed)}")
    return Judged(withdrawal, state, psbt, facts, approvals, decision)


async def stopped(parts: Parts, session: Session, now: int) -> Refused | None:
    """Return STOPPED where the log ends the withdrawal: a reject, a cancel, or as many vetoes as the rules say."""
    state, withdrawal = await parts.followed.state(now), read_withdrawal(session.withdrawal)
    if stop := state.is_stopped(withdrawal):
        return Refused("STOPPED", "no stop", f"{stop.cause.value} by {stop.by}")
    if not state.vetoes_of(withdrawal):
        return None
    judged = await judge_now(parts, session, now)
    return judged if isinstance(judged, Refused) and judged.code == "STOPPED" else None


async def veto_ends(parts: Parts, session: Session, said: StopStatement, now: int) -> bool:
    """Return whether the veto `said` ends the withdrawal with those in the log; where rules cannot tell, it does."""
    judged = await judge_now(parts, session, now)
    if isinstance(judged, Refused) or isinstance(judged.decision, Deny):
        return True
    state = replace(judged.state, stops=(*judged.state.stops, said))
    return bool(state.vetoed_by(judged.withdrawal, judged.decision.delay.vetoes))


def asked_rightly(parts: Parts, state: State, withdrawal: Withdrawal, signed: Signed, now: int) -> Refused | None:
    """Return why this is not a withdrawal of ours, asked by who it names, in time."""
    if withdrawal.genesis != parts.genesis.hash:
        return Refused("GENESIS_OTHER", parts.genesis.hash.hex(), withdrawal.genesis.hex())
    if withdrawal.wallet_id not in parts.books:
        return Refused("WALLET_OTHER", "a wallet of this genesis", withdrawal.wallet_id.hex())
    if now >= withdrawal.expires_at:
        return Refused("WITHDRAWAL_EXPIRED", f"before {withdrawal.expires_at}", str(now))
    return check_initiator(state.policy, withdrawal, signed, now)


def counting_approvals(
    state: State, withdrawal: Withdrawal, session: Session, now: int
) -> tuple[tuple[Approval, Signed], ...]:
    """Return the approvals that are worth a vote at `now`, the best of each person: what a RELEASE rests on."""
    found: dict[str, tuple[Ballot, Approval, Signed]] = {}
    for signed in session.approvals:
        approval = read_approval(signed)
        ballot = check_approval(state.policy, withdrawal, approval, signed, now)
        if isinstance(ballot, Refused):
            continue
        if ballot.person not in found or found[ballot.person][0].worth < ballot.worth:
            found[ballot.person] = (ballot, approval, signed)
    return tuple((approval, signed) for _, approval, signed in found.values())
