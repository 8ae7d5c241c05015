"""Whose signatures a change of the rules needs: quorums of the version that it replaces, each for its own part.

Address lists and people may have quorums of their own. A document that changes several parts needs each of their
quorums, so that none is evaded by a change beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from custody.policy import Policy
from custody.policy.diff import Diff, Verdict
from custody.policy.referred import governing
from custody.quorum import key_holders
from custody.statements import Signed

CHANGE, LISTS, PEOPLE = "change_quorum", "list_quorum", "people_quorum"
_PARTS = {"lists": LISTS, "users": PEOPLE, "services": PEOPLE, "groups": PEOPLE}


@dataclass(frozen=True, slots=True)
class Share:
    """How far one quorum is. have: who of it signed.  missing: how many more must.  could: who still may. Sorted."""

    quorum: str
    groups: tuple[str, ...]
    have: tuple[str, ...]
    missing: int
    could: tuple[str, ...]


def quorums_for(old: Policy, new: Policy, changes: Diff) -> tuple[str, ...]:
    """Return the names of the quorums of `old` that must all sign `new`, sorted.

    What changes address lists alone needs the `list_quorum`, people alone the `people_quorum`, where `old` names them;
    all else, and people who freeze, unfreeze or change the rules, need the `change_quorum`.
    """
    found: set[str] = set()
    for change in changes.changes:
        if change.path == "effective_from" and change.verdict is Verdict.NEUTRAL:
            continue  # every version is dated anew, and a later date only puts off
        part, _, rest = change.path.partition(".")
        found.add(_PARTS.get(part, CHANGE))
        if _PARTS.get(part) == PEOPLE and _governs(part, rest.partition(".")[0], (old, new)):
            found.add(CHANGE)
    named = old.admin.change_quorums
    return tuple(sorted({name if name in named else CHANGE for name in found} or {CHANGE}))


def _governs(part: str, name: str, both: tuple[Policy, Policy]) -> bool:
    """Return whether a user, service or group governs before or after: else people could make themselves admins."""
    groups = {group for policy in both for group in governing(policy)}
    if part == "groups":
        return name in groups
    listed = (policy.principal(name) for policy in both)
    return any(groups & set(principal.groups) for principal in listed if principal is not None)


def shares(policy: Policy, quorums: Iterable[str], signed: Signed, t: int) -> tuple[Share, ...]:
    """Return how far each of `quorums` of `policy` is with `signed`: people in office at `t` who saw the document."""
    found = []
    for name in quorums:
        quorum = policy.admin.change_quorums[name]
        have = key_holders(policy, signed, groups=quorum.groups, at=t, seen=True)
        could = {u.name for group in quorum.groups for u in policy.members(group) if t < u.valid_until} - have
        missing = max(0, quorum.threshold - policy.heads(quorum, have))
        if quorum.exclude_author and not have:
            missing += 1  # whoever signs first may be its author
        found.append(Share(name, quorum.groups, tuple(sorted(have)), missing, tuple(sorted(could))))
    return tuple(found)
