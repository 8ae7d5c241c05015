"""Imported rules say what a tiny first-match interpreter of the foreign ones says: 10,000 random cases each."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from console.importers.coldcard import import_coldcard
from console.importers.reading import Imported, Names
from console.importers.tap import import_tap
from custody.entries import Release
from custody.interval import Interval
from custody.people import Ballot
from custody.policy import Policy
from custody.policy.budgets import FamilySpend, Spent, subject_of_release
from custody.policy.evaluate import Allow, Need, Question, weigh
from custody.policy.votes import Electorate
from tests.fakes.first_match import Transfer, coldcard, tap
from tests.fakes.rules import (
    EXCHANGE,
    NOW,
    STRANGER,
    SUPPLIER,
    TREASURY,
    VAULT,
    Document,
    address,
    document,
    list_entry,
    policy,
    release,
    withdrawal,
)

POLICIES, CASES_OF_EACH = 200, 50
PEOPLE = ("alice", "bob", "carol", "dave")
WALLETS = {"10": TREASURY, "11": VAULT}
PAYEES: dict[str | None, int] = {"w-kraken": EXCHANGE, "w-supplier": SUPPLIER, None: STRANGER}
MEMBERS = {"g-ops": frozenset({"u-alice", "u-bob", "u-carol"}), "g-security": frozenset({"u-bob", "u-dave"})}
NAMES = Names(
    users={f"u-{name}": name for name in PEOPLE},
    groups={"g-ops": "ops", "g-security": "security"},
    wallets={"10": "treasury", "11": "vault"},
    lists={"w-kraken": "kraken", "w-supplier": "supplier"},
)


def imported_policy(found: Imported) -> Policy:
    """Return the tests' organisation under the imported rules, with their windows and groups."""
    people: Document = document()["principals"]
    people["users"] = [user for user in people["users"] if user["name"] != "blind-ben"]
    people["groups"] += list(found.groups)
    for name, members in found.groups.items():
        for user in people["users"]:
            if user["name"] in members:
                user["groups"].append(name)
    lists = [
        {"name": NAMES.lists[name], "entries": [list_entry(tag)]} for name, tag in PAYEES.items() if name is not None
    ]
    return policy(rules=list(found.rules), windows=dict(found.windows), principals=people, lists=lists)


def transfer(dice: random.Random, t: int) -> Transfer:
    """Draw a request at `t`."""
    operator = f"u-{dice.choice(PEOPLE)}"
    groups = frozenset(name for name, members in MEMBERS.items() if operator in members)
    payees = tuple(
        (dice.choice([*PAYEES]), dice.choice([10_000, 50_000, 100_000])) for _ in range(dice.choice([1, 1, 1, 2]))
    )
    voters = frozenset(f"u-{name}" for name in PEOPLE if dice.random() < 0.5)
    return Transfer(operator, groups, dice.choice([*WALLETS]), payees, 2_000, voters, t)


@cache
def released(of: Transfer) -> Release:
    """Return the release of what asks for `of`."""
    asked = withdrawal(
        *((PAYEES[name], sats) for name, sats in of.payees),
        initiator=NAMES.users[of.operator],
        wallet_id=WALLETS[of.vault],
        max_fee_sats=of.fee_sats,
    )
    return release(asked)


def ours(rules: Policy, of: Transfer, past: Sequence[Transfer]) -> str:
    """Return what our rules say of `of` after `past`."""
    spends = [FamilySpend(bytes([at]) * 32, (released(each),), each.t) for at, each in enumerate(past, 1)]
    subject = replace(subject_of_release(released(of), of.t), own_scripts=frozenset())
    ballots = tuple(Ballot(NAMES.users[voter], True, of.t, voter.encode()) for voter in sorted(of.voters))
    electorate = Electorate(rules, NAMES.users[of.operator], ballots, of.t)
    found = weigh(Question(rules, subject, Interval(of.t, of.t), electorate, (), Spent.of(rules, spends), bytes(32)))
    return "allow" if isinstance(found, Allow) else "ask" if isinstance(found, Need) else "block"


def tap_rule(dice: random.Random, *, timeframe: bool) -> dict[str, Any]:
    """Draw one TAP rule that can be said here."""
    groups = [
        {"usersGroups": [dice.choice([*MEMBERS])], "th": dice.choice([1, 2])}
        if dice.random() < 0.5
        else {"users": dice.sample([*NAMES.users], 2), "th": dice.choice([1, 2])}
    ]
    logic = {}
    if dice.random() < 0.4:
        groups.append({"users": ["u-dave"], "th": 1})
        logic = {"logic": "OR"}
    found: dict[str, Any] = {
        "type": "TRANSFER",
        "asset": dice.choice(["BTC", "*"]),
        "action": "BLOCK" if timeframe else dice.choice(["ALLOW", "ALLOW", "BLOCK", "2-TIER", "2-TIER"]),
        "operators": dice.choice(
            [{"wildcard": "*"}, {"usersGroups": ["g-ops"]}, {"users": ["u-dave", "u-alice"]}, {"wildcard": "*"}]
        ),
        "src": {"ids": dice.choice([[["*"]], [["*", "VAULT", "*"]], [["10", "VAULT"]], [["11", "VAULT", "*"]]])},
        "dst": {"ids": dice.choice([[["*"]], [["*"]], [["w-kraken", "EXTERNAL_WALLET"], ["w-supplier", "UNMANAGED"]]])},
        "dstAddressType": dice.choice(["*", "*", "WHITELISTED", "ONE_TIME"]),
        "amountCurrency": "NATIVE",
        "amountScope": "TIMEFRAME" if timeframe else "SINGLE_TX",
        "amount": dice.choice(["0.0011", "0.002"]) if timeframe else dice.choice(["0", "0", "0.0005", "0.001"]),
        "periodSec": 3_600 if timeframe else 0,
        "amountAggregation": {
            "operators": dice.choice(["ACROSS_ALL_MATCHES", "PER_SINGLE_MATCH"]),
            "srcTransferPeers": dice.choice(["ACROSS_ALL_MATCHES", "PER_SINGLE_MATCH"]),
        },
    }
    if found["action"] == "2-TIER":
        found["authorizationGroups"] = {"groups": groups, **logic}
    return found


def test_tap_given_random_rules_and_requests_says_what_first_match_says() -> None:
    """Ten thousand: rules in every order, amounts at their edges, accumulation, quorums, batches."""
    dice = random.Random(5)  # noqa: S311 - the same cases every time
    seen = dict.fromkeys(("allow", "ask", "block"), 0)
    for _ in range(POLICIES):
        rules = [tap_rule(dice, timeframe=True) for _ in range(dice.choice([0, 0, 1, 2]))]
        rules += [tap_rule(dice, timeframe=False) for _ in range(dice.randint(1, 5))]
        compiled = imported_policy(import_tap(json.dumps({"rules": rules}), "tap.json", NAMES))
        past: list[Transfer] = []
        for _ in range(CASES_OF_EACH):
            of = transfer(dice, NOW + len(past) * 900)
            expected = tap(rules, of, past, MEMBERS)
            assert ours(compiled, of, past) == expected, (rules, of, past)
            seen[expected] += 1
            if expected == "allow":
                past = [*past, of][-8:]
    assert sum(seen.values()) == 10_000
    assert min(seen.values()) > 500, seen


def hsm_policy(dice: random.Random) -> dict[str, Any]:
    """Draw one hsm-policy.json that can be said here."""

    def rule() -> dict[str, Any]:
        found: dict[str, Any] = {}
        if dice.random() < 0.5:
            found["max_amount"] = dice.choice([10_000, 50_000, 100_000])
        if dice.random() < 0.5:
            found["users"] = dice.sample([*NAMES.users], dice.randint(1, 3))
            if dice.random() < 0.6:
                found["min_users"] = dice.randint(0, len(found["users"]))
        if dice.random() < 0.4:
            found["whitelist"] = [address(EXCHANGE), *([address(SUPPLIER)] if dice.random() < 0.5 else [])]
        if dice.random() < 0.4:
            found["wallet"] = dice.choice([*WALLETS])
        return found

    rules = [rule() for _ in range(dice.randint(0, 4))]
    found: dict[str, Any] = {"must_log": True, "rules": rules}
    if len(rules) == 1 and dice.random() < 0.7:
        rules[0]["per_period"], found["period"] = dice.choice([60_000, 150_000]), 60
    return found


def test_coldcard_given_random_policies_and_requests_says_what_the_device_says() -> None:
    """Ten thousand, all of one period: the device's starts at the first spend, ours slides."""
    dice = random.Random(7)  # noqa: S311 - the same cases every time
    seen = dict.fromkeys(("allow", "ask", "block"), 0)
    for _ in range(POLICIES):
        rules = hsm_policy(dice)
        compiled = imported_policy(import_coldcard(json.dumps(rules), "hsm-policy.json", NAMES))
        past: list[Transfer] = []
        for at in range(CASES_OF_EACH):
            of = transfer(dice, NOW + at)
            addresses = [address(PAYEES[name]) for name, _ in of.payees]
            fitting = past if any("per_period" in rule for rule in rules["rules"]) else []
            expected = coldcard(rules, of, addresses, fitting)
            assert ours(compiled, of, past) == expected, (rules, of, past)
            seen[expected] += 1
            if expected == "allow":
                past = [*past, of][-8:]
    assert sum(seen.values()) == 10_000
    assert min(seen.values()) > 500, seen
