"""Rules that can do nothing: never in force, never true, or always outdone by another. Lint alone asks.

"Alive" is also the answer where nobody can tell: only shapes that people write are recognised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from custody.policy.document import Mode, Policy, Rule, RuleKind
from custody.policy.finding import Finding
from custody.policy.implies import conjuncts, implies
from custody.policy.match import holds
from custody.policy.subject import Subject
from custody.policy.terms import (
    AmountTerm,
    DestinationTerm,
    FeeTerm,
    InitiatorTerm,
    NoPaymentsTerm,
    NotTerm,
    RelationTerm,
    Term,
    TimeTerm,
    WalletTerm,
)
from custody.withdrawal import RelationKind


def lint_dead(policy: Policy, at: int) -> Iterator[Finding]:
    """Yield the rules of `policy` that can do nothing from `at` (UTC seconds) on, and why."""
    for rule in policy.rules:
        if why := _never_in_force(rule, policy, at) or _never_true(rule.match, policy, at):
            yield Finding("RULE_DEAD", rule.id, why)
            continue
        for other in policy.rules:
            yield from _outdone(rule, other)


def _never_in_force(rule: Rule, policy: Policy, at: int) -> str:
    if rule.expires_at is not None and rule.expires_at <= at:
        return f"it expired at {rule.expires_at}"
    ends = policy.not_after if rule.expires_at is None else min(policy.not_after, rule.expires_at)
    if rule.not_before is not None and rule.not_before >= ends:
        return f"it begins at {rule.not_before}, when it has ended"
    return ""


def _never_true(term: Term, policy: Policy, at: int) -> str:
    """Return why `term` is true of nothing, or ""."""
    parts = conjuncts(term)
    if any(isinstance(part, NotTerm) and _denied(part.term, parts) for part in parts):
        return "it asks for something and its opposite"
    if any(isinstance(p, NoPaymentsTerm) for p in parts) and any(isinstance(p, DestinationTerm) for p in parts):
        return "it asks for a payee where nobody is paid"
    return (
        _empty_range([p for p in parts if isinstance(p, AmountTerm)], [p for p in parts if isinstance(p, FeeTerm)])
        or _nobody(parts, policy, at)
        or _disjoint(parts)
        or _empty_lists(parts, policy, at)
    )


def _denied(term: Term, parts: Sequence[Term]) -> bool:
    return all(part in parts for part in conjuncts(term))


def _empty_range(amounts: Sequence[AmountTerm], fees: Sequence[FeeTerm]) -> str:
    for with_fee in (True, False):
        alike = [term for term in amounts if term.include_fee == with_fee]
        least = max((term.min_sats for term in alike if term.min_sats is not None), default=0)
        most = min((term.max_sats for term in alike if term.max_sats is not None), default=least)
        if least > most:
            return f"no amount is at least {least} and at most {most}"
    slowest = max((term.min_sat_vb for term in fees if term.min_sat_vb is not None), default=0)
    fastest = min((term.max_sat_vb for term in fees if term.max_sat_vb is not None), default=slowest)
    return f"no fee is at least {slowest} and at most {fastest} sat/vB" if slowest > fastest else ""


def _nobody(parts: Sequence[Term], policy: Policy, at: int) -> str:
    """Return whether no wallet or no living principal of the rules fits; unknown names are told elsewhere."""
    wallets = [part for part in parts if isinstance(part, WalletTerm)]
    found = [all(holds(t, _subject(w.wallet_id, ""), policy) is not False for t in wallets) for w in policy.wallets]
    if wallets and not any(found):
        return "no wallet of the rules fits"
    people = [part for part in parts if isinstance(part, InitiatorTerm)]
    living = [p for p in policy.principals if at < p.valid_until]
    if people and not any(
        all(holds(term, _subject(b"", person.name), policy) is not False for term in people) for person in living
    ):
        return "nobody who is valid fits"
    return ""


def _subject(wallet_id: bytes, initiator: str) -> Subject:
    return Subject(wallet_id, initiator, (), 0, RelationKind.NEW, 0, 0, None)


def _disjoint(parts: Sequence[Term]) -> str:
    kinds: list[set[object]] = [set(part.kinds) for part in parts if isinstance(part, RelationTerm)]
    days: list[set[object]] = [set(part.days) for part in parts if isinstance(part, TimeTerm) and part.days]
    hours: list[set[object]] = [set(part.hours) for part in parts if isinstance(part, TimeTerm) and part.hours]
    for what, sets in (("relation", kinds), ("day", days), ("hour", hours)):
        if sets and not set.intersection(*sets):
            return f"no {what} fits"
    return ""


def _empty_lists(parts: Sequence[Term], policy: Policy, at: int) -> str:
    for part in parts:
        if not isinstance(part, DestinationTerm) or not part.lists or part.scripts:
            continue
        lists = [found for found in policy.lists if found.name in part.lists]
        if lists and not any(at < entry.expires_at for found in lists for entry in found.entries):
            return f"nobody stands on {', '.join(part.lists)} any more"
    return ""


def _outdone(rule: Rule, other: Rule) -> Iterator[Finding]:
    """Yield why `other` leaves nothing to `rule`: a deny that always speaks too, or an equal that is wider."""
    is_open = other.not_before is None and other.expires_at is None and other.mode is Mode.ENFORCE
    covers = set(rule.operations) <= set(other.operations) and implies(rule.match, other.match)
    if rule.id == other.id or rule.mode is Mode.SHADOW or not is_open or not covers:
        return
    if rule.kind is RuleKind.ALLOW and other.kind is RuleKind.DENY:
        yield Finding("RULE_DEAD", rule.id, f"whatever it allows, {other.id} denies")
    is_last = not implies(other.match, rule.match) or other.id < rule.id  # of two equals, the later one
    if rule.kind is other.kind and rule.kind in (RuleKind.ALLOW, RuleKind.DENY) and is_last:
        yield Finding("RULE_REDUNDANT", rule.id, f"{other.id} says it already")
