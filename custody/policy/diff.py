"""What a new version of the rules changes, and whether it tightens: what does not provably tighten, loosens.

A tightening takes effect at once, a loosening after the delay of the version that it replaces (protocol.md "Rules,
freeze"). Every field of the document is compared, also those that nobody thought of here: an unknown change loosens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any

from custody.policy.document import (
    Credential,
    DestinationList,
    ListEntry,
    Mode,
    Policy,
    Principal,
    Rule,
    RuleKind,
)
from custody.policy.duties import Obligations, StagedVotes, Votes, VoteTree
from custody.policy.implies import asks_more, at_least, at_most, conjuncts, fits, implies, is_known
from custody.policy.match import bounds_fee, coordinator_only, leaves
from custody.policy.terms import DestinationClass, DestinationTerm, InitiatorTerm, NotTerm, Operation, Term, TimeTerm

_NAMES_OF_THE_VERSION = frozenset({"hash", "version", "prev_hash"})  # they differ always and say nothing


class Verdict(Enum):
    """What a change does to the set of payments that could be signed."""

    TIGHTENS = "tightens"
    LOOSENS = "loosens"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. path: "users.alice.groups".  words: for people, what it was and what it is."""

    path: str
    verdict: Verdict
    words: str


@dataclass(frozen=True, slots=True)
class Diff:
    """changes: in the order of the document. verdict: of all of them together; one that loosens decides."""

    verdict: Verdict
    changes: tuple[Change, ...]

    @property
    def only_extends(self) -> bool:
        """Whether a later `not_after` is all that loosens and nothing tightens: unexpired, that waits for nothing."""
        telling = [change for change in self.changes if change.verdict is not Verdict.NEUTRAL]
        return [change.path for change in telling] == ["not_after"] and self.verdict is Verdict.LOOSENS


def diff(old: Policy, new: Policy) -> Diff:
    """Return every difference between two versions of the rules, each with its verdict."""
    # Plan: 1 each part by its own reader · 2 every other field of the document: any change loosens.
    found: list[Change] = []
    for field in fields(old):
        if field.name in _PARTS:
            found += _PARTS[field.name](old, new)
        elif field.name not in _NAMES_OF_THE_VERSION:
            found += _field(field.name, getattr(old, field.name), getattr(new, field.name))
    verdicts = {change.verdict for change in found}
    order = (Verdict.LOOSENS, Verdict.TIGHTENS, Verdict.NEUTRAL)
    return Diff(next((v for v in order if v in verdicts), Verdict.NEUTRAL), tuple(found))


def _tighter(is_so: bool) -> Verdict:
    return Verdict.TIGHTENS if is_so else Verdict.LOOSENS


def _field(path: str, old: object, new: object, verdict: Verdict = Verdict.LOOSENS) -> Iterator[Change]:
    """Yield the change of one value, where there is one."""
    if old != new:
        yield Change(path, verdict, f"{_shown(old)} becomes {_shown(new)}")


def _fields(path: str, old: Any, new: Any, judge: Mapping[str, Callable[[Any, Any], bool]]) -> Iterator[Change]:
    """Yield the changes between two values of one dataclass. judge: by field, whether (new, old) tightens."""
    for field in fields(old):
        mine, theirs = getattr(old, field.name), getattr(new, field.name)
        is_tighter = mine != theirs and field.name in judge and judge[field.name](theirs, mine)
        yield from _field(f"{path}.{field.name}", mine, theirs, _tighter(is_tighter))


def _named(old: Iterable[Any], new: Iterable[Any], key: str = "name") -> Iterator[tuple[str, Any, Any]]:
    """Yield (name, old or None, new or None) for everything that either side lists, in the order of the old."""
    before = {str(getattr(item, key)): item for item in old}
    after = {str(getattr(item, key)): item for item in new}
    for name in [*before, *(name for name in after if name not in before)]:
        if before.get(name) != after.get(name):
            yield name, before.get(name), after.get(name)


def _dates(old: Policy, new: Policy) -> Iterator[Change]:
    earlier = new.effective_from < old.effective_from
    verdict = Verdict.LOOSENS if earlier else Verdict.NEUTRAL  # when it takes effect, the log says
    yield from _field("effective_from", old.effective_from, new.effective_from, verdict)
    yield from _field("not_after", old.not_after, new.not_after, _tighter(new.not_after < old.not_after))


def _roots(old: Policy, new: Policy) -> Iterator[Change]:
    """Whom the log is believed by: any change loosens, one more witness too."""
    yield from _fields("roots", old.roots, new.roots, {})


def _limits(old: Policy, new: Policy) -> Iterator[Change]:
    yield from _fields("limits", old.limits, new.limits, _LIMITS)


def _people(part: str) -> Callable[[Policy, Policy], Iterator[Change]]:
    def read(old: Policy, new: Policy) -> Iterator[Change]:
        for name, before, after in _named(getattr(old, part), getattr(new, part)):
            path = f"{part}.{name}"
            if before is None:
                yield Change(path, Verdict.LOOSENS, "added: may ask or approve where rules let it")
            elif after is None:
                yield Change(path, Verdict.LOOSENS, "removed: could reject; set valid_until to end what it may at once")
            else:
                yield from _principal(path, before, after, (old, new))

    return read


def _principal(path: str, old: Principal, new: Principal, both: tuple[Policy, Policy]) -> Iterator[Change]:
    """Ending what one may ask or approve tightens; weakening one who may freeze, veto or administer does not."""
    governs = any(_governing(policy) & set(old.groups) for policy in both)
    lost = set(old.groups) - set(new.groups)
    held_by_rules = any(lost & (_governing(policy) | _vetoing(policy) | _restraining(policy)) for policy in both)
    judge: dict[str, Callable[[Any, Any], bool]] = {
        "groups": lambda theirs, mine: set(theirs) <= set(mine) and not held_by_rules,
        "valid_until": lambda theirs, mine: theirs < mine and not governs,
        "credentials": lambda theirs, mine: _no_longer_seen(theirs, mine) and not governs,
    }
    if set(old.groups) == set(new.groups):
        new = replace(new, groups=old.groups)
    yield from _fields(path, old, new, judge)


def _no_longer_seen(new: tuple[Credential, ...], old: tuple[Credential, ...]) -> bool:
    """The same keys, fewer of them seen. A key less is somebody who can reject with less."""
    return len(new) == len(old) and all(b in (a, replace(a, seen=False)) for a, b in zip(old, new, strict=True))


def _governing(policy: Policy) -> set[str]:
    admin = policy.admin
    return {*admin.freeze.groups, *admin.unfreeze.groups, *admin.change_quorum.groups}


def _vetoing(policy: Policy) -> set[str]:
    delays = [rule.obligations.delay for rule in policy.rules if rule.obligations is not None]
    return {veto.group for delay in delays if delay is not None for veto in delay.vetoes}


def _restraining(policy: Policy) -> set[str]:
    """Groups whose members some rule holds back: leaving one could escape it."""
    return {group for leaf in _restrictive(policy) if isinstance(leaf, InitiatorTerm) for group in leaf.groups}


def _restrictive(policy: Policy) -> Iterator[Term]:
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


def _referred(policy: Policy) -> set[str]:
    """Every name that rules and the admin block use: one that becomes known may turn a refusal into an answer."""
    names = _governing(policy)
    for rule in policy.rules:
        for leaf in leaves(rule.match):
            names |= {name for key in ("names", "classes", "groups", "lists") for name in getattr(leaf, key, ())}
        names |= {rule.budget.window} if rule.budget is not None else set()
        for tree in _trees(rule):
            names |= {leaf.group for leaf in _votes(tree) if leaf.group is not None}
    return names | _vetoing(policy)


def _trees(rule: Rule) -> tuple[VoteTree, ...]:
    asked = None if rule.obligations is None else rule.obligations.approvals
    lifting = None if rule.budget is None else rule.budget.approvals
    return tuple(tree for tree in (asked, lifting) if tree is not None)


def _votes(tree: VoteTree) -> Iterator[Votes]:
    if isinstance(tree, Votes):
        yield tree
        return
    for part in tree.stages if isinstance(tree, StagedVotes) else tree.parts:
        yield from _votes(part)


def _groups(old: Policy, new: Policy) -> Iterator[Change]:
    """A name alone gives nobody anything; a rule that already used it was refused until now."""
    for name in sorted(set(new.groups) - set(old.groups)):
        known = Verdict.LOOSENS if name in _referred(old) else Verdict.NEUTRAL
        yield Change(f"groups.{name}", known, "added")
    for name in sorted(set(old.groups) - set(new.groups)):
        yield Change(f"groups.{name}", _tighter(name not in _governing(old) | _vetoing(old)), "removed")


def _lists(old: Policy, new: Policy) -> Iterator[Change]:
    for name, before, after in _named(old.lists, new.lists):
        if before is None:
            yield Change(f"lists.{name}", Verdict.LOOSENS, "added")
            continue
        free = not any(_restrains_by_list(policy, name) for policy in (old, new))
        if after is None:
            yield Change(f"lists.{name}", _tighter(free), "removed")
        else:
            yield from _list(f"lists.{name}", before, after, free=free)


def _restrains_by_list(policy: Policy, name: str) -> bool:
    """Return whether a payee that leaves the list could escape a rule, or reach one that allows it."""
    held = [leaf for leaf in _restrictive(policy) if isinstance(leaf, DestinationTerm)]
    enforced = [rule for rule in policy.rules if rule.mode is Mode.ENFORCE]
    found = [leaf for rule in enforced for leaf in leaves(rule.match) if isinstance(leaf, DestinationTerm)]
    return any(name in leaf.lists or leaf.kind is not None for leaf in held) or any(
        leaf.kind is DestinationClass.ONE_TIME for leaf in found
    )


def _list(path: str, old: DestinationList, new: DestinationList, *, free: bool) -> Iterator[Change]:
    judge: dict[str, Callable[[Any, Any], bool]] = {
        "valid_from": lambda theirs, mine: free and theirs > mine,
        "expires_at": lambda theirs, mine: free and theirs < mine,
    }
    for address, before, after in _named(old.entries, new.entries, "address"):
        if before is None or after is None:
            entry: ListEntry = before or after
            words = "added" if before is None else "removed"
            yield Change(f"{path}.{address}", _tighter(free and after is None), f"{entry.label!r} {words}")
        else:
            yield from _fields(f"{path}.{address}", before, after, judge)
    yield from _fields(path, replace(old, entries=()), replace(new, entries=()), {})


def _windows(old: Policy, new: Policy) -> Iterator[Change]:
    for name, before, after in _named(old.windows, new.windows):
        path = f"windows.{name}"
        if before is None:
            known = Verdict.LOOSENS if name in _referred(old) else Verdict.NEUTRAL
            yield Change(path, known, "added")
        elif after is None:
            yield Change(path, Verdict.TIGHTENS, "removed: a limit that names it refuses")
        else:
            yield from _fields(path, before, after, _WINDOW)


def _looks_further(new: int | None, old: int | None) -> bool:
    return new is None or (old is not None and new > old)


def _wallets(old: Policy, new: Policy) -> Iterator[Change]:
    for name, before, after in _named(old.wallets, new.wallets):
        path = f"wallets.{name}"
        if before is None or after is None:
            yield Change(path, _tighter(after is None), "added" if before is None else "removed")
        else:
            yield from _fields(path, before, after, {})


def _rules(old: Policy, new: Policy) -> Iterator[Change]:
    for name, before, after in _named(old.rules, new.rules, "id"):
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
    return Change(path, _tighter((rule.kind is RuleKind.ALLOW) == (after is None)), words)


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
    for change in _fields(path, old, new, judge):
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


def _admin(old: Policy, new: Policy) -> Iterator[Change]:
    """Who changes, freezes and unfreezes: only a longer wait and more groups that may freeze are sure to tighten."""
    yield from _fields("admin", old.admin, new.admin, _ADMIN)


_LIMITS: Mapping[str, Callable[[Any, Any], bool]] = {
    "bundle_max_age_s": lambda new, old: new < old,
    "feerate_min_sat_vb": lambda new, old: new > old,
    "feerate_max_sat_vb": lambda new, old: new < old,
    "change_floor_sats": lambda new, old: new > old,
    "change_max_outputs": lambda new, old: new < old,
}
_WINDOW: Mapping[str, Callable[[Any, Any], bool]] = {"seconds": _looks_further}
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
_ADMIN: Mapping[str, Callable[[Any, Any], bool]] = {
    "loosen_delay_s": lambda new, old: new > old,
    "freeze": lambda new, old: set(new.groups) >= set(old.groups) and replace(new, groups=old.groups) == old,
}
_PARTS: Mapping[str, Callable[[Policy, Policy], Iterator[Change]]] = {
    "not_after": _dates,
    "effective_from": lambda old, new: iter(()),
    "roots": _roots,
    "limits": _limits,
    "users": _people("users"),
    "services": _people("services"),
    "groups": _groups,
    "lists": _lists,
    "windows": _windows,
    "wallets": _wallets,
    "rules": _rules,
    "admin": _admin,
}


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()[:16]
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return "(" + ", ".join(_shown(item) for item in value) + ")"
    if hasattr(value, "__dataclass_fields__"):
        return "{" + ", ".join(f"{f}={_shown(getattr(value, f))}" for f in value.__dataclass_fields__) + "}"
    return str(value)
