"""What a new version changes about the rules themselves: what they match, ask and count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from custody.policy.change import Change, Verdict, changes_of, pairs, tighter
from custody.policy.document import Mode, Policy, Rule, RuleKind
from custody.policy.duties import Obligations
from custody.policy.implies import asks_more, at_least, at_most, conjuncts, fits, implies, is_known
from custody.policy.match import bounds_fee, coordinator_only
from custody.policy.terms import Operation, Term, TimeTerm


def rules(old: Policy, new: Policy) -> Iterator[Change]:
    """Yield what changes about rules, each paired with the one of its id."""
    for name, before, after in pairs(old.rules, new.rules, "id"):
        path = f"rules.{name}"
        if before is None or after is None:
            yield _one_sided(path, before, after)
        elif before.kind is not after.kind or before.mode is not after.mode:
            yield _one_sided(path, before, None)
            yield _one_sided(path, None, after)
        else:
            yield from _rule(path, before, after, old)


def _one_sided(path: str, before: Rule | None, after: Rule | None) -> Change:
    """A rule that comes or goes: a shadow rule changes nothing, an allow gives, all others take."""
    rule = after if before is None else before
    assert rule is not None  # noqa: S101 - one side is there
    words = f"{rule.mode.value} {rule.kind.value} {'added' if before is None else 'removed'}"
    if rule.mode is Mode.SHADOW:
        return Change(path, Verdict.NEUTRAL, words)
    return Change(path, tighter((rule.kind is RuleKind.ALLOW) == (after is None)), words)


def _rule(path: str, old: Rule, new: Rule, policy: Policy) -> Iterator[Change]:
    """Compare a rule of one kind and mode, field by field."""
    allows, plain = old.kind is RuleKind.ALLOW, old.operations == (Operation.WITHDRAWAL,)
    judge: dict[str, Callable[[Any, Any], bool]] = {
        "match": lambda theirs, mine: (
            plain and (_allows_less(theirs, mine, policy) if allows else _holds_more(theirs, mine, policy))
        ),
        "not_before": (lambda theirs, mine: at_least(theirs, mine)) if allows else (lambda t, m: at_least(m, t)),
        "expires_at": (lambda theirs, mine: at_most(theirs, mine)) if allows else (lambda t, m: at_most(m, t)),
        "obligations": _asks_more,
        "budget": lambda theirs, mine: theirs is not None and mine is not None and fits(theirs, mine, _BUDGET),
    }
    for change in changes_of(path, old, new, judge):
        for_people = change.path in (f"{path}.description", f"{path}.reason_code")
        silent = for_people or old.mode is Mode.SHADOW
        yield replace(change, verdict=Verdict.NEUTRAL) if silent else change


def _allows_less(new: Term, old: Term, policy: Policy) -> bool:
    """Return whether an allow that matches `new` speaks only where one that matches `old` did."""
    if bounds_fee(new) and not bounds_fee(old):
        return False  # a bound on the fee is what lets a transaction through that pays nobody
    kept = conjuncts(new)
    return all(
        needed in kept
        or (any(implies(part, needed) for part in kept) and (is_known(needed, policy) or isinstance(needed, TimeTerm)))
        for needed in conjuncts(old)
    )


def _holds_more(new: Term, old: Term, policy: Policy) -> bool:
    """Return whether a restriction that matches `new` applies, or lacks a fact, wherever one that matches `old` did."""
    if coordinator_only(new) and not coordinator_only(old):
        return False  # signers skip what they cannot judge
    given, asked = conjuncts(old), conjuncts(new)
    return all(is_known(part, policy) for part in given if part not in asked) and implies(old, new)


def _asks_more(new: Obligations | None, old: Obligations | None) -> bool:
    return new is not None and old is not None and fits(new, old, _OBLIGATIONS)


_BUDGET: Mapping[str, Callable[[Any, Any], bool]] = {
    "most": lambda new, old: new < old,
    "approvals": lambda new, old: new is None or (old is not None and asks_more(new, old)),
}


_OBLIGATIONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "approvals": lambda new, old: old is None or (new is not None and asks_more(new, old)),
    "signers": lambda new, old: old is None or (new is not None and fits(new, old, _SIGNERS)),
    "delay": lambda new, old: old is None or (new is not None and fits(new, old, _DELAY)),
}


_SIGNERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "include": lambda new, old: not old,  # one more in the middle changes who must sign in front of whom
    "exclude": lambda new, old: set(new) >= set(old),
    "min_offline": lambda new, old: new > old,
}


_DELAY: Mapping[str, Callable[[Any, Any], bool]] = {
    "seconds": lambda new, old: new > old,
    "vetoes": lambda new, old: set(new) >= set(old),
}
