"""What tightens, what loosens, what says nothing: each sentence of protocol.md "Rules, freeze" with one change."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from custody.policy import parse_policy
from custody.policy.diff import Change, Diff, Verdict, diff
from custody.policy.duties import Budget, Measure
from tests.fakes.rules import (
    DAY,
    EXCHANGE,
    NOW,
    SUPPLIER,
    Document,
    document,
    key_of,
    list_entry,
    policy,
    principal,
    rule,
)

TIGHTENS, LOOSENS, NEUTRAL = Verdict.TIGHTENS, Verdict.LOOSENS, Verdict.NEUTRAL
OPS = {"initiator": {"groups": ["ops"]}}
TWO_OF_OPS = {"group": "ops", "threshold": 2, "blind": True, "seen": 1}
RULES = (
    rule("pay", "allow", {**OPS, "destination": {"lists": ["exchanges"]}, "amount": {"max_sats": 500_000}}),
    rule("never", "deny", {"amount": {"min_sats": 900_000}}),
    rule(
        "two",
        "require",
        {"amount": {"min_sats": 10_000}},
        {
            "approvals": {
                "all_of": [{"group": "ops", "threshold": 2, "blind": True, "seen": 1}, {"service": "screening"}]
            },
            "delay": {"seconds": 60, "veto": {"group": "security", "threshold": 1}},
            "signers": {"exclude": ["alpha"], "min_offline": 1},
        },
    ),
    rule("cap", "limit", {}, {"window": "day", "max_sats": 1_000_000, "on_exceed": "deny"}),
    rule("tried", "deny", {"amount": {"min_sats": 5}}, mode="shadow"),
)


def changed(edit: Callable[[Document], object], old: Document | None = None) -> Diff:
    """Return what `edit` does to the rules."""
    before = document(*RULES) if old is None else old
    after = copy.deepcopy(before)
    after["version"], after["prev_hash"] = 2, "11" * 32
    edit(after)
    return diff(parse_policy(before), parse_policy(after))


def rules_of(found: Document) -> dict[str, Any]:
    """Return the rules by id, to be edited in place."""
    return {item["id"]: item for item in found["rules"]}


def user(found: Document, name: str) -> dict[str, Any]:
    """Return one user, to be edited in place."""
    return next(item for item in found["principals"]["users"] if item["name"] == name)


def drop(found: Document, name: str) -> None:
    """Take one rule out."""
    found["rules"] = [item for item in found["rules"] if item["id"] != name]


def both(first: Callable[[Document], object], second: Callable[[Document], object]) -> Callable[[Document], object]:
    """Return an edit that is two edits."""

    def edit(found: Document) -> None:
        first(found)
        second(found)

    return edit


def without(name: str) -> Callable[[Document], object]:
    """Return an edit that drops one rule."""
    return lambda found: drop(found, name)


def put(path: str, value: object) -> Callable[[Document], object]:
    """Return an edit that sets the value at a dotted path."""

    def edit(found: Any) -> None:
        *way, last = path.split(".")
        for key in way:
            found = found[int(key)] if key.isdigit() else found[key]
        found[int(last) if last.isdigit() else last] = value

    return edit


def in_rule(name: str, path: str, value: object) -> Callable[[Document], object]:
    """Return an edit of one rule."""
    return lambda found: put(path, value)(rules_of(found)[name])


CASES: Mapping[str, tuple[Verdict, str, Callable[[Document], object]]] = {
    "nothing": (NEUTRAL, "", lambda found: None),
    "a later start": (NEUTRAL, "effective_from", put("effective_from", NOW)),
    "an earlier start": (LOOSENS, "effective_from", put("effective_from", NOW - 2 * DAY)),
    "an earlier end": (TIGHTENS, "not_after", put("not_after", NOW + DAY)),
    "a later end": (LOOSENS, "not_after", put("not_after", NOW + 40 * DAY)),
    "another name of the rules": (LOOSENS, "policy_id", put("policy_id", "other")),
    # whoever may ask, approve, freeze, veto, reject or administer
    "one more user": (LOOSENS, "users.zoe", lambda f: f["principals"]["users"].append(principal("zoe", "acme", []))),
    "one user less": (LOOSENS, "users.alice", lambda f: f["principals"]["users"].remove(user(f, "alice"))),
    "one service less": (LOOSENS, "services.payroll", lambda f: f["principals"]["services"].pop()),
    "an asker's end": (TIGHTENS, "users.alice.valid_until", lambda f: user(f, "alice").update(valid_until=NOW)),
    "an asker's later end": (
        LOOSENS,
        "users.alice.valid_until",
        lambda f: user(f, "alice").update(valid_until=NOW + 900 * DAY),
    ),
    "a freezer's end": (LOOSENS, "users.dave.valid_until", lambda f: user(f, "dave").update(valid_until=NOW)),
    "an admin's end": (LOOSENS, "users.erin.valid_until", lambda f: user(f, "erin").update(valid_until=NOW)),
    "out of a group of approvers": (TIGHTENS, "users.bob.groups", lambda f: user(f, "bob")["groups"].remove("ops")),
    "out of the freezers": (LOOSENS, "users.bob.groups", lambda f: user(f, "bob")["groups"].remove("security")),
    "out of the admins": (LOOSENS, "users.erin.groups", lambda f: user(f, "erin")["groups"].clear()),
    "into a group": (LOOSENS, "users.dave.groups", lambda f: user(f, "dave")["groups"].append("ops")),
    "another order of groups": (NEUTRAL, "", lambda f: user(f, "bob")["groups"].reverse()),
    "another organisation": (LOOSENS, "users.bob.org", lambda f: user(f, "bob").update(org="guard")),
    "one more key": (
        LOOSENS,
        "users.bob.credentials",
        lambda f: user(f, "bob")["credentials"].append({"alg": "ed25519", "key": key_of("new").hex(), "seen": True}),
    ),
    "a key less": (LOOSENS, "users.bob.credentials", lambda f: user(f, "bob")["credentials"].clear()),
    "a key no longer seen": (
        TIGHTENS,
        "users.alice.credentials",
        lambda f: user(f, "alice")["credentials"][0].update(seen=False),
    ),
    "an admin's key no longer seen": (
        LOOSENS,
        "users.erin.credentials",
        lambda f: user(f, "erin")["credentials"][0].update(seen=False),
    ),
    "a key now seen": (
        LOOSENS,
        "users.blind-ben.credentials",
        lambda f: user(f, "blind-ben")["credentials"][0].update(seen=True),
    ),
    "one more group": (NEUTRAL, "groups.new", lambda f: f["principals"]["groups"].append("new")),
    # log, witness and node keys, RP ids, origins
    "log key": (LOOSENS, "roots.log_key", put("roots.log_key", key_of("log2").hex())),
    "another witness": (LOOSENS, "roots.witnesses", put("roots.witnesses.0.key", key_of("w2").hex())),
    "one node witnessing": (
        LOOSENS,
        "roots.nodes",
        put("roots.nodes.0.witness_key", key_of("witness").hex()),
    ),
    "a node's identity": (LOOSENS, "roots.nodes", put("roots.nodes.0.identity", key_of("alpha2").hex())),
    "a node's place": (LOOSENS, "roots.nodes", put("roots.nodes.0.location", "offline")),
    "one node less": (LOOSENS, "roots.nodes", lambda f: f["roots"]["nodes"].pop()),
    "RP ids": (LOOSENS, "roots.rp_ids", put("roots.rp_ids", ["desk.example"])),
    "origins": (LOOSENS, "roots.origins", put("roots.origins", ["https://desk.example"])),
    # rules
    "one more deny": (TIGHTENS, "rules.x", lambda f: f["rules"].append(rule("x", "deny", {"payments": "none"}))),
    "one more limit": (
        TIGHTENS,
        "rules.x",
        lambda f: f["rules"].append(rule("x", "limit", {}, {"window": "day", "max_count": 1, "on_exceed": "deny"})),
    ),
    "one more require": (
        TIGHTENS,
        "rules.x",
        lambda f: f["rules"].append(rule("x", "require", {}, {"delay": {"seconds": 5}})),
    ),
    "one more allow": (LOOSENS, "rules.x", lambda f: f["rules"].append(rule("x", "allow", {"payments": "none"}))),
    "one more shadow": (
        NEUTRAL,
        "rules.x",
        lambda f: f["rules"].append(rule("x", "deny", {"payments": "none"}, mode="shadow")),
    ),
    "one allow less": (TIGHTENS, "rules.pay", lambda f: drop(f, "pay")),
    "one deny less": (LOOSENS, "rules.never", lambda f: drop(f, "never")),
    "one require less": (LOOSENS, "rules.two", lambda f: drop(f, "two")),
    "one limit less": (LOOSENS, "rules.cap", lambda f: drop(f, "cap")),
    "one shadow less": (NEUTRAL, "rules.tried", lambda f: drop(f, "tried")),
    "a deny put to sleep": (LOOSENS, "rules.never", in_rule("never", "mode", "shadow")),
    "a shadow woken": (TIGHTENS, "rules.tried", in_rule("tried", "mode", "enforce")),
    "a shadow changed": (NEUTRAL, "rules.tried.match", in_rule("tried", "match.amount.min_sats", 6)),
    "an allow turned deny": (TIGHTENS, "rules.pay", in_rule("pay", "kind", "deny")),
    "a description": (NEUTRAL, "rules.never.description", in_rule("never", "description", "why")),
    "a code": (NEUTRAL, "rules.never.reason_code", in_rule("never", "reason_code", "TOO_MUCH")),
    "an allow of less": (TIGHTENS, "rules.pay.match", in_rule("pay", "match.amount.max_sats", 499_999)),
    "an allow of more": (LOOSENS, "rules.pay.match", in_rule("pay", "match.amount.max_sats", 500_001)),
    "an allow with one more matcher": (
        TIGHTENS,
        "rules.pay.match",
        in_rule("pay", "match.relation", {"kinds": ["new"]}),
    ),
    "an allow with one matcher less": (LOOSENS, "rules.pay.match", lambda f: rules_of(f)["pay"]["match"].pop("amount")),
    "an allow that bounds the fee": (LOOSENS, "rules.pay.match", in_rule("pay", "match.fee", {"max_sats": 5})),
    "an allow for a while": (TIGHTENS, "rules.pay.expires_at", in_rule("pay", "expires_at", NOW)),
    "an allow from later on": (TIGHTENS, "rules.pay.not_before", in_rule("pay", "not_before", NOW)),
    "a deny for a while": (LOOSENS, "rules.never.expires_at", in_rule("never", "expires_at", NOW)),
    "a deny from later on": (LOOSENS, "rules.never.not_before", in_rule("never", "not_before", NOW)),
    "a deny of more": (TIGHTENS, "rules.never.match", in_rule("never", "match.amount.min_sats", 899_999)),
    "a deny of less": (LOOSENS, "rules.never.match", in_rule("never", "match.amount.min_sats", 900_001)),
    "a deny of what is unknown": (LOOSENS, "rules.never.match", in_rule("never", "match.time", {"hours": [7]})),
    "a limit of fewer": (LOOSENS, "rules.cap.match", in_rule("cap", "match", {"amount": {"min_sats": 5}})),
    "a lower limit": (TIGHTENS, "rules.cap.budget", in_rule("cap", "then.max_sats", 999_999)),
    "a higher limit": (LOOSENS, "rules.cap.budget", in_rule("cap", "then.max_sats", 1_000_001)),
    "a limit of another window": (LOOSENS, "rules.cap.budget", in_rule("cap", "then.window", "ever")),
    "a limit kept apart": (LOOSENS, "rules.cap.budget", in_rule("cap", "then.group_by", ["initiator"])),
    "a longer window": (TIGHTENS, "windows.day.seconds", put("windows.day.seconds", DAY + 1)),
    "a shorter window": (LOOSENS, "windows.day.seconds", put("windows.day.seconds", DAY - 1)),
    "a longer delay": (TIGHTENS, "rules.two.obligations", in_rule("two", "then.delay.seconds", 61)),
    "a shorter delay": (LOOSENS, "rules.two.obligations", in_rule("two", "then.delay.seconds", 59)),
    "no veto": (LOOSENS, "rules.two.obligations", lambda f: rules_of(f)["two"]["then"]["delay"].pop("veto")),
    "a veto of two": (LOOSENS, "rules.two.obligations", in_rule("two", "then.delay.veto.threshold", 2)),
    "one more approval": (
        TIGHTENS,
        "rules.two.obligations",
        in_rule("two", "then.approvals.all_of.0.threshold", 3),
    ),
    "one approval less": (
        LOOSENS,
        "rules.two.obligations",
        in_rule("two", "then.approvals.all_of.0.threshold", 1),
    ),
    "no two of one org": (
        TIGHTENS,
        "rules.two.obligations",
        in_rule("two", "then.approvals.all_of.0", {"group": "ops", "threshold": 2, "distinct_orgs": True}),
    ),
    "keys bound to devices": (
        TIGHTENS,
        "rules.two.obligations",
        in_rule("two", "then.approvals.all_of.0.device_bound", True),
    ),
    "a code at each signer": (LOOSENS, "rules.two.obligations", in_rule("two", "then.local_conf", True)),
    "nobody blind": (TIGHTENS, "rules.two.obligations", in_rule("two", "then.approvals.all_of.0.blind", False)),
    "approvals that age": (TIGHTENS, "rules.two.obligations", in_rule("two", "then.approvals.all_of.0.lifetime_s", 60)),
    "a part less": (
        LOOSENS,
        "rules.two.obligations",
        lambda f: rules_of(f)["two"]["then"]["approvals"]["all_of"].pop(),
    ),
    "a way around": (
        LOOSENS,
        "rules.two.obligations",
        lambda f: rules_of(f)["two"]["then"].update(
            approvals={"any_of": [rules_of(f)["two"]["then"]["approvals"], {"service": "payroll"}]}
        ),
    ),
    "more offline": (TIGHTENS, "rules.two.obligations", in_rule("two", "then.signers.min_offline", 2)),
    "nobody excluded": (
        LOOSENS,
        "rules.two.obligations",
        lambda f: rules_of(f)["two"]["then"]["signers"].pop("exclude"),
    ),
    "a node included": (TIGHTENS, "rules.two.obligations", in_rule("two", "then.signers.include", ["beta"])),
    # lists, wallets, limits
    "a payee less": (TIGHTENS, f"lists.exchanges.{list_entry(EXCHANGE)['address']}", put("lists.0.entries", [])),
    "a payee more": (
        LOOSENS,
        f"lists.exchanges.{list_entry(SUPPLIER)['address']}",
        lambda f: f["lists"][0]["entries"].append(list_entry(SUPPLIER)),
    ),
    "a payee's new name": (
        LOOSENS,
        f"lists.exchanges.{list_entry(EXCHANGE)['address']}.label",
        put("lists.0.entries.0.label", "x"),
    ),
    "a list less": (TIGHTENS, "lists.exchanges", put("lists", [])),
    "a wallet less": (TIGHTENS, "wallets.vault", lambda f: f["wallets"].pop("vault")),
    "another class of a wallet": (LOOSENS, "wallets.vault.classes", put("wallets.vault.classes", ["hot"])),
    "older bundles": (LOOSENS, "limits.bundle_max_age_s", put("limits.bundle_max_age_s", DAY + 1)),
    "fresher bundles": (TIGHTENS, "limits.bundle_max_age_s", put("limits.bundle_max_age_s", DAY - 1)),
    "higher fees": (LOOSENS, "limits.feerate_max_sat_vb", put("limits.feerate_max_sat_vb", 501)),
    "more change": (LOOSENS, "limits.change_max_outputs", put("limits.change_max_outputs", 2)),
    # administration
    "a shorter wait": (LOOSENS, "admin.loosen_delay_s", put("admin.loosen_delay_s", DAY - 1)),
    "a longer wait": (TIGHTENS, "admin.loosen_delay_s", put("admin.loosen_delay_s", DAY + 1)),
    "fewer who freeze": (LOOSENS, "admin.freeze", put("admin.freeze.groups", ["admins"])),
    "more who freeze": (TIGHTENS, "admin.freeze", put("admin.freeze.groups", ["security", "admins", "ops"])),
    "fewer admins needed": (LOOSENS, "admin.change_quorum", put("admin.change_quorum.threshold", 1)),
    "more admins needed": (LOOSENS, "admin.change_quorum", put("admin.change_quorum.threshold", 3)),
    "fewer to unfreeze": (LOOSENS, "admin.unfreeze", put("admin.unfreeze.threshold", 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_diff_given_one_change_says_what_it_does_and_where(name: str) -> None:
    """One change of the document, one verdict at one path; nothing else is named."""
    verdict, path, edit = CASES[name]

    found = changed(edit)

    assert found.verdict is verdict
    assert {change.path for change in found.changes} == ({path} if path else set())


def test_diff_given_a_change_that_tightens_and_one_that_loosens_loosens() -> None:
    """One loosening decides, whatever stands beside it."""
    found = changed(both(without("pay"), without("never")))

    assert [change.verdict for change in found.changes] == [TIGHTENS, LOOSENS]
    assert found.verdict is LOOSENS


def test_diff_given_an_approver_of_a_group_that_a_rule_holds_back_does_not_tighten() -> None:
    """Who leaves a group that a deny names could escape the deny."""
    old = document(*RULES, rule("ops-never", "deny", {**OPS, "payments": "none"}))

    assert changed(lambda f: user(f, "alice")["groups"].remove("ops"), old).verdict is LOOSENS


def test_diff_given_a_listed_payee_that_a_rule_holds_back_does_not_tighten() -> None:
    """A payee that leaves the list could escape a require of listed payees."""
    listed = rule("listed", "deny", {"destination": {"class": "listed"}})

    assert changed(put("lists.0.entries", []), document(*RULES, listed)).verdict is LOOSENS


def test_diff_given_a_name_that_rules_used_in_vain_until_now_loosens() -> None:
    """A rule that named an unknown group refused; the group makes it answer."""
    old = document(*RULES, rule("lost", "deny", {"initiator": {"groups": ["late"]}}))

    assert changed(lambda f: f["principals"]["groups"].append("late"), old).verdict is LOOSENS


def test_diff_given_a_restriction_that_signers_would_skip_loosens() -> None:
    """A wider match with a matcher that only the coordinator can judge is no match at all at a signer."""
    aside = {"any_of": [{"amount": {"min_sats": 900_000}}, {"chain": {"max_lag_blocks": 1}}]}

    assert changed(in_rule("never", "match", aside)).verdict is LOOSENS


def test_diff_given_stages_of_approvals_reads_the_groups_in_them() -> None:
    """A group that only a stage names is a name in use: adding it makes a refusal answerable."""
    staged = {"approvals": {"stages": [{"group": "ops", "threshold": 1}, {"group": "late", "threshold": 1}]}}
    old = document(*RULES, rule("staged", "require", {}, staged))

    assert changed(lambda f: f["principals"]["groups"].append("late"), old).verdict is LOOSENS
    assert changed(in_rule("staged", "then.approvals.stages.0.threshold", 2), old).verdict is LOOSENS


def test_diff_given_only_a_later_end_only_extends() -> None:
    """Extending alone is told apart: while the old version lasts it waits for nothing."""

    def renewed(found: Document) -> None:
        found.update(effective_from=NOW, not_after=NOW + 80 * DAY)

    assert changed(renewed).only_extends
    assert not changed(both(renewed, without("pay"))).only_extends
    assert not changed(both(renewed, without("never"))).only_extends
    assert not changed(put("not_after", NOW + DAY)).only_extends


def test_diff_given_a_field_that_it_was_not_written_for_loosens() -> None:
    """A field of the document that nobody judges here loosens, whatever it holds."""
    old = policy()

    assert diff(old, replace(old, network="signet")).changes == (Change("network", LOOSENS, "regtest becomes signet"),)
    budget = replace(old.rules[0], budget=Budget("day", Measure.SATS, 5))
    assert diff(old, replace(old, rules=(budget,))).verdict is LOOSENS
