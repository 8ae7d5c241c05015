"""Find what the authors of a rules document did not mean. Lint refuses nothing by itself; publishing does.

The judge stays safe without it: what is dead or unknown denies. Lint says so before the money waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from custody.policy.document import Location, Mode, Policy, Rule, RuleKind
from custody.policy.duties import Delay, Measure, SignersRequired, Votes, VoteTree
from custody.policy.match import bounds_fee, leaves
from custody.policy.terms import (
    AllTerm,
    AmountTerm,
    AnyTerm,
    DestinationTerm,
    InitiatorTerm,
    NoPaymentsTerm,
    NotTerm,
    Term,
    WalletTerm,
)
from custody.policy.votes import alternatives, belongs, can_vote


@dataclass(frozen=True, slots=True)
class Finding:
    """code: stable.  where: a rule id, principal, wallet or block of the document.  message: for people."""

    code: str
    where: str
    message: str


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where one key of a wallet stands. node: None for a key without a judge."""

    node: str | None
    org: str
    host: str


@dataclass(frozen=True, slots=True)
class WalletKeys:
    """A wallet's threshold m and the places of its n keys: what genesis says and rules do not."""

    wallet: str
    threshold: int
    places: tuple[KeyPlace, ...]


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
    found.extend(_lint_admin(policy, at))
    found.extend(_lint_principals(policy, at))
    found.extend(_lint_fee_budgets(policy))
    for keys in wallets:
        found.extend(_lint_places(keys))
        found.extend(_lint_signers(policy, keys))
    return tuple(sorted(set(found), key=lambda finding: (finding.where, finding.code, finding.message)))


def _lint_match(policy: Policy, rule: Rule) -> Iterable[Finding]:
    if rule.kind is RuleKind.ALLOW:
        if not rule.match.terms:
            yield Finding("ALLOW_EMPTY", rule.id, "an allow without a match permits everything")
        elif not _bounds_loss(rule.match):
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
    return sum(
        1
        for person in policy.principals
        if belongs(leaf, person) and at < person.valid_until and can_vote(leaf, person)
    )


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
    change = policy.admin.change_quorum
    needed = change.threshold + 1 if change.exclude_author else change.threshold
    yield from _lint_head_count(policy, "admin.change_quorum", change.groups, needed, at)
    yield from _lint_head_count(policy, "admin.freeze", policy.admin.freeze.groups, policy.admin.freeze.threshold, at)
    unfreeze = policy.admin.unfreeze
    yield from _lint_head_count(policy, "admin.unfreeze", unfreeze.groups, unfreeze.threshold, at)


def _lint_head_count(policy: Policy, where: str, groups: Iterable[str], needed: int, at: int) -> Iterable[Finding]:
    for group in sorted(set(groups) - set(policy.groups)):
        yield Finding("REFERENCE_DEAD", where, f"no group {group} in this document")
    people = {
        user.name
        for group in groups
        for user in policy.members(group)
        if at < user.valid_until and any(credential.seen for credential in user.credentials)
    }
    if len(people) < needed:
        yield Finding("THRESHOLD_UNREACHABLE", where, f"{len(people)} people can act where {needed} must")


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
        if rule.kind is not RuleKind.ALLOW or not _may_meet_no_payments(rule.match):
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


def _lint_places(keys: WalletKeys) -> Iterable[Finding]:
    for what, counts in (
        ("org", Counter(place.org for place in keys.places)),
        ("host", Counter(place.host for place in keys.places)),
    ):
        for name, held in sorted(counts.items()):
            if held >= keys.threshold:
                yield Finding(
                    f"{what.upper()}_ALONE", keys.wallet, f"{what} {name} holds {held} of {keys.threshold} keys"
                )
    unjudged = sum(1 for place in keys.places if place.node is None)
    if unjudged >= keys.threshold:
        yield Finding("KEYS_WITHOUT_JUDGE", keys.wallet, f"{unjudged} keys without a judge reach {keys.threshold}")


def _lint_signers(policy: Policy, keys: WalletKeys) -> Iterable[Finding]:
    """All rules may match at once, so what they require of signers together must fit into m."""
    asked = [
        r.obligations.signers for r in policy.rules if r.obligations is not None and r.obligations.signers is not None
    ]
    include = {name for signers in asked for name in signers.include}
    offline = {node.name for node in policy.roots.nodes if node.location is Location.OFFLINE}
    cold = max((signers.min_offline for signers in asked), default=0)
    needed = len(include - offline) + max(cold, len(include & offline))
    if needed > keys.threshold:
        yield Finding("SIGNERS_ABOVE_M", keys.wallet, f"rules ask {needed} signers of a wallet of {keys.threshold}")
    left = {place.node for place in keys.places} - {name for signers in asked for name in signers.exclude}
    if len(left - {None}) + sum(1 for p in keys.places if p.node is None) < keys.threshold:
        yield Finding("SIGNERS_TOO_FEW", keys.wallet, f"exclusions leave fewer than {keys.threshold} signers")
