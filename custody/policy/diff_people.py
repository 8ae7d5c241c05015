"""What a new version of the rules changes about people, services and their groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from custody.policy.change import Change, Verdict, changes_of, pairs, tighter
from custody.policy.document import Credential, Policy, Principal
from custody.policy.referred import governing, referred, restraining, vetoing


def people(part: str) -> Callable[[Policy, Policy], Iterator[Change]]:
    """Return the reader of "users" or "services"."""

    def read(old: Policy, new: Policy) -> Iterator[Change]:
        for name, before, after in pairs(getattr(old, part), getattr(new, part)):
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
    governs = any(governing(policy) & set(old.groups) for policy in both)
    lost = set(old.groups) - set(new.groups)
    held_by_rules = any(lost & (governing(policy) | vetoing(policy) | restraining(policy)) for policy in both)
    judge: dict[str, Callable[[Any, Any], bool]] = {
        "groups": lambda theirs, mine: set(theirs) <= set(mine) and not held_by_rules,
        "valid_until": lambda theirs, mine: theirs < mine and not governs,
        "credentials": lambda theirs, mine: _no_longer_seen(theirs, mine) and not governs,
    }
    if set(old.groups) == set(new.groups):
        new = replace(new, groups=old.groups)
    yield from changes_of(path, old, new, judge)


def _no_longer_seen(new: tuple[Credential, ...], old: tuple[Credential, ...]) -> bool:
    """The same keys, fewer of them seen. A key less is somebody who can reject with less."""
    return len(new) == len(old) and all(b in (a, replace(a, seen=False)) for a, b in zip(old, new, strict=True))


def groups(old: Policy, new: Policy) -> Iterator[Change]:
    """A name alone gives nobody anything; a rule that already used it was refused until now."""
    for name in sorted(set(new.groups) - set(old.groups)):
        known = Verdict.LOOSENS if name in referred(old) else Verdict.NEUTRAL
        yield Change(f"groups.{name}", known, "added")
    for name in sorted(set(old.groups) - set(new.groups)):
        yield Change(f"groups.{name}", tighter(name not in governing(old) | vetoing(old)), "removed")
