"""Which names a document leans on: who governs, who may veto, whom rules hold back, and what else they speak of."""

from __future__ import annotations

from collections.abc import Iterator

from custody.policy.document import Mode, Policy, Rule, RuleKind
from custody.policy.duties import StagedVotes, Votes, VoteTree
from custody.policy.match import leaves
from custody.policy.terms import InitiatorTerm, NotTerm, Term


def governing(policy: Policy) -> set[str]:
    """Return the groups that freeze, unfreeze or change the rules."""
    admin = policy.admin
    changing = {group for quorum in admin.change_quorums.values() for group in quorum.groups}
    return {*admin.freeze.groups, *admin.unfreeze.groups, *changing}


def vetoing(policy: Policy) -> set[str]:
    """Return the groups that may veto."""
    delays = [rule.obligations.delay for rule in policy.rules if rule.obligations is not None]
    return {veto.group for delay in delays if delay is not None for veto in delay.vetoes}


def restraining(policy: Policy) -> set[str]:
    """Groups whose members some rule holds back: leaving one could escape it."""
    return {group for leaf in restrictive(policy) if isinstance(leaf, InitiatorTerm) for group in leaf.groups}


def restrictive(policy: Policy) -> Iterator[Term]:
    """Yield each matcher that can turn something away: of denies, requires and limits, and what an allow negates."""
    for rule in policy.rules:
        if rule.mode is Mode.ENFORCE:
            parts = (rule.match,) if rule.kind is not RuleKind.ALLOW else _negated(rule.match)
            for part in parts:
                yield from leaves(part)


def _negated(term: Term) -> tuple[Term, ...]:
    if isinstance(term, NotTerm):
        return (term.term,)
    return tuple(inner for part in getattr(term, "terms", ()) for inner in _negated(part))


def referred(policy: Policy) -> set[str]:
    """Every name that rules and the admin block use: one that becomes known may turn a refusal into an answer."""
    names = governing(policy)
    for rule in policy.rules:
        for leaf in leaves(rule.match):
            names |= {name for key in ("names", "classes", "groups", "lists") for name in getattr(leaf, key, ())}
        names |= {rule.budget.window} if rule.budget is not None else set()
        for tree in trees(rule):
            names |= {leaf.group for leaf in votes(tree) if leaf.group is not None}
    return names | vetoing(policy)


def trees(rule: Rule) -> tuple[VoteTree, ...]:
    """Return the approvals trees that a rule asks for, or that lift its limit."""
    asked = None if rule.obligations is None else rule.obligations.approvals
    lifting = None if rule.budget is None else rule.budget.approvals
    return tuple(tree for tree in (asked, lifting) if tree is not None)


def votes(tree: VoteTree) -> Iterator[Votes]:
    """Yield the parts of a tree, whatever joins them."""
    if isinstance(tree, Votes):
        yield tree
        return
    for part in tree.stages if isinstance(tree, StagedVotes) else tree.parts:
        yield from votes(part)
