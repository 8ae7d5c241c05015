"""May this withdrawal be signed, or this message? One pure answer, the same at the coordinator and at every signer.

Every rule is judged and order never matters: `custody.policy.evaluate`. What is not known, not in date or not written
is "no". Here stands what no rule can lift, and which facts the rules are asked about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from custody.approval import Approval
from custody.errors import Refused
from custody.interval import Interval
from custody.message import Message
from custody.people import Asked, Ballot, check_approval
from custody.policy.budgets import Spent
from custody.policy.document import Limits, Policy
from custody.policy.evaluate import Allow, Decided, Deny, Need, Past, Question, RuleReason, weigh
from custody.policy.subject import CoordinatorFacts, MessageFact, Subject, script_type
from custody.policy.terms import MessageFormat, Operation, ScriptType
from custody.policy.votes import Electorate
from custody.statements import Signed
from custody.withdrawal import RelationKind, Withdrawal

if TYPE_CHECKING:
    from custody.facts import Facts

__all__ = [
    "Allow",
    "Case",
    "Decided",
    "Deny",
    "MessageCase",
    "Need",
    "RuleReason",
    "check_feerate",
    "decide",
    "decide_message",
]


@dataclass(frozen=True, slots=True)
class Case:
    """What is judged.

    withdrawal, facts: already proven to match each other.  family: 32 bytes, the withdrawal's own.
    families: every family with an admissible release, this one's too, or a follower's count of them.  t_release:
    T(RELEASE), UTC seconds, or None before there is one.  own_scripts: those payees' scripts that are wallets of ours,
    or None where nobody looked.  coordinator: what the coordinator alone can say; None at a signer.
    """

    withdrawal: Withdrawal
    facts: Facts
    approvals: tuple[tuple[Approval, Signed], ...]
    families: Past
    family: bytes
    time: Interval
    t_release: int | None = None
    own_scripts: frozenset[bytes] | None = None
    coordinator: CoordinatorFacts | None = None

    @property
    def at(self) -> int:
        """When approvals are judged: at T(RELEASE); before it, at the later end of now."""
        return self.time.hi if self.t_release is None else self.t_release


@dataclass(frozen=True, slots=True)
class MessageCase:
    """A message to be judged; already proven to be of this genesis. at: when approvals are judged, UTC seconds."""

    message: Message
    format: MessageFormat
    approvals: tuple[tuple[Approval, Signed], ...]
    time: Interval
    at: int
    coordinator: CoordinatorFacts | None = None


def decide(policy: Policy, case: Case) -> Decided:
    """Return what `policy` says of `case`, with every rule's reason.

    Args:
        policy: the rules in force.
        case: the withdrawal with everything that was proven of it.
    """
    withdrawal = case.withdrawal
    ballots, rejects = _ballots(policy, withdrawal, case.approvals, case.at)
    grounds = _hard_grounds(policy, withdrawal, case.time, case.at)
    if withdrawal.network != policy.network:
        grounds.append(Refused("NETWORK_OTHER", policy.network, withdrawal.network))
    if withdrawal.rules_floor > policy.version:
        grounds.append(Refused("RULES_FLOOR", f"version {withdrawal.rules_floor}", str(policy.version)))
    electorate = Electorate(policy, withdrawal.initiator, ballots, case.at)
    subject = _subject_of(case)
    return weigh(Question(policy, subject, case.time, electorate, (*grounds, *rejects), case.families, case.family))


def decide_message(policy: Policy, case: MessageCase) -> Decided:
    """Return what `policy` says of signing a message, with the reason of every rule that speaks of messages."""
    message = case.message
    ballots, rejects = _ballots(policy, message, case.approvals, case.at)
    grounds = _hard_grounds(policy, message, case.time, case.at)
    subject = Subject(
        wallet_id=message.wallet_id,
        initiator=message.initiator,
        payments=(),
        max_fee_sats=0,
        relation=RelationKind.NEW,
        lo=case.time.lo,
        hi=case.time.hi,
        released=None,
        operation=Operation.MESSAGE,
        message=MessageFact(case.format, len(message.text)),
        coordinator=case.coordinator,
    )
    electorate = Electorate(policy, message.initiator, ballots, case.at)
    return weigh(Question(policy, subject, case.time, electorate, (*grounds, *rejects)))


def check_feerate(limits: Limits, fee_sats: int, vsize_vb: int) -> Refused | None:
    """Return why a fee of `fee_sats` for `vsize_vb` is outside the rules' hard bounds, or None."""
    found = f"{fee_sats} sats for {vsize_vb} vB"
    if fee_sats < limits.feerate_min_sat_vb * vsize_vb:
        return Refused("FEERATE_BELOW_MIN", f"at least {limits.feerate_min_sat_vb} sat/vB", found)
    if fee_sats > limits.feerate_max_sat_vb * vsize_vb:
        return Refused("FEERATE_ABOVE_MAX", f"at most {limits.feerate_max_sat_vb} sat/vB", found)
    return None


def _hard_grounds(policy: Policy, asked: Withdrawal | Message, time: Interval, at: int) -> list[Refused]:
    """Return the grounds that no rule can lift, for whatever is asked."""
    initiator = policy.principal(asked.initiator)
    checks = (
        (time.lo >= policy.effective_from, "RULES_NOT_YET", f"rules in effect from {policy.effective_from}", time.lo),
        (time.hi < policy.not_after, "RULES_EXPIRED", f"rules valid before {policy.not_after}", time.hi),
        (policy.wallet(asked.wallet_id) is not None, "WALLET_UNKNOWN", "a wallet of the rules", "another"),
        (
            initiator is not None and at < initiator.valid_until,
            "INITIATOR_UNKNOWN",
            "a valid initiator of the rules",
            asked.initiator,
        ),
        (time.hi < asked.expires_at, _expired(asked), f"before {asked.expires_at}", time.hi),
    )
    return [Refused(code, expected, str(shown)) for is_fine, code, expected, shown in checks if not is_fine]


def _expired(asked: Withdrawal | Message) -> str:
    return "MESSAGE_EXPIRED" if isinstance(asked, Message) else "WITHDRAWAL_EXPIRED"


def _ballots(
    policy: Policy, asked: Asked, approvals: tuple[tuple[Approval, Signed], ...], at: int
) -> tuple[tuple[Ballot, ...], list[Refused]]:
    """Return the approvals that count, the best of each person, and the rejects: a reject is final."""
    found = [check_approval(policy, asked, *approval, at) for approval in approvals]
    rejects = {ballot for ballot in found if isinstance(ballot, Refused) and ballot.code == "REJECTED"}
    ballots = {ballot for ballot in found if isinstance(ballot, Ballot)}
    ordered = sorted(ballots, key=lambda ballot: (ballot.person, ballot.worth))
    best = {ballot.person: ballot for ballot in ordered}  # the last one stays
    return tuple(best.values()), sorted(rejects, key=str)


def _subject_of(case: Case) -> Subject:
    withdrawal, facts = case.withdrawal, case.facts
    return Subject(
        wallet_id=withdrawal.wallet_id,
        initiator=withdrawal.initiator,
        payments=facts.payments,
        max_fee_sats=withdrawal.max_fee_sats,
        relation=withdrawal.relation.kind,
        lo=case.time.lo,
        hi=case.time.hi,
        released=case.t_release,
        fee_sats=facts.fee_sats,
        inputs=len(facts.inputs),
        outputs=len(facts.payments) + len(facts.change),
        vsize_vb=facts.vsize_vb,
        own_scripts=case.own_scripts,
        outpoints=facts.outpoints,
        change_outputs=len(facts.change),
        script_types=_script_types(facts),
        replaced_fees=_replaced_fees(case),
        coordinator=case.coordinator,
    )


def _script_types(facts: Facts) -> frozenset[ScriptType] | None:
    """Return the types of coins and payees; None where a coin's script is not known (a pruned transaction)."""
    if not all(fact.script for fact in facts.inputs):
        return None
    return frozenset(map(script_type, (*(f.script for f in facts.inputs), *(p.script for p in facts.payments))))


def _replaced_fees(case: Case) -> tuple[int, ...]:
    """Return the fees of every other transaction of the family that has a release."""
    families = case.families
    own = (
        families.family(case.family)
        if isinstance(families, Spent)
        else next((found for found in families if found.family == case.family), None)
    )
    return () if own is None else tuple(sorted(r.fee_sats for r in own.releases if r.txid != case.facts.txid))
