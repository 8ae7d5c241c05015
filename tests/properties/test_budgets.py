"""The budget index equals the naive count: every family, scanned anew for every question."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from custody.decide import Case, Deny, decide
from custody.entries import Release
from custody.interval import Interval
from custody.policy import Policy
from custody.policy.budgets import Group, Spent, budget_uses, families_of
from custody.policy.duties import Budget, GroupBy, Measure
from custody.policy.match import holds
from custody.policy.subject import Subject
from custody.withdrawal import Withdrawal
from tests.fakes.rules import DAY, EXCHANGE, NOW, STRANGER, SUPPLIER, VAULT, case, policy, release, rule, withdrawal

MATCHES: tuple[dict[str, Any], ...] = (
    {},
    {"wallet": {"names": ["treasury"]}},
    {"payments": "none"},
    {"amount": {"max_sats": 40_000}},
    {"shape": {"max_vbytes": 200}},
    {"destination": {"lists": ["exchanges"], "quantifier": "any"}},
)
LIMITS = st.builds(
    lambda match, window, measure, by: rule(
        "cap",
        "limit",
        match,
        {"window": window, measure: 0, "group_by": by, "on_exceed": "deny"}
        if by
        else {"window": window, measure: 0, "on_exceed": "deny"},
    ),
    st.sampled_from(MATCHES),
    st.sampled_from(["day", "ever"]),
    st.sampled_from([measure.value for measure in Measure]),
    st.lists(st.sampled_from([group.value for group in GroupBy]), unique=True, max_size=3),
)
PAYEES = st.tuples(st.sampled_from([EXCHANGE, SUPPLIER, STRANGER]), st.sampled_from([1_000, 30_000, 50_000]))


@st.composite
def asked(draw: st.DrawFn) -> Withdrawal:
    """Draw a withdrawal; "zoe" has left the rules."""
    found = withdrawal(
        *draw(st.lists(PAYEES, min_size=1, max_size=3)),
        withdrawal_id=f"w-{draw(st.integers(0, 10**6))}",
        initiator=draw(st.sampled_from(["alice", "bob", "dave", "zoe"])),
        wallet_id=draw(st.sampled_from([withdrawal().wallet_id, VAULT])),
        max_fee_sats=draw(st.sampled_from([0, 2_000, 9_000])),
    )
    return replace(found, payments=()) if draw(st.integers(0, 5)) == 0 else found


RELEASES = st.lists(
    st.tuples(asked(), st.integers(0, 5), st.sampled_from([NOW - 2 * DAY, NOW - DAY, NOW - DAY + 1, NOW - 9, NOW])),
    max_size=12,
)


def naive(rules: Policy, of: Case, history: list[tuple[Release, int]]) -> dict[Group, int]:
    """Return how full each drawer would be, counted from all releases as policy.md "Budgets" says it."""
    (limit,) = rules.rules
    budget = limit.budget
    assert budget is not None
    window = rules.window(budget.window)
    assert window is not None
    subject = subject_of(of)
    used = {}
    for group in touched(budget, subject, rules):
        total = 0
        families = {found.family: found for found in families_of(history)}
        for name in {*families, of.family}:
            found = families.get(name)
            releases = [past(r, found.latest_t) for r in found.releases] if found else []
            if name == of.family:
                releases = [*releases, subject]
            elif found is not None and (
                (window.seconds is not None and of.time.lo - found.latest_t >= window.seconds)
                or all(holds(limit.match, r, rules) is False for r in releases)
            ):
                continue
            total += max((cost(group, r, budget.measure) for r in releases if is_in(group, r, rules)), default=0)
        used[group] = total
    return used


def touched(budget: Budget, subject: Subject, rules: Policy) -> set[Group]:
    """Return the drawers of `subject`."""
    by = budget.group_by
    scripts = {p.script for p in subject.payments} if GroupBy.DESTINATION in by else {None}
    person = rules.principal(subject.initiator)
    org = (person.org if person else "") if GroupBy.ORG in by else None
    return {
        Group(
            subject.wallet_id if GroupBy.WALLET in by else None,
            subject.initiator if GroupBy.INITIATOR in by else None,
            org,
            script,
        )
        for script in scripts
    }


def is_in(group: Group, found: Subject, rules: Policy) -> bool:
    """Return whether `found` counts in `group`; a leaver counts in every org."""
    person = rules.principal(found.initiator)
    return (
        group.wallet_id in (None, found.wallet_id)
        and group.initiator in (None, found.initiator)
        and (group.org is None or person is None or person.org == group.org)
        and (group.script is None or group.script in {p.script for p in found.payments})
    )


def cost(group: Group, found: Subject, measure: Measure) -> int:
    """Return what one release costs."""
    if measure is Measure.COUNT:
        return 1
    if measure is Measure.FEE_SATS:
        return found.max_fee_sats
    return found.max_fee_sats + sum(p.amount for p in found.payments if group.script in (None, p.script))


def past(found: Release, t: int) -> Subject:
    """Return a release as matchers see it."""
    return Subject(
        found.wallet_id,
        found.initiator,
        found.payments,
        found.max_fee_sats,
        found.relation.kind,
        t,
        t,
        t,
        found.fee_sats,
        len(found.outpoints),
        len(found.payments) + len(found.change),
    )


def subject_of(of: Case) -> Subject:
    """Return the withdrawal in hand as matchers see it."""
    w = of.withdrawal
    return Subject(
        w.wallet_id, w.initiator, of.facts.payments, w.max_fee_sats, w.relation.kind, of.time.lo, of.time.hi, None
    )


@settings(max_examples=150, deadline=None)
@given(limit=LIMITS, releases=RELEASES, mine=asked(), family=st.integers(0, 6), back=st.sampled_from([0, 1, DAY]))
def test_spent_given_any_history_counts_what_a_scan_counts(
    limit: dict[str, Any],
    releases: list[tuple[Withdrawal, int, int]],
    mine: Withdrawal,
    family: int,
    back: int,
) -> None:
    """Added one by one or all at once, in blocks or not: every drawer holds what a naive scan finds."""
    rules = policy(limit)
    history = [(release(w, bytes([of]) * 32), t) for w, of, t in releases]
    of = case(mine, family=bytes([family]) * 32, time=Interval(NOW - back, NOW))
    grown = Spent(rules)
    for released, t in history:
        grown = grown.add(released, t)

    expected = naive(rules, of, history)
    for spent in (grown, Spent.of(rules, families_of(history)), Spent.of(policy(), families_of(history)).under(rules)):
        uses = budget_uses(rules.rules[0], subject_of(of), of.family, spent)
        assert uses is not None
        assert {use.group: use.used for use in uses} == expected


@settings(max_examples=30, deadline=None)
@given(releases=st.lists(st.tuples(asked(), st.integers(0, 40)), min_size=20, max_size=60), data=st.data())
def test_spent_given_additions_from_one_beginning_leaves_the_others_alone(
    releases: list[tuple[Withdrawal, int]], data: st.DataObject
) -> None:
    """A count never changes once made: a follower tries out the log's end and takes it back."""
    rules = policy(rule("cap", "limit", {}, {"window": "ever", "max_sats": 0, "on_exceed": "deny"}))
    drawer = ("cap", Group())
    cut = data.draw(st.integers(0, len(releases)))
    grown = Spent(rules)
    for w, of in releases[:cut]:
        grown = grown.add(release(w, bytes([of]) * 32), NOW)
    before = grown.total(drawer, None)
    aside = grown
    for w, of in releases[cut:]:
        aside = aside.add(release(w, bytes([of]) * 32), NOW)

    assert grown.total(drawer, None) == before
    assert aside.total(drawer, None) == Spent.of(
        rules, families_of((release(w, bytes([of]) * 32), NOW) for w, of in releases)
    ).total(drawer, None)
    assert len(aside.blocks) <= len(releases).bit_length() + 2


def test_decide_given_a_count_and_its_families_says_the_same() -> None:
    """A follower's count and the families it was made of are one history."""
    rules = policy(
        rule("all", "allow", {"fee": {"max_sats": 9_000}}),
        rule("cap", "limit", {}, {"window": "day", "max_count": 1, "on_exceed": "deny"}),
    )
    families = families_of([(release(withdrawal(withdrawal_id="w-2")), NOW)])

    counted = decide(rules, case(families=Spent.of(rules, families)))

    assert counted == decide(rules, case(families=families))
    assert isinstance(counted, Deny)
