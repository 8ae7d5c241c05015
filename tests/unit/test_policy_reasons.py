"""What a decision says, word for word: its grounds, each rule's reason, and the tree under it."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from custody.decide import Allow, Case, Decided, Deny, decide
from custody.interval import Interval
from custody.policy import Policy
from custody.policy.duties import Delay, Veto, has_stages
from custody.policy.explain import explain
from custody.policy.match import Outcome, Reason, holds, reason_for
from custody.policy.subject import Subject
from custody.policy.terms import AllTerm, AnyTerm, NoPaymentsTerm, NotTerm, RelationTerm, Term, WalletTerm
from custody.withdrawal import RelationKind
from tests.fakes.rules import (
    EXCHANGE,
    NOW,
    PAY,
    TREASURY,
    Document,
    case,
    family,
    policy,
    rule,
    script,
    self_transfer,
    withdrawal,
)

ALL = rule("all", "allow", {"fee": {"max_sats": 1_000_000}})
OTHER = withdrawal(withdrawal_id="w-other")


def cap(**then: Any) -> Document:
    """Return a limit of one withdrawal a day."""
    return rule("cap", "limit", {}, {"window": "day", "max_count": 1, "on_exceed": "deny", **then})


def asks(then: dict[str, Any], name: str = "req", **more: Any) -> Document:
    """Return a rule that asks `then` of every withdrawal."""
    return rule(name, "require", {}, then, **more)


def grounds(found: Decided) -> list[str]:
    """Return the refusals of a deny, word for word."""
    assert isinstance(found, Deny)
    return [str(refused) for refused in found.refusals]


LIMIT = "LIMIT_EXCEEDED: expected at most 1 (max_count) in day by rule cap, found 2"
GROUNDS: dict[str, tuple[tuple[Document, ...], str]] = {
    "a fact that a deny lacks": (
        (ALL, rule("no", "deny", {"wallet": {"names": ["gone"]}})),
        "POLICY_FACT_MISSING: expected every fact of rule no, found one that is not known",
    ),
    "a fact that the only allow lacks": (
        (rule("pay", "allow", {"wallet": {"names": ["gone"]}}),),
        "POLICY_FACT_MISSING: expected an allow with every fact known, found one that is not known",
    ),
    "a deny": ((ALL, rule("no", "deny", {})), "RULE_DENIES: expected what rule no permits, found what it denies"),
    "a window that is not there": (
        (ALL, cap(window="week")),
        "WINDOW_UNKNOWN: expected a window of the rules, found week",
    ),
    "nodes that are not there": (
        (ALL, asks({"signers": {"include": ["zeta"], "exclude": ["eta"]}})),
        "SIGNER_UNKNOWN: expected nodes of the rules, found eta, zeta",
    ),
    "nodes that must and must not": (
        (
            ALL,
            asks({"signers": {"include": ["beta", "alpha"]}}),
            asks({"signers": {"exclude": ["alpha", "beta"]}}, "b"),
        ),
        "SIGNERS_CONFLICT: expected no node both included and excluded, found alpha, beta",
    ),
    "a full budget": ((ALL, cap()), LIMIT),
    "of one wallet": ((ALL, cap(group_by=["wallet"])), f"{LIMIT}, wallet {TREASURY.hex()[:16]}"),
    "of one initiator": ((ALL, cap(group_by=["initiator"])), f"{LIMIT}, initiator alice"),
    "of one org": ((ALL, cap(group_by=["org"])), f"{LIMIT}, org acme"),
    "of one payee": ((ALL, cap(group_by=["destination"])), f"{LIMIT}, payee script {script(EXCHANGE).hex()}"),
    "of one initiator and payee": (
        (ALL, cap(group_by=["initiator", "destination"])),
        f"{LIMIT}, initiator alice, payee script {script(EXCHANGE).hex()}",
    ),
}


@pytest.mark.parametrize("name", GROUNDS)
def test_decide_given_one_ground_says_what_was_expected_and_found(name: str) -> None:
    """One ground each, and nothing beside it."""
    rules, expected = GROUNDS[name]

    assert grounds(decide(policy(*rules), case(families=(family(OTHER),)))) == [expected]


def test_decide_given_a_fee_that_nobody_bounds_says_what_was_expected() -> None:
    """Where nobody is paid, the bound on the fee is missed by name."""
    found = decide(policy(rule("keep", "allow", {"payments": "none"})), case(self_transfer()))

    assert grounds(found) == ["FEE_UNBOUNDED: expected an allow with fee.max_sats where nobody is paid, found none"]


def said(rules: Policy, of: Case, name: str) -> str:
    """Return what the rule `name` said."""
    return next(reason.said for reason in decide(rules, of).reasons if reason.rule == name)


def test_rule_given_each_state_says_it_in_words() -> None:
    """In force or not, known or not, matched or not; what a signer cannot judge by the names of all its matchers."""
    told = {"all_of": [{"session": {"factors": ["otp"]}}, {"min_confirmations": 6}]}

    assert said(policy(ALL, rule("x", "deny", {}, not_before=NOW + 1)), case(), "x") == "not in force"
    assert said(policy(ALL, rule("x", "deny", {"wallet": {"names": ["gone"]}})), case(), "x") == "a fact is missing"
    assert said(policy(ALL, rule("x", "deny", {})), case(), "x") == "matched"
    assert said(policy(ALL, rule("x", "deny", {"payments": "none"})), case(), "x") == "did not match"
    skipped = "skipped: only the coordinator can judge min_confirmations, session"
    assert said(policy(ALL, rule("x", "deny", told)), case(), "x") == skipped


def test_shadow_rule_given_two_lacks_names_both() -> None:
    """What it would ask for stands in one line."""
    tree = {"all_of": [{"group": "security", "threshold": 1}, {"service": "screening"}]}

    found = decide(policy(PAY, asks({"approvals": tree}, mode="shadow")), case())

    assert [reason.would for reason in found.reasons if reason.rule == "req"] == [
        "need 1 of group security; need 1 of service screening"
    ]


def test_delay_given_several_vetoes_names_them_in_order() -> None:
    """By group, then by threshold, whatever the order of the rules."""
    vetoes = [("security", 2), ("admins", 1), ("security", 1)]
    rules = [
        asks({"delay": {"seconds": 60, "veto": {"group": group, "threshold": threshold}}}, f"r{at}")
        for at, (group, threshold) in enumerate(vetoes)
    ]

    found = decide(policy(PAY, *rules), case())

    assert isinstance(found, Allow)
    assert found.delay == Delay(60, (Veto("admins", 1), Veto("security", 1), Veto("security", 2)))


def test_has_stages_given_stages_anywhere_finds_them() -> None:
    """However deep; a tree without them has none."""
    leaf = {"group": "ops", "threshold": 1}
    staged = {"stages": [leaf, leaf]}

    def found(tree: Document) -> bool:
        obligations = policy(PAY, asks({"approvals": tree})).rules[1].obligations
        assert obligations is not None
        assert obligations.approvals is not None
        return has_stages(obligations.approvals)

    assert [found(tree) for tree in (leaf, {"any_of": [leaf, leaf]}, {"all_of": [leaf, leaf]})] == [False] * 3
    assert [found(tree) for tree in (staged, {"any_of": [leaf, staged]}, {"all_of": [staged, leaf]})] == [True] * 3


# Three matchers of a subject that pays nobody from a known wallet, in order: true, false, not known.
PAYS_NOBODY = Subject(TREASURY, "alice", (), 0, RelationKind.NEW, NOW, NOW, None)
TRUE, FALSE, UNKNOWN = NoPaymentsTerm(), RelationTerm((RelationKind.ADDITIONAL,)), WalletTerm(names=("gone",))
ANSWERS: dict[Term, bool | None] = {TRUE: True, FALSE: False, UNKNOWN: None}


def both_ways(term: Term) -> bool | None:
    """Return what `term` holds, after checking that its tree of reasons says the same."""
    found = holds(term, PAYS_NOBODY, policy())
    tree = reason_for(term, PAYS_NOBODY, policy())
    assert tree.outcome is {True: Outcome.TRUE, False: Outcome.FALSE, None: Outcome.UNKNOWN}[found]
    return found


def test_terms_given_each_pair_of_answers_are_joined_by_three_valued_logic() -> None:
    """A fact that is not known decides only where the others leave it open; the tree says what the answer says."""
    for (one, first), (two, second) in product(ANSWERS.items(), repeat=2):
        pair = (first, second)
        assert both_ways(AllTerm((one, two))) is (False if False in pair else None if None in pair else True)
        assert both_ways(AnyTerm((one, two))) is (True if True in pair else None if None in pair else False)
        assert both_ways(NotTerm(AnyTerm((one, two)))) is (False if True in pair else None if None in pair else True)
    assert [both_ways(NotTerm(term)) for term in (TRUE, FALSE, UNKNOWN)] == [False, True, None]


def test_reason_given_joined_terms_is_a_tree_of_all_of_them() -> None:
    """Every matcher stands in it, in order, with what it found, also where an earlier one decides."""
    term = AllTerm((NotTerm(TRUE), AnyTerm((FALSE, UNKNOWN))))

    found = reason_for(term, PAYS_NOBODY, policy())

    nobody = Reason("nopayments; found 0 payees", Outcome.TRUE)
    additional = Reason("relation kinds=additional; found new", Outcome.FALSE)
    gone = Reason("wallet names=gone; found treasury", Outcome.UNKNOWN)
    either = Reason("any of", Outcome.UNKNOWN, (additional, gone))
    assert found == Reason("all of", Outcome.FALSE, (Reason("not", Outcome.FALSE, (nobody,)), either))
    assert found.has_unknown


def test_explain_given_every_obligation_says_each_in_a_line() -> None:
    """Who must sign and who must not, how many offline, how long, who may veto, what is missing and behind what."""
    rules = policy(
        PAY,
        asks({"signers": {"include": ["beta", "cold"], "exclude": ["alpha"], "min_offline": 1}}, "a"),
        asks({"delay": {"seconds": 60}}, "b"),
        asks({"approvals": {"stages": [{"group": "ops", "threshold": 1}, {"group": "security", "threshold": 1}]}}, "c"),
    )

    lines = explain(decide(rules, case(withdrawal(), "carol")))

    assert lines[0] == f"NEED approvals under rules {rules.hash.hex()[:16]}"
    assert lines[1:6] == (
        "  must sign: beta, cold",
        "  must not sign: alpha",
        "  offline nodes that sign first: 1",
        "  waits 60 s after its notice; may be vetoed by anybody listed",
        "  rule c needs 1 more of group security behind stage 1, whose approvals they name "
        "(have: none yet; could: bob, dave)",
    )
    assert "  allow pay: matched" in lines
    assert "    [yes] all of" in lines
    assert (
        "      [yes] amount max_sats=500000000 include_fee=True; found 50000 sats + at most 2000 sats of fee" in lines
    )


def test_explain_given_a_shadow_rule_that_did_not_match_says_so() -> None:
    """It is shown as one that is only tried out, and what it found under it."""
    lines = explain(decide(policy(PAY, rule("s", "deny", {"payments": "none"}, mode="shadow")), case()))

    assert lines[-3:] == (
        "  deny s: did not match (shadow)",
        "    [no] all of",
        "      [no] nopayments; found 1 payees",
    )


def test_decide_given_now_at_both_ends_judges_the_hour_by_each() -> None:
    """Before a release, an hour is known where both ends of now lie in it, also far around the zone."""
    match = {"time": {"hours": [8]}}
    at_its_end = case(time=Interval(NOW + 3_599, NOW + 3_599), t_release=None)
    across = case(time=Interval(NOW + 3_599, NOW + 3_600), t_release=None)

    assert grounds(decide(policy(ALL, rule("no", "deny", match)), at_its_end))[0].startswith("RULE_DENIES")
    assert grounds(decide(policy(ALL, rule("no", "deny", match)), across))[0].startswith("POLICY_FACT_MISSING")
