"""The decision word for word: hard grounds, each at both of its sides, and what rules are told of a withdrawal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from custody.approval import Approval, Decision
from custody.decide import Allow, Case, Decided, Deny, MessageCase, Need, check_feerate, decide, decide_message
from custody.interval import Interval
from custody.message import Message
from custody.policy import Policy
from custody.policy.budgets import Spent
from custody.policy.document import Limits
from custody.policy.subject import CoordinatorFacts
from custody.policy.terms import MessageFormat
from custody.statements import Kind, sign
from tests.fakes.rules import (
    DAY,
    GENESIS,
    NOW,
    TREASURY,
    approval,
    case,
    family,
    policy,
    rule,
    seed_of,
    withdrawal,
)

RULES = policy()
START, END = RULES.effective_from, RULES.not_after
LEAVER = RULES.principal("alice")
assert LEAVER is not None
GONE = LEAVER.valid_until
FAR = withdrawal(expires_at=END + GONE)


def grounds(of: Case, rules: Policy = RULES) -> list[str]:
    """Return the refusals that no rule lifts, word for word, in order."""
    found = decide(rules, of)
    return [str(refused) for refused in found.refusals] if isinstance(found, Deny) else []


def at(lo: int, hi: int, **changes: Any) -> Case:
    """Return the case of a withdrawal that never expires, judged between `lo` and `hi`."""
    return case(FAR, time=Interval(lo, hi), t_release=NOW, **changes)


GROUNDS: dict[str, tuple[Case, list[str]]] = {
    "now": (at(NOW, NOW), []),
    "the first second of the rules": (at(START, NOW), []),
    "a second before it": (
        at(START - 1, NOW),
        [f"RULES_NOT_YET: expected rules in effect from {START}, found {START - 1}"],
    ),
    "the last second of the rules": (at(NOW, END - 1), []),
    "a second after it": (at(NOW, END), [f"RULES_EXPIRED: expected rules valid before {END}, found {END}"]),
    "another wallet": (
        case(withdrawal(wallet_id=bytes(32))),
        ["WALLET_UNKNOWN: expected a wallet of the rules, found another"],
    ),
    "an unknown initiator": (
        case(withdrawal(initiator="mallory")),
        ["INITIATOR_UNKNOWN: expected a valid initiator of the rules, found mallory"],
    ),
    "the last second of the withdrawal": (case(withdrawal(expires_at=NOW + 1)), []),
    "a second after that": (
        case(withdrawal(expires_at=NOW)),
        [f"WITHDRAWAL_EXPIRED: expected before {NOW}, found {NOW}"],
    ),
    "another network": (
        case(withdrawal(network="signet")),
        ["NETWORK_OTHER: expected regtest, found signet"],
    ),
    "a floor of these rules": (case(withdrawal(rules_floor=RULES.version)), []),
    "a floor of later rules": (
        case(withdrawal(rules_floor=RULES.version + 1)),
        [f"RULES_FLOOR: expected version {RULES.version + 1}, found {RULES.version}"],
    ),
    "everything at once": (
        case(withdrawal(wallet_id=bytes(32), initiator="mallory", network="signet", expires_at=NOW)),
        [
            "WALLET_UNKNOWN: expected a wallet of the rules, found another",
            "INITIATOR_UNKNOWN: expected a valid initiator of the rules, found mallory",
            f"WITHDRAWAL_EXPIRED: expected before {NOW}, found {NOW}",
            "NETWORK_OTHER: expected regtest, found signet",
        ],
    ),
}


@pytest.mark.parametrize("name", GROUNDS)
def test_decide_given_a_hard_ground_says_what_was_expected(name: str) -> None:
    """One case that is allowed, one change, each ground word for word."""
    of, expected = GROUNDS[name]
    found = grounds(of)
    assert found[: len(expected)] == expected
    assert bool(found) is bool(expected)


def test_decide_given_an_initiator_who_leaves_judges_at_the_release() -> None:
    """Valid until the second before; before a release, the later end of now counts."""
    left = f"INITIATOR_UNKNOWN: expected a valid initiator of the rules, found {FAR.initiator}"
    released = case(FAR, time=Interval(NOW, NOW))

    assert grounds(replace(released, t_release=GONE - 1)) == []
    assert grounds(replace(released, t_release=GONE))[0] == left
    assert replace(released, t_release=None, time=Interval(NOW, NOW + 5)).at == NOW + 5
    assert replace(released, t_release=NOW + 1, time=Interval(NOW, NOW + 5)).at == NOW + 1


def test_decide_given_rejects_names_each_person_once_in_order() -> None:
    """A reject is final, however often it is sent; approvals beside it change nothing."""
    asked = withdrawal()
    no = [approval(asked, person, decision=Decision.REJECT) for person in ("carol", "bob", "bob")]

    assert grounds(case(asked, approvals=(*no, approval(asked, "blind-ben")))) == [
        "REJECTED: expected no reject, found a reject by bob",
        "REJECTED: expected no reject, found a reject by carol",
    ]


LIMITS = Limits(
    bundle_max_age_s=1, feerate_min_sat_vb=2, feerate_max_sat_vb=5, change_floor_sats=0, change_max_outputs=1
)


@pytest.mark.parametrize(
    ("fee", "expected"),
    [
        (199, "FEERATE_BELOW_MIN: expected at least 2 sat/vB, found 199 sats for 100 vB"),
        (200, "None"),
        (500, "None"),
        (501, "FEERATE_ABOVE_MAX: expected at most 5 sat/vB, found 501 sats for 100 vB"),
    ],
)
def test_check_feerate_given_a_fee_at_its_bounds_says_which_one_it_crosses(fee: int, expected: str) -> None:
    """Least and most, each at both of its sides."""
    assert str(check_feerate(LIMITS, fee, 100)) == expected


SAID = Message(GENESIS, "m-1", TREASURY, 0, "proof of funds", "alice", NOW - 9, NOW + DAY)
TOLD = CoordinatorFacts(factors=frozenset({"otp"}))
OF_MESSAGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "wallet": ({"wallet": {"names": ["treasury"]}}, {"wallet": {"names": ["vault"]}}),
    "initiator": ({"initiator": {"users": ["alice"]}}, {"initiator": {"users": ["bob"]}}),
    "hour": ({"time": {"hours": [8]}}, {"time": {"hours": [7, 9]}}),
    "length": ({"message": {"max_len": 14}}, {"message": {"max_len": 13}}),
    "session": ({"session": {"factors": ["otp"]}}, {"session": {"factors": ["passkey"]}}),
}


def said_of_message(match: dict[str, Any], time: Interval, *people: str) -> Decided:
    """Return the decision on a message between `time` under an allow for all and a deny with `match`."""
    rules = policy(
        rule("speak", "allow", {"message": {"max_len": 99}}, operations=["message"]),
        rule("probe", "deny", match, operations=["message"]),
        rule("ask", "require", {}, {"approvals": {"group": "ops", "threshold": 1}}, operations=["message"]),
    )
    votes = [Approval(SAID.genesis, SAID.digest, Decision.APPROVE, person, NOW - 5, NOW + DAY) for person in people]
    signed = tuple((vote, sign(Kind.APPROVAL, vote.to_json(), seed_of(vote.approver))) for vote in votes)
    return decide_message(rules, MessageCase(SAID, MessageFormat.SIMPLE, signed, time, NOW, TOLD))


@pytest.mark.parametrize("name", OF_MESSAGES)
def test_decide_message_given_each_matcher_tells_it_the_fact(name: str) -> None:
    """Rules see whose wallet, who asks, when, how long it is, and what the coordinator knows."""
    holding, other = OF_MESSAGES[name]
    now = Interval(NOW, NOW + 3_599)

    found = said_of_message(holding, now, "bob")
    assert isinstance(found, Deny)
    assert [refused.code for refused in found.refusals] == ["RULE_DENIES"]
    assert isinstance(said_of_message(other, now, "bob"), Allow)


@pytest.mark.parametrize("now", [Interval(NOW - 1, NOW), Interval(NOW + 3_599, NOW + 3_600)])
def test_decide_message_given_now_on_both_sides_of_an_hour_does_not_know_it(now: Interval) -> None:
    """Both ends of now are told."""
    found = said_of_message({"time": {"hours": [8]}}, now, "bob")

    assert isinstance(found, Deny)
    assert found.refused.code == "POLICY_FACT_MISSING"


def test_decide_message_given_nobody_yet_does_not_name_the_initiator_among_those_who_could() -> None:
    """Whoever asks does not agree with himself."""
    found = said_of_message({"message": {"max_len": 1}}, Interval(NOW, NOW), "alice")

    assert isinstance(found, Need)
    assert [(missing.have, missing.could) for missing in found.missing] == [((), ("bob", "carol"))]


def test_decide_given_a_follower_count_tells_rules_what_is_replaced_as_its_families_do() -> None:
    """The fees of the family's other transactions are known from either, and those of other families are not taken."""
    bumped, other = withdrawal(withdrawal_id="w-bumped"), withdrawal(withdrawal_id="w-other")
    rules = policy(
        rule("all", "allow", {"fee": {"max_sats": 1_000_000}}),
        rule("probe", "deny", {"replacement": {"max_fee_increase": 0}}),
    )
    more = {"fee_sats": 1_001, "txid": bytes([1]) * 32}
    families = (family(other), family(bumped))

    for past in (families, Spent.of(rules, families)):
        assert isinstance(decide(rules, case(bumped, facts=more, families=past)), Allow)
        assert isinstance(decide(rules, case(bumped, families=past)), Deny)
    alone = Spent.of(rules, families[:1])
    assert isinstance(decide(rules, case(bumped, facts=more, families=alone)), Deny)
