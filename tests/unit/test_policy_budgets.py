"""Budgets: a family counts once, by its largest, from its latest T, in every drawer it touches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from custody.decide import Allow, Case, Decided, Deny, Need, decide
from custody.entries import Release
from custody.interval import Interval
from custody.policy.budgets import FamilySpend, Spent, families_of, longest_window_s, subject_of_release
from custody.policy.subject import Subject
from custody.units import Sats
from custody.withdrawal import Relation, RelationKind, Withdrawal
from tests.fakes.rules import (
    DAY,
    EXCHANGE,
    NOW,
    STRANGER,
    SUPPLIER,
    VAULT,
    Document,
    case,
    document,
    family,
    policy,
    release,
    rule,
    self_transfer,
    withdrawal,
)

ALLOW = rule("all", "allow", {"fee": {"max_sats": 1_000_000}})
W = withdrawal()  # 52,000 sats with its largest fee


def limit(match: dict[str, Any] | None = None, **then: Any) -> Document:
    """Return a limit over a day that denies."""
    return rule("cap", "limit", match or {}, {"window": "day", "on_exceed": "deny", **then})


def judged(cap: Document, of: Case, **changes: Any) -> Decided:
    """Return the decision on `of` under `cap` and an allow for everything."""
    return decide(policy(ALLOW, cap, **changes), of)


def is_within(cap: Document, of: Case, **changes: Any) -> bool:
    """Return whether `of` fits the budget; a deny must be the budget's."""
    found = judged(cap, of, **changes)
    if isinstance(found, Deny):
        assert [refused.code for refused in found.refusals] == ["LIMIT_EXCEEDED"]
        return False
    assert isinstance(found, Allow)
    return True


def other(*payments: tuple[int, int], **changes: Any) -> Withdrawal:
    """Return another withdrawal."""
    return withdrawal(*payments, withdrawal_id="w-other", **changes)


def superseding(replaced: Withdrawal, *payments: tuple[int, int], **changes: Any) -> Withdrawal:
    """Return a withdrawal that replaces `replaced`."""
    relation = Relation(RelationKind.SUPERSEDES, (replaced.digest,))
    return withdrawal(*payments, withdrawal_id="w-next", relation=relation, **changes)


@pytest.mark.parametrize(
    ("then", "edge"),
    [({"max_sats": 104_000}, {"max_sats": 103_999}), ({"max_count": 2}, {"max_count": 1})],
)
def test_budget_given_one_family_before_holds_at_the_edge(then: dict[str, Any], edge: dict[str, Any]) -> None:
    """Exactly full is within, one more is not."""
    of = case(families=(family(other()),))

    assert is_within(limit(**then), of)
    assert not is_within(limit(**edge), of)


def test_budget_given_fees_counts_the_largest_fee_of_each_family() -> None:
    """What people approved to burn is what counts."""
    of = case(families=(family(other()),))

    assert is_within(limit(max_fee_sats=4_000), of)
    assert not is_within(limit(max_fee_sats=3_999), of)


@pytest.mark.parametrize(("age", "counts"), [(DAY - 1, True), (DAY, False), (DAY + 1, False)])
def test_budget_given_a_window_ages_by_lo(age: int, counts: bool) -> None:
    """A family leaves the window once lo is the window's length after its latest T, whatever a clock says."""
    of = case(families=(family(other(), t=NOW - age),), time=Interval(NOW, NOW + DAY // 2))

    assert is_within(limit(max_count=1), of) is not counts


def test_budget_given_a_lifetime_window_forgets_nothing() -> None:
    """Type lifetime never ages."""
    of = case(families=(family(other(), t=0),))

    assert not is_within(limit(window="ever", max_count=1), of)


def test_budget_given_its_own_family_counts_it_once() -> None:
    """A repeat and a fee bump of the same withdrawal are one spend."""
    again = case(families=(family(W, W),))

    assert is_within(limit(max_count=1), again)
    assert is_within(limit(max_sats=52_000), again)
    assert is_within(limit(max_fee_sats=2_000), again)


def test_budget_given_its_own_family_counts_its_largest() -> None:
    """A small successor of a large release still counts the large one: that one may yet confirm."""
    large = other((EXCHANGE, 90_000))
    small = superseding(large)
    of = case(small, family=large.digest, families=(family(large, small),))

    assert is_within(limit(max_sats=92_000), of)
    assert not is_within(limit(max_sats=91_999), of)


@pytest.mark.parametrize("age", [DAY - 1, DAY, DAY + 1, 10 * DAY])
def test_budget_given_its_own_family_long_ago_counts_it_now(age: int) -> None:
    """What is signed now is spent now, once, however old its first release is."""
    of = case(families=(family(W, t=NOW - age),))

    assert not is_within(limit(max_count=0), of)
    assert is_within(limit(max_count=1), of)


def test_budget_given_a_family_of_three_counts_its_largest_once() -> None:
    """Only one transaction of a family can confirm."""
    first = other((EXCHANGE, 10_000))
    second, third = superseding(first, (EXCHANGE, 30_000)), superseding(first, (EXCHANGE, 20_000))
    of = case(families=(family(first, second, third),))

    assert is_within(limit(max_sats=52_000 + 32_000), of)
    assert not is_within(limit(max_sats=52_000 + 31_999), of)


GROUPS: dict[str, tuple[str, Withdrawal, Withdrawal]] = {
    "wallet": ("wallet", other(), other(wallet_id=VAULT)),
    "initiator": ("initiator", other(), other(initiator="bob")),
    "org": ("org", other(initiator="bob"), other(initiator="dave")),
    "destination": ("destination", other((EXCHANGE, 1_000)), other((SUPPLIER, 1_000))),
}


@pytest.mark.parametrize("name", GROUPS)
def test_budget_given_group_by_counts_only_the_same_drawer(name: str) -> None:
    """A drawer is filled by its own kind alone."""
    group, same, different = GROUPS[name]
    cap = limit(max_count=1, group_by=[group])

    assert not is_within(cap, case(families=(family(same),)))
    assert is_within(cap, case(families=(family(different),)))


def test_budget_given_a_leaver_counts_in_every_org() -> None:
    """Who is no longer in the rules may have been of this org."""
    of = case(families=(family(other(initiator="zoe")),))

    assert not is_within(limit(max_count=1, group_by=["org"]), of)


def test_budget_given_destinations_judges_each_payee() -> None:
    """One full payee is enough, whichever stands first; each counts its own sats and the largest fee."""
    of = case(
        withdrawal((STRANGER, 1_000), (EXCHANGE, 40_000)), families=(family(other((EXCHANGE, 10_000), (SUPPLIER, 9))),)
    )

    assert is_within(limit(max_sats=54_000, group_by=["destination"]), of)
    assert not is_within(limit(max_sats=53_999, group_by=["destination"]), of)


def test_budget_given_one_payee_twice_adds_its_payments() -> None:
    """Two payments to one script in one withdrawal are one sum."""
    of = case(withdrawal((EXCHANGE, 40_000), (EXCHANGE, 20_000)))

    assert is_within(limit(max_sats=62_000, group_by=["destination"]), of)
    assert not is_within(limit(max_sats=61_999, group_by=["destination"]), of)


def test_budget_given_two_initiators_in_a_family_counts_each_by_their_own_largest() -> None:
    """An initiator's drawer holds that initiator's largest, not the family's."""
    first = other((EXCHANGE, 90_000), initiator="bob")
    second = superseding(first, (EXCHANGE, 10_000))
    of = case(families=(family(first, second),))

    assert is_within(limit(max_sats=52_000 + 12_000, group_by=["initiator"]), of)
    assert not is_within(limit(max_sats=52_000 + 11_999, group_by=["initiator"]), of)


def test_budget_given_an_org_that_somebody_left_counts_the_rest_of_his_family_above_him() -> None:
    """A family begun by a leaver and gone on by alice costs her org its largest, and every other org what he asked."""
    begun = other((EXCHANGE, 10_000), initiator="zoe")
    of = case(families=(family(begun, superseding(begun, (EXCHANGE, 30_000))),))
    others = case(withdrawal(initiator="dave"), families=of.families)
    by_org: dict[str, Any] = {"group_by": ["org"]}

    assert is_within(limit(max_sats=52_000 + 32_000, **by_org), of)
    assert not is_within(limit(max_sats=52_000 + 31_999, **by_org), of)
    assert is_within(limit(max_sats=52_000 + 12_000, **by_org), others)
    assert not is_within(limit(max_sats=52_000 + 11_999, **by_org), others)


def test_budget_given_a_match_counts_only_releases_it_speaks_of() -> None:
    """A cap on self-transfers counts self-transfers, and a cancel inside a paying family too."""
    cap = limit({"payments": "none"}, max_count=1)
    paid = other()
    cancelled = family(paid, superseding(paid, payments=()))

    assert is_within(cap, case(self_transfer(), families=(family(paid),)))
    assert not is_within(cap, case(self_transfer(), families=(cancelled,)))
    assert is_within(cap, case(families=(cancelled,)))


def test_budget_given_a_match_on_a_fact_the_log_lacks_counts_the_release() -> None:
    """Virtual size is in no RELEASE: what cannot be told apart is counted."""
    cap = limit({"shape": {"max_vbytes": 200}}, max_count=1)

    assert not is_within(cap, case(families=(family(other()),)))


def test_budget_given_on_exceed_require_asks_for_its_own_approvals() -> None:
    """Over the budget, these people lift it; within, nobody is asked."""
    cap = limit(max_count=0, on_exceed="require", approvals={"group": "security", "threshold": 1})

    asked = judged(cap, case())

    assert isinstance(asked, Need)
    assert [(m.rule, m.of) for m in asked.missing] == [("cap", "group security")]
    assert isinstance(judged(cap, case(W, "dave")), Allow)
    assert isinstance(
        judged(limit(max_count=1, on_exceed="require", approvals={"service": "screening"}), case()), Allow
    )


def test_budget_given_a_window_not_in_the_rules_denies() -> None:
    """A budget that cannot be counted is a no."""
    found = judged(limit(window="week", max_count=9), case())

    assert isinstance(found, Deny)
    assert found.refused.code == "WINDOW_UNKNOWN"


def test_budget_given_a_reason_code_says_it() -> None:
    """The rule's own code is what people see."""
    found = judged({**limit(max_count=0), "reason_code": "DAILY_CAP"}, case())

    assert isinstance(found, Deny)
    assert found.refused.code == "DAILY_CAP"


def test_families_of_given_releases_groups_them_with_the_latest_t() -> None:
    """One family per family digest, at the T of its latest release."""
    first, later = release(W), release(W)
    lone = release(other())

    found = families_of([(first, NOW - 5), (lone, NOW - 9), (later, NOW)])

    assert {f.family: f for f in found} == {
        W.digest: FamilySpend(W.digest, (first, later), NOW),
        lone.family: FamilySpend(lone.family, (lone,), NOW - 9),
    }


def test_longest_window_given_a_lifetime_is_for_ever() -> None:
    """How far back a judge must look."""
    windows = document()["windows"]

    assert longest_window_s(policy()) is None
    assert longest_window_s(policy(windows={"day": windows["day"]})) == DAY
    assert longest_window_s(policy(windows={})) == 0


def test_budget_given_families_in_any_order_counts_the_same() -> None:
    """A sum has no order."""
    families = tuple(family(withdrawal(withdrawal_id=f"w-{n}"), t=NOW - n) for n in range(2, 6))
    of = case(families=families)

    assert judged(limit(max_count=4), of) == judged(limit(max_count=4), replace(of, families=families[::-1]))


EVERY_LIMIT = [
    rule(f"{'-'.join(by) or 'all'}-{measure.replace('_', '-')}", "limit", {}, {**then, "group_by": by} if by else then)
    for by in ([], ["wallet"], ["initiator"], ["org"], ["destination"], ["org", "destination"])
    for measure in ("max_sats", "max_count", "max_fee_sats")
    for then in [{"window": "day", measure: 0, "on_exceed": "deny"}]
]


def history() -> list[tuple[Release, int]]:
    """Return releases of five families with their T: some released again, by others, to others, smaller and larger."""
    first = [withdrawal((EXCHANGE, 9_000 + n), withdrawal_id=f"w-{n}", initiator=who) for n, who in enumerate(WHO)]
    found = [(release(w), NOW - DAY - 3 + n) for n, w in enumerate(first)]
    for n, (payee, amount, who) in enumerate(
        [(SUPPLIER, 20_000, "dave"), (EXCHANGE, 500, "bob"), (STRANGER, 7, "zoe")]
    ):
        again = superseding(first[n], (payee, amount), initiator=who, max_fee_sats=3_000 - n)
        found.append((release(again, first[n].digest), NOW - 3 + n))
    found.insert(6, (release(superseding(first[4], payments=()), first[4].digest), NOW - 2 * DAY))
    return found


WHO = ("alice", "bob", "dave", "zoe", "alice")
AGAIN = ((SUPPLIER, 20_000, "dave"), (EXCHANGE, 500, "bob"), (STRANGER, 7, "zoe"))


def test_spent_given_releases_one_by_one_counts_what_all_at_once_count() -> None:
    """After each addition every drawer of every limit holds the same: over the window, at its edges, and for ever."""
    rules = policy(*EVERY_LIMIT)
    grown = Spent(rules)
    for at, (added, t) in enumerate(history(), 1):
        grown = grown.add(added, t)
        families = families_of(history()[:at])
        whole = Spent.of(rules, families)
        drawers = {drawer for block in (*whole.blocks, *grown.blocks) for drawer in block.columns}

        assert grown.families() == {found.family: found for found in families}
        assert Spent(policy(), grown.blocks).under(rules).families() == grown.families()
        for drawer in drawers:
            for since in (None, NOW - DAY - 1, NOW - DAY, NOW - DAY + 1, NOW - 1, NOW):
                assert grown.total(drawer, since) == whole.total(drawer, since), (at, drawer, since)
    assert [block.size for block in grown.blocks] == [8, 1]


def test_spent_given_the_same_rules_counts_nothing_anew() -> None:
    """Under other rules it is counted again from its families, under its own it is itself."""
    rules = policy(*EVERY_LIMIT)
    spent = Spent.of(rules, families_of(history()))
    other_rules = policy(*EVERY_LIMIT[:1])

    assert spent.under(policy(*EVERY_LIMIT)) is spent
    assert spent.under(other_rules) == Spent.of(other_rules, families_of(history()))
    assert Spent.of(rules, ()).blocks == ()


def test_subject_of_release_given_a_release_says_all_that_the_log_says() -> None:
    """Size, script types and what was replaced are in no RELEASE: they stay unknown."""
    asked = superseding(W, (EXCHANGE, 1), (SUPPLIER, 2))
    found = replace(release(asked), change=((7, Sats(5)), (8, Sats(6)), (9, Sats(7))))

    assert subject_of_release(found, NOW) == Subject(
        wallet_id=asked.wallet_id,
        initiator="alice",
        payments=found.payments,
        max_fee_sats=2_000,
        relation=RelationKind.SUPERSEDES,
        lo=NOW,
        hi=NOW,
        released=NOW,
        fee_sats=1_000,
        inputs=1,
        outputs=5,
        outpoints=frozenset(found.outpoints),
        change_outputs=3,
    )


def test_budget_given_a_match_on_the_hour_goes_by_the_latest_release_of_the_family() -> None:
    """A family is of the hour at which witnesses last saw it released."""
    cap = limit({"time": {"hours": [7]}}, max_count=0)
    first = other()
    of = case(t_release=NOW - 1, families=(family(first, t=NOW - 1),))

    assert not is_within(cap, of)
    assert is_within(cap, case(t_release=NOW))
    assert not is_within(limit({"time": {"hours": [7]}}, max_count=1), of)
    assert is_within(limit({"time": {"hours": [7]}}, max_count=1), replace(of, families=(family(first, t=NOW),)))
