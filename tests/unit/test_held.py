"""What is worth holding outside the log, when it is moot, how it counts at a signer, and what receipts prove."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from custody.entries import StopCause, Unfreeze
from custody.errors import MalformedError
from custody.follow import LONE_FREEZE_SECONDS
from custody.held import (
    HOLD_SECONDS,
    Held,
    HeldReceipt,
    check_posted,
    count_receipts,
    entry_of,
    is_moot,
    sign_receipt,
    with_held,
    withheld,
)
from custody.statements import Kind, Signed, endorse, sign
from tests.fakes.rules import DAY, NOW, PAY, seed_of
from tests.governing import CLOSED, OPEN_ALL, after, document_of, log_rules, signed_rules, with_rule
from tests.watchers import freeze_by, genesis_with, veto_by
from tests.world import World, approval, make_genesis, signed_by_initiator

GENESIS = make_genesis(PAY)
PINNED = genesis_with(3, 2, 0, PAY)


@pytest.fixture
def world() -> World:
    """Return an empty log."""
    return World(GENESIS)


def unfreeze_by(*people: str, freeze_id: bytes = b"\x05" * 16) -> Signed:
    """Return an unfreeze that `people` signed."""
    first, *rest = people
    signed = sign(Kind.UNFREEZE, Unfreeze(GENESIS.hash, (freeze_id,), NOW).to_json(), seed_of(first))
    more = tuple(endorse(Kind.UNFREEZE, signed.raw, seed_of(name)) for name in rest)
    return replace(signed, endorsements=signed.endorsements + more)


def rules_by(*people: str) -> Signed:
    """Return a version that tightens, signed by `people`."""
    return signed_rules(after(document_of(GENESIS), with_rule(CLOSED)), *people)


POSTED: dict[str, tuple[Callable[[World], Signed], str]] = {
    "freeze": (lambda w: freeze_by("dave", GENESIS, NOW), ""),
    "freeze_by_one_who_may_not": (lambda w: freeze_by("alice", GENESIS, NOW), "POSTED_SIGNATURE"),
    "freeze_in_anothers_name": (
        lambda w: replace(freeze_by("dave", GENESIS, NOW), endorsements=freeze_by("erin", GENESIS, NOW).endorsements),
        "POSTED_SIGNATURE",
    ),
    "freeze_of_another_genesis": (lambda w: freeze_by("dave", PINNED, NOW), "POSTED_SIGNATURE"),
    "freeze_unsigned": (lambda w: replace(freeze_by("dave", GENESIS, NOW), endorsements=()), "POSTED_SIGNATURE"),
    "unfreeze": (lambda w: unfreeze_by("erin", "frank"), ""),
    "unfreeze_by_one": (lambda w: unfreeze_by("erin"), "POSTED_SIGNATURE"),
    "veto": (lambda w: veto_by("bob", w.withdrawal(), NOW), ""),
    "veto_by_a_stranger": (lambda w: veto_by("mallory", w.withdrawal(), NOW), "POSTED_SIGNATURE"),
    "rules": (lambda w: rules_by("erin", "frank", "grace"), ""),
    "rules_without_a_quorum": (lambda w: rules_by("erin", "frank"), "RULES_QUORUM"),
    "approval": (lambda w: approval(w.withdrawal(), "bob", NOW), "STOP_CAUSE"),
    "withdrawal": (lambda w: signed_by_initiator(w.withdrawal()), "POSTED_KIND"),
    "not_a_freeze": (lambda w: sign(Kind.FREEZE, {"by": "dave"}, seed_of("dave")), "FIELD_MISSING"),
}


@pytest.mark.parametrize("name", POSTED)
def test_check_posted_given_each_statement_holds_or_refuses_by_code(world: World, name: str) -> None:
    """Only what verifies under the rules in force is worth holding."""
    make, code = POSTED[name]

    refused = check_posted(world.state(), make(world), NOW)

    assert (refused.code if refused else "") == code


def test_check_posted_given_a_person_out_of_office_refuses(world: World) -> None:
    """A freeze counts by people who are valid now."""
    refused = check_posted(world.state(), freeze_by("dave", GENESIS, NOW), NOW + 366 * DAY)

    assert refused is not None
    assert refused.code == "POSTED_SIGNATURE"


def test_is_moot_given_a_freeze_in_the_log_and_lifted_is_moot_both_times(world: World) -> None:
    """A freeze is settled when it counts in the log; lifted, its id is dead."""
    freeze = freeze_by("dave", GENESIS, NOW, b"\x01" * 16)
    assert not is_moot(world.state(), freeze, NOW)
    world.freeze("dave")
    assert is_moot(world.state(), freeze, NOW)
    assert not is_moot(world.state(), freeze_by("erin", GENESIS, NOW), NOW)
    world.unfreeze("erin", "frank")
    assert is_moot(world.state(), freeze, NOW)


def test_is_moot_given_an_unfreeze_is_moot_once_its_ids_are_lifted(world: World) -> None:
    """An unfreeze is settled when all of its ids are dead."""
    unfreeze = unfreeze_by("erin", "frank", freeze_id=b"\x01" * 16)
    world.freeze("dave")
    assert not is_moot(world.state(), unfreeze, NOW)
    world.unfreeze("erin", "frank")
    assert is_moot(world.state(), unfreeze, NOW)


def test_is_moot_given_a_stop_is_moot_once_the_withdrawal_is_stopped(world: World) -> None:
    """One reject is enough; a veto waits for others of its group; a cancel is its initiator's alone."""
    asked = world.withdrawal()
    veto = veto_by("bob", asked, NOW)
    world.stop(asked, "bob", StopCause.CANCEL)
    assert not is_moot(world.state(), veto, NOW)
    world.stop(asked, "dave", StopCause.VETO)
    assert not is_moot(world.state(), veto, NOW)
    assert is_moot(world.state(), veto_by("dave", asked, NOW + 1), NOW)
    world.stop(asked, "carol", StopCause.REJECT)
    assert is_moot(world.state(), veto, NOW)


def test_is_moot_given_rules_is_moot_once_logged_or_overtaken(world: World) -> None:
    """A rules document counts in force, waits, or follows a version that is in effect no more."""
    tighten = rules_by("erin", "frank", "grace")
    loosen = signed_rules(after(document_of(GENESIS), with_rule(OPEN_ALL)))
    assert not is_moot(world.state(), tighten, NOW)
    log_rules(world, loosen)
    assert is_moot(world.state(), loosen, NOW)
    assert not is_moot(world.state(), tighten, NOW)
    log_rules(world, tighten)
    assert is_moot(world.state(), tighten, NOW)
    assert is_moot(
        world.state(), signed_rules(after(document_of(GENESIS), with_rule(OPEN_ALL), not_after=NOW + 5)), NOW
    )


def test_withheld_given_a_minute_names_what_the_log_leaves_out(world: World) -> None:
    """Held for less than 60 s, or logged, nothing is withheld."""
    held = Held(freeze_by("dave", GENESIS, NOW, b"\x01" * 16), NOW)

    assert withheld(world.state(), [held], NOW + HOLD_SECONDS - 1) is None
    assert withheld(world.state(), [held], NOW + HOLD_SECONDS) == held
    world.freeze("dave")
    assert withheld(world.state(), [held], NOW + HOLD_SECONDS) is None


def test_with_held_given_a_freeze_counts_it_and_lets_it_lapse(world: World) -> None:
    """A held freeze freezes from when it came; one person's lapses after 72 h, as in the log."""
    state = with_held(world.state(), [Held(freeze_by("dave", GENESIS, NOW), NOW)])

    assert not world.state().is_frozen(NOW)
    assert state.is_frozen(NOW)
    assert not state.is_frozen(NOW + LONE_FREEZE_SECONDS)
    assert state.size == world.state().size


def test_with_held_given_an_unfreeze_or_rules_changes_nothing(world: World) -> None:
    """What loosens counts in the log alone."""
    world.freeze("dave")
    before = world.state()
    held = [
        Held(unfreeze_by("erin", "frank", freeze_id=b"\x01" * 16), NOW),
        Held(rules_by("erin", "frank", "grace"), NOW),
    ]

    assert with_held(before, held) == before


def test_entry_of_given_what_is_not_posted_refuses(world: World) -> None:
    """Only kinds that may be posted become entries."""
    with pytest.raises(MalformedError, match="POSTED_KIND"):
        entry_of(signed_by_initiator(world.withdrawal()))


def test_count_receipts_given_forged_repeated_or_foreign_ones_counts_each_witness_once() -> None:
    """Done means W - w + 1 = 2 different pinned witnesses, over this statement, under their own keys."""
    roots, digest = PINNED.policy.roots, b"\x03" * 32

    def receipt(witness: str, signer: str = "", digest: bytes = digest, genesis: bytes = PINNED.hash) -> Signed:
        return sign_receipt(HeldReceipt(genesis, digest, witness, NOW), seed_of(signer or witness))

    bad = [receipt("w2", signer="w1"), receipt("w2", digest=bytes(32)), receipt("w3", genesis=bytes(32)), receipt("w9")]
    bad.append(freeze_by("dave", PINNED, NOW))

    one = count_receipts(roots.witnesses, roots.w, PINNED.hash, digest, [receipt("w1"), receipt("w1"), *bad])
    two = count_receipts(roots.witnesses, roots.w, PINNED.hash, digest, [receipt("w1"), receipt("w3")])

    assert (one.by, one.needed, one.missing) == (("w1",), 2, 1)
    assert (two.by, two.missing) == (("w1", "w3"), 0)
