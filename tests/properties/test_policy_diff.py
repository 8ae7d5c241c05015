"""Property of the comparison of two versions: what is not called loosening never lets more through."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from custody.decide import Allow, Case, decide
from custody.errors import MalformedError
from custody.policy import Policy, parse_policy
from custody.policy.diff import Verdict, diff
from tests.fakes.rules import DAY, NOW, Document, document
from tests.properties.test_policy import LEAVES, MANY, MATCHES, VOTES, cases, rank

TIMES = (NOW - DAY, NOW - 1, NOW, NOW + 1, NOW + 3_600, NOW + DAY)
NUMBERS = (0, 1, 2, 3, 1_000, 2_000, 50_000, 52_000, 100_000, DAY, *TIMES)
PARTS = (*["rules"] * 6, "principals", "lists", "windows", "wallets", "limits", "admin", "not_after")
NAMES = (
    *("ops", "security", "admins", "bots", "gone", "treasury", "vault", "exchanges", "alice", "payroll", "hot", "cold"),
    *("all", "any", "allow", "deny", "require", "limit", "shadow", "enforce", "day", "ever", "listed"),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return (container, key) of everything inside `value`."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in [(value, key), *places(value[key])]]


def changed(old: Document, random: Random, words: dict[str, list[Any]]) -> Document:
    """Return `old` with one thing of one part changed, dropped, added or exchanged."""
    new = copy.deepcopy(old)
    part = random.choice([name for name in PARTS if new.get(name)])
    holder, key = random.choice([*places(new[part]), (new, part)])
    value, how = holder[key], random.randrange(3)
    if isinstance(value, bool):
        holder[key] = not value
    elif isinstance(value, int):
        holder[key] = max(0, value + random.choice((-1, 1))) if how == 0 else random.choice(NUMBERS)
    elif isinstance(value, str):
        holder[key] = random.choice(NAMES)
    elif isinstance(value, list) and how:
        more = words.get(key) or value or list(NAMES)
        value.append(copy.deepcopy(random.choice(more)))
    elif isinstance(value, dict) and key in words and how:
        holder[key] = copy.deepcopy(random.choice(words[key]))
    elif isinstance(value, dict) and key == "match":
        value.update(copy.deepcopy(random.choice(words["leaves"])))
    elif holder is not new:
        holder.pop(key)
    return new


@st.composite
def versions(draw: st.DrawFn) -> tuple[Policy, Policy]:
    """Draw a version of the rules and what a few changes make of it."""
    old = document(rules=draw(MANY))
    words = {
        "match": draw(st.lists(MATCHES, min_size=1, max_size=2)),
        "not": draw(st.lists(LEAVES, min_size=1, max_size=2)),
        "leaves": draw(st.lists(LEAVES, min_size=1, max_size=3)),
        "approvals": draw(st.lists(VOTES, min_size=1, max_size=2)),
        "rules": [{**found, "id": f"n{at}"} for at, found in enumerate(draw(MANY))] or old["rules"],
    }
    random = Random(draw(st.integers(0, 2**32)))  # noqa: S311 - drawn, so that a failure can be shrunk
    new: Document = {**copy.deepcopy(old), "version": 2, "prev_hash": "11" * 32}
    for _ in range(draw(st.integers(1, 3))):
        new = changed(new, random, words)
    try:
        return parse_policy(old), parse_policy(new)
    except MalformedError:
        assume(False)
        raise


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(pair=versions(), asked=st.lists(cases(), min_size=1, max_size=4))
def test_diff_given_what_does_not_loosen_never_allows_what_was_refused(
    pair: tuple[Policy, Policy], asked: list[Case]
) -> None:
    """Of what the old version refused, a version called tightening or neutral allows nothing; what it asks, it asks."""
    old, new = pair
    if diff(old, new).verdict is Verdict.LOOSENS:
        return
    for of in asked:
        before, after = decide(old, of), decide(new, of)

        assert rank(after) <= rank(before)
        if isinstance(before, Allow) and isinstance(after, Allow):
            assert after.delay.seconds >= before.delay.seconds
            assert after.signers.min_offline >= before.signers.min_offline
            assert set(after.signers.exclude) >= set(before.signers.exclude)
