"""A rules document that says everything there is to say, read into exactly these values; its numbers at their edges."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from custody.errors import MalformedError
from custody.interval import Interval
from custody.policy import Location, parse_policy
from custody.policy.document import (
    Admin,
    ChangeQuorum,
    Credential,
    DestinationList,
    Limits,
    ListEntry,
    Mode,
    Node,
    Principal,
    Quorum,
    Roots,
    Rule,
    RuleKind,
    WalletName,
    Window,
    Witness,
)
from custody.policy.duties import (
    AllVotes,
    AnyVotes,
    Budget,
    Delay,
    GroupBy,
    Measure,
    Obligations,
    SignersRequired,
    StagedVotes,
    Veto,
    Votes,
)
from custody.policy.terms import (
    AllTerm,
    AmountTerm,
    AnyTerm,
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
    NotTerm,
    Operation,
    Quantifier,
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
from custody.transaction import OutPoint
from custody.withdrawal import RelationKind
from tests.fakes.authenticators import ORIGIN, RP_ID, Passkey
from tests.fakes.rules import (
    DAY,
    EXCHANGE,
    NOW,
    PAY,
    STRANGER,
    SUPPLIER,
    TREASURY,
    VAULT,
    Document,
    address,
    document,
    key_of,
    list_entry,
    rule,
    script,
)

WRITTEN: dict[str, tuple[Document, Term]] = {
    "wallet": ({"names": ["a"], "classes": ["hot", "cold"]}, WalletTerm(("a",), ("hot", "cold"))),
    "initiator": (
        {"users": ["alice"], "groups": ["ops"], "services": ["payroll"]},
        InitiatorTerm(("alice",), ("ops",), ("payroll",)),
    ),
    "destination": (
        {
            "lists": ["exchanges"],
            "addresses": [address(EXCHANGE), address(SUPPLIER)],
            "class": "one_time",
            "quantifier": "any",
            "script_types": ["p2wsh", "p2tr"],
            "op_return": False,
        },
        DestinationTerm(
            ("exchanges",),
            (script(EXCHANGE), script(SUPPLIER)),
            DestinationClass.ONE_TIME,
            Quantifier.ANY,
            (ScriptType.P2WSH, ScriptType.P2TR),
            op_return=False,
        ),
    ),
    "amount": (
        {"min_sats": 1, "max_sats": 2, "per_output_max_sats": 3, "include_fee": False},
        AmountTerm(1, 2, 3, include_fee=False),
    ),
    "fee": ({"max_sats": 1, "max_sat_vb": 2, "min_sat_vb": 3, "max_pct_of_amount": 4}, FeeTerm(1, 2, 3, 4)),
    "shape": (
        {"max_inputs": 1, "max_outputs": 2, "max_vbytes": 3, "script_types": ["p2wpkh"]},
        ShapeTerm(1, 2, 3, (ScriptType.P2WPKH,)),
    ),
    "inputs": ({"outpoints": [f"{'09' * 32}:1"]}, InputsTerm((OutPoint(bytes([9]) * 32, 1),))),
    "change": ({"max_outputs": 2}, ChangeTerm(2)),
    "relation": (
        {"kinds": ["new", "additional", "supersedes"]},
        RelationTerm((RelationKind.NEW, RelationKind.ADDITIONAL, RelationKind.SUPERSEDES)),
    ),
    "replacement": ({"max_fee_increase": 5}, ReplacementTerm(5)),
    "time": ({"days": ["mon", "sun"], "hours": [0, 23]}, TimeTerm((0, 6), (0, 23))),
    "session": (
        {"factors": ["otp"], "ip_cidrs": ["10.0.0.0/8"], "cert_role": ["person"]},
        SessionTerm(("otp",), ("10.0.0.0/8",), ("person",)),
    ),
    "pct_of_wallet": ({"max_pct": 6}, WalletShareTerm(6)),
    "chain": ({"max_lag_blocks": 7}, ChainTerm(7)),
}


def read(match: Document, operation: str = "withdrawal") -> tuple[Term, ...]:
    """Return the matchers that a deny with `match` is read as."""
    return parse_policy(document(rule("r", "deny", match, operations=[operation]))).rules[0].match.terms


@pytest.mark.parametrize("matcher", WRITTEN)
def test_matcher_given_every_field_keeps_each_in_its_place(matcher: str) -> None:
    """Two fields of one kind are not taken for each other."""
    value, term = WRITTEN[matcher]

    assert read({matcher: value}) == (term,)


def test_matcher_given_other_forms_keeps_them() -> None:
    """Words instead of objects, messages, zones, and what joins matchers."""
    assert read({"payments": "none"}) == (NoPaymentsTerm(),)
    assert read({"min_confirmations": 6}) == (ConfirmationsTerm(6),)
    assert read({"time": {"zone": "Asia/Tokyo", "days": ["tue"], "hours": [8]}}) == (
        ZoneTimeTerm("Asia/Tokyo", (1,), (8,)),
    )
    said = {"formats": ["simple", "full"], "max_len": 9}
    assert read({"message": said}, "message") == (MessageTerm((MessageFormat.SIMPLE, MessageFormat.FULL), 9),)
    one, two = {"change": {"max_outputs": 1}}, {"payments": "none"}
    parts = (AllTerm((ChangeTerm(1),)), AllTerm((NoPaymentsTerm(),)))
    assert read({"not": two, "any_of": [one, two], "all_of": [one, two]}) == (
        AllTerm(parts),
        AnyTerm(parts),
        NotTerm(AllTerm((NoPaymentsTerm(),))),
    )


def test_matcher_given_defaults_leaves_them_open() -> None:
    """One field given, all others say nothing."""
    assert read({"amount": {"max_sats": 2}}) == (AmountTerm(max_sats=2),)
    assert read({"destination": {"op_return": True}}) == (DestinationTerm(op_return=True),)
    assert read({"destination": {"class": "internal"}}) == (DestinationTerm(kind=DestinationClass.INTERNAL),)


LEAF = {"group": "ops", "threshold": 3, "seen": 2, "blind": True, "lifetime_s": 60, "device_bound": True}
VOTES = Votes("ops", None, 3, 2, True, 60, device_bound=True)
SERVICE = Votes(None, "screening", 1, 1, False)
REQUIRE = rule(
    "req",
    "require",
    {"payments": "none"},
    {
        "approvals": {"stages": [LEAF, {"any_of": [{"service": "screening"}, {"all_of": [LEAF]}]}]},
        "signers": {"include": ["cold", "beta"], "exclude": ["alpha"], "min_offline": 2},
        "delay": {"seconds": 90, "veto": {"group": "security", "threshold": 2}},
        "local_conf": True,
    },
    mode="shadow",
    reason_code="WHY_1",
    not_before=NOW,
    expires_at=NOW + 1,
    description="for people",
)
LIMIT = rule(
    "lim",
    "limit",
    {},
    {
        "window": "day",
        "max_fee_sats": 8,
        "group_by": ["org", "wallet", "initiator", "destination"],
        "on_exceed": "require",
        "approvals": {"group": "ops", "threshold": 2, "distinct_orgs": True},
    },
)
SPEAK = rule("say", "allow", {"message": {"max_len": 5}}, operations=["message"])


def test_rule_given_every_field_keeps_each_in_its_place() -> None:
    """A require with all that can be asked, a limit with its own approvals, an allow of messages."""
    require, limit, speak = parse_policy(document(REQUIRE, LIMIT, SPEAK)).rules

    assert require == Rule(
        id="req",
        kind=RuleKind.REQUIRE,
        mode=Mode.SHADOW,
        match=AllTerm((NoPaymentsTerm(),)),
        obligations=Obligations(
            StagedVotes((VOTES, AnyVotes((SERVICE, AllVotes((VOTES,)))))),
            SignersRequired(("beta", "cold"), ("alpha",), 2),
            Delay(90, (Veto("security", 2),)),
            local_conf=True,
        ),
        reason_code="WHY_1",
        not_before=NOW,
        expires_at=NOW + 1,
        description="for people",
    )
    groups = (GroupBy.ORG, GroupBy.WALLET, GroupBy.INITIATOR, GroupBy.DESTINATION)
    lifted_by = Votes("ops", None, 2, 2, False, distinct_orgs=True)
    assert limit == Rule(
        id="lim",
        kind=RuleKind.LIMIT,
        mode=Mode.ENFORCE,
        match=AllTerm(()),
        budget=Budget("day", Measure.FEE_SATS, 8, groups, lifted_by),
    )
    assert (speak.kind, speak.operations) == (RuleKind.ALLOW, (Operation.MESSAGE,))


def test_document_given_every_field_keeps_each_in_its_place() -> None:
    """Roots, limits, people with keys of each kind, lists, windows, wallets, and who may change it all."""
    found = parse_policy(WHOLE)

    assert (found.policy_id, found.version, found.prev_hash) == ("treasury", 2, bytes([5]) * 32)
    assert (found.effective_from, found.not_after) == (NOW - DAY, NOW + 30 * DAY)
    assert found.roots == ROOTS
    assert found.limits == Limits(9, 1, 500, 10_000, 1)
    assert found.users[-1] == PASSKEY_OWNER
    assert found.services[0] == Principal("screening", "guard", (), (_plain("screening"),), NOW + 365 * DAY, True)
    assert found.groups == ("ops", "security", "admins", "bots")
    entry = ListEntry(address(EXCHANGE), script(EXCHANGE), "payee 11", NOW - DAY, NOW + 365 * DAY, ("erin",))
    assert found.lists == (DestinationList("exchanges", (entry,)),)
    assert found.windows == (Window("day", DAY), Window("ever", None))
    assert found.wallets == (WalletName("treasury", TREASURY, ("hot",)), WalletName("vault", VAULT, ("cold",)))
    assert found.admin == Admin(
        change_quorum=ChangeQuorum(("admins",), 2, True),
        loosen_delay_s=DAY,
        freeze=Quorum(("security", "admins"), 1),
        unfreeze=Quorum(("admins",), 2),
        list_quorum=ChangeQuorum(("ops", "admins"), 3, False, True),
        people_quorum=ChangeQuorum(("security",), 1, True, False),
        locked_rules=("pay",),
    )


def _plain(name: str) -> Credential:
    return Credential("ed25519", key_of(name), seen=True)


PASSKEY = Passkey("pat")
PASSKEY_OWNER = Principal(
    "pat",
    "acme",
    ("ops",),
    (
        Credential(
            PASSKEY.alg, PASSKEY.key, True, True, RP_ID, (ORIGIN,), bytes.fromhex(PASSKEY.credential()["desk_key"])
        ),
    ),
    NOW + 9,
    False,
)
ROOTS = Roots(
    key_of("log"),
    (Witness("w-1", key_of("w-1")), Witness("w-2", key_of("w-2")), Witness("w-3", key_of("w-3"))),
    2,
    0,
    (
        Node("alpha", key_of("alpha"), Location.ONLINE, "host-a", key_of("w-2"), "acme", "vault-a"),
        Node("cold", key_of("cold"), Location.OFFLINE, "host-c"),
    ),
    (RP_ID,),
    (ORIGIN,),
)


def _whole() -> Document:
    base = document(PAY)
    owner = {
        "name": "pat",
        "org": "acme",
        "groups": ["ops"],
        "credentials": [PASSKEY.credential(device_bound=True)],
        "valid_until": NOW + 9,
    }
    base["principals"]["users"].append(owner)
    alpha = {"name": "alpha", "identity": key_of("alpha").hex(), "location": "online", "host": "host-a"}
    more = {"witness_key": key_of("w-2").hex(), "org": "acme", "vault": "vault-a"}
    cold = {"name": "cold", "identity": key_of("cold").hex(), "location": "offline", "host": "host-c"}
    changes: Document = {
        "version": 2,
        "prev_hash": "05" * 32,
        "roots": {
            "log_key": key_of("log").hex(),
            "witnesses": [{"name": f"w-{n}", "key": key_of(f"w-{n}").hex()} for n in (1, 2, 3)],
            "w": 2,
            "f": 0,
            "nodes": [{**alpha, **more}, cold],
            "rp_ids": [RP_ID],
            "origins": [ORIGIN],
        },
        "limits": {**base["limits"], "bundle_max_age_s": 9},
        "lists": [{"name": "exchanges", "entries": [list_entry(EXCHANGE, approved_by=["erin"])]}],
        "admin": {
            **base["admin"],
            "list_quorum": {
                "groups": ["ops", "admins"],
                "threshold": 3,
                "exclude_author": False,
                "distinct_orgs": True,
            },
            "people_quorum": {"groups": ["security"], "threshold": 1, "exclude_author": True},
            "locked_rules": ["pay"],
        },
    }
    return {**base, **changes}


WHOLE = _whole()
MOST = 21 * 10**14


def code(found: Document) -> str:
    """Return the code with which a document is refused, or "read"."""
    try:
        parse_policy(found)
    except MalformedError as error:
        return error.code
    return "read"


def placed(path: str, value: Any) -> Document:
    """Return the whole document with `value` at a path of keys and indices."""
    found = copy.deepcopy(WHOLE)
    *keys, last = (int(step) if step.isdigit() else step for step in path.split("/"))
    target: Any = found
    for key in keys:
        target = target[key]
    target[last] = value
    return found


EDGES: tuple[tuple[str, int, int], ...] = (
    ("limits/bundle_max_age_s", 1, 14 * DAY),
    ("limits/feerate_min_sat_vb", 0, 500),
    ("limits/feerate_max_sat_vb", 1, 100_000),
    ("limits/change_floor_sats", 330, MOST),
    ("limits/change_max_outputs", 0, 16),
    ("windows/day/seconds", 1, 400 * DAY),
    ("admin/loosen_delay_s", 0, 30 * DAY),
    ("admin/change_quorum/threshold", 1, 64),
    ("admin/list_quorum/threshold", 1, 64),
    ("admin/freeze/threshold", 1, 64),
    ("not_after", NOW - DAY + 1, NOW - DAY + 90 * DAY),
)


@pytest.mark.parametrize(("path", "least", "most"), EDGES)
def test_document_given_a_number_at_its_edges_reads_the_inside(path: str, least: int, most: int) -> None:
    """The bounds themselves are inside, one beyond is not."""
    assert [code(placed(path, number)) for number in (least, most)] == ["read", "read"]
    assert "read" not in [code(placed(path, number)) for number in (least - 1, most + 1)]


def asking(then: Document) -> str:
    """Return the code with which a require of `then` is refused, or "read"."""
    return code(document(rule("r", "require", {}, then)))


RULE_EDGES: dict[str, tuple[Any, int, int]] = {
    "threshold": (lambda n: {"approvals": {"group": "ops", "threshold": n}}, 1, 64),
    "seen": (lambda n: {"approvals": {"group": "ops", "threshold": 5, "blind": True, "seen": n}}, 0, 5),
    "lifetime": (lambda n: {"approvals": {"group": "ops", "threshold": 1, "lifetime_s": n}}, 1, 30 * DAY),
    "min_offline": (lambda n: {"signers": {"min_offline": n}}, 1, 15),
    "delay": (lambda n: {"delay": {"seconds": n}}, 1, 30 * DAY),
    "veto": (lambda n: {"delay": {"seconds": 1, "veto": {"group": "ops", "threshold": n}}}, 1, 64),
}


@pytest.mark.parametrize("name", RULE_EDGES)
def test_require_given_a_number_at_its_edges_reads_the_inside(name: str) -> None:
    """As above, inside a rule."""
    then, least, most = RULE_EDGES[name]

    assert [asking(then(number)) for number in (least - 1, least, most, most + 1)] == [
        "FIELD_RANGE",
        "read",
        "read",
        "FIELD_RANGE",
    ]


@pytest.mark.parametrize("measure", list(Measure))
def test_limit_given_a_number_at_its_edges_reads_the_inside(measure: Measure) -> None:
    """From none at all to all the money there is."""

    def limited(most: int) -> str:
        return code(document(rule("r", "limit", {}, {"window": "day", measure.value: most, "on_exceed": "deny"})))

    assert [limited(most) for most in (-1, 0, MOST, MOST + 1)] == ["FIELD_RANGE", "read", "read", "FIELD_RANGE"]


def test_approvals_given_their_depth_and_size_at_their_edges_reads_the_inside() -> None:
    """Four levels and twelve parts can be read by people; more is refused."""
    leaf: Document = {"group": "ops", "threshold": 1}

    def nested(levels: int) -> Document:
        return leaf if levels == 0 else {"all_of": [nested(levels - 1)]}

    assert [asking({"approvals": nested(levels)}) for levels in (4, 5)] == ["read", "POLICY_TOO_DEEP"]
    assert asking({"approvals": {"any_of": [leaf] * 12}}) == "read"
    assert asking({"approvals": {"any_of": [{"stages": [leaf] * 4}] * 3}}) == "read"
    assert asking({"approvals": {"any_of": [{"stages": [leaf] * 4}] * 3 + [leaf]}}) == "POLICY_VOTES"
    assert asking({"approvals": {"service": "screening", "distinct_orgs": True}}) == "POLICY_VOTES"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("A_1", "read"), ("A" * 64, "read"), ("A" * 65, "FIELD_TOO_LONG"), ("a", "FIELD_NAME"), ("\u00c4", "FIELD_NAME")],
)
def test_reason_code_given_its_spelling_reads_capitals_alone(text: str, expected: str) -> None:
    """Programs look for it, so it has one spelling."""
    assert code(document(rule("r", "deny", {}, reason_code=text))) == expected


def test_description_and_label_given_their_length_at_its_edges_reads_the_inside() -> None:
    """Words for people are short enough to be read."""
    assert [code(document(rule("r", "deny", {}, description="x" * n))) for n in (1_000, 1_001)] == [
        "read",
        "FIELD_TOO_LONG",
    ]
    lists = [[{"name": "x", "entries": [list_entry(EXCHANGE, label="x" * n)]}] for n in (140, 141)]
    assert [code(document(lists=found)) for found in lists] == ["read", "FIELD_TOO_LONG"]


def test_list_given_both_ends_of_now_is_live_between_its_dates() -> None:
    """An entry begins by the early end and is over by the late one."""
    entries = [list_entry(EXCHANGE, valid_from=NOW, expires_at=NOW + 10), list_entry(STRANGER, valid_from=NOW + 1)]
    (found,) = parse_policy(document(lists=[{"name": "x", "entries": entries}])).lists

    def live(now: Interval) -> frozenset[bytes]:
        return found.live_scripts(now.lo, now.hi)

    assert live(Interval(NOW, NOW + 9)) == {script(EXCHANGE)}
    assert live(Interval(NOW - 1, NOW + 9)) == live(Interval(NOW, NOW + 10)) == frozenset()
    assert live(Interval(NOW + 1, NOW + 1)) == {script(EXCHANGE), script(STRANGER)}


@pytest.mark.parametrize(
    ("people", "changes", "heads"),
    [
        ({"erin", "frank", "grace"}, {}, 3),
        ({"erin", "frank", "grace"}, {"exclude_author": True}, 2),
        ({"erin", "frank", "grace"}, {"distinct_orgs": True}, 2),
        ({"erin", "frank", "grace"}, {"distinct_orgs": True, "exclude_author": True}, 1),
        ({"erin", "zoe"}, {}, 1),
        (set(), {}, 0),
        (set(), {"exclude_author": True}, 0),
    ],
)
def test_heads_given_people_counts_those_who_can_stand_for_one_each(
    people: set[str], changes: dict[str, bool], heads: int
) -> None:
    """Erin and frank are of one org, grace of another; whoever writes a document does not sign for himself."""
    quorum = ChangeQuorum(("admins",), 2, changes.get("exclude_author", False), changes.get("distinct_orgs", False))

    assert parse_policy(document()).heads(quorum, people) == heads
