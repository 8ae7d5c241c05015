"""Whose signatures a change of the rules needs: policy.md "Admin", a quorum and a lock at a time."""

from __future__ import annotations

from typing import Any

import pytest

from custody.canonical import Json
from custody.consent import quorums_for, shares
from custody.errors import MalformedError, Refused
from custody.genesis import check_signed, parse_genesis
from custody.governing import missing_signatures, signatures_of, successor_of
from custody.policy import parse_policy
from custody.policy.diff import Verdict, diff
from custody.policy.lint import lint
from tests.fakes.rules import DAY, NOW, PAY, SUPPLIER, Document, document, list_entry, principal, rule
from tests.governing import (
    ADMINS,
    CLOSED,
    Edit,
    after,
    document_of,
    log_rules,
    signed_rules,
    user_of,
    with_rule,
    without_rule,
    without_user,
)
from tests.world import World, make_genesis

ADMIN: Document = document()["admin"]
LISTS = {"groups": ["ops"], "threshold": 2, "exclude_author": False}
PEOPLE = {"groups": ["security"], "threshold": 2, "exclude_author": False}
GENESIS = make_genesis(PAY, admin={**ADMIN, "list_quorum": LISTS, "people_quorum": PEOPLE})
FIRST = document_of(GENESIS)


def quorum(**changes: Any) -> Document:
    """Return the admin block with another change quorum."""
    return {**ADMIN, "change_quorum": {**ADMIN["change_quorum"], **changes}}


def one_payee_more(found: Document) -> None:
    """Add a payee to the list."""
    found["lists"][0]["entries"].append(list_entry(SUPPLIER))


def one_asker_more(found: Document) -> None:
    """Add a person who may ask."""
    found["principals"]["users"].append(principal("zoe", "acme", ["bots"]))


def one_admin_more(found: Document) -> None:
    """Add a person who may change the rules."""
    found["principals"]["users"].append(principal("zoe", "acme", ["admins"]))


def into_the_list_quorum(found: Document) -> None:
    """Let a person sign lists."""
    user_of(found, "dave")["groups"].append("ops")


EDITS: dict[str, tuple[tuple[Edit, ...], tuple[str, ...]]] = {
    "a payee": ((one_payee_more,), ("list_quorum",)),
    "a person": ((one_asker_more,), ("people_quorum",)),
    "a person's end": (
        (lambda f: user_of(f, "blind-ben").update(valid_until=NOW),),
        ("change_quorum", "people_quorum"),
    ),
    "a service less": ((lambda f: f["principals"]["services"].pop(),), ("people_quorum",)),
    "a group more": ((lambda f: f["principals"]["groups"].append("new"),), ("people_quorum",)),
    "an admin": ((one_admin_more,), ("change_quorum", "people_quorum")),
    "one who signs lists": ((into_the_list_quorum,), ("change_quorum", "people_quorum")),
    "a freezer less": ((without_user("dave"),), ("change_quorum", "people_quorum")),
    "both": ((one_payee_more, one_asker_more), ("list_quorum", "people_quorum")),
    "a payee and a rule": ((one_payee_more, with_rule(CLOSED)), ("change_quorum", "list_quorum")),
    "a rule": ((with_rule(CLOSED),), ("change_quorum",)),
    "a longer life": ((lambda f: f.update(not_after=f["not_after"] + 1),), ("change_quorum",)),
    "a payee and a longer life": (
        (one_payee_more, lambda f: f.update(not_after=f["not_after"] + 1)),
        ("change_quorum", "list_quorum"),
    ),
    "an earlier start": (
        (one_payee_more, lambda f: f.update(effective_from=f["effective_from"] - 1)),
        ("change_quorum", "list_quorum"),
    ),
    "a later start": ((one_payee_more, lambda f: f.update(effective_from=NOW)), ("list_quorum",)),
    "a quorum itself": ((lambda f: f["admin"].pop("list_quorum"),), ("change_quorum",)),
    "nothing": ((), ("change_quorum",)),
}


@pytest.mark.parametrize("name", EDITS)
def test_quorums_for_given_a_change_names_each_part_it_touches(name: str) -> None:
    """Lists and people have their own quorums; whoever governs, and all else, needs the change quorum too."""
    edits, asked = EDITS[name]
    new = parse_policy(after(FIRST, *edits))

    assert quorums_for(GENESIS.policy, new, diff(GENESIS.policy, new)) == asked


def test_quorums_for_given_no_quorums_of_their_own_is_the_change_quorum() -> None:
    """Rules that name none have one for everything."""
    genesis = make_genesis(PAY)
    new = parse_policy(after(document_of(genesis), one_payee_more, one_asker_more))

    assert quorums_for(genesis.policy, new, diff(genesis.policy, new)) == ("change_quorum",)


@pytest.mark.parametrize(
    ("edits", "people", "code"),
    [
        ((one_payee_more,), ("alice", "bob"), ""),
        ((one_payee_more,), ADMINS, "RULES_QUORUM"),
        ((one_payee_more,), ("alice",), "RULES_QUORUM"),
        ((one_payee_more,), ("alice", "blind-ben"), "RULES_QUORUM"),
        ((one_asker_more,), ("bob", "dave"), ""),
        ((one_asker_more,), ("alice", "carol"), "RULES_QUORUM"),
        ((one_admin_more,), ("bob", "dave"), "RULES_QUORUM"),
        ((one_admin_more,), ("bob", "dave", *ADMINS), ""),
        ((one_payee_more, with_rule(CLOSED)), ADMINS, "RULES_QUORUM"),
        ((one_payee_more, with_rule(CLOSED)), ("alice", "bob"), "RULES_QUORUM"),
        ((one_payee_more, with_rule(CLOSED)), ("alice", "bob", *ADMINS), ""),
        ((one_payee_more, one_asker_more), ("alice", "bob", "dave"), ""),
    ],
)
def test_successor_given_signatures_demands_each_quorum(
    edits: tuple[Edit, ...], people: tuple[str, ...], code: str
) -> None:
    """A list alone needs the list quorum and no admin; beside anything else it needs both."""
    signed = signed_rules(after(FIRST, *edits), *people)
    world = World(GENESIS)
    found = successor_of(world.state().rules, GENESIS, signed, NOW)

    log_rules(world, signed)

    assert (found.code if isinstance(found, Refused) else "") == code
    assert bool(world.state().rules.waiting or world.state().policy.version == 2) is (code == "")


def test_signatures_of_given_some_says_who_is_missing_from_which_quorum() -> None:
    """People see of whom how many must still sign."""
    signed = signed_rules(after(FIRST, one_payee_more, with_rule(CLOSED)), "alice", "erin")

    change, lists = signatures_of(GENESIS.policy, signed, NOW)

    assert (change.quorum, change.have, change.missing, change.could) == (
        "change_quorum",
        ("erin",),
        2,
        ("frank", "grace"),
    )
    assert (lists.quorum, lists.have, lists.missing) == ("list_quorum", ("alice",), 1)
    assert lists.could == ("blind-ben", "bob", "carol")
    assert missing_signatures(GENESIS.policy, signed, NOW) == 2


def test_shares_given_an_unsigned_document_counts_its_author_beside() -> None:
    """Where the author does not count, one more than the threshold must sign."""
    unsigned = signed_rules(after(FIRST, with_rule(CLOSED)), "mallory")

    assert shares(GENESIS.policy, ("change_quorum",), unsigned, NOW)[0].missing == 3


ORGS: list[tuple[Document, tuple[str, ...], int]] = [
    ({"distinct_orgs": True, "exclude_author": False}, ("erin", "frank"), 1),
    ({"distinct_orgs": True, "exclude_author": False}, ("erin", "grace"), 0),
    ({"distinct_orgs": True, "exclude_author": True}, ("erin", "grace"), 1),
    ({"distinct_orgs": True, "exclude_author": True}, ("erin", "frank", "grace"), 1),
    ({"distinct_orgs": False, "exclude_author": False}, ("erin", "frank"), 0),
]


@pytest.mark.parametrize(("changes", "people", "missing"), ORGS)
def test_missing_signatures_given_distinct_orgs_counts_each_organisation_once(
    changes: Document, people: tuple[str, ...], missing: int
) -> None:
    """Two admins of one org are one vote; and whoever wrote it, two orgs must remain without him."""
    genesis = make_genesis(PAY, admin=quorum(**changes)) if not changes["distinct_orgs"] else None
    policy = parse_policy(document(PAY, admin=quorum(**changes)))
    signed = signed_rules(after(document(PAY, admin=quorum(**changes)), with_rule(CLOSED)), *people)

    assert missing_signatures(policy, signed, NOW) == missing
    assert genesis is None or genesis.policy.admin.change_quorum.distinct_orgs is False


def test_heads_given_two_of_each_org_holds_whoever_was_the_author() -> None:
    """Four people of two orgs: take any of them away, and two orgs remain."""
    users = document()["principals"]
    users["users"].append(principal("gus", "guard", ["admins"]))
    policy = parse_policy(document(PAY, principals=users, admin=quorum(distinct_orgs=True)))

    assert policy.heads(policy.admin.change_quorum, {"erin", "frank", "grace", "gus"}) == 2
    assert policy.heads(policy.admin.change_quorum, {"erin", "frank", "grace"}) == 1
    assert policy.heads(policy.admin.change_quorum, {"nobody"}) == 0


def test_check_signed_given_distinct_orgs_wants_admins_of_different_orgs() -> None:
    """A genesis signed by two people of one org lacks an admin."""
    genesis = make_genesis(PAY, admin=quorum(distinct_orgs=True))  # signed by erin and frank, both of acme

    with pytest.raises(MalformedError) as refused:
        check_signed(parse_genesis(genesis.signed))

    assert refused.value.code == "GENESIS_UNSIGNED"


LOCKED_RULES = (PAY, CLOSED, rule("cap", "limit", {}, {"window": "day", "max_sats": 5_000_000, "on_exceed": "deny"}))
LOCKED = make_genesis(*LOCKED_RULES, admin={**ADMIN, "locked_rules": ["closed", "cap"]})
LOCKS: dict[str, tuple[Edit, str]] = {
    "left out": (without_rule("closed"), "POLICY_LOCK_UNKNOWN"),
    "left out and unlocked": (
        lambda f: (without_rule("closed")(f), f["admin"].update(locked_rules=["cap"])),
        "RULES_LOCKED",
    ),
    "unlocked": (lambda f: f["admin"].update(locked_rules=["cap"]), "RULES_LOCKED"),
    "changed": (lambda f: f["rules"][1].update(description="softer"), "RULES_LOCKED"),
    "in shadow": (lambda f: f["rules"][1].update(mode="shadow"), "RULES_LOCKED"),
    "tightened": (lambda f: f["rules"][2]["then"].update(max_sats=1), "RULES_LOCKED"),
    "a shorter window": (lambda f: f["windows"]["day"].update(seconds=60), "RULES_LOCKED"),
    "another rule": (without_rule("pay"), ""),
    "one more lock": (lambda f: f["admin"].update(locked_rules=["cap", "closed", "pay"]), ""),
    "another order": (lambda f: f["rules"].reverse(), ""),
}


@pytest.mark.parametrize("name", LOCKS)
def test_successor_given_a_locked_rule_keeps_it_as_it_is(name: str) -> None:
    """No quorum changes a locked rule, takes it out, or unlocks it."""
    edit, code = LOCKS[name]

    found = successor_of(World(LOCKED).state().rules, LOCKED, signed_rules(after(document_of(LOCKED), edit)), NOW)

    assert (found.code if isinstance(found, Refused) else "") == code


def test_parse_given_a_lock_on_no_rule_refuses() -> None:
    """A lock that locks nothing is a mistake."""
    with pytest.raises(MalformedError) as refused:
        parse_policy(document(PAY, admin={**ADMIN, "locked_rules": ["gone"]}))

    assert refused.value.code == "POLICY_LOCK_UNKNOWN"


@pytest.mark.parametrize(
    ("locked", "verdict"),
    [(["closed"], Verdict.TIGHTENS), (["pay"], Verdict.LOOSENS), (["closed", "pay"], Verdict.LOOSENS)],
)
def test_diff_given_a_lock_tightens_where_it_holds_back(locked: list[str], verdict: Verdict) -> None:
    """A locked deny stays for good; a locked allow, too, and so it loosens."""
    old = document(PAY, CLOSED)
    new = after(old, admin={**ADMIN, "locked_rules": locked})

    assert diff(parse_policy(old), parse_policy(new)).verdict is verdict


@pytest.mark.parametrize("name", ["list_quorum", "people_quorum"])
def test_diff_given_another_quorum_loosens(name: str) -> None:
    """A quorum that comes, goes or changes is not proven to tighten."""
    old = document(PAY, admin={**ADMIN, name: LISTS})

    for admin in (ADMIN, {**ADMIN, name: {**LISTS, "threshold": 3}}):
        assert diff(parse_policy(old), parse_policy(after(old, admin=admin))).verdict is Verdict.LOOSENS
    assert (
        diff(parse_policy(document(PAY)), parse_policy(after(document(PAY), admin=old["admin"]))).verdict
        is Verdict.LOOSENS
    )


@pytest.mark.parametrize(
    ("admin", "where"),
    [
        ({**ADMIN, "list_quorum": {**LISTS, "threshold": 9}}, "admin.list_quorum"),
        ({**ADMIN, "people_quorum": {**PEOPLE, "groups": ["gone"]}}, "admin.people_quorum"),
        (quorum(distinct_orgs=True, threshold=3, exclude_author=False), "admin.change_quorum"),
        (quorum(distinct_orgs=True), "admin.change_quorum"),
    ],
)
def test_lint_given_a_quorum_nobody_can_fill_says_so(admin: Document, where: str) -> None:
    """Too few people, too few orgs, or too few of them beside the author."""
    found = lint(parse_policy(document(PAY, admin=admin)), now=NOW)

    assert ("THRESHOLD_UNREACHABLE", where) in {(finding.code, finding.where) for finding in found}


def test_lint_given_quorums_that_can_be_filled_is_silent() -> None:
    """Two orgs, and no author apart."""
    admin = {**quorum(distinct_orgs=True, exclude_author=False), "list_quorum": LISTS, "people_quorum": PEOPLE}

    found = lint(parse_policy(document(PAY, admin=admin)), now=NOW)

    assert not [finding for finding in found if finding.where.startswith("admin.")]


@pytest.mark.parametrize(
    "admin",
    [
        {**ADMIN, "list_quorum": {"groups": ["ops"], "threshold": 2}},
        {**ADMIN, "list_quorum": {**LISTS, "groups": []}},
        {**ADMIN, "people_quorum": {**PEOPLE, "threshold": 0}},
        {**ADMIN, "people_quorum": {**PEOPLE, "bypass": True}},
        {**ADMIN, "locked_rules": ["pay", "pay"]},
    ],
)
def test_parse_given_half_a_quorum_refuses(admin: Json) -> None:
    """A quorum is written whole."""
    with pytest.raises(MalformedError):
        parse_policy(document(PAY, admin=admin))


def test_loosened_list_waits_all_the_same() -> None:
    """A quorum of its own shortens no delay: a new payee waits, with the cool-down of its entry beside it."""
    world = World(GENESIS)

    log_rules(world, signed_rules(after(FIRST, one_payee_more), "alice", "bob"))

    assert [waiting.due for waiting in world.state().rules.waiting] == [NOW + DAY]
