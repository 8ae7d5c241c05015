"""What a change of the rules is called, and what happens to people and payees whom some rule holds back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from custody.policy import parse_policy
from custody.policy.change import Change, Verdict, pairs, shown
from custody.policy.document import Quorum, Window
from custody.policy.duties import Measure
from custody.policy.referred import governing, referred, restraining, restrictive, trees, vetoing, votes
from tests.fakes.rules import DAY, EXCHANGE, NOW, SUPPLIER, Document, document, list_entry, policy, principal, rule
from tests.unit.test_policy_diff import LOOSENS, NEUTRAL, RULES, TIGHTENS, changed, drop, in_rule, put, user

PAYEE = list_entry(EXCHANGE)["address"]
OTHER = list_entry(SUPPLIER)["address"]
TOLD: dict[str, tuple[Callable[[Document], object], Change]] = {
    "one more user": (
        lambda f: f["principals"]["users"].append(principal("zoe", "acme", [])),
        Change("users.zoe", LOOSENS, "added: may ask or approve where rules let it"),
    ),
    "one service less": (
        lambda f: f["principals"]["services"].pop(),
        Change("services.payroll", LOOSENS, "removed: could reject; set valid_until to end what it may at once"),
    ),
    "groups": (
        lambda f: user(f, "bob")["groups"].remove("ops"),
        Change("users.bob.groups", TIGHTENS, "(ops, security) becomes (security)"),
    ),
    "one more group": (
        lambda f: f["principals"]["groups"].append("new"),
        Change("groups.new", NEUTRAL, "added"),
    ),
    "a rule comes": (
        lambda f: f["rules"].append(rule("x", "deny", {"payments": "none"})),
        Change("rules.x", TIGHTENS, "enforce deny added"),
    ),
    "a rule goes": (lambda f: drop(f, "pay"), Change("rules.pay", TIGHTENS, "enforce allow removed")),
    "a shadow goes": (lambda f: drop(f, "tried"), Change("rules.tried", NEUTRAL, "shadow deny removed")),
    "a date": (
        put("not_after", NOW + DAY),
        Change("not_after", TIGHTENS, f"{NOW + 30 * DAY} becomes {NOW + DAY}"),
    ),
    "a number": (
        put("limits.feerate_max_sat_vb", 499),
        Change("limits.feerate_max_sat_vb", TIGHTENS, "500 becomes 499"),
    ),
    "a payee more": (
        lambda f: f["lists"][0]["entries"].append(list_entry(SUPPLIER)),
        Change(f"lists.exchanges.{OTHER}", LOOSENS, "'payee 12' added"),
    ),
    "a payee less": (
        put("lists.0.entries", []),
        Change(f"lists.exchanges.{PAYEE}", TIGHTENS, "'payee 11' removed"),
    ),
    "a payee later": (
        put("lists.0.entries.0.valid_from", NOW),
        Change(f"lists.exchanges.{PAYEE}.valid_from", TIGHTENS, f"{NOW - DAY} becomes {NOW}"),
    ),
    "a payee sooner": (
        put("lists.0.entries.0.valid_from", NOW - 2 * DAY),
        Change(f"lists.exchanges.{PAYEE}.valid_from", LOOSENS, f"{NOW - DAY} becomes {NOW - 2 * DAY}"),
    ),
    "a payee's end": (
        put("lists.0.entries.0.expires_at", NOW),
        Change(f"lists.exchanges.{PAYEE}.expires_at", TIGHTENS, f"{NOW + 365 * DAY} becomes {NOW}"),
    ),
    "a payee's later end": (
        put("lists.0.entries.0.expires_at", NOW + 366 * DAY),
        Change(f"lists.exchanges.{PAYEE}.expires_at", LOOSENS, f"{NOW + 365 * DAY} becomes {NOW + 366 * DAY}"),
    ),
    "a list more": (
        lambda f: f["lists"].append({"name": "more", "entries": []}),
        Change("lists.more", LOOSENS, "added"),
    ),
    "a list less": (put("lists", []), Change("lists.exchanges", TIGHTENS, "removed")),
    "a window more": (
        put("windows.week", {"type": "lifetime"}),
        Change("windows.week", NEUTRAL, "added"),
    ),
    "a window less": (
        lambda f: f["windows"].pop("ever"),
        Change("windows.ever", TIGHTENS, "removed: a limit that names it refuses"),
    ),
    "a window for ever": (
        put("windows.day", {"type": "lifetime"}),
        Change("windows.day.seconds", TIGHTENS, f"{DAY} becomes None"),
    ),
    "a window no longer for ever": (
        put("windows.ever", {"type": "sliding", "seconds": DAY}),
        Change("windows.ever.seconds", LOOSENS, f"None becomes {DAY}"),
    ),
    "a wallet less": (lambda f: f["wallets"].pop("vault"), Change("wallets.vault", TIGHTENS, "removed")),
    "a wallet more": (
        put("wallets.more", {"wallet_id": "09" * 32, "classes": []}),
        Change("wallets.more", LOOSENS, "added"),
    ),
    "another wallet": (
        put("wallets.vault.wallet_id", "09" * 32),
        Change("wallets.vault.wallet_id", LOOSENS, "0202020202020202 becomes 0909090909090909"),
    ),
    "who freezes": (
        put("admin.freeze.groups", ["admins"]),
        Change(
            "admin.freeze",
            LOOSENS,
            "{groups=(security, admins), threshold=1} becomes {groups=(admins), threshold=1}",
        ),
    ),
    "a lower least rate": (
        put("limits.feerate_min_sat_vb", 0),
        Change("limits.feerate_min_sat_vb", LOOSENS, "1 becomes 0"),
    ),
    "a higher least rate": (
        put("limits.feerate_min_sat_vb", 2),
        Change("limits.feerate_min_sat_vb", TIGHTENS, "1 becomes 2"),
    ),
    "a higher floor of change": (
        put("limits.change_floor_sats", 10_001),
        Change("limits.change_floor_sats", TIGHTENS, "10000 becomes 10001"),
    ),
    "a lower floor of change": (
        put("limits.change_floor_sats", 9_999),
        Change("limits.change_floor_sats", LOOSENS, "10000 becomes 9999"),
    ),
    "no change": (
        put("limits.change_max_outputs", 0),
        Change("limits.change_max_outputs", TIGHTENS, "1 becomes 0"),
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_diff_given_one_change_tells_it_in_words(name: str) -> None:
    """Where, which way, what it was and what it is."""
    edit, change = TOLD[name]

    assert changed(edit).changes == (change,)


@pytest.mark.parametrize(
    ("held", "verdict"),
    [
        (rule("x", "deny", {"destination": {"lists": ["exchanges"]}}), LOOSENS),
        (rule("x", "deny", {"not": {"destination": {"lists": ["exchanges"]}}}), LOOSENS),
        (rule("x", "allow", {"not": {"destination": {"lists": ["exchanges"]}}}), LOOSENS),
        (rule("x", "allow", {"any_of": [{"not": {"destination": {"lists": ["exchanges"]}}}]}), LOOSENS),
        (rule("x", "require", {"destination": {"class": "listed"}}, {"local_conf": True}), LOOSENS),
        (rule("x", "allow", {"destination": {"class": "one_time"}}), LOOSENS),
        (rule("x", "allow", {"destination": {"class": "listed"}}), TIGHTENS),
        (rule("x", "deny", {"destination": {"lists": ["others"]}}), TIGHTENS),
        (rule("x", "deny", {"destination": {"lists": ["exchanges"]}}, mode="shadow"), TIGHTENS),
        (rule("x", "allow", {"destination": {"class": "one_time"}}, mode="shadow"), TIGHTENS),
    ],
)
def test_diff_given_a_payee_less_tightens_unless_some_rule_leans_on_the_list(held: Document, verdict: Verdict) -> None:
    """Off the list, a payee could escape a rule that holds the list back, or reach one for payees of one time."""
    lists = [*document()["lists"], {"name": "others", "entries": []}]
    old = document(*RULES, held, lists=lists)

    for edit in (
        put("lists.0.entries", []),
        put("lists.0.entries.0.valid_from", NOW),
        put("lists.0.entries.0.expires_at", NOW),
        put("lists", lists[1:]),
    ):
        assert changed(edit, old).verdict is verdict


@pytest.mark.parametrize(
    ("group", "rules", "verdict"),
    [
        ("ops", (), TIGHTENS),
        ("ops", (rule("x", "deny", {"initiator": {"groups": ["ops"]}}),), LOOSENS),
        ("ops", (rule("x", "allow", {"not": {"initiator": {"groups": ["ops"]}}}),), LOOSENS),
        (
            "ops",
            (rule("x", "require", {}, {"delay": {"seconds": 1, "veto": {"group": "ops", "threshold": 1}}}),),
            LOOSENS,
        ),
        ("security", (), LOOSENS),
    ],
)
def test_diff_given_somebody_who_leaves_a_group_tightens_unless_it_governs_vetoes_or_is_held_back(
    group: str, rules: tuple[Document, ...], verdict: Verdict
) -> None:
    """Bob is of ops and of security, and security freezes."""
    old = document(*RULES, *rules)

    assert changed(lambda f: user(f, "bob")["groups"].remove(group), old).verdict is verdict


@pytest.mark.parametrize(("name", "verdict"), [("spare", TIGHTENS), ("watch", LOOSENS)])
def test_diff_given_a_group_less_tightens_unless_it_vetoes(name: str, verdict: Verdict) -> None:
    """A group without members that nobody leans on is a name; one that may veto is more."""
    watch = rule("x", "require", {}, {"delay": {"seconds": 1, "veto": {"group": "watch", "threshold": 1}}})
    old = document(*RULES, watch)
    old["principals"]["groups"] += ["spare", "watch"]

    found = changed(lambda f: f["principals"]["groups"].remove(name), old)

    assert found.changes == (Change(f"groups.{name}", verdict, "removed"),)


USED: dict[str, Document] = {
    "names": rule("x", "deny", {"wallet": {"names": ["late"]}}),
    "classes": rule("x", "deny", {"wallet": {"classes": ["late"]}}),
    "groups": rule("x", "deny", {"initiator": {"groups": ["late"]}}),
    "lists": rule("x", "deny", {"destination": {"lists": ["late"]}}),
    "a window": rule("x", "limit", {}, {"window": "late", "max_count": 1, "on_exceed": "deny"}),
    "approvals": rule("x", "require", {}, {"approvals": {"group": "late", "threshold": 1}}),
    "approvals inside": rule(
        "x", "require", {}, {"approvals": {"any_of": [{"all_of": [{"group": "late", "threshold": 1}]}]}}
    ),
    "approvals that lift a limit": rule(
        "x",
        "limit",
        {},
        {"window": "day", "max_count": 1, "on_exceed": "require", "approvals": {"group": "late", "threshold": 1}},
    ),
    "a veto": rule("x", "require", {}, {"delay": {"seconds": 1, "veto": {"group": "late", "threshold": 1}}}),
}


@pytest.mark.parametrize("name", USED)
def test_referred_given_each_place_of_a_name_knows_it(name: str) -> None:
    """A name in use that becomes known may turn a refusal into an answer; all other rules are still looked at."""
    before = policy(*RULES)
    found = policy(USED[name], *RULES)

    assert referred(found) == referred(before) | {"late"}
    assert "late" not in referred(before)
    assert {"ops", "exchanges", "day", "security", "admins"} <= referred(before)


def test_referred_parts_given_rules_tell_who_governs_vetoes_and_is_held_back() -> None:
    """Each group by what it may, or what rules do to it."""
    quorum = {"groups": ["bots"], "threshold": 1, "exclude_author": False}
    admin = {**document()["admin"], "list_quorum": quorum, "people_quorum": {**quorum, "groups": ["ops"]}}
    lifting = rule(
        "lift",
        "limit",
        {"initiator": {"groups": ["bots"]}},
        {"window": "day", "max_count": 1, "on_exceed": "require", "approvals": {"service": "screening"}},
    )
    found = policy(*RULES, lifting, admin=admin)

    assert governing(found) == {"security", "admins", "bots", "ops"}
    assert vetoing(found) == {"security"}
    assert restraining(found) == {"bots"}
    by_id = {item.id: item for item in found.rules}
    assert [len(trees(by_id[name])) for name in ("pay", "two", "cap", "lift")] == [0, 1, 0, 1]
    (tree,) = trees(by_id["two"])
    assert [leaf.of for leaf in votes(tree)] == ["group ops", "service screening"]
    kinds = [type(term).__name__ for term in restrictive(found)]
    assert kinds == ["AmountTerm", "AmountTerm", "InitiatorTerm"]


def test_diff_given_locks_tightens_unless_they_hold_an_allow() -> None:
    """A lock upon what restricts keeps it; one upon an allow could never be taken back."""

    def locked(*names: str) -> Document:
        return document(*RULES, admin={**document()["admin"], "locked_rules": list(names)})

    def becomes(*names: str) -> Callable[[Document], object]:
        return put("admin.locked_rules", list(names))

    assert changed(becomes("never"), locked()).verdict is TIGHTENS
    assert changed(becomes("never", "cap"), locked("never")).verdict is TIGHTENS
    assert changed(becomes("never"), locked("never", "cap")).verdict is LOOSENS
    assert changed(becomes("pay"), locked()).verdict is LOOSENS
    assert changed(becomes("never", "pay"), locked("never")).verdict is LOOSENS


def test_diff_given_rules_compares_what_they_were_and_nothing_else() -> None:
    """A require that asks for one more thing; a limit that denies where it asked, and asks more, or fewer."""
    asking = rule(
        "lift",
        "limit",
        {},
        {"window": "day", "max_count": 1, "on_exceed": "require", "approvals": {"group": "ops", "threshold": 2}},
    )
    old = document(*RULES, asking)
    denies = {"window": "day", "max_count": 1, "on_exceed": "deny"}
    asks_three = {**asking["then"], "approvals": {"group": "ops", "threshold": 3}}
    asks_one = {**asking["then"], "approvals": {"group": "ops", "threshold": 1}}

    assert changed(in_rule("lift", "then", denies), old).verdict is TIGHTENS
    assert changed(in_rule("lift", "then", asks_three), old).verdict is TIGHTENS
    assert changed(in_rule("lift", "then", asks_one), old).verdict is LOOSENS
    assert changed(in_rule("two", "then.signers.exclude", ["alpha", "beta"])).verdict is TIGHTENS
    assert changed(in_rule("two", "then.signers", {"exclude": ["alpha"]})).verdict is LOOSENS
    bare = document(*RULES, rule("bare", "require", {}, {"local_conf": True}))
    for then in ({"approvals": {"service": "screening"}}, {"signers": {"min_offline": 1}}, {"delay": {"seconds": 1}}):
        assert changed(in_rule("bare", "then", {"local_conf": True, **then}), bare).verdict is TIGHTENS
    included = document(*RULES, rule("inc", "require", {}, {"signers": {"include": ["beta"]}}))
    assert changed(in_rule("inc", "then.signers.include", ["beta", "cold"]), included).verdict is LOOSENS


def test_pairs_given_two_sides_goes_in_the_order_of_the_old() -> None:
    """What is equal is left out; what is new comes last."""
    day, week, ever = Window("day", DAY), Window("week", 7 * DAY), Window("ever", None)

    assert list(pairs([week, day], [ever, day, Window("week", 1)])) == [
        ("week", week, Window("week", 1)),
        ("ever", None, ever),
    ]


def test_shown_given_each_kind_of_value_is_short() -> None:
    """Keys by their first bytes, enums by their word, tuples and parts by what is in them."""
    assert shown(bytes(range(32))) == "0001020304050607"
    assert shown(Measure.SATS) == "max_sats"
    assert shown(("a", 1, ())) == "(a, 1, ())"
    assert shown(Quorum(("a", "b"), 2)) == "{groups=(a, b), threshold=2}"
    assert shown(None) == "None"


def test_diff_given_the_same_document_twice_finds_nothing() -> None:
    """Versions and hashes differ always and say nothing."""
    found = changed(lambda f: None)

    assert (found.changes, found.verdict, found.only_extends) == ((), NEUTRAL, False)
    assert parse_policy(document(*RULES)).hash != parse_policy({**document(*RULES), "not_after": NOW + 1}).hash


@pytest.mark.parametrize(
    ("kind", "field", "value", "verdict"),
    [
        ("allow", "not_before", NOW + 1, TIGHTENS),
        ("allow", "not_before", NOW - 1, LOOSENS),
        ("allow", "expires_at", NOW + 8, TIGHTENS),
        ("allow", "expires_at", NOW + 10, LOOSENS),
        ("deny", "not_before", NOW + 1, LOOSENS),
        ("deny", "not_before", NOW - 1, TIGHTENS),
        ("deny", "expires_at", NOW + 8, LOOSENS),
        ("deny", "expires_at", NOW + 10, TIGHTENS),
    ],
)
def test_diff_given_a_date_that_moves_judges_by_what_the_rule_does(
    kind: str, field: str, value: int, verdict: Verdict
) -> None:
    """A permission for longer loosens, a restriction for longer tightens."""
    old = document(*RULES, rule("dated", kind, {"payments": "none"}, not_before=NOW, expires_at=NOW + 9))

    assert changed(in_rule("dated", field, value), old).changes[0].verdict is verdict
