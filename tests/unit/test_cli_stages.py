"""An approval that the console makes names the earlier ones, where rules have stages; and no others."""

from console.drafts import earlier_approvals
from custody.approval import Decision, read_approval
from custody.decide import Allow, Need, decide
from tests.fakes.rules import NOW, PAY, approval, case, policy, rule, withdrawal

W = withdrawal()
STAGES = {"stages": [{"group": "ops", "threshold": 1}, {"group": "security", "threshold": 1}]}
STAGED = policy(PAY, rule("r", "require", {}, {"approvals": {"any_of": [STAGES]}}))


def test_earlier_approvals_given_stages_names_those_of_others_that_count() -> None:
    """Neither one's own, nor one out of date, nor a reject."""
    bob, carol = approval(W, "bob"), approval(W, "carol")
    dead = approval(W, "frank", expires_at=NOW)
    reject = approval(W, "grace", decision=Decision.REJECT)
    filed = [found[1] for found in (bob, carol, dead, reject)]

    found = earlier_approvals(STAGED, W, filed, "carol", NOW)

    assert [each.approver for each in found] == ["bob"]


def test_earlier_approvals_given_no_stages_names_nobody() -> None:
    """A statement says no more than rules ask of it."""
    assert earlier_approvals(policy(), W, [approval(W, "bob")[1]], "dave", NOW) == ()


def test_earlier_approvals_given_a_budget_with_stages_names_them() -> None:
    """What lifts a budget may have stages too."""
    then = {"window": "day", "max_count": 0, "on_exceed": "require", "approvals": STAGES}

    found = earlier_approvals(policy(PAY, rule("r", "limit", {}, then)), W, [approval(W, "bob")[1]], "dave", NOW)

    assert [each.approver for each in found] == ["bob"]


def test_second_approval_of_a_person_that_names_the_first_stage_counts_in_the_second() -> None:
    """Dave approved too early, and again: the one that rules can use counts."""
    carol, early = approval(W, "carol"), approval(W, "dave", at=NOW - 40)
    named = earlier_approvals(STAGED, W, [carol[1], early[1]], "dave", NOW)
    again = approval(W, "dave", after=tuple(each.digest for each in named))

    assert isinstance(decide(STAGED, case(W, approvals=(carol, early))), Need)
    assert isinstance(decide(STAGED, case(W, approvals=(early, again, carol))), Allow)
    assert read_approval(again[1]) == again[0]
