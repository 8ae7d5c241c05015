"""Lint: a document it has nothing to say of, one slip, one finding."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from custody.policy.lint import KeyPlace, WalletKeys, lint
from custody.policy.places import wallet_keys
from tests.fakes.rules import (
    DAY,
    EXCHANGE,
    NOW,
    PAY,
    SUPPLIER,
    Document,
    address,
    document,
    list_entry,
    policy,
    rule,
)

CLEAN_KEYS = WalletKeys(
    "treasury",
    2,
    (KeyPlace("alpha", "acme", "h1"), KeyPlace("beta", "guard", "h2"), KeyPlace("cold", "vaulters", "h3")),
)
KEEP = rule("keep", "allow", {"payments": "none", "fee": {"max_sats": 9_000}})
KEEP_CAP = rule(
    "keep-cap", "limit", {"payments": "none"}, {"window": "day", "max_fee_sats": 9_000, "on_exceed": "deny"}
)
BOUND = {"amount": {"max_sats": 1}}


def require(then: dict[str, Any]) -> Document:
    """Return a require rule called r."""
    return rule("r", "require", {}, then)


def limit(**then: Any) -> Document:
    """Return a limit rule called r."""
    return rule("r", "limit", {}, {"max_count": 1, "on_exceed": "deny", **then})


SLIPS: dict[str, tuple[Document, str]] = {
    "an empty allow": (rule("r", "allow", {}), "ALLOW_EMPTY"),
    "an allow without a bound": (rule("r", "allow", {"initiator": {"groups": ["ops"]}}), "ALLOW_UNBOUNDED"),
    "an allow with a least amount": (rule("r", "allow", {"amount": {"min_sats": 1}}), "ALLOW_UNBOUNDED"),
    "an allow to any listed payee": (
        rule("r", "allow", {"destination": {"lists": ["exchanges"], "quantifier": "any"}}),
        "ALLOW_UNBOUNDED",
    ),
    "an allow of one bounded branch": (
        rule("r", "allow", {"any_of": [BOUND, {"wallet": {"names": ["vault"]}}]}),
        "ALLOW_UNBOUNDED",
    ),
    "a dead wallet": (rule("r", "deny", {"wallet": {"names": ["gone"]}}), "REFERENCE_DEAD"),
    "a dead class": (rule("r", "deny", {"wallet": {"classes": ["gone"]}}), "REFERENCE_DEAD"),
    "a dead list": (rule("r", "deny", {"not": {"destination": {"lists": ["gone"]}}}), "REFERENCE_DEAD"),
    "a dead user": (rule("r", "deny", {"initiator": {"users": ["gone"]}}), "REFERENCE_DEAD"),
    "a dead group": (rule("r", "deny", {"any_of": [{"initiator": {"groups": ["gone"]}}]}), "REFERENCE_DEAD"),
    "a dead service": (rule("r", "deny", {"initiator": {"services": ["gone"]}}), "REFERENCE_DEAD"),
    "a dead window": (limit(window="gone"), "REFERENCE_DEAD"),
    "a dead approving group": (require({"approvals": {"group": "gone", "threshold": 1}}), "REFERENCE_DEAD"),
    "a dead approving service": (require({"approvals": {"service": "gone"}}), "REFERENCE_DEAD"),
    "a dead lifting group": (
        limit(window="day", on_exceed="require", approvals={"group": "gone", "threshold": 1}),
        "REFERENCE_DEAD",
    ),
    "a dead node": (require({"signers": {"include": ["gone"]}}), "REFERENCE_DEAD"),
    "a dead vetoing group": (
        require({"delay": {"seconds": 1, "veto": {"group": "gone", "threshold": 1}}}),
        "REFERENCE_DEAD",
    ),
    "a group too small": (require({"approvals": {"group": "security", "threshold": 3}}), "THRESHOLD_UNREACHABLE"),
    "a group too small in sight": (require({"approvals": {"group": "ops", "threshold": 4}}), "THRESHOLD_UNREACHABLE"),
    "more cold nodes than there are": (require({"signers": {"min_offline": 2}}), "THRESHOLD_UNREACHABLE"),
    "a cold node kept out": (
        require({"signers": {"min_offline": 1, "exclude": ["cold"]}}),
        "THRESHOLD_UNREACHABLE",
    ),
    "vetoes nobody can give": (
        require({"delay": {"seconds": 1, "veto": {"group": "security", "threshold": 3}}}),
        "THRESHOLD_UNREACHABLE",
    ),
    "a rule of the past": (rule("r", "deny", BOUND, expires_at=NOW - DAY), "RULE_DEAD"),
    "a rule of a time after all": (rule("r", "deny", BOUND, not_before=NOW + 31 * DAY), "RULE_DEAD"),
    "a rule that ends before it begins": (
        rule("r", "deny", BOUND, not_before=NOW + 9, expires_at=NOW + 9),
        "RULE_DEAD",
    ),
    "no such amount": (rule("r", "deny", {"amount": {"min_sats": 2}, "all_of": [BOUND]}), "RULE_DEAD"),
    "no such fee": (rule("r", "deny", {"fee": {"min_sat_vb": 9}, "all_of": [{"fee": {"max_sat_vb": 8}}]}), "RULE_DEAD"),
    "a payee of nobody": (
        rule("r", "deny", {"payments": "none", "destination": {"lists": ["exchanges"]}}),
        "RULE_DEAD",
    ),
    "a thing and its opposite": (rule("r", "deny", {"payments": "none", "not": {"payments": "none"}}), "RULE_DEAD"),
    "a wallet of another class": (rule("r", "deny", {"wallet": {"names": ["vault"], "classes": ["hot"]}}), "RULE_DEAD"),
    "somebody of another group": (
        rule("r", "deny", {"initiator": {"users": ["alice"]}, "all_of": [{"initiator": {"groups": ["admins"]}}]}),
        "RULE_DEAD",
    ),
    "two days at once": (
        rule("r", "deny", {"time": {"days": ["mon"]}, "all_of": [{"time": {"days": ["tue"]}}]}),
        "RULE_DEAD",
    ),
    "two hours at once": (
        rule("r", "deny", {"time": {"hours": [1]}, "all_of": [{"time": {"hours": [2]}}]}),
        "RULE_DEAD",
    ),
    "two relations at once": (
        rule("r", "deny", {"relation": {"kinds": ["new"]}, "all_of": [{"relation": {"kinds": ["supersedes"]}}]}),
        "RULE_DEAD",
    ),
    "an allow inside a narrower one": (rule("r", "allow", {**PAY["match"], **BOUND}), "RULE_REDUNDANT"),
    "orgs too few": (
        require({"approvals": {"group": "ops", "threshold": 2, "distinct_orgs": True}}),
        "THRESHOLD_UNREACHABLE",
    ),
    "keys bound to no device": (
        require({"approvals": {"group": "ops", "threshold": 1, "device_bound": True}}),
        "THRESHOLD_UNREACHABLE",
    ),
    "a session": (rule("r", "deny", {"not": {"session": {"factors": ["otp"]}}}), "COORDINATOR_ONLY"),
    "a chain": (rule("r", "require", {"not": {"min_confirmations": 6}}, {"local_conf": True}), "COORDINATOR_ONLY"),
    "an unbounded fee": (rule("r", "allow", {"payments": "none"}), "FEE_UNBOUNDED"),
}


def found_codes(*rules: Document, **changes: Any) -> set[tuple[str, str]]:
    """Return (code, where) of every finding."""
    return {(finding.code, finding.where) for finding in lint(policy(*rules, **changes), [CLEAN_KEYS])}


def test_lint_given_a_sound_document_says_nothing() -> None:
    """No finding without a slip."""
    sound = [
        PAY,
        KEEP,
        KEEP_CAP,
        require({"approvals": {"group": "ops", "threshold": 3}, "signers": {"min_offline": 1}}),
        rule("b", "allow", {"any_of": [BOUND, {"destination": {"lists": ["exchanges"]}}]}),
    ]

    assert lint(policy(*sound), [CLEAN_KEYS]) == ()


@pytest.mark.parametrize("name", SLIPS)
def test_lint_given_one_slip_finds_it(name: str) -> None:
    """A sound document with one slip has that finding, at that rule."""
    slip, code = SLIPS[name]

    assert (code, "r") in found_codes(PAY, slip)


def test_lint_given_a_self_transfer_rule_without_a_fee_budget_finds_it() -> None:
    """Fee-only transactions in a loop are bounded by a budget or not at all; a shadow one is none."""
    shadow_cap = {**KEEP_CAP, "mode": "shadow"}
    other_cap = {**KEEP_CAP, "match": {"not": {"payments": "none"}}}

    assert ("FEE_BUDGET_MISSING", "keep") in found_codes(PAY, KEEP)
    assert ("FEE_BUDGET_MISSING", "keep") in found_codes(PAY, KEEP, shadow_cap)
    assert ("FEE_BUDGET_MISSING", "keep") in found_codes(PAY, KEEP, other_cap)
    assert found_codes(PAY, KEEP, KEEP_CAP) == set()


def principals(change: Callable[[Document], None]) -> Document:
    """Return the principals after `change` of bob."""
    found = copy.deepcopy(document()["principals"])
    change(found["users"][1])
    return {"principals": found}


def test_lint_given_an_expired_principal_finds_it_and_what_it_leaves_short() -> None:
    """Whoever is out of date counts in no threshold."""
    changes = principals(lambda bob: bob.update(valid_until=NOW - 2 * DAY))

    found = found_codes(PAY, require({"approvals": {"group": "security", "threshold": 2}}), **changes)

    assert found == {("PRINCIPAL_EXPIRED", "bob"), ("THRESHOLD_UNREACHABLE", "r")}


def test_lint_given_now_asks_who_counts_then() -> None:
    """The same document, a year later."""
    findings = lint(policy(), [CLEAN_KEYS], now=NOW + 366 * DAY)

    assert {finding.code for finding in findings} == {"PRINCIPAL_EXPIRED", "THRESHOLD_UNREACHABLE"}


def test_lint_given_a_principal_without_a_key_finds_it() -> None:
    """A name without a key can sign nothing."""
    changes = principals(lambda bob: bob.update(credentials=[]))

    assert found_codes(PAY, **changes) == {("PRINCIPAL_WITHOUT_KEY", "bob")}


@pytest.mark.parametrize(
    ("block", "value", "where"),
    [
        ("change_quorum", {"groups": ["admins"], "threshold": 3, "exclude_author": True}, "admin.change_quorum"),
        ("freeze", {"groups": ["security"], "threshold": 3}, "admin.freeze"),
        ("unfreeze", {"groups": ["admins"], "threshold": 4}, "admin.unfreeze"),
    ],
)
def test_lint_given_a_quorum_nobody_can_reach_finds_it(block: str, value: Document, where: str) -> None:
    """An author who is not counted makes the change quorum one larger."""
    admin = {**document()["admin"], block: value}

    assert found_codes(PAY, admin=admin) == {("THRESHOLD_UNREACHABLE", where)}


def test_lint_given_a_quorum_of_a_dead_group_finds_it() -> None:
    """A quorum of nobody is a document that nobody can replace."""
    admin = {**document()["admin"], "unfreeze": {"groups": ["gone", "admins"], "threshold": 1}}

    assert found_codes(PAY, admin=admin) == {("REFERENCE_DEAD", "admin.unfreeze")}


ALPHA, BETA, COLD = CLEAN_KEYS.places
PLACES: dict[str, tuple[tuple[KeyPlace, ...], str]] = {
    "one org": ((ALPHA, KeyPlace("beta", "acme", "h2"), COLD), "ORG_ALONE"),
    "one host": ((ALPHA, KeyPlace("beta", "guard", "h1"), COLD), "HOST_ALONE"),
    "one vault": (
        (replace(ALPHA, vault="v1"), replace(BETA, vault="v1"), COLD),
        "VAULT_ALONE",
    ),
    "no judges": ((ALPHA, KeyPlace(None, "guard", "h2"), KeyPlace(None, "vaulters", "h3")), "KEYS_WITHOUT_JUDGE"),
}


@pytest.mark.parametrize("name", PLACES)
def test_lint_given_m_keys_in_one_place_finds_it(name: str) -> None:
    """An org, a host or keys without a judge must not reach m alone."""
    places, code = PLACES[name]

    findings = lint(policy(), [WalletKeys("treasury", 2, places)])

    assert [(finding.code, finding.where) for finding in findings] == [(code, "treasury")]


@pytest.mark.parametrize(
    ("then", "code"),
    [
        ({"include": ["alpha", "beta"], "min_offline": 1}, "SIGNERS_ABOVE_M"),
        ({"include": ["alpha", "cold"], "min_offline": 1}, None),
        ({"exclude": ["alpha", "beta"]}, "SIGNERS_TOO_FEW"),
        ({"exclude": ["alpha"]}, None),
    ],
)
def test_lint_given_signers_that_do_not_fit_m_finds_it(then: Document, code: str | None) -> None:
    """What rules require together must fit into m, and must leave m."""
    found = {finding.code for finding in lint(policy(PAY, require({"signers": then})), [CLEAN_KEYS])}

    assert found == ({code} if code else set())


def test_lint_given_a_declared_key_counts_it_among_the_signers_that_are_left() -> None:
    """A key without a judge can still sign where a node is kept out."""
    places = (ALPHA, BETA, KeyPlace(None, "vaulters", "h3"))
    rules = policy(PAY, require({"signers": {"exclude": ["alpha"]}}))

    assert lint(rules, [WalletKeys("treasury", 2, places)]) == ()


def test_lint_given_an_author_who_counts_needs_no_one_more() -> None:
    """Without exclude_author a quorum of three is within reach of three admins."""
    change = {"groups": ["admins"], "threshold": 3, "exclude_author": False}

    assert found_codes(PAY, admin={**document()["admin"], "change_quorum": change}) == set()


def test_lint_given_an_allow_that_a_deny_always_outdoes_finds_it() -> None:
    """A deny wins: an allow inside it is dead, one beside it is not."""
    no_vault = rule("no-vault", "deny", {"wallet": {"names": ["vault"]}})
    vault = rule("v", "allow", {"wallet": {"names": ["vault"]}, "amount": {"max_sats": 9}})

    assert found_codes(PAY, no_vault, vault) == {("RULE_DEAD", "v")}
    assert found_codes(PAY, {**no_vault, "mode": "shadow"}, vault) == set()
    assert found_codes(PAY, {**no_vault, "expires_at": NOW + DAY}, vault) == set()


def test_lint_given_a_list_that_nobody_stands_on_any_more_finds_it() -> None:
    """An allow to payees of the past allows nothing; with an address of its own it does."""
    lists = [{"name": "exchanges", "entries": [list_entry(EXCHANGE, expires_at=NOW - DAY)]}]
    to_list = rule("r", "allow", {"destination": {"lists": ["exchanges"]}})
    to_both = rule("r", "allow", {"destination": {"lists": ["exchanges"], "addresses": [address(SUPPLIER)]}})

    assert found_codes(PAY, to_list, lists=lists) == {("RULE_DEAD", "r")}
    assert found_codes(PAY, to_both, lists=lists) == set()


def test_lint_given_twice_the_same_rule_finds_the_second() -> None:
    """Of two equals one is enough."""
    assert found_codes(PAY, {**PAY, "id": "pay-2"}) == {("RULE_REDUNDANT", "pay-2")}


def test_lint_given_a_message_rule_asks_for_no_amount() -> None:
    """What costs nothing needs no bound, and no fee budget."""
    speak = rule("speak", "allow", {"initiator": {"groups": ["ops"]}}, operations=["message"])

    assert found_codes(PAY, speak) == set()


def test_wallet_keys_given_the_rules_say_where_each_key_stands() -> None:
    """A node by its place in the rules, a declared key by the org of whoever answers for it."""
    roots = document()["roots"]
    roots["nodes"][0].update(org="acme", vault="v1")

    keys = wallet_keys(policy(roots=roots), "treasury", 2, [("alpha", None), ("beta", None), (None, "grace")])

    assert keys.places == (
        KeyPlace("alpha", "acme", "host-alpha", "v1"),
        KeyPlace("beta", "", "host-beta"),
        KeyPlace(None, "guard", ""),
    )
