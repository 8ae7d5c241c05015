"""Weigh every rule over proven facts, in no order.

Any deny wins, at least one allow must speak, limits count what the log holds, and what the matched rules require
together must be there. Whoever asks has proven the facts and knows what no rule can lift; `custody.decide` is who asks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from custody.errors import Refused
from custody.interval import Interval
from custody.policy.budgets import FamilySpend, Group, Spent, Use, budget_uses
from custody.policy.document import Mode, Policy, Rule, RuleKind
from custody.policy.duties import Budget, Delay, SignersRequired, VoteTree
from custody.policy.match import Outcome, Reason, bounds_fee, coordinator_only, reason_for
from custody.policy.subject import Subject
from custody.policy.terms import Operation
from custody.policy.votes import Electorate, Missing, missing_votes

NO_DELAY = Delay(0)


@dataclass(frozen=True, slots=True)
class RuleReason:
    """What one rule said. said: in words.  applied: whether it had an effect.  tree: why its match holds or not.

    would: what a shadow rule that matched would have done, else "".  stops: whether it stands in the way by itself.
    """

    rule: str
    kind: RuleKind
    mode: Mode
    said: str
    applied: bool
    tree: Reason
    would: str = ""
    stops: bool = False


@dataclass(frozen=True, slots=True)
class Allow:
    """Yes, if these signers sign and this delay has run. policy_hash: 32 bytes.

    local_conf: each signer's own operator must have typed its code.
    """

    policy_hash: bytes
    reasons: tuple[RuleReason, ...]
    signers: SignersRequired
    delay: Delay
    local_conf: bool = False


@dataclass(frozen=True, slots=True)
class Need:
    """Not yet: `missing` says what, and who could give it. policy_hash: 32 bytes."""

    policy_hash: bytes
    reasons: tuple[RuleReason, ...]
    signers: SignersRequired
    delay: Delay
    missing: tuple[Missing, ...]
    local_conf: bool = False


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


Past: TypeAlias = Spent | tuple[FamilySpend, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """What is weighed.

    grounds: what no rule can lift.  past, family: every admissible release, and the family (32 bytes) that the one in
    hand belongs to; nothing of either for a message.
    """

    policy: Policy
    subject: Subject
    time: Interval
    electorate: Electorate
    grounds: tuple[Refused, ...]
    past: Past = ()
    family: bytes = b""


def weigh(question: Question) -> Decided:
    """Return what the rules say, with every rule's reason."""
    # Plan: 1 every rule · 2 denies · 3 allows · 4 budgets · 5 obligations, all together · 6 what shadows would do.
    policy, subject = question.policy, question.subject
    judged = tuple(
        _judge(rule, subject, policy, question.time)
        for rule in sorted(policy.rules, key=lambda r: r.id)
        if subject.operation in rule.operations
    )
    spoken = [found for found in judged if found.speaks]
    refusals = [*question.grounds, *_unknown_grounds(judged), *_deny_grounds(spoken), *_allow_grounds(judged, subject)]
    spent = _counted(question, judged)
    exceeded, lifted_by = _judge_budgets(spoken, question, spent)
    signers, signer_refusals = _signers(spoken, policy)
    refusals += [*exceeded.values(), *signer_refusals]
    trees = [] if refusals else [*_approval_trees(spoken), *lifted_by]
    missing = tuple(lack for rule, tree in trees for lack in missing_votes(rule, tree, question.electorate))
    stopping = {found.rule.id for found in judged if found.refuses} | {*exceeded, *(lack.rule for lack in missing)}
    reasons = tuple(
        replace(found.reason, would=_would(found, question, spent), stops=found.rule.id in stopping) for found in judged
    )
    if refusals:
        return Deny(policy.hash, reasons, tuple(refusals))
    delay = _delay(spoken)
    local_conf = any(o.local_conf for found in spoken if (o := found.rule.obligations) is not None)
    if missing:
        return Need(policy.hash, reasons, signers, delay, missing, local_conf)
    return Allow(policy.hash, reasons, signers, delay, local_conf)


def _counted(question: Question, judged: tuple[_Judged, ...]) -> Spent:
    """Return the history as the rules in force count it; not at all where no limit speaks."""
    if isinstance(question.past, Spent):
        return question.past.under(question.policy)
    is_asked = any(found.rule.budget is not None and found.is_true for found in judged)
    return Spent.of(question.policy, question.past if is_asked else ())


def _would(found: _Judged, question: Question, spent: Spent) -> str:
    """Return what a shadow rule would have done, had it been enforced."""
    rule = found.rule
    if rule.mode is not Mode.SHADOW or not found.is_true:
        return ""
    if rule.kind is RuleKind.ALLOW:
        return "allow"
    if rule.kind is RuleKind.DENY:
        return f"deny with {rule.reason_code or 'RULE_DENIES'}"
    if rule.kind is RuleKind.LIMIT:
        refused, tree = _judge_budget(rule, question, spent)
        return str(refused) if refused else "ask for approvals" if tree is not None else "find room"
    tree = None if rule.obligations is None else rule.obligations.approvals
    lacks = () if tree is None else missing_votes(rule.id, tree, question.electorate)
    return "; ".join(f"need {lack.needed} of {lack.of}" for lack in lacks) or "ask for nothing that is missing"


@dataclass(frozen=True, slots=True)
class _Judged:
    """A rule with its reason. is_true: in force and its match is true.  speaks: and enforced."""

    rule: Rule
    reason: RuleReason
    is_true: bool
    speaks: bool
    lacks_fact: bool

    @property
    def refuses(self) -> bool:
        """Whether it denies by itself: it speaks, or it may speak and nobody knows."""
        if self.rule.kind is RuleKind.ALLOW:
            return False
        return self.lacks_fact or (self.speaks and self.rule.kind is RuleKind.DENY)


def _judge(rule: Rule, subject: Subject, policy: Policy, time: Interval) -> _Judged:
    tree = reason_for(rule.match, subject, policy)
    told = coordinator_only(rule.match) if subject.coordinator is None else ()
    in_force = _is_in_force(rule, time) and not told
    lacks_fact = tree.has_unknown
    is_true = in_force and not lacks_fact and tree.outcome is Outcome.TRUE
    speaks = is_true and rule.mode is Mode.ENFORCE
    if told:
        said = f"skipped: only the coordinator can judge {', '.join(told)}"
    elif not in_force:
        said = "not in force"
    elif lacks_fact:
        said = "a fact is missing"
    else:
        said = "matched" if is_true else "did not match"
    reason = RuleReason(rule.id, rule.kind, rule.mode, said, speaks, tree)
    return _Judged(rule, reason, is_true, speaks, lacks_fact and in_force and rule.mode is Mode.ENFORCE)


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
    is_fee_only = subject.operation is Operation.WITHDRAWAL and not subject.payments
    if is_fee_only and not any(bounds_fee(found.rule.match) for found in speaking):
        return [Refused("FEE_UNBOUNDED", "an allow with fee.max_sats where nobody is paid", "none")]
    return []


def _judge_budgets(
    spoken: list[_Judged], question: Question, spent: Spent
) -> tuple[dict[str, Refused], list[tuple[str, VoteTree]]]:
    """Return the budgets that deny, by rule, and the approvals that the others ask for when exceeded."""
    refusals: dict[str, Refused] = {}
    trees: list[tuple[str, VoteTree]] = []
    for found in spoken:
        if found.rule.budget is None:
            continue
        refused, tree = _judge_budget(found.rule, question, spent)
        if refused is not None:
            refusals[found.rule.id] = refused
        if tree is not None:
            trees.append((found.rule.id, tree))
    return refusals, trees


def _judge_budget(rule: Rule, question: Question, spent: Spent) -> tuple[Refused | None, VoteTree | None]:
    """Return why the budget of `rule` denies, or whose approvals lift it; neither where it has room."""
    budget, uses = rule.budget, budget_uses(rule, question.subject, question.family, spent)
    if budget is None or uses is None:
        return Refused("WINDOW_UNKNOWN", "a window of the rules", budget.window if budget else "none"), None
    full = next((use for use in uses if use.used > budget.most), None)
    if full is None:
        return None, None
    if budget.approvals is not None:
        return None, budget.approvals
    return _exceeded(rule, budget, full), None


def _exceeded(rule: Rule, budget: Budget, full: Use) -> Refused:
    expected = f"at most {budget.most} ({budget.measure.value}) in {budget.window} by rule {rule.id}"
    return Refused(rule.reason_code or "LIMIT_EXCEEDED", expected, f"{full.used}{_group_words(full.group)}")


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
