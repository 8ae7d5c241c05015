"""The decision: every ground, obligation and mode, each tripped by exactly one change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from custody.approval import Approval, Decision
from custody.decide import Allow, Case, Decided, Deny, MessageCase, Need, check_feerate, decide, decide_message
from custody.interval import Interval
from custody.message import Message
from custody.policy.duties import Delay, SignersRequired, Veto
from custody.policy.explain import explain
from custody.policy.terms import MessageFormat
from custody.statements import Kind, sign
from tests.fakes.rules import (
    DAY,
    GENESIS,
    NOW,
    PAY,
    TREASURY,
    Document,
    approval,
    case,
    document,
    policy,
    rule,
    seed_of,
    self_transfer,
    withdrawal,
)

W = withdrawal()
TWO_EYES = rule("two-eyes", "require", {}, {"approvals": {"group": "ops", "threshold": 2}})


def codes(found: Decided) -> list[str]:
    """Return the codes of a Deny, or none."""
    return [refused.code for refused in found.refusals] if isinstance(found, Deny) else []


def require(then: dict[str, Any], name: str = "req") -> Document:
    """Return a rule that asks `then` of every withdrawal."""
    return rule(name, "require", {}, then)


def test_decide_given_a_matching_allow_allows_with_the_policy_hash_and_every_reason() -> None:
    """Yes carries what it rests on."""
    rules = policy(PAY, rule("z", "deny", {"payments": "none"}))

    found = decide(rules, case())

    assert isinstance(found, Allow)
    assert found.policy_hash == rules.hash
    assert [(r.rule, r.said, r.applied) for r in found.reasons] == [
        ("pay", "matched", True),
        ("z", "did not match", False),
    ]
    assert (found.signers, found.delay) == (SignersRequired(), Delay(0))


HARD: dict[str, tuple[Case, dict[str, Any], str]] = {
    "rules of tomorrow": (case(time=Interval(NOW - DAY - 1, NOW)), {}, "RULES_NOT_YET"),
    "rules of yesterday": (case(time=Interval(NOW, NOW + 30 * DAY)), {"not_after": NOW + DAY // 2}, "RULES_EXPIRED"),
    "another network": (case(withdrawal(network="signet")), {}, "NETWORK_OTHER"),
    "a higher floor": (case(withdrawal(rules_floor=2)), {}, "RULES_FLOOR"),
    "an unknown wallet": (case(withdrawal(wallet_id=bytes(32))), {}, "WALLET_UNKNOWN"),
    "an unknown initiator": (case(withdrawal(initiator="mallory")), {}, "INITIATOR_UNKNOWN"),
    "an expired withdrawal": (case(withdrawal(expires_at=NOW)), {}, "WITHDRAWAL_EXPIRED"),
    "a reject": (case(W, approvals=(approval(W, "bob", decision=Decision.REJECT),)), {}, "REJECTED"),
}


@pytest.mark.parametrize("name", HARD)
def test_decide_given_a_hard_ground_denies_whatever_rules_say(name: str) -> None:
    """No rule lifts what stands above the rules."""
    of, changes, code = HARD[name]

    assert codes(decide(policy(**changes), of))[:1] == [code]


def test_decide_given_no_allow_denies() -> None:
    """What nobody permits is not permitted."""
    assert codes(decide(policy(rules=[]), case())) == ["NO_RULE_ALLOWS"]


def test_decide_given_a_deny_beside_an_allow_denies_with_its_reason_code() -> None:
    """Deny wins, and says its own code."""
    found = decide(policy(PAY, rule("no", "deny", {}, reason_code="HOLIDAY")), case())

    assert codes(found) == ["HOLIDAY"]


def test_decide_given_shadow_rules_shows_them_and_changes_nothing() -> None:
    """A shadow rule is judged and shown; it neither denies nor allows nor asks."""
    shadows = [
        rule("s-deny", "deny", {}, mode="shadow"),
        rule("s-unknown", "deny", {"wallet": {"names": ["gone"]}}, mode="shadow"),
        rule("s-req", "require", {}, {"signers": {"min_offline": 1}}, mode="shadow"),
        rule("s-limit", "limit", {}, {"window": "day", "max_count": 0, "on_exceed": "deny"}, mode="shadow"),
    ]

    found = decide(policy(PAY, *shadows), case())
    alone = decide(policy(rule("s-allow", "allow", PAY["match"], mode="shadow")), case())

    assert isinstance(found, Allow)
    assert found.signers == SignersRequired()
    assert [reason.said for reason in found.reasons if reason.rule == "s-deny"] == ["matched"]
    assert codes(alone) == ["NO_RULE_ALLOWS"]


@pytest.mark.parametrize(
    ("dates", "lo", "hi", "allows", "denies"),
    [
        ({"not_before": NOW}, NOW, NOW, True, True),
        ({"not_before": NOW}, NOW - 1, NOW, False, True),
        ({"not_before": NOW}, NOW - 2, NOW - 1, False, False),
        ({"expires_at": NOW}, NOW - 1, NOW - 1, True, True),
        ({"expires_at": NOW}, NOW - 1, NOW, False, True),
        ({"expires_at": NOW}, NOW, NOW + 1, False, False),
    ],
)
def test_rule_given_dates_permits_by_both_ends_of_now_and_restricts_by_either(
    dates: dict[str, Any], lo: int, hi: int, allows: bool, denies: bool
) -> None:
    """Where the ends of now disagree, an allow is not in force and a deny is."""
    of = case(time=Interval(lo, hi))

    assert isinstance(decide(policy({**PAY, **dates}), of), Allow) is allows
    assert codes(decide(policy(PAY, rule("no", "deny", {}, **dates)), of)) == (["RULE_DENIES"] if denies else [])


def test_decide_given_a_self_transfer_needs_an_allow_that_bounds_its_fee() -> None:
    """Where nobody is paid, only an allow with fee.max_sats lets a fee go; a deny does not stand in for it."""
    open_ended = rule("keep", "allow", {"payments": "none"})
    bounded = rule("keep", "allow", {"payments": "none", "fee": {"max_sats": 1_000}})
    either = rule("keep", "allow", {"any_of": [{"payments": "none"}, {"fee": {"max_sats": 1_000}}]})
    fee_deny = rule("fee", "deny", {"not": {"fee": {"max_sats": 1_000}}})

    assert codes(decide(policy(open_ended), case(self_transfer()))) == ["FEE_UNBOUNDED"]
    assert codes(decide(policy(either), case(self_transfer()))) == ["FEE_UNBOUNDED"]
    assert codes(decide(policy(open_ended, fee_deny), case(self_transfer()))) == ["FEE_UNBOUNDED"]
    assert isinstance(decide(policy(bounded), case(self_transfer())), Allow)


def test_decide_given_several_grounds_names_them_all() -> None:
    """Evaluation does not stop at the first no."""
    found = decide(policy(rule("no", "deny", {})), case(withdrawal(rules_floor=2)))

    assert codes(found) == ["RULES_FLOOR", "RULE_DENIES", "NO_RULE_ALLOWS"]


# Approvals


def test_approvals_given_too_few_says_who_could_give_them() -> None:
    """The missing are named: members of the group, without the initiator and without those who did."""
    found = decide(policy(PAY, TWO_EYES), case(W, "bob"))

    assert isinstance(found, Need)
    (missing,) = found.missing
    assert (missing.rule, missing.of, missing.needed) == ("two-eyes", "group ops", 1)
    assert (missing.have, missing.could) == (("bob",), ("carol",))


def test_approvals_given_enough_allows() -> None:
    """Two people of the group, neither the initiator."""
    assert isinstance(decide(policy(PAY, TWO_EYES), case(W, "bob", "carol")), Allow)


NOT_COUNTED: dict[str, Case] = {
    "of another group": case(W, "bob", "dave"),
    "the initiator": case(W, "bob", "alice"),
    "a blind credential": case(W, "bob", "blind-ben"),
    "the same person twice": case(W, approvals=(approval(W, "bob"), approval(W, "bob", at=NOW - 9))),
    "another's key": case(W, approvals=(approval(W, "bob"), approval(W, "carol", signer="bob"))),
    "another withdrawal's": case(W, approvals=(approval(W, "bob"), approval(withdrawal(withdrawal_id="w-2"), "carol"))),
    "one out of date": case(W, approvals=(approval(W, "bob"), approval(W, "carol", expires_at=NOW))),
    "a service": case(W, "bob", "screening"),
}


@pytest.mark.parametrize("name", NOT_COUNTED)
def test_approvals_given_one_that_must_not_count_stay_missing(name: str) -> None:
    """One real approval and one that is none are one."""
    found = decide(policy(PAY, TWO_EYES), NOT_COUNTED[name])

    assert isinstance(found, Need)
    assert [missing.needed for missing in found.missing] == [1]


def test_approvals_given_blind_rules_count_blind_ones_beside_enough_seen() -> None:
    """blind: true admits blind approvals, and still asks for one seen."""
    tree = {"group": "ops", "threshold": 2, "blind": True}
    rules = policy(PAY, require({"approvals": tree}))
    none_seen = policy(PAY, require({"approvals": {"group": "ops", "threshold": 1, "blind": True}}))
    all_blind = policy(PAY, require({"approvals": {"group": "ops", "threshold": 1, "blind": True, "seen": 0}}))

    assert isinstance(decide(rules, case(W, "bob", "blind-ben")), Allow)
    assert isinstance(decide(none_seen, case(W, "blind-ben")), Need)
    assert isinstance(decide(all_blind, case(W, "blind-ben")), Allow)


@pytest.mark.parametrize(("age", "counts"), [(59, True), (60, False)])
def test_approvals_given_a_lifetime_age_out(age: int, counts: bool) -> None:
    """An approval counts for less than lifetime_s seconds after its own time."""
    rules = policy(PAY, require({"approvals": {"group": "ops", "threshold": 1, "lifetime_s": 60}}))

    found = decide(rules, case(W, approvals=(approval(W, "bob", at=NOW - age),)))

    assert isinstance(found, Allow) is counts


def test_approvals_given_a_service_wants_that_service() -> None:
    """A screening service approves by its own key."""
    rules = policy(PAY, require({"approvals": {"service": "screening"}}))

    assert isinstance(decide(rules, case(W, "screening")), Allow)
    assert isinstance(decide(rules, case(W, "payroll")), Need)


def test_approvals_given_all_of_two_groups_counts_one_human_once() -> None:
    """Bob is in both groups and is still one human; a second one is needed."""
    tree = {"all_of": [{"group": "ops", "threshold": 1}, {"group": "security", "threshold": 1}]}
    rules = policy(PAY, require({"approvals": tree}))

    assert isinstance(decide(rules, case(W, "bob")), Need)
    assert isinstance(decide(rules, case(W, "bob", "carol")), Allow)
    assert isinstance(decide(rules, case(W, "bob", "dave")), Allow)


def test_approvals_given_too_few_for_two_parts_never_seat_one_person_twice() -> None:
    """Three places and two people who fit them: one stays empty, whoever is seated first."""
    tree = {"all_of": [{"group": "security", "threshold": 1}, {"group": "ops", "threshold": 2}]}

    found = decide(policy(PAY, require({"approvals": tree})), case(W, "bob", "carol"))

    assert isinstance(found, Need)
    assert sum(missing.needed for missing in found.missing) == 1
    assert isinstance(decide(policy(PAY, require({"approvals": tree})), case(W, "bob", "carol", "dave")), Allow)


def test_approvals_given_seen_and_blind_people_seat_the_seen_where_they_are_needed() -> None:
    """One seen and one blind person fill a part that wants one seen, whichever is seated first."""
    tree = {"all_of": [{"group": "ops", "threshold": 1, "blind": True, "seen": 0}, {"group": "ops", "threshold": 1}]}
    rules = policy(PAY, require({"approvals": tree}))

    assert isinstance(decide(rules, case(W, "blind-ben", "bob")), Allow)
    assert isinstance(decide(rules, case(W, "blind-ben")), Need)


def test_approvals_given_any_of_needs_one_part_and_lists_every_option() -> None:
    """Either part is enough; with none, both ways are shown."""
    tree = {"any_of": [{"group": "ops", "threshold": 2}, {"group": "security", "threshold": 1}]}
    rules = policy(PAY, require({"approvals": tree}))

    nobody = decide(rules, case())

    assert isinstance(decide(rules, case(W, "dave")), Allow)
    assert isinstance(nobody, Need)
    assert [(m.of, m.needed, m.option) for m in nobody.missing] == [("group ops", 2, 0), ("group security", 1, 1)]


def test_approvals_given_two_rules_count_in_each() -> None:
    """The union of what rules ask: one person's approval serves both rules."""
    rules = policy(
        PAY,
        require({"approvals": {"group": "ops", "threshold": 1}}, "a"),
        require({"approvals": {"group": "security", "threshold": 1}}, "b"),
    )

    assert isinstance(decide(rules, case(W, "bob")), Allow)
    found = decide(rules, case(W, "carol"))
    assert isinstance(found, Need)
    assert [missing.rule for missing in found.missing] == ["b"]


def test_approvals_given_no_release_yet_are_judged_at_the_later_end_of_now() -> None:
    """Before T(RELEASE) there is only now."""
    asked = case(W, approvals=(approval(W, "bob", expires_at=NOW + 10),), t_release=None)
    rules = policy(PAY, require({"approvals": {"group": "ops", "threshold": 1}}))

    assert isinstance(decide(rules, asked), Allow)
    assert isinstance(decide(rules, replace(asked, time=Interval(NOW, NOW + 10))), Need)


STAGES = {"stages": [{"group": "ops", "threshold": 1}, {"group": "security", "threshold": 1}]}


def test_approvals_given_stages_count_a_later_one_only_behind_the_approvals_it_names() -> None:
    """Security approves what ops approved: its statement names that approval, or it counts nothing."""
    rules = policy(PAY, require({"approvals": STAGES}))
    first = approval(W, "carol")
    naming = approval(W, "dave", after=(first[0].digest,))

    assert isinstance(decide(rules, case(W, approvals=(first, naming))), Allow)
    assert isinstance(decide(rules, case(W, approvals=(naming, first))), Allow)
    for others in ((first, approval(W, "dave")), (first, approval(W, "dave", after=(bytes(32),)))):
        found = decide(rules, case(W, approvals=others))
        assert isinstance(found, Need)
        assert [(m.of, m.stage) for m in found.missing] == [("group security", 1)]


def test_approvals_given_stages_ask_a_later_one_only_when_the_earlier_are_filled() -> None:
    """Nobody is asked to approve what he could not name yet; each alternative has its own order."""
    third = [*STAGES["stages"], {"service": "screening"}]
    first = approval(W, "carol")
    second = approval(W, "dave", after=(first[0].digest,))
    for given, asked in (
        ((), [("group ops", 0)]),
        ((second,), [("group ops", 0)]),
        ((first,), [("group security", 1)]),
        ((first, second), [("service screening", 2)]),
    ):
        found = decide(policy(PAY, require({"approvals": {"stages": third}})), case(W, approvals=given))
        assert isinstance(found, Need)
        assert [(m.of, m.stage) for m in found.missing] == asked
    either = {"any_of": [{"stages": third}, {"all_of": [{"group": "admins", "threshold": 1}, STAGES]}]}
    found = decide(policy(PAY, require({"approvals": either})), case(W))
    assert isinstance(found, Need)
    assert [(m.option, m.of, m.stage) for m in found.missing] == [
        (0, "group ops", 0),
        (1, "group admins", 0),
        (1, "group ops", 0),
    ]


def test_approvals_given_stages_never_count_one_human_in_two() -> None:
    """Bob is of both groups and fills one stage."""
    rules = policy(PAY, require({"approvals": STAGES}))
    first = approval(W, "bob")
    again = approval(W, "bob", after=(first[0].digest,))

    assert isinstance(decide(rules, case(W, approvals=(first, again))), Need)
    assert isinstance(decide(rules, case(W, approvals=(first, approval(W, "dave", after=(first[0].digest,))))), Allow)


def test_approvals_given_three_stages_want_each_to_name_all_before() -> None:
    """The last stage names both earlier ones, the second of which named the first."""
    rules = policy(PAY, require({"approvals": {"stages": [*STAGES["stages"], {"service": "screening"}]}}))
    first = approval(W, "carol")
    second = approval(W, "dave", after=(first[0].digest,))
    both = tuple(sorted((first[0].digest, second[0].digest)))

    assert isinstance(decide(rules, case(W, approvals=(first, second, approval(W, "screening", after=both)))), Allow)
    for named in ((second[0].digest,), (first[0].digest,)):
        last = approval(W, "screening", after=named)
        assert isinstance(decide(rules, case(W, approvals=(first, second, last))), Need)


def test_approvals_given_distinct_orgs_count_one_of_each_org() -> None:
    """Bob is of acme and dave of guard; two of acme are one."""
    tree = {"group": "security", "threshold": 2, "distinct_orgs": True}
    ops = {"group": "ops", "threshold": 2, "distinct_orgs": True}

    assert isinstance(decide(policy(PAY, require({"approvals": tree})), case(W, "bob", "dave")), Allow)
    found = decide(policy(PAY, require({"approvals": ops})), case(W, "bob", "carol"))
    assert isinstance(found, Need)
    assert [(m.needed, m.have) for m in found.missing] == [(1, ("bob",))]
    assert isinstance(decide(policy(PAY, require({"approvals": {**ops, "threshold": 1}})), case(W, "carol")), Allow)


def test_approvals_given_distinct_orgs_beside_another_part_seat_people_where_they_fit() -> None:
    """Bob fits both parts and is seated where nobody else can sit."""
    parts = [{"group": "security", "threshold": 2, "distinct_orgs": True}, {"group": "ops", "threshold": 1}]
    rules = policy(PAY, require({"approvals": {"all_of": parts}}))

    assert isinstance(decide(rules, case(W, "bob", "carol", "dave")), Allow)
    assert isinstance(decide(rules, case(W, "bob", "dave")), Need)


def test_approvals_given_device_bound_count_only_keys_that_are() -> None:
    """A key that can be copied approves nothing here."""
    rules = require({"approvals": {"group": "ops", "threshold": 1, "device_bound": True}})
    people = document()["principals"]
    people["users"][2]["credentials"][0]["device_bound"] = True

    found = decide(policy(PAY, rules, principals=people), case(W, "bob"))

    assert isinstance(found, Need)
    assert found.missing[0].could == ("carol",)
    assert isinstance(decide(policy(PAY, rules, principals=people), case(W, "carol")), Allow)


# Signers and delay


def test_signers_given_several_rules_ask_for_their_union() -> None:
    """Includes and excludes add up; the largest min_offline stands."""
    rules = policy(
        PAY,
        require({"signers": {"include": ["beta"], "min_offline": 1}}, "a"),
        require({"signers": {"include": ["cold"], "exclude": ["alpha"]}}, "b"),
    )

    found = decide(rules, case())

    assert isinstance(found, Allow)
    assert found.signers == SignersRequired(("beta", "cold"), ("alpha",), 1)


def test_signers_given_one_node_both_ways_denies() -> None:
    """What cannot be met is a no."""
    rules = policy(
        PAY, require({"signers": {"include": ["beta"]}}, "a"), require({"signers": {"exclude": ["beta"]}}, "b")
    )

    assert codes(decide(rules, case())) == ["SIGNERS_CONFLICT"]


def test_signers_given_an_unknown_node_denies() -> None:
    """A node that the rules do not know can neither be waited for nor kept out."""
    rules = policy(PAY, require({"signers": {"exclude": ["gamma"]}}))

    assert codes(decide(rules, case())) == ["SIGNER_UNKNOWN"]


def test_delay_given_several_rules_is_the_longest_with_every_veto() -> None:
    """The union of delays."""
    rules = policy(
        PAY,
        require({"delay": {"seconds": 60, "veto": {"group": "security", "threshold": 1}}}, "a"),
        require({"delay": {"seconds": 3_600}}, "b"),
    )

    found = decide(rules, case())

    assert isinstance(found, Allow)
    assert found.delay == Delay(3_600, (Veto("security", 1),))


def test_need_given_a_delay_carries_it_so_that_its_notice_can_be_given_at_once() -> None:
    """Waiting and approving run side by side."""
    found = decide(policy(PAY, require({"delay": {"seconds": 60}}, "a"), TWO_EYES), case())

    assert isinstance(found, Need)
    assert found.delay == Delay(60)


def test_local_conf_given_one_rule_asks_for_it_at_every_signer() -> None:
    """The decision carries it: a signer's own operator types the code."""
    rules = policy(PAY, require({"local_conf": True}))

    found, waiting = decide(rules, case()), decide(policy(PAY, require({"local_conf": True}), TWO_EYES), case())

    assert isinstance(found, Allow)
    assert found.local_conf
    assert isinstance(waiting, Need)
    assert waiting.local_conf
    assert "  a code is typed at each signer" in explain(found)


@pytest.mark.parametrize(
    ("shadow", "would"),
    [
        (rule("s", "deny", {}, reason_code="HOLIDAY"), "deny with HOLIDAY"),
        (rule("s", "allow", {}), "allow"),
        (rule("s", "require", {}, {"signers": {"min_offline": 1}}), "ask for nothing that is missing"),
        (rule("s", "require", {}, {"approvals": {"group": "ops", "threshold": 2}}), "need 2 of group ops"),
        (rule("s", "limit", {}, {"window": "day", "max_count": 1, "on_exceed": "deny"}), "find room"),
        (
            rule("s", "limit", {}, {"window": "day", "max_count": 0, "on_exceed": "deny"}),
            "LIMIT_EXCEEDED: expected at most 0 (max_count) in day by rule s, found 1",
        ),
        (
            rule(
                "s",
                "limit",
                {},
                {"window": "day", "max_count": 0, "on_exceed": "require", "approvals": {"service": "screening"}},
            ),
            "ask for approvals",
        ),
        (rule("s", "deny", {"payments": "none"}), ""),
    ],
)
def test_shadow_rule_given_a_match_says_what_it_would_do_and_decides_nothing(shadow: Document, would: str) -> None:
    """A shadow rule is tried out on real withdrawals."""
    found = decide(policy(PAY, {**shadow, "mode": "shadow"}), case())

    assert isinstance(found, Allow)
    assert [reason.would for reason in found.reasons if reason.rule == "s"] == [would]
    assert any("(shadow" in line for line in explain(found))


# Messages


def message(**changes: Any) -> Message:
    """Return a message by alice."""
    base = Message(GENESIS, "m-1", TREASURY, 0, "proof of funds", "alice", NOW - 9, NOW + DAY)
    return replace(base, **changes)


def message_case(said: Message, *people: str) -> MessageCase:
    """Return the case of `said` with approvals by `people`."""
    approvals = []
    for person in people:
        vote = Approval(said.genesis, said.digest, Decision.APPROVE, person, NOW - 5, NOW + DAY)
        approvals.append((vote, sign(Kind.APPROVAL, vote.to_json(), seed_of(person))))
    return MessageCase(said, MessageFormat.SIMPLE, tuple(approvals), Interval(NOW, NOW), NOW)


SPEAK = rule("speak", "allow", {"message": {"max_len": 20}}, operations=["message"])


def test_message_given_rules_of_withdrawals_alone_is_denied() -> None:
    """No rule for money permits a message."""
    assert codes(decide_message(policy(PAY), message_case(message()))) == ["NO_RULE_ALLOWS"]


def test_message_given_its_own_rules_is_judged_by_them_alone() -> None:
    """A deny of withdrawals says nothing of messages, and the other way about."""
    rules = policy(
        PAY,
        SPEAK,
        rule("no", "deny", {}),
        rule("hush", "deny", {"message": {"max_len": 9}}, mode="shadow", operations=["message"]),
    )

    found = decide_message(rules, message_case(message()))

    assert isinstance(found, Allow)
    assert [reason.rule for reason in found.reasons] == ["hush", "speak"]
    assert codes(decide_message(rules, message_case(message(text="x" * 21)))) == ["NO_RULE_ALLOWS"]
    assert codes(decide(policy(SPEAK), case())) == ["NO_RULE_ALLOWS"]


def test_message_given_a_require_wants_approvals_of_this_message() -> None:
    """An approval names the digest of the message."""
    ask = rule("ask", "require", {}, {"approvals": {"group": "ops", "threshold": 1}}, operations=["message"])
    rules = policy(SPEAK, ask)

    assert isinstance(decide_message(rules, message_case(message(), "bob")), Allow)
    assert isinstance(decide_message(rules, message_case(message(), "alice")), Need)
    other = replace(message_case(message()), approvals=message_case(message(text="other"), "bob").approvals)
    assert isinstance(decide_message(rules, other), Need)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"expires_at": NOW}, "MESSAGE_EXPIRED"),
        ({"wallet_id": bytes(32)}, "WALLET_UNKNOWN"),
        ({"initiator": "mallory"}, "INITIATOR_UNKNOWN"),
    ],
)
def test_message_given_a_hard_ground_is_denied(changes: dict[str, Any], code: str) -> None:
    """No rule lifts what stands above the rules."""
    assert codes(decide_message(policy(SPEAK), message_case(message(**changes)))) == [code]


# Fee rate and words


@pytest.mark.parametrize(
    ("fee", "code"), [(199, "FEERATE_BELOW_MIN"), (200, None), (100_000, None), (100_001, "FEERATE_ABOVE_MAX")]
)
def test_check_feerate_given_both_edges_refuses_outside(fee: int, code: str | None) -> None:
    """The bounds themselves are inside."""
    refused = check_feerate(policy().limits, fee, 200)

    assert (refused.code if refused else None) == code


def test_explain_given_each_decision_says_the_verdict_first() -> None:
    """People read the verdict, what is missing and who could give it, then each rule with its reasons."""
    rules = policy(PAY, TWO_EYES, require({"delay": {"seconds": 60, "veto": {"group": "security", "threshold": 1}}}))
    needed = explain(decide(rules, case(W, "bob")))
    denied = explain(decide(policy(rules=[]), case()))
    shadow = explain(decide(policy(PAY, rule("s", "deny", {}, mode="shadow")), case()))

    assert needed[0].startswith("NEED approvals under rules ")
    assert "  waits 60 s after its notice; may be vetoed by 1 of security" in needed
    assert "  rule two-eyes needs 1 more of group ops (have: bob; could: carol)" in needed
    assert "  allow pay: matched" in needed
    assert denied[:2] == (denied[0], "  NO_RULE_ALLOWS: expected at least one allow that matches, found none")
    assert denied[0].startswith("DENY")
    assert shadow[0].startswith("ALLOW")
    assert "  deny s: matched (shadow: would deny with RULE_DENIES)" in shadow


def test_decide_given_the_document_of_the_manual_judges_small_and_large() -> None:
    """Small ones go by rules alone; large ones need two people, the cold node and an hour."""
    ops = {"initiator": {"groups": ["ops"]}, "wallet": {"names": ["treasury"]}}
    rules = policy(
        rule("pay", "allow", {**ops, "destination": {"lists": ["exchanges"]}, "amount": {"max_sats": 500_000_000}}),
        rule("housekeeping", "allow", {**ops, "payments": "none", "fee": {"max_sats": 200_000}}),
        rule(
            "housekeeping-cap",
            "limit",
            {"payments": "none"},
            {"window": "day", "max_fee_sats": 500_000, "on_exceed": "deny"},
        ),
        rule("fee-sane", "deny", {"not": {"fee": {"max_pct_of_amount": 2}}}, reason_code="FEE_TOO_HIGH"),
        rule(
            "two-eyes", "require", {"amount": {"min_sats": 10_000_000}}, {"approvals": {"group": "ops", "threshold": 2}}
        ),
        rule(
            "cold-for-large",
            "require",
            {"amount": {"min_sats": 100_000_000}},
            {"signers": {"min_offline": 1}, "delay": {"seconds": 3_600, "veto": {"group": "security", "threshold": 1}}},
        ),
    )
    large = withdrawal((11, 200_000_000))

    assert isinstance(decide(rules, case()), Allow)
    assert isinstance(decide(rules, case(large)), Need)
    approved = decide(rules, case(large, "bob", "carol"))
    assert isinstance(approved, Allow)
    assert (approved.signers.min_offline, approved.delay.seconds) == (1, 3_600)
    assert codes(decide(rules, case(facts={"fee_sats": 1_001}))) == ["FEE_TOO_HIGH"]
    assert isinstance(decide(rules, case(self_transfer())), Allow)
    assert document()["schema"] == "custody-policy/1"
