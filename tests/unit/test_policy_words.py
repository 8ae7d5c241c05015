"""What a rules document is refused with, word for word, and what its matchers are called: people read both."""

from __future__ import annotations

from typing import Any

import pytest

from custody.errors import MalformedError
from custody.policy import parse_policy
from custody.policy.subject import CoordinatorFacts, MessageFact, Subject
from custody.policy.terms import (
    AmountTerm,
    ChainTerm,
    ChangeTerm,
    ConfirmationsTerm,
    DestinationClass,
    DestinationTerm,
    FeeTerm,
    InitiatorTerm,
    InputsTerm,
    MessageFormat,
    MessageTerm,
    NoPaymentsTerm,
    RelationTerm,
    ReplacementTerm,
    ScriptType,
    SessionTerm,
    ShapeTerm,
    Term,
    TimeTerm,
    WalletShareTerm,
    WalletTerm,
    ZoneTimeTerm,
)
from custody.policy.words import describe
from custody.transaction import OutPoint
from custody.withdrawal import RelationKind
from tests.fakes.rules import (
    EXCHANGE,
    NOW,
    PAY,
    TREASURY,
    document,
    outputs,
    policy,
    rule,
    script,
    withdrawal,
)
from tests.unit.test_policy_parse import WRONG, WRONG_RULES, changed

DOCUMENTS: dict[str, str] = {
    "another schema": "policy.schema: expected custody-policy/1, found 'custody-policy/2'",
    "an unknown network": "policy.network: expected a known network, found 'testnet3'",
    "an unknown field": "policy: found unknown field 'bypass'",
    "an unknown field in roots": "policy.roots: found unknown field 'extra'",
    "an unknown field in a node": "policy.roots.nodes[0]: found unknown field 'x'",
    "an unknown field in limits": "policy.limits: found unknown field 'x'",
    "an unknown field in principals": "policy.principals: found unknown field 'orgs'",
    "an unknown field in a user": "policy.principals.users[0]: found unknown field 'admin'",
    "an unknown field in a credential": "policy.principals.users[0].credentials[0]: found unknown field 'x'",
    "an unknown field in a list": "policy.lists[0]: found unknown field 'x'",
    "an unknown field in a list entry": "policy.lists[0].entries[0]: found unknown field 'x'",
    "an unknown field in a window": "policy.windows.day: found unknown field 'x'",
    "an unknown field in a wallet": "policy.wallets.vault: found unknown field 'x'",
    "an unknown field in admin": "policy.admin: found unknown field 'x'",
    "an unknown field in a quorum": "policy.admin.change_quorum: found unknown field 'x'",
    "signatures inside": "policy: found unknown field 'signatures'",
    "no rules field": "policy: expected field rules",
    "no end": "policy: expected field not_after",
    "91 days": "policy.not_after: expected within 90 days after effective_from",
    "an end before the start": "policy.not_after: expected within 90 days after effective_from",
    "a first version with an ancestor": "policy.prev_hash: expected 64 zeros in version 1 and there alone",
    "a second version without one": "policy.prev_hash: expected 64 zeros in version 1 and there alone",
    "version 0": "policy.version: expected 1..9007199254740991, found 0",
    "w = 0": "policy.roots.w: expected 1 <= w <= W, 2w > W + f, found W=1 w=0 f=0",
    "2w = W + f": "policy.roots.w: expected 1 <= w <= W, 2w > W + f, found W=1 w=1 f=1",
    "w > W": "policy.roots.w: expected 1 <= w <= W, 2w > W + f, found W=1 w=2 f=0",
    "no witness": "policy.roots.w: expected 1 <= w <= W, 2w > W + f, found W=0 w=1 f=0",
    "an offline witness": "policy.roots.nodes: expected cold online with a witness's key, or without one",
    "a witness key that is no witness": (
        "policy.roots.nodes: expected alpha online with a witness's key, or without one"
    ),
    "an unknown location": "policy.roots.nodes[0].location: expected online or offline",
    "the log key as a node's": "expected each key once, found b00bd177c929f9c1 2 times",
    "one key of two people": "expected each key once, found c5505c9d4f4d0d57 2 times",
    "one name of a user and a service": "expected each principal once, found alice 2 times",
    "one rule id twice": "expected each rule once, found pay 2 times",
    "one wallet id twice": (
        "expected each wallet_id once, found 0101010101010101010101010101010101010101010101010101010101010101 2 times"
    ),
    "one payee twice on a list": (
        "expected each list exchanges once, found 00200b0b0b0b0b0b0b0"
        "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b 2 times"
    ),
    "a group nobody listed": "alice: expected a listed group, found root",
    "a credential of another algorithm": (
        "policy.principals.users[0].credentials[0].alg: "
        "expected ed25519 or ssh or webauthn-es256 or webauthn-ed25519, found 'es256'"
    ),
    "a calendar window": "policy.windows.day.type: expected sliding or lifetime",
    "a window of no time": "policy.windows.day.seconds: expected 1..34560000, found 0",
    "a bundle age of a month": "policy.limits.bundle_max_age_s: expected 1..1209600, found 2678400",
    "crossed fee rates": "policy.limits.feerate_min_sat_vb: expected at most feerate_max_sat_vb",
    "a change floor under dust": "policy.limits.change_floor_sats: expected 330..2100000000000000, found 0",
    "a quorum of nobody": "policy.admin.unfreeze.groups: expected at least one group",
    "a quorum of 0": "policy.admin.unfreeze.threshold: expected 1..64, found 0",
    "a hidden character in a label": "policy.lists[0].entries[0].label: expected printable characters",
    "a list of lists": "policy.windows: expected an object, found list",
    "null": "expected JSON without floats or null, found NoneType",
}

RULES: dict[str, str] = {
    "an unknown kind": "policy.rules[1].kind: expected one of allow, deny, require, limit, found 'bypass'",
    "an unknown mode": "policy.rules[1].mode: expected one of enforce, shadow, found 'off'",
    "an unknown field": "policy.rules[1]: found unknown field 'priority'",
    "then in a deny": "policy.rules[1]: found unknown field 'then'",
    "an unknown operation": "policy.rules[1].operations[0].item: expected one of withdrawal, message, found 'mint'",
    "a message without operations": "policy.rules[1]: expected operations [message] beside match.message",
    "an amount of a message": "policy.rules[1]: a message has no payee, amount, fee or budget",
    "a budget of messages": "policy.rules[1]: a message has no payee, amount, fee or budget",
    "an unknown format": (
        "policy.rules[1].match.message.formats[0].item: expected one of simple, full, funds, found 'loud'"
    ),
    "an allow by session": "policy.rules[1].match: no signer can judge session",
    "an allow by confirmations": "policy.rules[1].match: no signer can judge min_confirmations",
    "an allow by zone": "policy.rules[1].match: no signer can judge time.zone",
    "a limit by chain": "policy.rules[1].match: no signer can judge chain",
    "a share above all": "policy.rules[1].match.pct_of_wallet.max_pct: expected 0..100, found 101",
    "no confirmations": "policy.rules[1].match.min_confirmations: expected 1..10000, found 0",
    "a network with host bits": (
        "policy.rules[1].match.session.ip_cidrs[0]: expected a network such as 10.0.0.0/8, found '10.0.0.1/8'"
    ),
    "a network in words": (
        "policy.rules[1].match.session.ip_cidrs[0]: expected a network such as 10.0.0.0/8, found 'home'"
    ),
    "an empty session": "policy.rules[1].match.session: expected a field that narrows",
    "a zone of nothing": "policy.rules[1].match.time: expected a field that narrows",
    "a zone with spaces": "policy.rules[1].match.time.zone: expected a zone such as Europe/Zurich, found 'of mine'",
    "no coins": "policy.rules[1].match.inputs.outpoints: expected at least one item",
    "a replacement of nothing": "policy.rules[1].match.replacement: expected a field that narrows",
    "a change of nothing": "policy.rules[1].match.change: expected a field that narrows",
    "a reason in lower case": "policy.rules[1].reason_code: expected A-Z, 0-9 and underscores",
    "an unknown matcher": "policy.rules[1].match: found unknown field 'moon'",
    "an unknown field in a matcher": "policy.rules[1].match.amount: found unknown field 'max'",
    "an empty matcher": "policy.rules[1].match.amount: expected a field that narrows",
    "a matcher of defaults": "policy.rules[1].match.amount: expected a field that narrows",
    "a quantifier of nothing": "policy.rules[1].match.destination: expected a field that narrows",
    "an empty list of names": "policy.rules[1].match.wallet.names: expected at least one item",
    "a name twice": "policy.rules[1].match.wallet.names: expected distinct items",
    "not of nothing": "policy.rules[1].match.not: expected at least one matcher",
    "any of nothing": "policy.rules[1].match.any_of: expected at least one branch",
    "any of an empty branch": "policy.rules[1].match.any_of[0]: expected at least one matcher",
    "payments of some": "policy.rules[1].match.payments: expected none, found 'some'",
    "an hour of 24": "policy.rules[1].match.time.hours[0].item: expected 0..23, found 24",
    "a day of nowhere": "policy.rules[1].match.time.days[0]: expected mon tue wed thu fri sat sun, found 'funday'",
    "a negative amount": "policy.rules[1].match.amount.max_sats: expected 0..2100000000000000, found -1",
    "a require without then": "policy.rules[1]: expected field then",
    "a require of nothing": "policy.rules[1].then: expected something that is required",
    "no code typed at the signer": "policy.rules[1].then: expected something that is required",
    "no stages": "policy.rules[1].then.approvals.stages: expected at least one part",
    "five stages": "policy.rules[1].then.approvals.stages: expected at most 4 items",
    "distinct orgs of blind approvals": (
        "policy.rules[1].then.approvals: expected distinct_orgs with seen people alone"
    ),
    "two voters at once": "policy.rules[1].then.approvals: expected group or service, one of them",
    "approvals of nobody": "policy.rules[1].then.approvals: expected group or service, one of them",
    "a threshold of 0": "policy.rules[1].then.approvals.threshold: expected 1..64, found 0",
    "a service twice": "policy.rules[1].then.approvals.threshold: expected 1..1, found 2",
    "all blind without saying so": "policy.rules[1].then.approvals: expected seen >= 1, or blind true",
    "an initiator who counts": "policy.rules[1].then.approvals.exclude_initiator: the initiator never counts",
    "a number of orgs": "policy.rules[1].then.approvals.distinct_orgs: expected true or false, found int",
    "no parts": "policy.rules[1].then.approvals.all_of: expected at least one part",
    "13 parts": "policy.rules[1].then.approvals: expected at most 12 parts",
    "signers of no kind": "policy.rules[1].then.signers: expected include, exclude or min_offline",
    "a delay of 0": "policy.rules[1].then.delay.seconds: expected 1..2592000, found 0",
    "a limit without then": "policy.rules[1]: expected field then",
    "a limit of nothing": "policy.rules[1].then: expected one of max_sats, max_count, max_fee_sats",
    "a limit of two things": "policy.rules[1].then: expected one of max_sats, max_count, max_fee_sats",
    "a limit that shrugs": "policy.rules[1].then.on_exceed: expected deny or require",
    "a limit that requires nothing": "policy.rules[1].then: expected field approvals",
    "a limit that denies and asks": "policy.rules[1].then: found unknown field 'approvals'",
    "a group by nothing known": (
        "policy.rules[1].then.group_by[0].item: expected one of wallet, initiator, destination, org, found 'ip'"
    ),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_parse_given_one_wrong_field_says_where_and_what(name: str) -> None:
    """The place in the document, what was expected there, and what was found."""
    with pytest.raises(MalformedError) as raised:
        parse_policy(changed(WRONG[name][0]))

    assert raised.value.message == DOCUMENTS[name]


@pytest.mark.parametrize("name", RULES)
def test_parse_given_one_wrong_rule_says_where_and_what(name: str) -> None:
    """The second rule of the document is the wrong one, by its number and the path inside it."""
    with pytest.raises(MalformedError) as raised:
        parse_policy(document(PAY, WRONG_RULES[name][0]))

    assert raised.value.message == RULES[name]


def read(match: dict[str, Any], operation: str = "withdrawal") -> str:
    """Return the code with which a deny with `match` is refused, or "read"."""
    try:
        parse_policy(document(PAY, rule("r", "deny", match, operations=[operation])))
    except MalformedError as error:
        return error.code
    return "read"


MOST = 21 * 10**14
LARGEST: tuple[tuple[str, str, int], ...] = (
    ("amount", "min_sats", MOST),
    ("amount", "max_sats", MOST),
    ("amount", "per_output_max_sats", MOST),
    ("fee", "max_sats", MOST),
    ("fee", "max_sat_vb", 100_000),
    ("fee", "min_sat_vb", 100_000),
    ("fee", "max_pct_of_amount", 100),
    ("shape", "max_inputs", 100_000),
    ("shape", "max_outputs", 100_000),
    ("shape", "max_vbytes", 1_000_000),
    ("change", "max_outputs", 16),
    ("replacement", "max_fee_increase", MOST),
    ("pct_of_wallet", "max_pct", 100),
    ("chain", "max_lag_blocks", 10_000),
    ("message", "max_len", 2_000),
)


@pytest.mark.parametrize(("matcher", "field", "most"), LARGEST)
def test_matcher_given_a_number_at_its_edges_reads_the_inside(matcher: str, field: str, most: int) -> None:
    """From nothing to the largest that can be meant."""
    operation = "message" if matcher == "message" else "withdrawal"

    found = [read({matcher: {field: number}}, operation) for number in (0, most, most + 1)]

    assert found == ["read", "read", "FIELD_RANGE"]


@pytest.mark.parametrize("matcher", sorted({*(name for name, _, _ in LARGEST), "wallet", "initiator", "destination"}))
def test_matcher_given_nothing_is_refused_as_empty(matcher: str) -> None:
    """What narrows nothing would match everything."""
    assert read({matcher: {}}, "message" if matcher == "message" else "withdrawal") == "POLICY_EMPTY_MATCHER"


@pytest.mark.parametrize("match", [{"inputs": {}}, {"relation": {}}, {"time": {}}, {"session": {}}])
def test_matcher_of_lists_given_nothing_is_refused_as_empty(match: dict[str, Any]) -> None:
    """No list at all is as empty as one without items."""
    assert read(match) == "POLICY_EMPTY_MATCHER"


@pytest.mark.parametrize(
    ("zone", "code"),
    [
        ("Europe/Zurich", "read"),
        ("America/Port-au-Prince", "read"),
        ("America/New_York", "read"),
        ("A" * 40, "read"),
        ("A" * 41, "FIELD_TOO_LONG"),
        ("Europe/Z\u00fcrich", "POLICY_ZONE"),
        ("Europe Zurich", "POLICY_ZONE"),
        ("../etc/passwd", "POLICY_ZONE"),
    ],
)
def test_zone_given_its_spelling_reads_names_of_zones_alone(zone: str, code: str) -> None:
    """Letters, digits, slashes, hyphens and underscores of ASCII, at most 40."""
    assert read({"time": {"zone": zone, "hours": [8]}}) == code


@pytest.mark.parametrize(
    ("cidr", "code"),
    [
        ("10.0.0.0/8", "read"),
        ("fd00::/8", "read"),
        ("10.0.0.0", "POLICY_CIDR"),
        ("010.0.0.0/8", "POLICY_CIDR"),
        ("FD00::/8", "POLICY_CIDR"),
        ("1" * 65, "FIELD_TOO_LONG"),
    ],
)
def test_cidr_given_its_spelling_reads_the_one_of_its_network(cidr: str, code: str) -> None:
    """One network has one spelling."""
    assert read({"session": {"ip_cidrs": [cidr]}}) == code


def test_policy_given_a_name_finds_what_is_called_so_or_nothing() -> None:
    """Nodes, rules, wallets, windows, lists, people and their keys, by name."""
    found = policy(PAY, rule("z", "deny", {}))
    alice = found.principal("alice")
    assert alice is not None
    node, last, wallet = found.roots.node("beta"), found.rule("z"), found.wallet(TREASURY)

    assert (node and node.name, last and last.id, wallet and wallet.name) == ("beta", "z", "treasury")
    assert alice.credential(alice.credentials[0].key) is alice.credentials[0]
    assert alice.credential(bytes(32)) is None
    nothing = [found.roots.node("zeta"), found.rule("y"), found.wallet(bytes(32)), found.window("year")]
    assert [*nothing, found.destination_list("all"), found.principal("zoe")] == [None] * 6


OUTPOINT = OutPoint(bytes([9]) * 32, 1)
SUBJECT = Subject(
    wallet_id=TREASURY,
    initiator="alice",
    payments=outputs(withdrawal((EXCHANGE, 50_000), (EXCHANGE, 1_000))),
    max_fee_sats=2_000,
    relation=RelationKind.NEW,
    lo=NOW,
    hi=NOW + 1,
    released=None,
    fee_sats=900,
    inputs=1,
    outputs=3,
    vsize_vb=200,
    outpoints=frozenset({OUTPOINT}),
    change_outputs=1,
    replaced_fees=(700, 800),
    message=MessageFact(MessageFormat.SIMPLE, 7),
    coordinator=CoordinatorFacts(frozenset({"otp", "cert"}), "10.0.0.1", "person", 10**6, 6, 3, {}),
)
LEDGER = "1000000 sats, 6 confirmations, 3 blocks behind"
DESCRIBED: dict[str, tuple[Term, str]] = {
    "wallet": (WalletTerm(("treasury", "vault"), ("hot",)), "wallet names=treasury,vault classes=hot; found treasury"),
    "initiator": (InitiatorTerm(groups=("ops",)), "initiator groups=ops; found alice"),
    "destination": (
        DestinationTerm(scripts=(script(EXCHANGE),), kind=DestinationClass.ONE_TIME, op_return=False),
        f"destination scripts={script(EXCHANGE).hex()} kind=one_time quantifier=all op_return=False; found 2 payees",
    ),
    "amount": (
        AmountTerm(max_sats=5_000),
        "amount max_sats=5000 include_fee=True; found 51000 sats + at most 2000 sats of fee",
    ),
    "fee": (FeeTerm(max_sats=0), "fee max_sats=0; found 900 sats in 200 vB"),
    "shape": (
        ShapeTerm(script_types=(ScriptType.P2WSH, ScriptType.P2TR)),
        "shape script_types=p2wsh,p2tr; found 1 inputs, 3 outputs, 200 vB",
    ),
    "inputs": (InputsTerm((OUTPOINT,)), f"inputs outpoints={'09' * 32}:1; found {'09' * 32}:1"),
    "change": (ChangeTerm(2), "change max_outputs=2; found 1 change outputs"),
    "payments": (NoPaymentsTerm(), "nopayments; found 2 payees"),
    "relation": (RelationTerm((RelationKind.SUPERSEDES,)), "relation kinds=supersedes; found new"),
    "replacement": (ReplacementTerm(9), "replacement max_fee_increase=9; found 900 sats over (700, 800)"),
    "message": (MessageTerm(max_len=9), "message max_len=9; found simple, 7 characters"),
    "time": (TimeTerm((0,), (8, 9)), f"time days=0 hours=8,9; found ({NOW}, {NOW + 1})"),
    "zone": (ZoneTimeTerm("Asia/Tokyo", (), (8,)), f"zonetime zone=Asia/Tokyo hours=8; found ({NOW}, {NOW + 1})"),
    "session": (SessionTerm(("otp",)), "session factors=otp; found cert,otp from 10.0.0.1 as person"),
    "share": (WalletShareTerm(10), f"walletshare max_pct=10; found {LEDGER}"),
    "confirmations": (ConfirmationsTerm(6), f"confirmations least=6; found {LEDGER}"),
    "chain": (ChainTerm(2), f"chain max_lag_blocks=2; found {LEDGER}"),
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_describe_given_each_matcher_says_what_it_wants_and_what_it_found(name: str) -> None:
    """Only what narrows is named; enums by their word, scripts in hex."""
    term, expected = DESCRIBED[name]

    assert describe(term, SUBJECT, policy()) == expected


def test_describe_given_facts_that_nobody_knows_says_so() -> None:
    """Unknown is said as unknown, never as a number or a name."""
    unknown = Subject(bytes(32), "alice", (), 0, RelationKind.NEW, NOW, NOW, NOW)
    told_nothing = Subject(bytes(32), "alice", (), 0, RelationKind.NEW, NOW, NOW, NOW, coordinator=CoordinatorFacts())

    def found(term: Term, of: Subject) -> str:
        return describe(term, of, policy()).partition("; found ")[2]

    assert found(WalletTerm(("treasury",)), unknown) == "unknown"
    assert found(InputsTerm((OUTPOINT,)), unknown) == "unknown"
    assert found(MessageTerm(max_len=9), unknown) == "no message"
    assert found(TimeTerm((0,)), unknown) == str(NOW)
    assert found(SessionTerm(("otp",)), unknown) == found(ChainTerm(2), unknown) == "nobody to ask"
    assert found(SessionTerm(("otp",)), told_nothing) == "no factors from None as None"
