"""What a new version of the rules changes, and whether it tightens: what does not provably tighten, loosens.

A tightening takes effect at once, a loosening after the delay of the version that it replaces (protocol.md "Rules,
freeze"). Every field of the document is compared, also those that nobody thought of here: an unknown change loosens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from custody.policy.change import Change, Verdict, changed, changes_of, pairs, tighter
from custody.policy.diff_people import groups, people
from custody.policy.diff_rules import rules
from custody.policy.document import DestinationList, ListEntry, Mode, Policy, RuleKind
from custody.policy.match import leaves
from custody.policy.referred import referred, restrictive
from custody.policy.terms import DestinationClass, DestinationTerm

__all__ = ["Change", "Diff", "Verdict", "diff"]

_NAMES_OF_THE_VERSION = frozenset({"hash", "version", "prev_hash"})  # they differ always and say nothing


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
            found += changed(field.name, getattr(old, field.name), getattr(new, field.name))
    verdicts = {change.verdict for change in found}
    order = (Verdict.LOOSENS, Verdict.TIGHTENS, Verdict.NEUTRAL)
    return Diff(next((v for v in order if v in verdicts), Verdict.NEUTRAL), tuple(found))


def _dates(old: Policy, new: Policy) -> Iterator[Change]:
    earlier = new.effective_from < old.effective_from
    verdict = Verdict.LOOSENS if earlier else Verdict.NEUTRAL  # when it takes effect, the log says
    yield from changed("effective_from", old.effective_from, new.effective_from, verdict)
    yield from changed("not_after", old.not_after, new.not_after, tighter(new.not_after < old.not_after))


def _roots(old: Policy, new: Policy) -> Iterator[Change]:
    """Whom the log is believed by: any change loosens, one more witness too."""
    yield from changes_of("roots", old.roots, new.roots, {})


def _limits(old: Policy, new: Policy) -> Iterator[Change]:
    yield from changes_of("limits", old.limits, new.limits, _LIMITS)


def _lists(old: Policy, new: Policy) -> Iterator[Change]:
    for name, before, after in pairs(old.lists, new.lists):
        if before is None:
            yield Change(f"lists.{name}", Verdict.LOOSENS, "added")
            continue
        free = not any(_restrains_by_list(policy, name) for policy in (old, new))
        if after is None:
            yield Change(f"lists.{name}", tighter(free), "removed")
        else:
            yield from _list(f"lists.{name}", before, after, free=free)


def _restrains_by_list(policy: Policy, name: str) -> bool:
    """Return whether a payee that leaves the list could escape a rule, or reach one that allows it."""
    held = [leaf for leaf in restrictive(policy) if isinstance(leaf, DestinationTerm)]
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
    for address, before, after in pairs(old.entries, new.entries, "address"):
        if before is None or after is None:
            entry: ListEntry = before or after
            words = "added" if before is None else "removed"
            yield Change(f"{path}.{address}", tighter(free and after is None), f"{entry.label!r} {words}")
        else:
            yield from changes_of(f"{path}.{address}", before, after, judge)
    yield from changes_of(path, replace(old, entries=()), replace(new, entries=()), {})


def _windows(old: Policy, new: Policy) -> Iterator[Change]:
    for name, before, after in pairs(old.windows, new.windows):
        path = f"windows.{name}"
        if before is None:
            known = Verdict.LOOSENS if name in referred(old) else Verdict.NEUTRAL
            yield Change(path, known, "added")
        elif after is None:
            yield Change(path, Verdict.TIGHTENS, "removed: a limit that names it refuses")
        else:
            yield from changes_of(path, before, after, _WINDOW)


def _looks_further(new: int | None, old: int | None) -> bool:
    return new is None or (old is not None and new > old)


def _wallets(old: Policy, new: Policy) -> Iterator[Change]:
    for name, before, after in pairs(old.wallets, new.wallets):
        path = f"wallets.{name}"
        if before is None or after is None:
            yield Change(path, tighter(after is None), "added" if before is None else "removed")
        else:
            yield from changes_of(path, before, after, {})


def _admin(old: Policy, new: Policy) -> Iterator[Change]:
    """Who changes, freezes and unfreezes: a longer wait, more groups that may freeze, and more locks tighten.

    A lock upon an allow loosens: nobody could take it back.
    """
    more = set(new.admin.locked_rules) - set(old.admin.locked_rules)
    gives = any(rule is None or rule.kind is RuleKind.ALLOW for rule in map(new.rule, more))
    locks = {"locked_rules": lambda theirs, mine: set(theirs) >= set(mine) and not gives}
    yield from changes_of("admin", old.admin, new.admin, {**_ADMIN, **locks})


_LIMITS: Mapping[str, Callable[[Any, Any], bool]] = {
    "bundle_max_age_s": lambda new, old: new < old,
    "feerate_min_sat_vb": lambda new, old: new > old,
    "feerate_max_sat_vb": lambda new, old: new < old,
    "change_floor_sats": lambda new, old: new > old,
    "change_max_outputs": lambda new, old: new < old,
}


_WINDOW: Mapping[str, Callable[[Any, Any], bool]] = {"seconds": _looks_further}


_ADMIN: Mapping[str, Callable[[Any, Any], bool]] = {
    "loosen_delay_s": lambda new, old: new > old,
    "freeze": lambda new, old: set(new.groups) >= set(old.groups) and replace(new, groups=old.groups) == old,
}


_PARTS: Mapping[str, Callable[[Policy, Policy], Iterator[Change]]] = {
    "not_after": _dates,
    "effective_from": lambda old, new: iter(()),
    "roots": _roots,
    "limits": _limits,
    "users": people("users"),
    "services": people("services"),
    "groups": groups,
    "lists": _lists,
    "windows": _windows,
    "wallets": _wallets,
    "rules": rules,
    "admin": _admin,
}
