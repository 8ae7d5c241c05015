"""Every matcher field: one withdrawal that fits, one change that trips exactly it, seen through one deny rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from custody.decide import Allow, Case, Decided, Deny, decide
from custody.errors import MalformedError
from custody.interval import Interval
from custody.policy.match import holds
from custody.policy.subject import CoordinatorFacts, MessageFact, Subject, script_type
from custody.policy.terms import FeeTerm, MessageFormat, MessageTerm, ReplacementTerm, ScriptType
from custody.transaction import OutPoint
from custody.withdrawal import Relation, RelationKind
from tests.fakes.rules import (
    DAY,
    EXCHANGE,
    NOW,
    STRANGER,
    SUPPLIER,
    VAULT,
    FakeInput,
    address,
    case,
    fake_input,
    family,
    list_entry,
    policy,
    rule,
    script,
    self_transfer,
    withdrawal,
)

ALLOW_ALL = rule("all", "allow", {"fee": {"max_sats": 1_000_000}})


def asked_with(match: dict[str, Any], of: Case, **changes: Any) -> Decided:
    """Return what one deny rule with `match` makes of a case that is otherwise allowed."""
    return decide(policy(ALLOW_ALL, rule("probe", "deny", match), **changes), of)


def matches(match: dict[str, Any], of: Case, **changes: Any) -> bool:
    """Return whether `match` is true of `of`; fails where it is not known."""
    found = asked_with(match, of, **changes)
    if isinstance(found, Deny):
        assert [refused.code for refused in found.refusals] == ["RULE_DENIES"]
        return True
    assert isinstance(found, Allow)
    return False


BUMPED = withdrawal(withdrawal_id="w-bumped")
PAYS_TWO = withdrawal((EXCHANGE, 50_000), (STRANGER, 10_000))
ADDITIONAL = withdrawal(relation=Relation(RelationKind.ADDITIONAL, (bytes([3]) * 32,)))

FIELDS: dict[str, tuple[dict[str, Any], Case, Case]] = {
    "wallet.names": ({"wallet": {"names": ["vault"]}}, case(withdrawal(wallet_id=VAULT)), case()),
    "wallet.classes": ({"wallet": {"classes": ["cold"]}}, case(withdrawal(wallet_id=VAULT)), case()),
    "initiator.users": ({"initiator": {"users": ["bob"]}}, case(withdrawal(initiator="bob")), case()),
    "initiator.groups": ({"initiator": {"groups": ["security"]}}, case(withdrawal(initiator="dave")), case()),
    "initiator.services": (
        {"initiator": {"services": ["payroll"]}},
        case(withdrawal(initiator="payroll")),
        case(withdrawal(initiator="screening")),
    ),
    "initiator.groups of services": (
        {"initiator": {"groups": ["bots"]}},
        case(withdrawal(initiator="payroll")),
        case(withdrawal(initiator="screening")),
    ),
    "destination.lists": ({"destination": {"lists": ["exchanges"]}}, case(), case(withdrawal((STRANGER, 1_000)))),
    "destination.lists all": ({"destination": {"lists": ["exchanges"]}}, case(), case(PAYS_TWO)),
    "destination.lists any": (
        {"destination": {"lists": ["exchanges"], "quantifier": "any"}},
        case(PAYS_TWO),
        case(withdrawal((STRANGER, 1_000))),
    ),
    "destination.lists of nobody": ({"destination": {"lists": ["exchanges"]}}, case(), case(self_transfer())),
    "destination.addresses": (
        {"destination": {"addresses": [address(SUPPLIER)]}},
        case(withdrawal((SUPPLIER, 1_000))),
        case(),
    ),
    "destination.class listed": (
        {"destination": {"class": "listed"}},
        case(),
        case(withdrawal((STRANGER, 1_000))),
    ),
    "destination.class internal": (
        {"destination": {"class": "internal"}},
        case(own_scripts=frozenset({script(EXCHANGE)})),
        case(own_scripts=frozenset()),
    ),
    "destination.class one_time": (
        {"destination": {"class": "one_time"}},
        case(withdrawal((STRANGER, 1_000)), own_scripts=frozenset()),
        case(withdrawal((STRANGER, 1_000)), own_scripts=frozenset({script(STRANGER)})),
    ),
    "destination.script_types": (
        {"destination": {"script_types": ["p2wsh"]}},
        case(),
        case(self_transfer()),
    ),
    "destination.op_return": ({"destination": {"op_return": False}}, case(), case(self_transfer())),
    "amount.min_sats": (
        {"amount": {"min_sats": 52_000}},
        case(),
        case(withdrawal((EXCHANGE, 49_999))),
    ),
    "amount.max_sats": ({"amount": {"max_sats": 52_000}}, case(), case(withdrawal((EXCHANGE, 50_001)))),
    "amount.max_sats of the fee": ({"amount": {"max_sats": 52_000}}, case(), case(withdrawal(max_fee_sats=2_001))),
    "amount.include_fee": (
        {"amount": {"max_sats": 50_000, "include_fee": False}},
        case(),
        case(withdrawal((EXCHANGE, 50_001))),
    ),
    "amount.per_output_max_sats": (
        {"amount": {"per_output_max_sats": 50_000}},
        case(PAYS_TWO),
        case(withdrawal((EXCHANGE, 50_001))),
    ),
    "fee.max_sats": ({"fee": {"max_sats": 1_000}}, case(), case(facts={"fee_sats": 1_001})),
    "fee.max_sat_vb": ({"fee": {"max_sat_vb": 5}}, case(), case(facts={"fee_sats": 1_001})),
    "fee.min_sat_vb": ({"fee": {"min_sat_vb": 5}}, case(), case(facts={"fee_sats": 999})),
    "fee.max_pct_of_amount": ({"fee": {"max_pct_of_amount": 2}}, case(), case(facts={"fee_sats": 1_001})),
    "shape.max_inputs": ({"shape": {"max_inputs": 1}}, case(), case(facts={"inputs": (fake_input(1), fake_input(2))})),
    "shape.max_outputs": ({"shape": {"max_outputs": 1}}, case(), case(facts={"change": (1,)})),
    "shape.max_vbytes": ({"shape": {"max_vbytes": 200}}, case(), case(facts={"vsize_vb": 201})),
    "shape.script_types": (
        {"shape": {"script_types": ["p2wsh"]}},
        case(),
        case(facts={"inputs": (FakeInput(OutPoint(bytes(32), 0), b"\x00\x14" + bytes(20)),)}),
    ),
    "inputs.outpoints": (
        {"inputs": {"outpoints": [f"{'09' * 32}:0", f"{'08' * 32}:0"]}},
        case(),
        case(facts={"inputs": (fake_input(9), fake_input(7))}),
    ),
    "change.max_outputs": (
        {"change": {"max_outputs": 1}},
        case(facts={"change": (1,)}),
        case(facts={"change": (1, 2)}),
    ),
    "replacement.max_fee_increase": (
        {"replacement": {"max_fee_increase": 500}},
        case(BUMPED, facts={"fee_sats": 1_500, "txid": bytes([1]) * 32}, families=(family(BUMPED),)),
        case(BUMPED, facts={"fee_sats": 1_501, "txid": bytes([1]) * 32}, families=(family(BUMPED),)),
    ),
    "replacement of nothing": (
        {"replacement": {"max_fee_increase": 0}},
        case(BUMPED, families=(family(BUMPED),)),
        case(BUMPED, facts={"fee_sats": 1_001, "txid": bytes([1]) * 32}, families=(family(BUMPED),)),
    ),
    "session.factors": (
        {"session": {"factors": ["passkey"]}},
        case(coordinator=CoordinatorFacts(factors=frozenset({"passkey", "cert"}))),
        case(coordinator=CoordinatorFacts(factors=frozenset({"cert"}))),
    ),
    "session.ip_cidrs": (
        {"session": {"ip_cidrs": ["10.0.0.0/8", "fd00::/8"]}},
        case(coordinator=CoordinatorFacts(ip="10.9.8.7")),
        case(coordinator=CoordinatorFacts(ip="11.9.8.7")),
    ),
    "session.cert_role": (
        {"session": {"cert_role": ["person"]}},
        case(coordinator=CoordinatorFacts(cert_role="person")),
        case(coordinator=CoordinatorFacts(cert_role="reader")),
    ),
    "pct_of_wallet": (
        {"pct_of_wallet": {"max_pct": 10}},
        case(coordinator=CoordinatorFacts(wallet_sats=520_000)),
        case(coordinator=CoordinatorFacts(wallet_sats=519_999)),
    ),
    "min_confirmations": (
        {"min_confirmations": 6},
        case(coordinator=CoordinatorFacts(confirmations=6)),
        case(coordinator=CoordinatorFacts(confirmations=5)),
    ),
    "chain.max_lag_blocks": (
        {"chain": {"max_lag_blocks": 2}},
        case(coordinator=CoordinatorFacts(lag_blocks=2)),
        case(coordinator=CoordinatorFacts(lag_blocks=3)),
    ),
    "time.zone": (
        {"time": {"hours": [9], "zone": "Europe/Zurich"}},
        case(coordinator=CoordinatorFacts(offsets_s={"Europe/Zurich": 3_600})),
        case(coordinator=CoordinatorFacts(offsets_s={"Europe/Zurich": 7_200})),
    ),
    "payments": ({"payments": "none"}, case(self_transfer()), case()),
    "relation": ({"relation": {"kinds": ["additional"]}}, case(ADDITIONAL), case()),
    "time.days": ({"time": {"days": ["fri"]}}, case(), case(t_release=NOW + DAY)),
    "time.hours": ({"time": {"hours": [8]}}, case(), case(t_release=NOW + 3_600)),
    "not": ({"not": {"payments": "none"}}, case(), case(self_transfer())),
    "any_of": (
        {"any_of": [{"payments": "none"}, {"amount": {"max_sats": 52_000}}]},
        case(),
        case(withdrawal((EXCHANGE, 50_001))),
    ),
    "all_of": (
        {"all_of": [{"amount": {"min_sats": 1}}, {"amount": {"max_sats": 52_000}}]},
        case(),
        case(withdrawal((EXCHANGE, 50_001))),
    ),
    "two matchers together": (
        {"amount": {"max_sats": 52_000}, "wallet": {"names": ["treasury"]}},
        case(),
        case(withdrawal(wallet_id=VAULT)),
    ),
}


@pytest.mark.parametrize("field", FIELDS)
def test_matcher_given_one_change_trips_exactly_its_field(field: str) -> None:
    """A match is true of the fitting case and false once the field's own fact changes."""
    match, fitting, other = FIELDS[field]

    assert matches(match, fitting)
    assert not matches(match, other)


NO_SCRIPT = FakeInput(OutPoint(bytes(32), 0), b"")
UNKNOWN: dict[str, tuple[dict[str, Any], Case]] = {
    "a wallet not in the rules": ({"wallet": {"names": ["savings"]}}, case()),
    "a wallet class nobody has": ({"wallet": {"classes": ["frozen"]}}, case()),
    "a user not in the rules": ({"initiator": {"users": ["mallory"]}}, case()),
    "a group not in the rules": ({"initiator": {"groups": ["board"]}}, case()),
    "a service not in the rules": ({"initiator": {"services": ["oracle"]}}, case()),
    "a list not in the rules": ({"destination": {"lists": ["sanctioned"]}}, case()),
    "own scripts nobody looked for": ({"destination": {"class": "internal"}}, case()),
    "a stranger who may be us": ({"destination": {"class": "one_time"}}, case(withdrawal((STRANGER, 1_000)))),
    "now on both sides of an hour": (
        {"time": {"hours": [8]}},
        case(time=Interval(NOW, NOW + 3_600), t_release=None),
    ),
    "beside a matcher that is false": ({"payments": "none", "initiator": {"users": ["mallory"]}}, case()),
    "beside a branch that is true": (
        {"any_of": [{"amount": {"min_sats": 1}}, {"initiator": {"users": ["mallory"]}}]},
        case(),
    ),
    "a script of a coin": ({"shape": {"script_types": ["p2wsh"]}}, case(facts={"inputs": (NO_SCRIPT,)})),
    "factors nobody told": ({"session": {"factors": ["otp"]}}, case(coordinator=CoordinatorFacts())),
    "an address nobody told": ({"session": {"ip_cidrs": ["10.0.0.0/8"]}}, case(coordinator=CoordinatorFacts())),
    "a role nobody told": ({"session": {"cert_role": ["person"]}}, case(coordinator=CoordinatorFacts())),
    "a balance nobody told": ({"pct_of_wallet": {"max_pct": 1}}, case(coordinator=CoordinatorFacts())),
    "confirmations nobody told": ({"min_confirmations": 1}, case(coordinator=CoordinatorFacts())),
    "a lag nobody told": ({"chain": {"max_lag_blocks": 1}}, case(coordinator=CoordinatorFacts())),
    "a zone nobody told": (
        {"time": {"hours": [8], "zone": "Asia/Tokyo"}},
        case(coordinator=CoordinatorFacts(offsets_s={"Europe/Zurich": 0})),
    ),
    "under not": ({"not": {"destination": {"lists": ["sanctioned"]}}}, case()),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_matcher_given_a_missing_fact_denies_and_is_never_false(name: str) -> None:
    """A restriction that cannot be judged denies, whatever stands beside it."""
    match, of = UNKNOWN[name]

    found = asked_with(match, of)

    assert isinstance(found, Deny)
    assert found.refused.code == "POLICY_FACT_MISSING"


@pytest.mark.parametrize("name", UNKNOWN)
def test_allow_given_a_missing_fact_does_not_allow(name: str) -> None:
    """An allow that cannot be judged lets nothing through."""
    match, of = UNKNOWN[name]

    if of.coordinator is not None:
        with pytest.raises(MalformedError, match="POLICY_COORDINATOR_FACT"):
            policy(rule("probe", "allow", match))
        return

    found = decide(policy(rule("probe", "allow", match)), of)

    assert isinstance(found, Deny)
    assert [refused.code for refused in found.refusals] == ["POLICY_FACT_MISSING"]


@pytest.mark.parametrize(
    ("lo", "hi", "live"),
    [(NOW, NOW, True), (NOW - 1, NOW, False), (NOW, NOW + 9, True), (NOW, NOW + 10, False)],
)
def test_list_entry_given_both_ends_of_now_begins_by_lo_and_ends_by_hi(lo: int, hi: int, live: bool) -> None:
    """A cool-down runs out by what witnesses proved; expiry passes by the latest clock."""
    lists = [{"name": "exchanges", "entries": [list_entry(EXCHANGE, valid_from=NOW, expires_at=NOW + 10)]}]

    found = decide(
        policy(rule("listed", "allow", {"destination": {"lists": ["exchanges"]}}), lists=lists),
        case(time=Interval(lo, hi)),
    )

    assert isinstance(found, Allow) is live


def test_time_given_both_ends_of_now_in_one_hour_is_known_without_a_release() -> None:
    """Before a release, now decides where both of its ends agree."""
    assert matches({"time": {"hours": [8]}}, case(time=Interval(NOW, NOW + 3_599), t_release=None))


def test_fee_given_a_release_of_the_past_is_unknown_only_where_its_size_is_asked() -> None:
    """A RELEASE holds the fee and no virtual size."""
    past = Subject(VAULT, "alice", (), 2_000, RelationKind.NEW, lo=NOW, hi=NOW, released=NOW, fee_sats=1_000)

    assert holds(FeeTerm(max_sats=1_000), past, policy()) is True
    assert holds(FeeTerm(max_sats=999), past, policy()) is False
    assert holds(FeeTerm(max_sat_vb=5), past, policy()) is None
    assert holds(FeeTerm(min_sat_vb=5), past, policy()) is None


def test_percentage_given_no_payments_says_nothing() -> None:
    """max_pct_of_amount is judged only where somebody is paid."""
    assert not matches({"not": {"fee": {"max_pct_of_amount": 1}}}, case(self_transfer()))


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ("76a914" + "00" * 20 + "88ac", ScriptType.P2PKH),
        ("a914" + "00" * 20 + "87", ScriptType.P2SH),
        ("0014" + "00" * 20, ScriptType.P2WPKH),
        ("0020" + "00" * 32, ScriptType.P2WSH),
        ("5120" + "00" * 32, ScriptType.P2TR),
        ("6a01ff", ScriptType.OP_RETURN),
        ("0020" + "00" * 31, ScriptType.OTHER),
        ("76a914" + "00" * 20 + "88ad", ScriptType.OTHER),
        ("a914" + "00" * 20 + "88", ScriptType.OTHER),
        ("", ScriptType.OTHER),
    ],
)
def test_script_type_given_each_template_names_it(raw: str, kind: ScriptType) -> None:
    """A script is of a type by its whole template."""
    assert script_type(bytes.fromhex(raw)) is kind


def test_subject_given_payments_sums_them_with_the_largest_fee() -> None:
    """What may leave is the payments and max_fee_sats."""
    subject = Subject(
        VAULT, "alice", case(PAYS_TWO).facts.payments, 2_000, RelationKind.NEW, lo=NOW, hi=NOW, released=NOW
    )

    assert (subject.paid_sats, subject.total_sats) == (60_000, 62_000)


COORDINATOR_MATCHES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("session", {"session": {"factors": ["otp"]}}),
    ("pct_of_wallet", {"pct_of_wallet": {"max_pct": 1}}),
    ("min_confirmations", {"min_confirmations": 1}),
    ("chain", {"chain": {"max_lag_blocks": 1}}),
    ("time.zone", {"time": {"hours": [1], "zone": "Asia/Tokyo"}}),
)


@pytest.mark.parametrize(("name", "match"), COORDINATOR_MATCHES)
@pytest.mark.parametrize("negated", [False, True])
def test_matcher_of_the_coordinator_given_a_signer_is_skipped_by_name(
    name: str, match: dict[str, Any], negated: bool
) -> None:
    """A signer can judge no session and no chain: it says so and goes on, whichever way the rule turns it."""
    found = asked_with({"not": match} if negated else match, case())

    assert isinstance(found, Allow)
    assert [r.said for r in found.reasons if r.rule == "probe"] == [f"skipped: only the coordinator can judge {name}"]


MESSAGE = Subject(
    VAULT, "alice", (), 0, RelationKind.NEW, NOW, NOW, None, message=MessageFact(MessageFormat.SIMPLE, 10)
)


@pytest.mark.parametrize(
    ("term", "fits"),
    [
        (MessageTerm(max_len=10), True),
        (MessageTerm(max_len=9), False),
        (MessageTerm((MessageFormat.SIMPLE,)), True),
        (MessageTerm((MessageFormat.FULL,)), False),
    ],
)
def test_message_given_its_format_and_length_fits_or_not(term: MessageTerm, fits: bool) -> None:
    """The bound itself is inside; without a message nothing is known."""
    assert holds(term, MESSAGE, policy()) is fits
    assert holds(term, replace(MESSAGE, message=None), policy()) is None


def test_replacement_given_several_bumps_measures_from_the_smallest_fee() -> None:
    """A row of small bumps is one large one."""
    term = ReplacementTerm(500)
    bumped = replace(MESSAGE, fee_sats=2_000, replaced_fees=(1_000, 1_800))

    assert holds(term, bumped, policy()) is False
    assert holds(term, replace(bumped, fee_sats=1_500), policy()) is True
    assert holds(term, replace(bumped, replaced_fees=None), policy()) is None
    assert holds(term, replace(bumped, fee_sats=None), policy()) is None
