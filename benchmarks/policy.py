"""`python3 dev.py bench policy`: a decision over 200 rules must not grow with the history behind it.

The history is counted as releases come (`custody.policy.budgets`), so a decision asks the count and scans nothing. CPU
time of one decision after 10^6 past withdrawals, over one after 10^3, in one process and interleaved. Ten of the rules
are limits, kept apart by every kind of group and over three windows; the past withdrawals are 30 seconds apart.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks._measure import Goal, machine, medians, quiet, report
from custody.decide import Allow, Case, decide
from custody.entries import Release
from custody.policy import Policy
from custody.policy.budgets import FamilySpend, Spent
from custody.units import Sats
from tests.fakes.rules import DAY, EXCHANGE, NOW, STRANGER, SUPPLIER, case, policy, release, rule, withdrawal

SMALL, LARGE = 1_000, 1_000_000
RULES = 200
APART_S = 30
ROUNDS = 15
WINDOWS = {
    "day": {"type": "sliding", "seconds": DAY},
    "month": {"type": "sliding", "seconds": 30 * DAY},
    "ever": {"type": "lifetime"},
}
GROUPS: tuple[list[str], ...] = ([], ["wallet"], ["initiator"], ["org"], ["destination"])


def rules() -> Policy:
    """Return 200 rules of every kind, all of which allow the withdrawal in hand."""
    found: list[Mapping[str, Any]] = [rule("pay", "allow", {"amount": {"max_sats": 500_000_000}})]
    for number, window in enumerate([*WINDOWS] * 4):
        then = {"window": window, "max_sats": 21 * 10**14, "on_exceed": "deny"}
        if group := GROUPS[number % len(GROUPS)]:
            then["group_by"] = group
        if number < 10:
            found.append(rule(f"cap-{number}", "limit", {"wallet": {"names": ["treasury"]}}, then))
    number = 0
    while len(found) < RULES:
        number += 1
        match = {"initiator": {"groups": ["ops"]}, "amount": {"min_sats": 10**9 + number}}
        found.append(rule(f"allow-{number}", "allow", {"destination": {"lists": ["exchanges"]}, **match}))
        found.append(rule(f"deny-{number}", "deny", {"any_of": [match, {"fee": {"max_sats": 1}}]}))
        then = {"approvals": {"group": "ops", "threshold": 2}}
        found.append(rule(f"ask-{number}", "require", {"not": {"payments": "none"}, **match}, then))
    return policy(*found[:RULES], windows=WINDOWS)


def past(count: int) -> Iterator[FamilySpend]:
    """Yield `count` families of one release each, the latest one last and half a minute ago."""
    shapes = [
        release(withdrawal((payee, amount), initiator=person))
        for payee in (EXCHANGE, SUPPLIER, STRANGER)
        for amount in (10_000, 20_000)
        for person in ("alice", "bob", "dave")
    ]
    for number in range(count):
        family = number.to_bytes(32)
        found: Release = replace(shapes[number % len(shapes)], family=family, fee_sats=Sats(1_000 + number % 100))
        yield FamilySpend(family, (found,), NOW - APART_S * (count - number))


def spent_after(found: Policy, count: int) -> Spent:
    """Return the count of `count` families, in the blocks that adding them one by one leaves."""
    families = past(count)
    blocks: tuple[Any, ...] = ()
    for power in reversed(range(count.bit_length())):
        if count >> power & 1:
            blocks += Spent.of(found, [next(families) for _ in range(1 << power)]).blocks
    return Spent(found, blocks)


def decision_goal(large: int) -> Goal:
    """Measure a decision after two histories, side by side."""
    found = rules()
    cases: dict[str, Case] = {}
    for name, count in (("small", SMALL), ("large", large)):
        began = time.perf_counter()
        cases[name] = case(families=spent_after(found, count))
        print(f"counted {count:,} past withdrawals in {time.perf_counter() - began:.1f} s", file=sys.stderr)
    for of in cases.values():
        if not isinstance(decide(found, of), Allow):
            raise RuntimeError("expected the rules to allow what is measured")
    with quiet():
        took = medians({name: partial(decide, found, of) for name, of in cases.items()}, ROUNDS, budget_s=20)
    print(f"one decision over {len(found.rules)} rules: {took['large'] * 1000:.2f} ms", file=sys.stderr)
    what = f"decision over {len(found.rules)} rules after {large:,} past withdrawals, over after {SMALL:,}"
    return Goal(what, took["large"] / took["small"], "<= 1.2")


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return the exit code: 0 the goal is met, 1 it is missed."""
    parser = argparse.ArgumentParser(prog="bench policy", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--quick", action="store_true", help="a history of 50,000")
    args = parser.parse_args(arguments)
    where = machine()
    if not args.json:
        print(where)
    goals = [decision_goal(50_000 if args.quick else LARGE)]
    return report("policy", goals, as_json=args.json, where=where)


if __name__ == "__main__":
    sys.exit(main())
