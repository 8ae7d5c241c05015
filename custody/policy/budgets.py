"""Count what was released against budgets: a family counts once, by its largest, from its latest release's T.

A family is a withdrawal and all that supersedes it: only one of its transactions can confirm. What cannot be told apart
from a match is counted, so that a missing fact never widens a budget.

`Spent` keeps the counts as releases come: per budget and drawer, costs by T with their running sums, in blocks of
doubling size that never change. Adding one costs a merge now and then; a window of any length at any `lo` is a search
in each of at most log n blocks, whatever the history. A family that is released again takes its old cost back by an
entry of the opposite sign.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from custody.entries import Release
from custody.policy.document import Policy, Rule, Window
from custody.policy.duties import Budget, GroupBy, Measure
from custody.policy.match import holds
from custody.policy.subject import Subject

ANY_ORG = ""  # who is no longer in the rules may have been of any org; no org is called this


@dataclass(frozen=True, slots=True)
class FamilySpend:
    """The admissible releases of one family, any order. family: 32 bytes.  latest_t: T of the latest, UTC seconds."""

    family: bytes
    releases: tuple[Release, ...]
    latest_t: int


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


Drawer = tuple[str, Group]  # (id of the limit rule, group)
Dated = tuple[int, int]  # (T, cost)


@dataclass(frozen=True, slots=True)
class _Column:
    """Costs of one drawer, by T. sums: running sums of the costs."""

    times: tuple[int, ...]
    sums: tuple[int, ...]

    def dated(self) -> Iterator[Dated]:
        """Return each cost with its T."""
        return zip(self.times, (b - a for a, b in zip((0, *self.sums), self.sums, strict=False)), strict=True)

    def since(self, t: int | None) -> int:
        """Return the sum of what came later than `t`, or of all."""
        if not self.sums:
            return 0
        at = 0 if t is None else bisect_right(self.times, t)
        return self.sums[-1] - (self.sums[at - 1] if at else 0)


@dataclass(frozen=True, slots=True)
class _Block:
    """What `size` additions changed. families: as they stood after it."""

    size: int
    families: Mapping[bytes, FamilySpend]
    columns: Mapping[Drawer, _Column]


@dataclass(frozen=True, slots=True)
class Spent:
    """Every admissible release, counted under the limit rules of `policy`. Made by `Spent.of`; `add` returns a new one.

    blocks: oldest first; each is at least as large as the next one, once compacted.
    """

    policy: Policy
    blocks: tuple[_Block, ...] = ()
    _compacted: list[tuple[_Block, ...]] = field(default_factory=list, compare=False, repr=False)

    @staticmethod
    def of(policy: Policy, families: Iterable[FamilySpend]) -> Spent:
        """Return the count of `families` (each once) under `policy`."""
        known = {found.family: found for found in families}
        dated: dict[Drawer, list[Dated]] = {}
        for found in known.values():
            for drawer, cost in _shares(policy, found).items():
                dated.setdefault(drawer, []).append((found.latest_t, cost))
        return Spent(policy, (_block(max(1, len(known)), known, dated),) if known else ())

    def under(self, policy: Policy) -> Spent:
        """Return the same history counted under `policy`."""
        if policy.hash == self.policy.hash:
            return self
        return Spent.of(policy, self.families().values())

    def add(self, release: Release, t: int) -> Spent:
        """Return the count with one more admissible release, of T `t`."""
        before = self.family(release.family)
        now = FamilySpend(release.family, (release,), t)
        dated: dict[Drawer, list[Dated]] = {}
        if before is not None:
            now = FamilySpend(release.family, (*before.releases, release), max(before.latest_t, t))
            for drawer, cost in _shares(self.policy, before).items():
                dated.setdefault(drawer, []).append((before.latest_t, -cost))
        for drawer, cost in _shares(self.policy, now).items():
            dated.setdefault(drawer, []).append((now.latest_t, cost))
        return replace(self, blocks=(*self._compact(), _block(1, {release.family: now}, dated)), _compacted=[])

    def family(self, family: bytes) -> FamilySpend | None:
        """Return the releases of `family` (32 bytes), or None."""
        return next((b.families[family] for b in reversed(self.blocks) if family in b.families), None)

    def families(self) -> Mapping[bytes, FamilySpend]:
        """Return every family by its digest."""
        found: dict[bytes, FamilySpend] = {}
        for block in self.blocks:
            found.update(block.families)
        return found

    def total(self, drawer: Drawer, since: int | None) -> int:
        """Return what `drawer` holds that came later than `since` (UTC seconds), or all of it."""
        return sum(block.columns[drawer].since(since) for block in self.blocks if drawer in block.columns)

    def _compact(self) -> tuple[_Block, ...]:
        """Return the blocks with equal sizes merged; kept, since several additions may begin here."""
        if not self._compacted:
            blocks = list(self.blocks)
            while len(blocks) > 1 and blocks[-2].size <= blocks[-1].size:
                newer, older = blocks.pop(), blocks.pop()
                blocks.append(_merged(older, newer))
            self._compacted.append(tuple(blocks))
        return self._compacted[0]


def _block(size: int, families: Mapping[bytes, FamilySpend], dated: Mapping[Drawer, Sequence[Dated]]) -> _Block:
    return _Block(size, families, {drawer: _column(found) for drawer, found in dated.items()})


def _column(dated: Iterable[Dated]) -> _Column:
    ordered = sorted(dated)
    return _Column(tuple(t for t, _ in ordered), tuple(accumulate(cost for _, cost in ordered)))


def _merged(older: _Block, newer: _Block) -> _Block:
    columns = dict(older.columns)
    for drawer, column in newer.columns.items():
        before = columns.get(drawer)
        columns[drawer] = column if before is None else _column([*before.dated(), *column.dated()])
    return _Block(older.size + newer.size, {**older.families, **newer.families}, columns)


def families_of(releases: Iterable[tuple[Release, int]]) -> tuple[FamilySpend, ...]:
    """Return the families of `releases`, each given with its T (UTC seconds), ordered by family."""
    found: dict[bytes, list[tuple[Release, int]]] = {}
    for release, t in releases:
        found.setdefault(release.family, []).append((release, t))
    return tuple(
        FamilySpend(family, tuple(release for release, _ in dated), max(t for _, t in dated))
        for family, dated in sorted(found.items())
    )


def longest_window_s(policy: Policy) -> int | None:
    """Return how far back any budget looks, in seconds (0 where there is none), or None for ever."""
    seconds = [window.seconds for window in policy.windows]
    return None if None in seconds else max((s for s in seconds if s is not None), default=0)


def budget_uses(rule: Rule, subject: Subject, own_family: bytes, spent: Spent) -> tuple[Use, ...] | None:
    """Return how full each drawer that `subject` touches would be; None where the budget's window is not in the rules.

    Args:
        rule: a limit of the rules that `spent` counts under, whose match speaks of `subject`.
        subject: the withdrawal in hand.
        own_family: 32 bytes; its releases and `subject` together count once.
        spent: every admissible release.
    """
    budget, policy = rule.budget, spent.policy
    window = None if budget is None else policy.window(budget.window)
    if budget is None or window is None:
        return None
    since = None if window.seconds is None else subject.lo - window.seconds  # ageing goes by lo
    own = spent.family(own_family)
    releases = () if own is None else _subjects(own)
    counted = {} if own is None or _is_over(window, own.latest_t, subject.lo) else _shares_of(rule, releases, policy)
    mine = (subject, *releases)
    uses = []
    for group in _groups(budget, subject, policy):
        others = sum(
            spent.total((rule.id, drawer), since) - counted.get(drawer, 0) for drawer in {group, _of_any_org(group)}
        )
        uses.append(Use(group, others + _largest(group, mine, budget.measure, policy)))
    return tuple(uses)


def _is_over(window: Window, t: int, lo: int) -> bool:
    return window.seconds is not None and lo - t >= window.seconds


def _shares(policy: Policy, family: FamilySpend) -> dict[Drawer, int]:
    """Return what `family` costs in each drawer of every limit rule."""
    subjects = _subjects(family)
    return {
        (rule.id, group): cost
        for rule in policy.rules
        if rule.budget is not None
        for group, cost in _shares_of(rule, subjects, policy).items()
    }


def _shares_of(rule: Rule, subjects: Sequence[Subject], policy: Policy) -> dict[Group, int]:
    """Return what a family of these releases costs in each drawer of `rule`: its largest there.

    Releases of somebody who left count in every org: they stand in the drawer of ANY_ORG, and the family's own org
    holds only what is above that, so that the two together are the largest.
    """
    budget = rule.budget
    if budget is None or all(holds(rule.match, subject, policy) is False for subject in subjects):
        return {}
    if len(subjects) == 1:  # as good as always, and nothing to compare
        return {group: _cost(group, subjects[0], budget.measure) for group in _groups(budget, subjects[0], policy)}
    groups = {group for subject in subjects for group in _groups(budget, subject, policy)}
    costs = {group: _largest(group, subjects, budget.measure, policy) for group in groups}
    shares = {}
    for group, cost in costs.items():
        shared = _of_any_org(group)
        shares[group] = cost if shared == group else cost - costs.get(shared, 0)
    return shares


def _of_any_org(group: Group) -> Group:
    return group if group.org is None else replace(group, org=ANY_ORG)


def _subjects(family: FamilySpend) -> tuple[Subject, ...]:
    """Return the releases of `family` as matchers see them, all at its latest T."""
    return tuple(subject_of_release(release, family.latest_t) for release in family.releases)


def subject_of_release(release: Release, t: int) -> Subject:
    """Return a release of T `t` (UTC seconds) as matchers see it: what the log does not say is not known."""
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
        outpoints=frozenset(release.outpoints),
        change_outputs=len(release.change),
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


def _org_of(initiator: str, policy: Policy) -> str:
    principal = policy.principal(initiator)
    return ANY_ORG if principal is None else principal.org


def _largest(group: Group, releases: Iterable[Subject], measure: Measure, policy: Policy) -> int:
    return max((_cost(group, r, measure) for r in releases if _falls_into(group, r, policy)), default=0)


def _falls_into(group: Group, release: Subject, policy: Policy) -> bool:
    if group.wallet_id not in (None, release.wallet_id) or group.initiator not in (None, release.initiator):
        return False
    if group.org is not None and _org_of(release.initiator, policy) not in (ANY_ORG, group.org):
        return False
    return group.script is None or any(payment.script == group.script for payment in release.payments)


def _cost(group: Group, release: Subject, measure: Measure) -> int:
    if measure is Measure.COUNT:
        return 1
    if measure is Measure.FEE_SATS:
        return release.max_fee_sats
    if group.script is None:
        return release.total_sats
    return sum(p.amount for p in release.payments if p.script == group.script) + release.max_fee_sats
