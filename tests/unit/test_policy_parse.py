"""The rules document is read strictly: one valid document, one change, one exact code."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from custody.canonical import encode, tagged_hash
from custody.errors import MalformedError
from custody.policy import Location, parse_policy, policy_hash
from custody.policy.duties import AllVotes, AnyVotes, Obligations, StagedVotes, Votes
from tests.fakes.rules import DAY, EXCHANGE, NOW, PAY, TREASURY, Document, document, key_of, list_entry, rule, script

Change = Callable[[Document], None]


def changed(change: Change) -> Document:
    """Return the valid document after `change`."""
    found = copy.deepcopy(document())
    change(found)
    return found


def put(*path_and_value: object) -> Change:
    """Return a change that sets the last argument at the path of the others."""
    *path, value = path_and_value

    def change(found: Document) -> None:
        target = found
        for key in path[:-1]:
            target = target[key]  # type: ignore[index]
        target[path[-1]] = value  # type: ignore[index]

    return change


def drop(key: str) -> Change:
    """Return a change that removes a top-level field."""
    return lambda found: found.__delitem__(key)


def offline_witness(found: Document) -> None:
    """Let the offline node claim the witness's key."""
    found["roots"]["nodes"][2]["witness_key"] = key_of("witness").hex()


WRONG: dict[str, tuple[Change, str]] = {
    "another schema": (put("schema", "custody-policy/2"), "POLICY_SCHEMA"),
    "an unknown network": (put("network", "testnet3"), "POLICY_NETWORK"),
    "an unknown field": (put("bypass", True), "FIELD_UNKNOWN"),
    "an unknown field in roots": (put("roots", "extra", 1), "FIELD_UNKNOWN"),
    "an unknown field in a node": (put("roots", "nodes", 0, "x", 1), "FIELD_UNKNOWN"),
    "an unknown field in limits": (put("limits", "x", 1), "FIELD_UNKNOWN"),
    "an unknown field in principals": (put("principals", "orgs", []), "FIELD_UNKNOWN"),
    "an unknown field in a user": (put("principals", "users", 0, "admin", True), "FIELD_UNKNOWN"),
    "an unknown field in a credential": (put("principals", "users", 0, "credentials", 0, "x", 1), "FIELD_UNKNOWN"),
    "an unknown field in a list": (put("lists", 0, "x", 1), "FIELD_UNKNOWN"),
    "an unknown field in a list entry": (put("lists", 0, "entries", 0, "x", 1), "FIELD_UNKNOWN"),
    "an unknown field in a window": (put("windows", "day", "x", 1), "FIELD_UNKNOWN"),
    "an unknown field in a wallet": (put("wallets", "vault", "x", 1), "FIELD_UNKNOWN"),
    "an unknown field in admin": (put("admin", "x", 1), "FIELD_UNKNOWN"),
    "an unknown field in a quorum": (put("admin", "change_quorum", "x", 1), "FIELD_UNKNOWN"),
    "signatures inside": (put("signatures", []), "FIELD_UNKNOWN"),
    "no rules field": (drop("rules"), "FIELD_MISSING"),
    "no end": (drop("not_after"), "FIELD_MISSING"),
    "91 days": (put("not_after", NOW - DAY + 90 * DAY + 1), "POLICY_DATES"),
    "an end before the start": (put("not_after", NOW - DAY), "POLICY_DATES"),
    "a first version with an ancestor": (put("prev_hash", "11" * 32), "POLICY_VERSION"),
    "a second version without one": (put("version", 2), "POLICY_VERSION"),
    "version 0": (put("version", 0), "FIELD_RANGE"),
    "w = 0": (put("roots", "w", 0), "ROOTS_WITNESSES"),
    "2w = W + f": (put("roots", "f", 1), "ROOTS_WITNESSES"),
    "w > W": (put("roots", "w", 2), "ROOTS_WITNESSES"),
    "no witness": (put("roots", "witnesses", []), "ROOTS_WITNESSES"),
    "an offline witness": (offline_witness, "ROOTS_NODE_WITNESS"),
    "a witness key that is no witness": (
        put("roots", "nodes", 0, "witness_key", key_of("other").hex()),
        "ROOTS_NODE_WITNESS",
    ),
    "an unknown location": (put("roots", "nodes", 0, "location", "cloud"), "FIELD_RANGE"),
    "the log key as a node's": (put("roots", "nodes", 0, "identity", key_of("log").hex()), "POLICY_KEY_REUSED"),
    "one key of two people": (
        put("principals", "users", 1, "credentials", 0, "key", key_of("alice").hex()),
        "POLICY_KEY_REUSED",
    ),
    "one name of a user and a service": (put("principals", "services", 0, "name", "alice"), "POLICY_DUPLICATE"),
    "one rule id twice": (put("rules", [PAY, PAY]), "POLICY_DUPLICATE"),
    "one wallet id twice": (put("wallets", "vault", "wallet_id", TREASURY.hex()), "POLICY_DUPLICATE"),
    "one payee twice on a list": (
        put("lists", 0, "entries", [list_entry(EXCHANGE), list_entry(EXCHANGE)]),
        "POLICY_DUPLICATE",
    ),
    "a group nobody listed": (put("principals", "users", 0, "groups", ["root"]), "POLICY_GROUP_UNKNOWN"),
    "a credential of another algorithm": (
        put("principals", "users", 0, "credentials", 0, "alg", "es256"),
        "POLICY_NOT_SUPPORTED",
    ),
    "a calendar window": (put("windows", "day", {"type": "calendar", "tz": "UTC"}), "POLICY_NOT_SUPPORTED"),
    "a window of no time": (put("windows", "day", "seconds", 0), "FIELD_RANGE"),
    "a bundle age of a month": (put("limits", "bundle_max_age_s", 31 * DAY), "FIELD_RANGE"),
    "crossed fee rates": (put("limits", "feerate_min_sat_vb", 501), "FIELD_RANGE"),
    "a change floor under dust": (put("limits", "change_floor_sats", 0), "FIELD_RANGE"),
    "a quorum of nobody": (put("admin", "unfreeze", {"groups": [], "threshold": 1}), "FIELD_RANGE"),
    "a quorum of 0": (put("admin", "unfreeze", "threshold", 0), "FIELD_RANGE"),
    "a hidden character in a label": (put("lists", 0, "entries", 0, "label", "a\u202eb"), "LABEL_UNPRINTABLE"),
    "a list of lists": (put("windows", []), "FIELD_TYPE"),
    "null": (put("windows", None), "NOT_CANONICAL_VALUE"),
}

WRONG_RULES: dict[str, tuple[Document, str]] = {
    "an unknown kind": (rule("r", "bypass", {}), "FIELD_RANGE"),
    "an unknown mode": (rule("r", "deny", {}, mode="off"), "FIELD_RANGE"),
    "an unknown field": (rule("r", "deny", {}, priority=1), "FIELD_UNKNOWN"),
    "then in a deny": (rule("r", "deny", {}, {"window": "day"}), "FIELD_UNKNOWN"),
    "an unknown operation": (rule("r", "deny", {}, operations=["mint"]), "FIELD_RANGE"),
    "a message without operations": (rule("r", "deny", {"message": {"max_len": 9}}), "POLICY_OPERATION"),
    "an amount of a message": (
        rule("r", "deny", {"amount": {"max_sats": 9}}, operations=["message"]),
        "POLICY_OPERATION",
    ),
    "a budget of messages": (
        rule("r", "limit", {}, {"window": "day", "max_count": 1, "on_exceed": "deny"}, operations=["message"]),
        "POLICY_OPERATION",
    ),
    "an unknown format": (rule("r", "deny", {"message": {"formats": ["loud"]}}, operations=["message"]), "FIELD_RANGE"),
    "an allow by session": (rule("r", "allow", {"session": {"factors": ["otp"]}}), "POLICY_COORDINATOR_FACT"),
    "an allow by confirmations": (rule("r", "allow", {"not": {"min_confirmations": 6}}), "POLICY_COORDINATOR_FACT"),
    "an allow by zone": (
        rule("r", "allow", {"time": {"hours": [8], "zone": "Europe/Zurich"}}),
        "POLICY_COORDINATOR_FACT",
    ),
    "a limit by chain": (
        rule("r", "limit", {"chain": {"max_lag_blocks": 2}}, {"window": "day", "max_count": 1, "on_exceed": "deny"}),
        "POLICY_COORDINATOR_FACT",
    ),
    "a share above all": (rule("r", "deny", {"pct_of_wallet": {"max_pct": 101}}), "FIELD_RANGE"),
    "no confirmations": (rule("r", "deny", {"min_confirmations": 0}), "FIELD_RANGE"),
    "a network with host bits": (rule("r", "deny", {"session": {"ip_cidrs": ["10.0.0.1/8"]}}), "POLICY_CIDR"),
    "a network in words": (rule("r", "deny", {"session": {"ip_cidrs": ["home"]}}), "POLICY_CIDR"),
    "an empty session": (rule("r", "deny", {"session": {}}), "POLICY_EMPTY_MATCHER"),
    "a zone of nothing": (rule("r", "deny", {"time": {"zone": "Europe/Zurich"}}), "POLICY_EMPTY_MATCHER"),
    "a zone with spaces": (rule("r", "deny", {"time": {"zone": "of mine", "hours": [1]}}), "POLICY_ZONE"),
    "no coins": (rule("r", "deny", {"inputs": {"outpoints": []}}), "POLICY_EMPTY_MATCHER"),
    "a replacement of nothing": (rule("r", "deny", {"replacement": {}}), "POLICY_EMPTY_MATCHER"),
    "a change of nothing": (rule("r", "deny", {"change": {}}), "POLICY_EMPTY_MATCHER"),
    "a reason in lower case": (rule("r", "deny", {}, reason_code="too high"), "FIELD_NAME"),
    "an unknown matcher": (rule("r", "deny", {"moon": {"phase": 1}}), "FIELD_UNKNOWN"),
    "an unknown field in a matcher": (rule("r", "deny", {"amount": {"max": 1}}), "FIELD_UNKNOWN"),
    "an empty matcher": (rule("r", "deny", {"amount": {}}), "POLICY_EMPTY_MATCHER"),
    "a matcher of defaults": (rule("r", "deny", {"amount": {"include_fee": False}}), "POLICY_EMPTY_MATCHER"),
    "a quantifier of nothing": (rule("r", "deny", {"destination": {"quantifier": "any"}}), "POLICY_EMPTY_MATCHER"),
    "an empty list of names": (rule("r", "deny", {"wallet": {"names": []}}), "POLICY_EMPTY_MATCHER"),
    "a name twice": (rule("r", "deny", {"wallet": {"names": ["a", "a"]}}), "FIELD_DUPLICATE"),
    "not of nothing": (rule("r", "deny", {"not": {}}), "POLICY_EMPTY_MATCHER"),
    "any of nothing": (rule("r", "deny", {"any_of": []}), "POLICY_EMPTY_MATCHER"),
    "any of an empty branch": (rule("r", "deny", {"any_of": [{}]}), "POLICY_EMPTY_MATCHER"),
    "payments of some": (rule("r", "deny", {"payments": "some"}), "FIELD_RANGE"),
    "an hour of 24": (rule("r", "deny", {"time": {"hours": [24]}}), "FIELD_RANGE"),
    "a day of nowhere": (rule("r", "deny", {"time": {"days": ["funday"]}}), "FIELD_RANGE"),
    "a negative amount": (rule("r", "deny", {"amount": {"max_sats": -1}}), "FIELD_RANGE"),
    "a require without then": (rule("r", "require", {}), "FIELD_MISSING"),
    "a require of nothing": (rule("r", "require", {}, {}), "POLICY_EMPTY_MATCHER"),
    "no code typed at the signer": (rule("r", "require", {}, {"local_conf": False}), "POLICY_EMPTY_MATCHER"),
    "no stages": (rule("r", "require", {}, {"approvals": {"stages": []}}), "POLICY_VOTES"),
    "five stages": (
        rule("r", "require", {}, {"approvals": {"stages": [{"service": "screening"}] * 5}}),
        "FIELD_TOO_LONG",
    ),
    "distinct orgs of blind approvals": (
        rule("r", "require", {}, {"approvals": {"group": "ops", "threshold": 2, "blind": True, "distinct_orgs": True}}),
        "POLICY_VOTES",
    ),
    "two voters at once": (
        rule("r", "require", {}, {"approvals": {"group": "ops", "service": "screening", "threshold": 1}}),
        "POLICY_VOTES",
    ),
    "approvals of nobody": (rule("r", "require", {}, {"approvals": {"threshold": 1}}), "POLICY_VOTES"),
    "a threshold of 0": (rule("r", "require", {}, {"approvals": {"group": "ops", "threshold": 0}}), "FIELD_RANGE"),
    "a service twice": (
        rule("r", "require", {}, {"approvals": {"service": "screening", "threshold": 2}}),
        "FIELD_RANGE",
    ),
    "all blind without saying so": (
        rule("r", "require", {}, {"approvals": {"group": "ops", "threshold": 2, "seen": 0}}),
        "POLICY_VOTES",
    ),
    "an initiator who counts": (
        rule("r", "require", {}, {"approvals": {"group": "ops", "threshold": 1, "exclude_initiator": False}}),
        "POLICY_NOT_SUPPORTED",
    ),
    "a number of orgs": (
        rule("r", "require", {}, {"approvals": {"group": "ops", "threshold": 1, "distinct_orgs": 2}}),
        "FIELD_TYPE",
    ),
    "no parts": (rule("r", "require", {}, {"approvals": {"all_of": []}}), "POLICY_VOTES"),
    "13 parts": (
        rule("r", "require", {}, {"approvals": {"any_of": [{"group": f"g{i}", "threshold": 1} for i in range(13)]}}),
        "POLICY_VOTES",
    ),
    "signers of no kind": (rule("r", "require", {}, {"signers": {}}), "POLICY_EMPTY_MATCHER"),
    "a delay of 0": (rule("r", "require", {}, {"delay": {"seconds": 0}}), "FIELD_RANGE"),
    "a limit without then": (rule("r", "limit", {}), "FIELD_MISSING"),
    "a limit of nothing": (rule("r", "limit", {}, {"window": "day", "on_exceed": "deny"}), "POLICY_BUDGET"),
    "a limit of two things": (
        rule("r", "limit", {}, {"window": "day", "max_sats": 1, "max_count": 1, "on_exceed": "deny"}),
        "POLICY_BUDGET",
    ),
    "a limit that shrugs": (
        rule("r", "limit", {}, {"window": "day", "max_sats": 1, "on_exceed": "warn"}),
        "POLICY_BUDGET",
    ),
    "a limit that requires nothing": (
        rule("r", "limit", {}, {"window": "day", "max_sats": 1, "on_exceed": "require"}),
        "FIELD_MISSING",
    ),
    "a limit that denies and asks": (
        rule(
            "r",
            "limit",
            {},
            {"window": "day", "max_sats": 1, "on_exceed": "deny", "approvals": {"group": "ops", "threshold": 1}},
        ),
        "FIELD_UNKNOWN",
    ),
    "a group by nothing known": (
        rule("r", "limit", {}, {"window": "day", "max_sats": 1, "on_exceed": "deny", "group_by": ["ip"]}),
        "FIELD_RANGE",
    ),
}


def test_parse_given_the_valid_document_reads_every_part() -> None:
    """What the document says is what the policy holds."""
    raw = document()

    policy = parse_policy(raw)

    assert policy.hash == policy_hash(raw) == tagged_hash("keyturn/rules/v1", encode(raw))
    assert (policy.policy_id, policy.version, policy.network) == ("treasury", 1, "regtest")
    assert policy.roots.nodes[2].location is Location.OFFLINE
    assert policy.wallet_ids["treasury"] == TREASURY
    assert [user.name for user in policy.members("security")] == ["bob", "dave"]
    found = policy.destination_list("exchanges")
    assert found is not None
    assert found.entries[0].script == script(EXCHANGE)
    assert policy.admin.change_quorum.exclude_author


@pytest.mark.parametrize("name", WRONG)
def test_parse_given_one_wrong_field_refuses_with_its_code(name: str) -> None:
    """A valid document with one change is refused with that change's code."""
    change, code = WRONG[name]

    with pytest.raises(MalformedError) as raised:
        parse_policy(changed(change))

    assert raised.value.code == code


@pytest.mark.parametrize("name", WRONG_RULES)
def test_parse_given_one_wrong_rule_refuses_with_its_code(name: str) -> None:
    """A valid document with one wrong rule is refused with that rule's code."""
    wrong, code = WRONG_RULES[name]

    with pytest.raises(MalformedError) as raised:
        parse_policy(document(PAY, wrong))

    assert raised.value.code == code


def test_parse_given_an_address_of_another_network_refuses() -> None:
    """A mainnet address on a regtest list is no destination."""
    entry = list_entry(EXCHANGE, address="bc1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qccfmv3")

    with pytest.raises(MalformedError) as raised:
        parse_policy(document(lists=[{"name": "exchanges", "entries": [entry]}]))

    assert raised.value.code.startswith("ADDRESS")


def test_parse_given_more_than_a_statement_may_hold_refuses() -> None:
    """Rules that no log entry could carry are refused before anything else is read."""
    described = [{**PAY, "id": f"r{n}", "description": "x" * 1_000} for n in range(600)]

    with pytest.raises(MalformedError) as raised:
        parse_policy(document(*described))

    assert raised.value.code == "POLICY_TOO_LARGE"


@pytest.mark.parametrize(
    ("limits", "is_fine"),
    [
        ({"bundle_max_age_s": 14 * DAY}, True),
        ({"bundle_max_age_s": 14 * DAY + 1}, False),
        ({"feerate_min_sat_vb": 500}, True),
        ({"change_floor_sats": 330}, True),
        ({"change_floor_sats": 329}, False),
        ({"change_max_outputs": 0}, True),
        ({"change_max_outputs": 16}, True),
        ({"change_max_outputs": 17}, False),
    ],
)
def test_parse_given_limits_at_their_edges_accepts_the_inside(limits: dict[str, int], is_fine: bool) -> None:
    """Hard bounds have bounds themselves."""
    found = document(limits={**document()["limits"], **limits})
    if is_fine:
        assert parse_policy(found).limits
        return

    with pytest.raises(MalformedError) as raised:
        parse_policy(found)

    assert raised.value.code == "FIELD_RANGE"


def test_parse_given_deeply_nested_matchers_refuses() -> None:
    """Nesting beyond what people can read is refused."""
    match: Document = {"payments": "none"}
    for _ in range(8):
        match = {"not": match}

    with pytest.raises(MalformedError) as raised:
        parse_policy(document(PAY, rule("r", "deny", match)))

    assert raised.value.code == "POLICY_TOO_DEEP"


def test_parse_given_an_approvals_tree_keeps_its_shape_and_defaults() -> None:
    """Approvals are seen ones of the group unless the rule says blind."""
    tree = {"all_of": [{"group": "ops", "threshold": 2}, {"any_of": [{"service": "screening"}]}]}

    policy = parse_policy(document(PAY, rule("r", "require", {}, {"approvals": tree})))

    obligations = policy.rules[1].obligations
    assert obligations is not None
    assert obligations.approvals == AllVotes(
        (
            Votes("ops", None, threshold=2, seen=2, blind=False),
            AnyVotes((Votes(None, "screening", threshold=1, seen=1, blind=False),)),
        )
    )


def test_parse_given_stages_keeps_their_order() -> None:
    """The first stage comes first."""
    stages = [{"group": "ops", "threshold": 1}, {"service": "screening"}]

    policy = parse_policy(document(PAY, rule("r", "require", {}, {"approvals": {"stages": stages}})))

    obligations = policy.rules[1].obligations
    assert obligations is not None
    assert obligations.approvals == StagedVotes(
        (
            Votes("ops", None, threshold=1, seen=1, blind=False),
            Votes(None, "screening", threshold=1, seen=1, blind=False),
        )
    )


def test_parse_given_every_field_of_votes_keeps_it() -> None:
    """What narrows an approval is read as it stands."""
    leaf = {"group": "ops", "threshold": 2, "lifetime_s": 60, "distinct_orgs": True, "device_bound": True}

    policy = parse_policy(
        document(PAY, rule("r", "require", {}, {"approvals": {**leaf, "exclude_initiator": True}, "local_conf": True}))
    )

    assert policy.rules[1].obligations == Obligations(
        Votes("ops", None, 2, 2, False, 60, distinct_orgs=True, device_bound=True), local_conf=True
    )


def test_parse_given_who_spoke_for_a_list_entry_keeps_it() -> None:
    """approved_by is shown to people."""
    entry = list_entry(EXCHANGE, approved_by=["erin", "frank"])

    policy = parse_policy(document(lists=[{"name": "exchanges", "entries": [entry]}]))

    assert policy.lists[0].entries[0].approved_by == ("erin", "frank")


def test_parse_given_demo_and_production_witness_numbers_accepts_both() -> None:
    """W=3 w=2 f=0 and W=4 w=3 f=1 satisfy 2w > W + f."""
    for total, w, f in ((3, 2, 0), (4, 3, 1)):
        names = [f"witness-{i}" for i in range(total)]
        witnesses = [{"name": name, "key": key_of(name).hex()} for name in names]
        roots = {**document()["roots"], "witnesses": witnesses, "w": w, "f": f}

        assert parse_policy(document(roots=roots)).roots.w == w


def test_policy_hash_given_one_changed_bit_differs() -> None:
    """Every field is inside the hash."""
    assert policy_hash(document(not_after=NOW + 1)) != policy_hash(document(not_after=NOW + 2))
