"""What lint says, word for word: its readers have no other hint of what they wrote."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from custody.decide import decide
from custody.policy.explain import explain
from custody.policy.finding import Finding
from custody.policy.lint import WalletKeys, lint
from custody.policy.places import KeyPlace, wallet_keys
from custody.policy.simulate import Change, changes, simulate
from tests.fakes.rules import DAY, EXCHANGE, NOW, PAY, Document, case, document, policy, release, rule, withdrawal
from tests.unit.test_policy_lint import ALPHA, CLEAN_KEYS, KEEP, KEEP_CAP, PLACES, SLIPS, principals, require
from tests.unit.test_policy_simulate import HISTORY, SMALL, TWO, past, told

SAID: dict[str, str] = {
    "an empty allow": "an allow without a match permits everything",
    "an allow without a bound": "an allow needs a largest amount, listed payees, or no payees",
    "an allow with a least amount": "an allow needs a largest amount, listed payees, or no payees",
    "an allow to any listed payee": "an allow needs a largest amount, listed payees, or no payees",
    "an allow of one bounded branch": "an allow needs a largest amount, listed payees, or no payees",
    "a dead wallet": "no wallet gone in this document",
    "a dead class": "no wallet class gone in this document",
    "a dead list": "no list gone in this document",
    "a dead user": "no user gone in this document",
    "a dead group": "no group gone in this document",
    "a dead service": "no service gone in this document",
    "a dead window": "no window gone in this document",
    "a dead approving group": "no group gone in this document",
    "a dead approving service": "no service gone in this document",
    "a dead lifting group": "no group gone in this document",
    "a dead node": "no node gone in this document",
    "a dead vetoing group": "no group gone in this document",
    "a group too small": "group security has 2 who can give 3",
    "a group too small in sight": "group ops has 3 who can give 4",
    "more cold nodes than there are": "1 offline nodes can sign of 2",
    "a cold node kept out": "0 offline nodes can sign of 1",
    "vetoes nobody can give": "2 people can act where 3 must",
    "a rule of the past": "it expired at 1799913600",
    "a rule of a time after all": "it begins at 1802678400, when it has ended",
    "a rule that ends before it begins": "it begins at 1800000009, when it has ended",
    "no such amount": "no amount is at least 2 and at most 1",
    "no such fee": "no fee is at least 9 and at most 8 sat/vB",
    "a payee of nobody": "it asks for a payee where nobody is paid",
    "a thing and its opposite": "it asks for something and its opposite",
    "a wallet of another class": "no wallet of the rules fits",
    "somebody of another group": "nobody who is valid fits",
    "two days at once": "no day fits",
    "two hours at once": "no hour fits",
    "two relations at once": "no relation fits",
    "an allow inside a narrower one": "pay says it already",
    "orgs too few": "group ops has 1 who can give 2",
    "keys bound to no device": "group ops has 0 who can give 1",
    "a session": "signers skip it whole: they cannot judge session",
    "a chain": "signers skip it whole: they cannot judge min_confirmations",
    "an unbounded fee": "an allow where nobody is paid needs fee.max_sats",
}
OF_PLACES: dict[str, str] = {
    "one org": "org acme holds 2 keys where 2 sign",
    "one host": "host h1 holds 2 keys where 2 sign",
    "one vault": "vault v1 holds 2 keys where 2 sign",
    "no judges": "2 keys without a judge reach 2",
}


@pytest.mark.parametrize("name", SAID)
def test_lint_given_one_slip_says_what_it_is(name: str) -> None:
    """One finding of that code at that rule, word for word."""
    slip, code = SLIPS[name]

    found = [
        finding for finding in lint(policy(PAY, slip), [CLEAN_KEYS]) if (finding.where, finding.code) == ("r", code)
    ]

    assert found == [Finding(code, "r", SAID[name])]


@pytest.mark.parametrize("name", OF_PLACES)
def test_lint_given_m_keys_in_one_place_says_where(name: str) -> None:
    """Which org, host or cluster it is, and how many keys it holds."""
    places, code = PLACES[name]

    assert lint(policy(), [WalletKeys("treasury", 2, places)]) == (Finding(code, "treasury", OF_PLACES[name]),)


def said_of(*rules: Document, now: int | None = None, **changes_: Any) -> list[tuple[str, str, str]]:
    """Return (where, code, message) of every finding."""
    found = lint(policy(*rules, **changes_), [CLEAN_KEYS], now)
    return [(finding.where, finding.code, finding.message) for finding in found]


def test_lint_given_slips_of_the_whole_document_says_what_they_are() -> None:
    """Fee budgets, signers that do not fit, people, quorums, and rules that another one outdoes."""
    assert said_of(PAY, KEEP) == [("keep", "FEE_BUDGET_MISSING", "no limit with max_fee_sats speaks of payments: none")]
    assert said_of(PAY, require({"signers": {"include": ["alpha", "beta"], "min_offline": 1}})) == [
        ("treasury", "SIGNERS_ABOVE_M", "rules ask 3 signers of a wallet of 2")
    ]
    assert said_of(PAY, require({"signers": {"exclude": ["alpha", "beta"]}})) == [
        ("treasury", "SIGNERS_TOO_FEW", "exclusions leave fewer than 2 signers")
    ]
    assert said_of(PAY, **principals(lambda bob: bob.update(credentials=[]))) == [
        ("bob", "PRINCIPAL_WITHOUT_KEY", "has no credential and can sign nothing")
    ]
    no_vault = rule("no-vault", "deny", {"wallet": {"names": ["vault"]}})
    vault = rule("v", "allow", {"wallet": {"names": ["vault"]}, "amount": {"max_sats": 9}})
    assert said_of(PAY, no_vault, vault) == [("v", "RULE_DEAD", "whatever it allows, no-vault denies")]
    assert said_of(PAY, {**PAY, "id": "pay-2"}) == [("pay-2", "RULE_REDUNDANT", "pay says it already")]


def test_lint_given_quorums_that_nobody_reaches_says_how_many_there_are() -> None:
    """Each quorum by its name; a dead group beside what it leaves; orgs where they must differ."""
    admin = {
        **document()["admin"],
        "change_quorum": {"groups": ["admins"], "threshold": 3, "exclude_author": True},
        "freeze": {"groups": ["security", "gone"], "threshold": 4},
        "unfreeze": {"groups": ["admins"], "threshold": 4},
        "list_quorum": {"groups": ["ops"], "threshold": 2, "exclude_author": False, "distinct_orgs": True},
    }

    assert said_of(PAY, admin=admin) == [
        ("admin.change_quorum", "THRESHOLD_UNREACHABLE", "3 people can act where 4 must"),
        ("admin.freeze", "REFERENCE_DEAD", "no group gone in this document"),
        ("admin.freeze", "THRESHOLD_UNREACHABLE", "2 people can act where 4 must"),
        ("admin.list_quorum", "THRESHOLD_UNREACHABLE", "people of 1 orgs can act where 2 must"),
        ("admin.unfreeze", "THRESHOLD_UNREACHABLE", "3 people can act where 4 must"),
    ]


@pytest.mark.parametrize(("at", "ends"), [(NOW - 1, []), (NOW, ["PRINCIPAL_EXPIRED"])])
def test_lint_given_the_last_second_of_somebody_tells_it_then(at: int, ends: list[str]) -> None:
    """A person counts until the second before `valid_until`, for thresholds too."""
    leaving = principals(lambda bob: bob.update(valid_until=NOW))
    both_needed = require({"approvals": {"group": "security", "threshold": 2}})

    codes = [code for _, code, _ in said_of(PAY, both_needed, now=at, **leaving)]

    assert codes == [*ends, *(["THRESHOLD_UNREACHABLE"] if ends else [])]


def test_lint_given_a_rule_that_two_kinds_of_amounts_bound_keeps_them_apart() -> None:
    """At least so much without the fee and at most so much with it can both be true; of one kind they cannot."""
    apart = {"amount": {"min_sats": 2, "include_fee": False}, "all_of": [{"amount": {"max_sats": 1}}]}
    alike = {
        "amount": {"min_sats": 2, "include_fee": False},
        "all_of": [{"amount": {"max_sats": 1, "include_fee": False}}],
    }

    assert said_of(PAY, rule("r", "deny", apart)) == []
    assert said_of(PAY, rule("r", "deny", alike)) == [("r", "RULE_DEAD", "no amount is at least 2 and at most 1")]


def test_lint_given_shadows_and_the_rule_itself_outdoes_nothing() -> None:
    """Only another rule that is enforced makes one dead or redundant."""
    assert said_of({**PAY, "mode": "shadow"}, {**PAY, "id": "pay-2"}) == []
    assert said_of(PAY, {**PAY, "id": "a-shadow", "mode": "shadow"}) == []


def test_lint_given_a_fee_budget_of_any_branch_takes_it() -> None:
    """A budget speaks of self-transfers where any of its branches may, and not where all of them pay somebody."""
    to_list = {"destination": {"lists": ["exchanges"]}}
    may = {**KEEP_CAP, "match": {"any_of": [to_list, {"payments": "none"}]}}
    may_not = {**KEEP_CAP, "match": {"any_of": [to_list, {"not": {"payments": "none"}}]}}

    assert said_of(PAY, KEEP, may) == []
    assert [code for _, code, _ in said_of(PAY, KEEP, may_not)] == ["FEE_BUDGET_MISSING"]


def test_wallet_keys_given_a_wallet_names_it_and_its_threshold() -> None:
    """What lint says of places, it says of this wallet."""
    keys = wallet_keys(policy(), "treasury", 2, [("alpha", None), (None, "grace"), (None, None)])

    assert keys == WalletKeys(
        "treasury", 2, (KeyPlace("alpha", "", "host-alpha"), KeyPlace(None, "guard", ""), KeyPlace(None, "", ""))
    )
    assert replace(ALPHA, vault="v") != ALPHA


def test_explain_given_each_verdict_says_it_in_its_first_word() -> None:
    """ALLOW, NEED or DENY; who could give what is missing, or that nobody could."""
    alone = require({"approvals": {"group": "bots", "threshold": 1}})

    assert explain(decide(policy(), case()))[0].startswith("ALLOW under rules ")
    assert explain(decide(policy(rules=[]), case()))[0].startswith("DENY under rules ")
    needed = explain(decide(policy(PAY, alone), case()))
    assert needed[0].startswith("NEED approvals under rules ")
    assert "  rule r needs 1 more of group bots (have: none yet; could: nobody in the rules)" in needed
    two = require({"approvals": {"group": "ops", "threshold": 3}})
    assert "  rule r needs 1 more of group ops (have: bob, carol; could: nobody in the rules)" in explain(
        decide(policy(PAY, two), case(withdrawal(), "bob", "carol"))
    )
    typed = explain(decide(policy(PAY, require({"local_conf": True})), case()))
    assert "  a code is typed at each signer" in typed


def test_simulate_given_a_release_tells_whose_it_was_and_what_it_paid() -> None:
    """Digest, id, initiator, T and the sum with its largest fee, under each version."""
    found = told()["small"]

    assert (found.withdrawal_digest, found.withdrawal_id) == (SMALL.withdrawal.digest, "small")
    assert (found.initiator, found.t, found.amount_sats) == ("alice", NOW - 100, 52_000)
    at_the_edge = simulate(policy(), policy(), HISTORY, {}, NOW - 100)
    assert [each.withdrawal_id for each in at_the_edge] == ["small", "large", "agreed"]
    assert len(simulate(policy(), policy(), [past(withdrawal(), t=0)], {})) == 1


def test_simulate_given_a_second_transaction_of_a_family_counts_and_measures_it_as_one() -> None:
    """A bump fills no budget twice, and its fee is held against those of the family's other transactions."""
    asked = withdrawal((EXCHANGE, 50_000))
    first = past(asked, t=NOW - 9, fee_sats=1_000, txid=bytes([1]) * 32)
    bump = past(asked, t=NOW - 8, fee_sats=1_500, txid=bytes([2]) * 32)
    once = rule("once", "limit", {}, {"window": "day", "max_count": 1, "on_exceed": "deny"})
    dear = rule("dear", "deny", {"not": {"replacement": {"max_fee_increase": 499}}})
    fair = rule("fair", "deny", {"not": {"replacement": {"max_fee_increase": 500}}})

    def denied(*rules: Document) -> list[tuple[str, ...]]:
        return [each.draft.because for each in simulate(policy(), policy(PAY, *rules), [first, bump], {})]

    assert denied(once) == [(), ()]
    assert denied(dear) == [(), ("dear",)]
    assert denied(fair) == [(), ()]
    assert release(asked).family == asked.digest


def test_changes_given_several_rows_puts_the_most_frequent_first() -> None:
    """Then by what they say; the sums are of the releases in the row."""
    large = rule("large", "deny", {"amount": {"min_sats": 90_000}})
    small = rule("small", "deny", {"amount": {"max_sats": 85_000}})

    assert changes(tuple(told(large, small).values())) == (
        Change("allowed", "denied", "small", 2, 134_000),
        Change("allowed", "denied", "large", 1, 92_000),
    )
    tied = changes(tuple(told(TWO, rule("none", "deny", {"amount": {"max_sats": 60_000}})).values()))
    assert [row.by for row in tied] == ["none", "two"]


def test_dead_rules_given_dates_at_their_edges_are_told_then() -> None:
    """Over at the second of its end; begun a second before the end of the rules it is alive."""
    ended = rule("r", "deny", {"payments": "none"}, expires_at=NOW)
    late = rule("r", "deny", {"payments": "none"}, not_before=NOW + 30 * DAY)

    assert said_of(PAY, ended, now=NOW - 1) == []
    assert said_of(PAY, ended, now=NOW) == [("r", "RULE_DEAD", f"it expired at {NOW}")]
    assert said_of(PAY, late) == [("r", "RULE_DEAD", f"it begins at {NOW + 30 * DAY}, when it has ended")]
    assert said_of(PAY, {**late, "not_before": NOW + 30 * DAY - 1}) == []
