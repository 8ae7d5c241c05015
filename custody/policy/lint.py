"""Find what the authors of a rules document did not mean. Lint refuses nothing by itself; publishing does.

The judge stays safe without it: what is dead or unknown denies. Lint says so before the money waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from custody.policy.dead import lint_dead
from custody.policy.document import Location, Mode, Policy, Rule, RuleKind
from custody.policy.duties import Delay, Measure, SignersRequired, Votes, VoteTree
from custody.policy.finding import Finding
from custody.policy.match import bounds_fee, coordinator_only, leaves
from custody.policy.places import KeyPlace, WalletKeys, lint_places, lint_signers
from custody.policy.terms import (
    AllTerm,
    AmountTerm,
    AnyTerm,
    DestinationTerm,
    InitiatorTerm,
    NoPaymentsTerm,
    NotTerm,
    Operation,
    Term,
    WalletTerm,
)
from custody.policy.votes import alternatives, belongs, can_vote

__all__ = ["Finding", "KeyPlace", "WalletKeys", "lint"]


def lint(policy: Policy, wallets: Sequence[WalletKeys] = (), now: int | None = None) -> tuple[Finding, ...]:
    """Return every finding, ordered by place and code; none means that lint has nothing to say.

    Args:
        policy: the document.
        wallets: placement of keys, where it is known.
        now: UTC seconds at which principals are asked whether they still count; the document's start where None.
    """
    at = policy.effective_from if now is None else now
    found: list[Finding] = []
    for rule in policy.rules:
        found.extend(_lint_match(policy, rule))
        found.extend(_lint_then(policy, rule, at))
    found.extend(lint_dead(policy, at))
    found.extend(_lint_admin(policy, at))
    found.extend(_lint_principals(policy, at))
    found.extend(_lint_fee_budgets(policy))
    for keys in wallets:
        found.extend(lint_places(keys))
        found.extend(lint_signers(policy, keys))
    return tuple(sorted(set(found), key=lambda finding: (finding.where, finding.code, finding.message)))


def _lint_match(policy: Policy, rule: Rule) -> Iterable[Finding]:
    if told := coordinator_only(rule.match):
        yield Finding("COORDINATOR_ONLY", rule.id, f"signers skip it whole: they cannot judge {', '.join(told)}")
    if rule.kind is RuleKind.ALLOW:
        if not rule.match.terms:
            yield Finding("ALLOW_EMPTY", rule.id, "an allow without a match permits everything")
        elif Operation.WITHDRAWAL in rule.operations and not _bounds_loss(rule.match):
            yield Finding("ALLOW_UNBOUNDED", rule.id, "an allow needs a largest amount, listed payees, or no payees")
    for term in leaves(rule.match):
        for what, name in _dead_names(policy, term):
            yield Finding("REFERENCE_DEAD", rule.id, f"no {what} {name} in this document")


def _dead_names(policy: Policy, term: Term) -> Iterable[tuple[str, str]]:
    classes = {name for wallet in policy.wallets for name in wallet.classes}
    pairs: tuple[tuple[str, tuple[str, ...], Iterable[str]], ...] = ()
    if isinstance(term, WalletTerm):
        pairs = (("wallet", term.names, policy.wallet_ids), ("wallet class", term.classes, classes))
    elif isinstance(term, DestinationTerm):
        pairs = (("list", term.lists, [found.name for found in policy.lists]),)
    elif isinstance(term, InitiatorTerm):
        pairs = (
            ("user", term.users, [user.name for user in policy.users]),
            ("group", term.groups, policy.groups),
            ("service", term.services, [service.name for service in policy.services]),
        )
    for what, names, known in pairs:
        yield from ((what, name) for name in sorted(set(names) - set(known)))


def _bounds_loss(term: Term) -> bool:
    """Return whether `term` can only be true of a withdrawal whose payees or whose amount are bounded."""
    if isinstance(term, AmountTerm):
        return term.max_sats is not None
    if isinstance(term, DestinationTerm):
        return bool(term.lists or term.scripts) and term.quantifier.value == "all"
    if isinstance(term, NoPaymentsTerm):
        return True
    if isinstance(term, AllTerm):
        return any(_bounds_loss(part) for part in term.terms)
    return isinstance(term, AnyTerm) and all(_bounds_loss(part) for part in term.terms)


def _lint_then(policy: Policy, rule: Rule, at: int) -> Iterable[Finding]:
    obligations, budget = rule.obligations, rule.budget
    if obligations is not None:
        if obligations.approvals is not None:
            yield from _lint_votes(policy, rule.id, obligations.approvals, at)
        if obligations.signers is not None:
            yield from _lint_nodes(policy, rule.id, obligations.signers)
        if obligations.delay is not None:
            yield from _lint_delay(policy, rule.id, obligations.delay, at)
    if budget is not None:
        if policy.window(budget.window) is None:
            yield Finding("REFERENCE_DEAD", rule.id, f"no window {budget.window} in this document")
        if budget.approvals is not None:
            yield from _lint_votes(policy, rule.id, budget.approvals, at)


def _lint_votes(policy: Policy, where: str, tree: VoteTree, at: int) -> Iterable[Finding]:
    for leaf in {part.votes for way in alternatives(tree) for part in way}:
        if leaf.group is not None and leaf.group not in policy.groups:
            yield Finding("REFERENCE_DEAD", where, f"no group {leaf.group} in this document")
        elif leaf.service is not None and leaf.service not in {service.name for service in policy.services}:
            yield Finding("REFERENCE_DEAD", where, f"no service {leaf.service} in this document")
        elif (voters := _voters(policy, leaf, at)) < leaf.threshold:
            yield Finding("THRESHOLD_UNREACHABLE", where, f"{leaf.of} has {voters} who can give {leaf.threshold}")


def _voters(policy: Policy, leaf: Votes, at: int) -> int:
    """Return how many can vote at once: where orgs must differ, one of each."""
    people = [p for p in policy.principals if belongs(leaf, p) and at < p.valid_until and can_vote(leaf, p)]
    return len({person.org for person in people}) if leaf.distinct_orgs else len(people)


def _lint_nodes(policy: Policy, where: str, signers: SignersRequired) -> Iterable[Finding]:
    known = {node.name for node in policy.roots.nodes}
    for name in sorted({*signers.include, *signers.exclude} - known):
        yield Finding("REFERENCE_DEAD", where, f"no node {name} in this document")
    offline = [n for n in policy.roots.nodes if n.location is Location.OFFLINE and n.name not in signers.exclude]
    if len(offline) < signers.min_offline:
        yield Finding("THRESHOLD_UNREACHABLE", where, f"{len(offline)} offline nodes can sign of {signers.min_offline}")


def _lint_delay(policy: Policy, where: str, delay: Delay, at: int) -> Iterable[Finding]:
    for veto in delay.vetoes:
        yield from _lint_head_count(policy, where, (veto.group,), veto.threshold, at)


def _lint_admin(policy: Policy, at: int) -> Iterable[Finding]:
    for name, change in policy.admin.change_quorums.items():
        able = _able(policy, change.groups, at)
        needed = change.threshold + (1 if change.exclude_author and not change.distinct_orgs else 0)
        yield from _lint_head_count(policy, f"admin.{name}", change.groups, needed, at)
        if len(able) >= needed and (heads := policy.heads(change, able)) < change.threshold:
            what = f"people of {heads} orgs can act where {change.threshold} must"
            yield Finding("THRESHOLD_UNREACHABLE", f"admin.{name}", what)
    yield from _lint_head_count(policy, "admin.freeze", policy.admin.freeze.groups, policy.admin.freeze.threshold, at)
    unfreeze = policy.admin.unfreeze
    yield from _lint_head_count(policy, "admin.unfreeze", unfreeze.groups, unfreeze.threshold, at)


def _lint_head_count(policy: Policy, where: str, groups: Iterable[str], needed: int, at: int) -> Iterable[Finding]:
    for group in sorted(set(groups) - set(policy.groups)):
        yield Finding("REFERENCE_DEAD", where, f"no group {group} in this document")
    people = _able(policy, groups, at)
    if len(people) < needed:
        yield Finding("THRESHOLD_UNREACHABLE", where, f"{len(people)} people can act where {needed} must")


def _able(policy: Policy, groups: Iterable[str], at: int) -> set[str]:
    """Return the people of `groups` who can sign what they see at `at`."""
    return {
        user.name
        for group in groups
        for user in policy.members(group)
        if at < user.valid_until and any(credential.seen for credential in user.credentials)
    }


def _lint_principals(policy: Policy, at: int) -> Iterable[Finding]:
    for principal in policy.principals:
        if principal.valid_until <= at:
            yield Finding("PRINCIPAL_EXPIRED", principal.name, f"counts for nothing since {principal.valid_until}")
        if not principal.credentials:
            yield Finding("PRINCIPAL_WITHOUT_KEY", principal.name, "has no credential and can sign nothing")


def _lint_fee_budgets(policy: Policy) -> Iterable[Finding]:
    """Fee-only transactions in a loop burn a wallet: each such allow needs a fee bound and a fee budget over time."""
    has_budget = any(
        rule.budget is not None and rule.budget.measure is Measure.FEE_SATS and rule.mode is Mode.ENFORCE
        for rule in policy.rules
        if _may_meet_no_payments(rule.match)
    )
    for rule in policy.rules:
        is_for_money = rule.kind is RuleKind.ALLOW and Operation.WITHDRAWAL in rule.operations
        if not is_for_money or not _may_meet_no_payments(rule.match):
            continue
        if any(isinstance(term, NoPaymentsTerm) for term in leaves(rule.match)) and not bounds_fee(rule.match):
            yield Finding("FEE_UNBOUNDED", rule.id, "an allow where nobody is paid needs fee.max_sats")
        if bounds_fee(rule.match) and not has_budget:
            yield Finding("FEE_BUDGET_MISSING", rule.id, "no limit with max_fee_sats speaks of payments: none")


def _may_meet_no_payments(term: Term) -> bool:
    """Return whether `term` can be true where nobody is paid, as far as its own words tell."""
    if isinstance(term, DestinationTerm):
        return False
    if isinstance(term, AllTerm):
        return all(_may_meet_no_payments(part) for part in term.terms)
    if isinstance(term, AnyTerm):
        return any(_may_meet_no_payments(part) for part in term.terms)
    if isinstance(term, NotTerm):
        inner = term.term
        while isinstance(inner, AllTerm) and len(inner.terms) == 1:
            inner = inner.terms[0]
        return not isinstance(inner, NoPaymentsTerm)
    return True
