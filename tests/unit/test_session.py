"""The state machine of one withdrawal: every pair of stages, and what may happen in each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest

from coordinator import session as sessions
from coordinator.session import ENDS, MOVES, OPEN, Session, Stage
from custody.errors import ConflictError, Refused
from custody.signatures import InputSignature
from tests.fakes.sessions import NOW, PSBT, approval, drafted, withdrawal

LATER = NOW + 10
SIGNATURE = InputSignature(0, b"\x02" * 33, b"\x30\x01")

# How each stage is entered; APPROVING only by a new proposal.
ENTER: dict[Stage, Callable[[Session], Session | Refused]] = {
    Stage.RELEASED: lambda s: sessions.release(s, LATER),
    Stage.SIGNING: lambda s: sessions.cosigned(s, LATER),
    Stage.FINAL: lambda s: sessions.finalise(s, b"tx", b"\x05" * 32, LATER),
    Stage.BROADCAST: lambda s: sessions.broadcast(s, LATER),
    Stage.CONFIRMED: lambda s: sessions.confirm(s, 101, LATER),
    Stage.DENIED: lambda s: sessions.deny(s, LATER),
    Stage.REJECTED: lambda s: sessions.reject(s, LATER),
    Stage.CANCELLED: lambda s: sessions.cancel(s, LATER),
    Stage.EXPIRED: lambda s: sessions.expire(s, LATER),
    Stage.CONFLICTED: lambda s: sessions.conflict(s, LATER),
}


def at(stage: Stage) -> Session:
    """Return a session in `stage`."""
    return replace(drafted(), stage=stage)


def code_of(call: Callable[[], object]) -> str:
    """Return the code that `call` raises."""
    with pytest.raises(ConflictError) as caught:
        call()
    return caught.value.code


@pytest.mark.parametrize(("before", "after"), list(product(Stage, ENTER)))
def test_move_between_two_stages_follows_the_table(before: Stage, after: Stage) -> None:
    """Each of all pairs either moves, with its time, or is refused and changes nothing."""
    if after in MOVES[before]:
        moved = ENTER[after](at(before))
        assert isinstance(moved, Session)
        assert (moved.stage, moved.updated_at) == (after, LATER)
    elif after is Stage.CANCELLED and before not in ENDS:
        refused = ENTER[after](at(before))
        assert isinstance(refused, Refused)
        assert refused.code == "NEEDS_SUPERSEDE"
    else:
        assert code_of(lambda: ENTER[after](at(before))) == "STAGE_MOVE"


def test_table_names_every_stage_and_only_a_stale_release_leads_back_to_approving() -> None:
    """The table is whole; ends have no way out, and a restart knows where there is work."""
    assert set(MOVES) == set(Stage)
    assert set(ENTER) == set(Stage) - {Stage.APPROVING}
    leading_back = {stage for stage, following in MOVES.items() if Stage.APPROVING in following}
    assert leading_back == {Stage.RELEASED, Stage.SIGNING}  # vouched for too late, or signed too slowly: written anew
    assert {Stage.DENIED, Stage.REJECTED, Stage.CANCELLED, Stage.EXPIRED, Stage.CONFLICTED} == ENDS
    assert {Stage.APPROVING, Stage.RELEASED, Stage.SIGNING, Stage.FINAL, Stage.BROADCAST} == OPEN
    assert at(Stage.DENIED).is_ended
    assert not at(Stage.CONFIRMED).is_ended


@pytest.mark.parametrize("stage", [s for s in Stage if s is not Stage.SIGNING])
def test_signatures_when_not_signing_then_late_and_never_combined(stage: Stage) -> None:
    """A signature after cancel, expiry or the threshold is told apart by its code; the session stays as it was."""
    assert code_of(lambda: sessions.add_signatures(at(stage), [SIGNATURE], LATER)) == "LATE_SIGNATURE"


@pytest.mark.parametrize("stage", [s for s in Stage if s is not Stage.APPROVING])
def test_approve_when_not_approving_then_late(stage: Stage) -> None:
    """An approval after the release changes nothing; one that is known already is no error."""
    known = approval(drafted().digest)
    session = replace(at(stage), approvals=(known,))

    assert sessions.approve(session, known, LATER) == session
    assert code_of(lambda: sessions.approve(session, approval(session.digest, "bob"), LATER)) == "LATE_APPROVAL"
    assert code_of(lambda: sessions.draft(session, PSBT, LATER)) == "STAGE_MOVE"


@pytest.mark.parametrize("stage", [s for s in Stage if s is not Stage.SIGNING])
def test_ask_and_refuse_when_not_signing_then_refused(stage: Stage) -> None:
    """No bundle goes out and no answer counts outside SIGNING."""
    assert code_of(lambda: sessions.ask(at(stage), "n1", LATER)) == "STAGE_MOVE"
    assert code_of(lambda: sessions.refuse(at(stage), "n1", Refused("FROZEN", "", ""), LATER)) == "LATE_REFUSAL"


def test_propose_when_new_then_approving() -> None:
    """A new session bears its withdrawal's digest and waits."""
    signed = withdrawal()

    assert sessions.propose(signed, NOW) == Session(signed.digest, signed, Stage.APPROVING, NOW, NOW)


def test_approve_when_two_people_then_both_stand() -> None:
    """Approvals add up, each statement once."""
    first, second = approval(drafted().digest, "alice"), approval(drafted().digest, "bob")

    session = sessions.approve(sessions.approve(drafted(), first, LATER), second, LATER)

    assert session.approvals == (first, second)
    assert sessions.approve(session, first, LATER + 1) == session


def test_release_when_no_psbt_then_refused() -> None:
    """A release is of one transaction; there must be one."""
    assert code_of(lambda: sessions.release(sessions.propose(withdrawal(), NOW), LATER)) == "NO_PSBT"


def test_signatures_when_repeated_then_first_per_input_and_key_stays() -> None:
    """A second signature for the same place changes nothing; other places add up."""
    session = sessions.add_signatures(at(Stage.SIGNING), [SIGNATURE], LATER)
    others = [replace(SIGNATURE, signature=b"\x30\x02"), replace(SIGNATURE, input_index=1)]

    assert sessions.add_signatures(session, others, LATER).signatures == (SIGNATURE, others[1])


def test_ask_when_node_refused_before_then_its_refusal_is_void() -> None:
    """The last bundle and the last refusal of each node are kept, not their history."""
    refused = Refused("CHECKPOINT_STALE", "60 s", "400 s")
    session = sessions.ask(at(Stage.SIGNING), "n1", LATER)
    session = sessions.refuse(session, "n1", refused, LATER + 1)
    session = sessions.refuse(session, "n2", refused, LATER + 2)
    assert [r.node for r in session.refusals] == ["n1", "n2"]

    session = sessions.ask(session, "n1", LATER + 3)

    assert [(a.node, a.at) for a in session.asked] == [("n1", LATER + 3)]
    assert [(r.node, r.code) for r in session.refusals] == [("n2", "CHECKPOINT_STALE")]


def test_broadcast_when_block_is_gone_then_height_is_forgotten() -> None:
    """A reorganisation puts a confirmed withdrawal back to broadcast."""
    confirmed = sessions.confirm(at(Stage.BROADCAST), 101, LATER)

    assert confirmed.confirmed_height == 101
    assert sessions.broadcast(confirmed, LATER).confirmed_height is None


def test_move_when_clock_went_back_then_time_does_not() -> None:
    """`updated_at` never decreases."""
    assert sessions.deny(drafted(), NOW - 100).updated_at == NOW
