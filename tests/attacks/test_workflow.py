"""Attacks on the way from request to release, as far as rules and people's signatures stop them.

Each is judged by the same pure functions at the coordinator and at every signer node.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from custody.canonical import decode, encode
from custody.decide import Allow, Case, Decided, Deny, Need, decide
from custody.errors import MalformedError
from custody.interval import Interval
from custody.people import verify_people
from custody.policy import parse_policy
from custody.withdrawal import Withdrawal
from tests.fakes.rules import (
    DAY,
    EXCHANGE,
    NOW,
    PAY,
    STRANGER,
    VAULT,
    Document,
    approval,
    case,
    document,
    family,
    policy,
    principal,
    rule,
    signed_by_initiator,
    withdrawal,
)

W = withdrawal()
TWO_EYES = rule("two-eyes", "require", {}, {"approvals": {"group": "ops", "threshold": 2}})
CAP = rule("cap", "limit", {}, {"window": "day", "max_sats": 200_000, "on_exceed": "deny"})
COUNT = rule("count", "limit", {}, {"window": "day", "max_count": 3, "on_exceed": "deny"})
ANYWHERE = rule("pay", "allow", {"amount": {"max_sats": 500_000_000}})


def code_of(found: Decided) -> str | None:
    """Return the code of a deny."""
    return found.refused.code if isinstance(found, Deny) else None


REPLAYED: dict[str, Withdrawal] = {
    "another payee": withdrawal((STRANGER, 50_000)),
    "another amount": withdrawal((EXCHANGE, 50_001)),
    "a larger fee": withdrawal(max_fee_sats=2_001),
    "another wallet": withdrawal(wallet_id=VAULT),
    "another network": withdrawal(network="signet"),
    "another genesis": withdrawal(genesis=bytes(32)),
    "a later end": withdrawal(expires_at=NOW + 2 * DAY),
    "a copy under another id": withdrawal(withdrawal_id="w-2"),
    "another initiator": withdrawal(initiator="dave"),
    "another floor": withdrawal(rules_floor=2),
    "a pinned transaction": withdrawal(pinned_txid=bytes(32)),
}


@pytest.mark.parametrize("name", REPLAYED)
def test_atk_086_approvals_used_again_elsewhere_count_nothing(name: str) -> None:
    """Approvals of one withdrawal are refused on any other, and count for nothing in its decision."""
    target = REPLAYED[name]
    stolen = (approval(W, "bob"), approval(W, "carol"))

    refused = verify_people(policy(), target, signed_by_initiator(target), stolen, NOW)
    found = decide(policy(ANYWHERE, TWO_EYES), case(target, approvals=stolen))

    assert refused is not None
    assert refused.code == "APPROVAL_OTHER_WITHDRAWAL"
    assert not isinstance(found, Allow)


@pytest.mark.parametrize("name", REPLAYED)
def test_atk_086_initiator_signature_used_again_elsewhere_is_refused(name: str) -> None:
    """A coordinator can neither mint nor copy a withdrawal: the initiator signed one, and one only."""
    refused = verify_people(policy(), REPLAYED[name], signed_by_initiator(W), (), NOW)

    assert refused is not None
    assert refused.code == "INITIATOR_SIGNATURE"


def test_atk_086_approvals_under_changed_rules_are_judged_by_the_newest() -> None:
    """protocol.md: rules_floor is a floor and the newest rules judge; an approver who left them counts no more."""
    people = (approval(W, "bob"), approval(W, "carol"))
    principals = document()["principals"]
    principals["users"] = [user for user in principals["users"] if user["name"] != "carol"]

    assert isinstance(decide(policy(ANYWHERE, TWO_EYES), case(W, approvals=people)), Allow)
    found = decide(policy(ANYWHERE, TWO_EYES, principals=principals), case(W, approvals=people))
    assert isinstance(found, Need)
    assert found.missing[0].have == ("bob",)


def test_atk_086_approval_used_after_its_end_is_refused() -> None:
    """An approval is spent when its time is over: its own, the rule's, or the withdrawal's."""
    late = (approval(W, "bob", expires_at=NOW), approval(W, "carol"))

    refused = verify_people(policy(), W, signed_by_initiator(W), late, NOW)

    assert refused is not None
    assert refused.code == "APPROVAL_EXPIRED"
    assert isinstance(decide(policy(ANYWHERE, TWO_EYES), case(W, approvals=late)), Need)


def test_atk_087_initiator_as_approver_never_counts() -> None:
    """Whoever asks does not agree with himself, at either gate."""
    own = (approval(W, "alice"), approval(W, "bob"))

    refused = verify_people(policy(), W, signed_by_initiator(W), own, NOW)
    found = decide(policy(ANYWHERE, TWO_EYES), case(W, approvals=own))

    assert refused is not None
    assert refused.code == "APPROVAL_SELF"
    assert isinstance(found, Need)
    assert found.missing[0].could == ("carol",)


def test_atk_087_initiator_renamed_by_the_coordinator_is_refused() -> None:
    """Naming another as initiator, so that the real one may approve, breaks the initiator's signature."""
    renamed = replace(W, initiator="dave")

    refused = verify_people(policy(), renamed, signed_by_initiator(W), (approval(renamed, "alice"),), NOW)

    assert refused is not None
    assert refused.code == "INITIATOR_SIGNATURE"


def test_atk_087_one_human_with_two_keys_has_one_vote() -> None:
    """Keys hang under one person; a second key is not a second human."""
    principals = document()["principals"]
    principals["users"][1]["credentials"].append(principal("bob-phone", "acme", [])["credentials"][0])
    rules = policy(ANYWHERE, TWO_EYES, principals=principals)
    both = (approval(W, "bob"), approval(W, "bob", signer="bob-phone", at=NOW - 40))

    refused = verify_people(rules, W, signed_by_initiator(W), both, NOW)

    assert refused is not None
    assert refused.code == "APPROVAL_DUPLICATE_PERSON"
    assert isinstance(decide(rules, case(W, approvals=both)), Need)


def test_atk_087_one_key_under_two_names_is_no_document() -> None:
    """Two accounts with one key cannot stand in the rules."""
    principals = document()["principals"]
    principals["users"][2]["credentials"] = principals["users"][1]["credentials"]

    with pytest.raises(MalformedError) as raised:
        policy(ANYWHERE, principals=principals)

    assert raised.value.code == "POLICY_KEY_REUSED"


def test_atk_087_one_human_in_two_groups_stands_for_one() -> None:
    """Two groups asked together want two people, and a program is no person of a group."""
    tree = {"all_of": [{"group": "ops", "threshold": 1}, {"group": "security", "threshold": 1}]}
    rules = policy(ANYWHERE, rule("both", "require", {}, {"approvals": tree}))

    assert isinstance(decide(rules, case(W, "bob")), Need)
    assert isinstance(decide(rules, case(W, "bob", "screening", "payroll")), Need)
    assert isinstance(decide(rules, case(W, "bob", "dave")), Allow)


def spend(rules: tuple[Document, ...], asked: list[Withdrawal]) -> list[Withdrawal]:
    """Return which of `asked`, one after the other, are released under `rules`."""
    released: list[Withdrawal] = []
    for each in asked:
        found = decide(policy(*rules), case(each, families=tuple(family(before) for before in released)))
        if isinstance(found, Allow):
            released.append(each)
    return released


def test_atk_088_many_small_payments_meet_the_same_limit() -> None:
    """Forty payments of 10,000 sats with 2,000 of fee each stop at the cap of 200,000, fees included."""
    small = [withdrawal((EXCHANGE, 10_000), withdrawal_id=f"w-{n}") for n in range(40)]

    released = spend((ANYWHERE, CAP), small)

    assert len(released) == 16
    assert sum(each.amount_sats for each in released) <= 200_000


def test_atk_088_many_tiny_payments_meet_the_count() -> None:
    """What a sum does not catch, a count does."""
    tiny = [withdrawal((EXCHANGE, 1_000), withdrawal_id=f"w-{n}", max_fee_sats=0) for n in range(9)]

    assert len(spend((ANYWHERE, CAP, COUNT), tiny)) == 3


@pytest.mark.parametrize("change", [{"initiator": "bob"}, {"wallet_id": VAULT}, {"max_fee_sats": 0}])
def test_atk_088_splitting_over_people_wallets_or_fees_evades_no_common_limit(change: dict[str, Any]) -> None:
    """A limit that is not kept apart by a thing counts over all of it."""
    asked = [withdrawal((EXCHANGE, 90_000), withdrawal_id="w-1"), withdrawal((STRANGER, 90_000), withdrawal_id="w-2")]
    third = withdrawal((EXCHANGE, 90_000), withdrawal_id="w-3", **change)

    assert spend((ANYWHERE, CAP), [*asked, third]) == asked


def test_atk_088_many_payments_in_one_withdrawal_are_one_sum() -> None:
    """Splitting into outputs splits nothing."""
    batch = withdrawal(*[(EXCHANGE, 1_000)] * 200)

    assert code_of(decide(policy(ANYWHERE, CAP), case(batch))) == "LIMIT_EXCEEDED"


def clocked(lo: int, hi: int) -> Case:
    """Return W, judged between `lo` and `hi`, with a full day's budget released at NOW."""
    full = family(withdrawal((EXCHANGE, 190_000), withdrawal_id="w-full"), t=NOW)
    return case(withdrawal(expires_at=NOW + 9 * DAY), families=(full,), time=Interval(lo, hi), t_release=None)


def test_atk_090_clock_set_forward_opens_no_window() -> None:
    """Windows age by what witnesses proved: a clock a day ahead empties no budget."""
    rules = policy(ANYWHERE, CAP)

    assert code_of(decide(rules, clocked(NOW, NOW))) == "LIMIT_EXCEEDED"
    assert code_of(decide(rules, clocked(NOW, NOW + DAY))) == "LIMIT_EXCEEDED"
    assert code_of(decide(rules, clocked(NOW + DAY - 1, NOW + DAY - 1))) == "LIMIT_EXCEEDED"
    assert isinstance(decide(rules, clocked(NOW + DAY, NOW + DAY)), Allow)


def test_atk_090_clock_set_back_revives_nothing_expired() -> None:
    """Expiry passes by the latest time ever seen: a clock set back revives no rules, rule, payee or withdrawal."""
    back = Interval(NOW - 100, NOW + 10)
    listed = rule("pay", "allow", {"destination": {"lists": ["exchanges"]}})
    lists = document()["lists"]
    lists[0]["entries"][0]["expires_at"] = NOW + 10

    assert code_of(decide(policy(ANYWHERE, not_after=NOW + 10), case(time=back))) == "RULES_EXPIRED"
    assert code_of(decide(policy({**ANYWHERE, "expires_at": NOW + 10}), case(time=back))) == "NO_RULE_ALLOWS"
    assert code_of(decide(policy(listed, lists=lists), case(time=back))) == "NO_RULE_ALLOWS"
    assert code_of(decide(policy(ANYWHERE), case(withdrawal(expires_at=NOW + 10), time=back))) == "WITHDRAWAL_EXPIRED"


TWO_WAYS: dict[str, tuple[bytes, bytes, str]] = {
    "a key twice": (b'"version":1', b'"version":1,"version":1', "DUPLICATE_KEY"),
    "NaN": (b'"version":1', b'"version":NaN', "NOT_CANONICAL_VALUE"),
    "Infinity": (b'"version":1', b'"version":Infinity', "NOT_CANONICAL_VALUE"),
    "1e0": (b'"version":1', b'"version":1e0', "NOT_CANONICAL_VALUE"),
    "1.0": (b'"version":1', b'"version":1.0', "NOT_CANONICAL_VALUE"),
    "a leading zero": (b'"version":1', b'"version":01', "NOT_JSON"),
    "a space": (b'"version":1', b'"version": 1', "NOT_CANONICAL"),
    "an escaped letter": (b'"alice"', b'"\\u0061lice"', "NOT_CANONICAL"),
    "null": (b'"version":1', b'"version":null', "NOT_CANONICAL_VALUE"),
    "a number beyond 2^53": (b'"version":1', b'"version":9007199254740993', "NOT_CANONICAL_VALUE"),
    "a version in quotes": (b'"version":1', b'"version":"1"', "FIELD_TYPE"),
    "a truth for a number": (b'"version":1', b'"version":true', "FIELD_TYPE"),
    "a Cyrillic a": (b'"alice"', '"\u0430lice"'.encode(), "FIELD_NAME"),
    "an upper-case name": (b'"alice"', b'"Alice"', "FIELD_NAME"),
    "a name with a space": (b'"alice"', b'"alice "', "FIELD_NAME"),
    "a zero-width joiner": (b'"alice"', '"al\u200dice"'.encode(), "FIELD_NAME"),
}


@pytest.mark.parametrize("name", TWO_WAYS)
def test_atk_092_policy_that_reads_two_ways_is_refused(name: str) -> None:
    """Bytes that two readers could take differently are no rules document."""
    good, bad, code = TWO_WAYS[name]
    raw = encode(document())
    assert good in raw

    with pytest.raises(MalformedError) as raised:
        parse_policy(decode(raw.replace(good, bad, 1)))

    assert raised.value.code == code


def test_atk_092_hash_of_rules_is_of_their_one_encoding() -> None:
    """The same document in another key order has the same bytes and the same hash."""
    found = document()
    backwards = dict(reversed(found.items()))

    assert parse_policy(decode(encode(backwards))).hash == parse_policy(found).hash


def test_atk_093_rules_changed_under_way_judge_what_waits() -> None:
    """protocol.md: no session keeps old rules; a tightened document judges pending withdrawals at once."""
    pending = case(W, "bob", "carol")
    tightened = rule("closed", "deny", {}, reason_code="CLOSED")

    assert isinstance(decide(policy(PAY, TWO_EYES), pending), Allow)
    assert code_of(decide(policy(PAY, TWO_EYES, tightened), pending)) == "CLOSED"


def test_atk_093_rules_older_than_the_withdrawal_asks_for_refuse_it() -> None:
    """rules_floor: what was asked under version 2 is not judged under version 1."""
    assert code_of(decide(policy(), case(withdrawal(rules_floor=2)))) == "RULES_FLOOR"
