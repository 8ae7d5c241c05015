"""May this withdrawal be signed? One pure answer, reached alike at the coordinator and at every signer.

Every rule is judged and order never matters: any deny wins, at least one allow must speak, limits count what the log
holds, and what the matched rules require together must be there. What is not known, not in date or not written is "no".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from custody.approval import Approval
from custody.errors import Refused
from custody.interval import Interval
from custody.people import Ballot, check_approval
from custody.policy.budgets import FamilySpend, Group, budget_uses, past_of
from custody.policy.document import Limits, Mode, Policy, Rule, RuleKind
from custody.policy.match import Outcome, Reason, Subject, bounds_fee, reason_for
from custody.policy.terms import Delay, SignersRequired, VoteTree
from custody.policy.votes import Electorate, Missing, missing_votes
from custody.statements import Signed
from custody.withdrawal import Withdrawal

if TYPE_CHECKING:
    from custody.facts import Facts

NO_DELAY = Delay(0)


@dataclass(frozen=True, slots=True)
class Case:
    """What is judged.

    withdrawal, facts: already proven to match each other.  family: 32 bytes, the withdrawal's own.
    families: every family with an admissible release, this one's too.  t_release: T(RELEASE), UTC seconds, or None
    before there is one.  own_scripts: those payees' scripts that are wallets of ours, or None where nobody looked.
    """

    withdrawal: Withdrawal
    facts: Facts
    approvals: tuple[tuple[Approval, Signed], ...]
    families: tuple[FamilySpend, ...]
    family: bytes
    time: Interval
    t_release: int | None = None
    own_scripts: frozenset[bytes] | None = None

    @property
    def at(self) -> int:
        """When approvals are judged: at T(RELEASE); before it, at the later end of now."""
        return self.time.hi if self.t_release is None else self.t_release


@dataclass(frozen=True, slots=True)
class RuleReason:
    """What one rule said. said: in words.  applied: whether it had an effect.  tree: why its match holds or not."""

    rule: str
    kind: RuleKind
    mode: Mode
    said: str
    applied: bool
    tree: Reason


@dataclass(frozen=True, slots=True)
class Allow:
    """Yes, if these signers sign and this delay has run. policy_hash: 32 bytes."""

    policy_hash: bytes
    reasons: tuple[RuleReason, ...]
    signers: SignersRequired
    delay: Delay


@dataclass(frozen=True, slots=True)
class Need:
    """Not yet: `missing` says what, and who could give it. policy_hash: 32 bytes."""

    policy_hash: bytes
    reasons: tuple[RuleReason, ...]
    signers: SignersRequired
    delay: Delay
    missing: tuple[Missing, ...]


@dataclass(frozen=True, slots=True)
class Deny:
    """No. refusals: every ground, the first one first. policy_hash: 32 bytes."""

    policy_hash: bytes
    reasons: tuple[RuleReason, ...]
    refusals: tuple[Refused, ...]

    @property
    def refused(self) -> Refused:
        """The first ground: for callers that carry one."""
        return self.refusals[0]


Decided: TypeAlias = Allow | Need | Deny


def decide(policy: Policy, case: Case) -> Decided:
    """Return what `policy` says of `case`, with every rule's reason.

    Args:
        policy: the rules in force.
        case: the withdrawal with everything that was proven of it.
    """
    # Plan: 1 hard grounds · 2 every rule · 3 denies · 4 allows · 5 budgets · 6 obligations, all together.
    ballots, refusals = _hard_grounds(policy, case)
    subject = _subject_of(case)
    judged = tuple(_judge(rule, subject, policy, case.time) for rule in sorted(policy.rules, key=lambda r: r.id))
    spoken = [found for found in judged if found.speaks]
    refusals += _unknown_grounds(judged) + _deny_grounds(spoken) + _allow_grounds(judged, subject)
    limit_refusals, lifted_by = _judge_budgets(spoken, subject, policy, case)
    signers, signer_refusals = _signers(spoken, policy)
    refusals += limit_refusals + signer_refusals
    reasons = tuple(found.reason for found in judged)
    if refusals:
        return Deny(policy.hash, reasons, tuple(refusals))
    electorate = Electorate(policy, case.withdrawal.initiator, ballots, case.at)
    trees = [*_approval_trees(spoken), *lifted_by]
    missing = tuple(lack for rule, tree in trees for lack in missing_votes(rule, tree, electorate))
    delay = _delay(spoken)
    if missing:
        return Need(policy.hash, reasons, signers, delay, missing)
    return Allow(policy.hash, reasons, signers, delay)


def check_feerate(limits: Limits, fee_sats: int, vsize_vb: int) -> Refused | None:
    """Return why a fee of `fee_sats` for `vsize_vb` is outside the rules' hard bounds, or None."""
    found = f"{fee_sats} sats for {vsize_vb} vB"
    if fee_sats < limits.feerate_min_sat_vb * vsize_vb:
        return Refused("FEERATE_BELOW_MIN", f"at least {limits.feerate_min_sat_vb} sat/vB", found)
    if fee_sats > limits.feerate_max_sat_vb * vsize_vb:
        return Refused("FEERATE_ABOVE_MAX", f"at most {limits.feerate_max_sat_vb} sat/vB", found)
    return None


@dataclass(frozen=True, slots=True)
class _Judged:
    """A rule with its reason. speaks: in force, enforced, and its match is true."""

    rule: Rule
    reason: RuleReason
    speaks: bool
    lacks_fact: bool


def _hard_grounds(policy: Policy, case: Case) -> tuple[tuple[Ballot, ...], list[Refused]]:
    """Return the approvals that count, and the grounds that no rule can lift."""
    withdrawal, time = case.withdrawal, case.time
    initiator = policy.principal(withdrawal.initiator)
    checks = (
        (time.lo >= policy.effective_from, "RULES_NOT_YET", f"rules in effect from {policy.effective_from}", time.lo),
        (time.hi < policy.not_after, "RULES_EXPIRED", f"rules valid before {policy.not_after}", time.hi),
        (withdrawal.network == policy.network, "NETWORK_OTHER", policy.network, withdrawal.network),
        (withdrawal.rules_floor <= policy.version, "RULES_FLOOR", f"version {withdrawal.rules_floor}", policy.version),
        (policy.wallet(withdrawal.wallet_id) is not None, "WALLET_UNKNOWN", "a wallet of the rules", "another"),
        (
            initiator is not None and case.at < initiator.valid_until,
            "INITIATOR_UNKNOWN",
            "a valid initiator of the rules",
            withdrawal.initiator,
        ),
        (case.time.hi < withdrawal.expires_at, "WITHDRAWAL_EXPIRED", f"before {withdrawal.expires_at}", time.hi),
    )
    refusals = [Refused(code, expected, str(shown)) for is_fine, code, expected, shown in checks if not is_fine]
    found = [check_approval(policy, withdrawal, *approval, case.at) for approval in case.approvals]
    rejects = {ballot for ballot in found if isinstance(ballot, Refused) and ballot.code == "REJECTED"}
    refusals.extend(sorted(rejects, key=str))
    ballots = {ballot for ballot in found if isinstance(ballot, Ballot)}
    best = {b.person: b for b in sorted(ballots, key=lambda b: (b.person, b.seen, b.at))}  # the last one stays
    return tuple(best.values()), refusals


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
    )


def _judge(rule: Rule, subject: Subject, policy: Policy, time: Interval) -> _Judged:
    tree = reason_for(rule.match, subject, policy)
    in_force = _is_in_force(rule, time)
    applies = in_force and rule.mode is Mode.ENFORCE
    lacks_fact = tree.has_unknown
    speaks = applies and not lacks_fact and tree.outcome is Outcome.TRUE
    if not in_force:
        said = "not in force"
    elif lacks_fact:
        said = "a fact is missing"
    else:
        said = "matched" if tree.outcome is Outcome.TRUE else "did not match"
    reason = RuleReason(rule.id, rule.kind, rule.mode, said, speaks, tree)
    return _Judged(rule, reason, speaks, lacks_fact and applies)


def _is_in_force(rule: Rule, time: Interval) -> bool:
    """A permission holds only where both ends of now are inside its dates, a restriction where either end is."""
    begins, ends = (time.lo, time.hi) if rule.kind is RuleKind.ALLOW else (time.hi, time.lo)
    return (rule.not_before is None or begins >= rule.not_before) and (
        rule.expires_at is None or ends < rule.expires_at
    )


def _unknown_grounds(judged: tuple[_Judged, ...]) -> list[Refused]:
    """A restriction that cannot be judged denies; an allow that cannot be judged only does not allow."""
    return [
        Refused("POLICY_FACT_MISSING", f"every fact of rule {found.rule.id}", "one that is not known")
        for found in judged
        if found.lacks_fact and found.rule.kind is not RuleKind.ALLOW
    ]


def _deny_grounds(spoken: list[_Judged]) -> list[Refused]:
    return [
        Refused(found.rule.reason_code or "RULE_DENIES", f"what rule {found.rule.id} permits", "what it denies")
        for found in spoken
        if found.rule.kind is RuleKind.DENY
    ]


def _allow_grounds(judged: tuple[_Judged, ...], subject: Subject) -> list[Refused]:
    allows = [found for found in judged if found.rule.kind is RuleKind.ALLOW]
    speaking = [found for found in allows if found.speaks]
    if not speaking:
        if any(found.lacks_fact for found in allows):
            return [Refused("POLICY_FACT_MISSING", "an allow with every fact known", "one that is not known")]
        return [Refused("NO_RULE_ALLOWS", "at least one allow that matches", "none")]
    # Only an allow may give the bound: were it a deny or a limit, adding one could turn this refusal into a yes.
    if not subject.payments and not any(bounds_fee(found.rule.match) for found in speaking):
        return [Refused("FEE_UNBOUNDED", "an allow with fee.max_sats where nobody is paid", "none")]
    return []


def _judge_budgets(
    spoken: list[_Judged], subject: Subject, policy: Policy, case: Case
) -> tuple[list[Refused], list[tuple[str, VoteTree]]]:
    """Return the budgets that deny, and the approvals that the others ask for when exceeded."""
    refusals: list[Refused] = []
    trees: list[tuple[str, VoteTree]] = []
    limits = [(found.rule, found.rule.budget) for found in spoken if found.rule.budget is not None]
    past = past_of(case.families) if limits else ()
    for rule, budget in limits:
        uses = budget_uses(budget, rule.match, subject, case.family, past, policy)
        if uses is None:
            refusals.append(Refused("WINDOW_UNKNOWN", "a window of the rules", budget.window))
            continue
        full = [use for use in uses if use.used > budget.most]
        if not full:
            continue
        if budget.approvals is not None:
            trees.append((rule.id, budget.approvals))
            continue
        expected = f"at most {budget.most} ({budget.measure.value}) in {budget.window} by rule {rule.id}"
        shown = f"{full[0].used}{_group_words(full[0].group)}"
        refusals.append(Refused(rule.reason_code or "LIMIT_EXCEEDED", expected, shown))
    return refusals, trees


def _group_words(group: Group) -> str:
    parts = [
        ("wallet", group.wallet_id.hex()[:16] if group.wallet_id else None),
        ("initiator", group.initiator),
        ("org", group.org),
        ("payee script", group.script.hex() if group.script else None),
    ]
    return "".join(f", {what} {value}" for what, value in parts if value is not None)


def _signers(spoken: list[_Judged], policy: Policy) -> tuple[SignersRequired, list[Refused]]:
    """Return the union of what matched rules ask of signers, and why it cannot be met."""
    asked = [o.signers for found in spoken if (o := found.rule.obligations) is not None and o.signers is not None]
    include = {name for signers in asked for name in signers.include}
    exclude = {name for signers in asked for name in signers.exclude}
    min_offline = max((signers.min_offline for signers in asked), default=0)
    required = SignersRequired(tuple(sorted(include)), tuple(sorted(exclude)), min_offline)
    refusals = []
    if unknown := sorted((include | exclude) - {node.name for node in policy.roots.nodes}):
        refusals.append(Refused("SIGNER_UNKNOWN", "nodes of the rules", ", ".join(unknown)))
    if both := sorted(include & exclude):
        refusals.append(Refused("SIGNERS_CONFLICT", "no node both included and excluded", ", ".join(both)))
    return required, refusals


def _approval_trees(spoken: list[_Judged]) -> list[tuple[str, VoteTree]]:
    return [
        (found.rule.id, o.approvals)
        for found in spoken
        if (o := found.rule.obligations) is not None and o.approvals is not None
    ]


def _delay(spoken: list[_Judged]) -> Delay:
    """Return the longest wait, with everybody who may veto in it."""
    delays = [o.delay for found in spoken if (o := found.rule.obligations) is not None and o.delay is not None]
    if not delays:
        return NO_DELAY
    vetoes = {veto for delay in delays for veto in delay.vetoes}
    return Delay(max(d.seconds for d in delays), tuple(sorted(vetoes, key=lambda v: (v.group, v.threshold))))
