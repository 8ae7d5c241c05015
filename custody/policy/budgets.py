"""Count what was released against a budget: a family counts once, by its largest, from its latest release's T.

A family is a withdrawal and all that supersedes it: only one of its transactions can confirm. What cannot be told apart
from a match is counted, so that a missing fact never widens a budget.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from custody.entries import Release
from custody.policy.document import Policy, Window
from custody.policy.match import Subject, holds
from custody.policy.terms import Budget, GroupBy, Measure, Term


@dataclass(frozen=True, slots=True)
class FamilySpend:
    """The admissible releases of one family, any order. family: 32 bytes.  latest_t: T of the latest, UTC seconds."""

    family: bytes
    releases: tuple[Release, ...]
    latest_t: int


@dataclass(frozen=True, slots=True)
class PastFamily:
    """A family as matchers see it, made once per decision. family: 32 bytes.  t: T of its latest release."""

    family: bytes
    t: int
    releases: tuple[Subject, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """One drawer of a budget; None: not kept apart by this. wallet_id: 32 bytes.  script: a payee's scriptPubKey."""

    wallet_id: bytes | None = None
    initiator: str | None = None
    org: str | None = None
    script: bytes | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """How full one drawer would be with the withdrawal in hand."""

    group: Group
    used: int


def families_of(releases: Iterable[tuple[Release, int]]) -> tuple[FamilySpend, ...]:
    """Return the families of `releases`, each given with its T (UTC seconds), ordered by family."""
    found: dict[bytes, list[tuple[Release, int]]] = {}
    for release, t in releases:
        found.setdefault(release.family, []).append((release, t))
    return tuple(
        FamilySpend(family, tuple(release for release, _ in dated), max(t for _, t in dated))
        for family, dated in sorted(found.items())
    )


def past_of(families: Iterable[FamilySpend]) -> tuple[PastFamily, ...]:
    """Return `families` as matchers see them."""
    return tuple(
        PastFamily(f.family, f.latest_t, tuple(_subject_of(release, f.latest_t) for release in f.releases))
        for f in families
    )


def longest_window_s(policy: Policy) -> int | None:
    """Return how far back any budget looks, in seconds (0 where there is none), or None for ever."""
    seconds = [window.seconds for window in policy.windows]
    return None if None in seconds else max((s for s in seconds if s is not None), default=0)


def budget_uses(
    budget: Budget, match: Term, subject: Subject, own_family: bytes, past: Iterable[PastFamily], policy: Policy
) -> tuple[Use, ...] | None:
    """Return how full each drawer that `subject` touches would be; None where the budget's window is not in the rules.

    Args:
        budget: what is counted, per what.
        match: the rule's match: which releases of the past it speaks of.
        subject: the withdrawal in hand, which matched.
        own_family: 32 bytes; its releases and `subject` together count once.
        past: every family with an admissible release.
        policy: the rules in force.
    """
    window = policy.window(budget.window)
    if window is None:
        return None
    own: tuple[Subject, ...] = (subject,)
    others: list[tuple[Subject, ...]] = []
    for before in past:
        if before.family == own_family:
            own += before.releases
        elif not _is_over(window, before.t, subject.lo) and _speaks_of(match, before.releases, policy):
            others.append(before.releases)
    return tuple(_use(group, [own, *others], budget.measure, policy) for group in _groups(budget, subject, policy))


def _is_over(window: Window, t: int, lo: int) -> bool:
    """Ageing goes by `lo`: a clock that runs ahead of the witnesses must not empty a window."""
    return window.seconds is not None and lo - t >= window.seconds


def _speaks_of(match: Term, releases: Iterable[Subject], policy: Policy) -> bool:
    return any(holds(match, release, policy) is not False for release in releases)


def _subject_of(release: Release, t: int) -> Subject:
    return Subject(
        wallet_id=release.wallet_id,
        initiator=release.initiator,
        payments=release.payments,
        max_fee_sats=release.max_fee_sats,
        relation=release.relation.kind,
        lo=t,
        hi=t,
        released=t,
        fee_sats=release.fee_sats,
        inputs=len(release.outpoints),
        outputs=len(release.payments) + len(release.change),
    )


def _groups(budget: Budget, subject: Subject, policy: Policy) -> tuple[Group, ...]:
    """Return the drawers that `subject` touches: one, or one per payee."""
    by = budget.group_by
    scripts: list[bytes | None] = [None]
    if GroupBy.DESTINATION in by:
        scripts = list(dict.fromkeys(payment.script for payment in subject.payments))
    wallet = subject.wallet_id if GroupBy.WALLET in by else None
    initiator = subject.initiator if GroupBy.INITIATOR in by else None
    org = _org_of(subject.initiator, policy) if GroupBy.ORG in by else None
    return tuple(Group(wallet, initiator, org, script) for script in scripts)


def _org_of(initiator: str, policy: Policy) -> str | None:
    principal = policy.principal(initiator)
    return None if principal is None else principal.org


def _use(group: Group, families: Iterable[tuple[Subject, ...]], measure: Measure, policy: Policy) -> Use:
    return Use(group, sum(_largest(group, releases, measure, policy) for releases in families))


def _largest(group: Group, releases: Iterable[Subject], measure: Measure, policy: Policy) -> int:
    return max((_cost(group, r, measure) for r in releases if _falls_into(group, r, policy)), default=0)


def _falls_into(group: Group, release: Subject, policy: Policy) -> bool:
    if group.wallet_id not in (None, release.wallet_id) or group.initiator not in (None, release.initiator):
        return False
    if group.org is not None and _org_of(release.initiator, policy) not in (None, group.org):
        return False  # who is no longer in the rules may have been of this org
    return group.script is None or any(payment.script == group.script for payment in release.payments)


def _cost(group: Group, release: Subject, measure: Measure) -> int:
    if measure is Measure.COUNT:
        return 1
    if measure is Measure.FEE_SATS:
        return release.max_fee_sats
    if group.script is None:
        return release.total_sats
    return sum(p.amount for p in release.payments if p.script == group.script) + release.max_fee_sats
