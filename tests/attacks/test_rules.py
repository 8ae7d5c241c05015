"""Attacks on the rules themselves: older ones, swapped ones, ones that admins would like to slip in (attacks.md E)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from custody.errors import IntegrityError, Refused
from custody.follow import State, advance, in_force, open_under, start
from custody.governing import successor_of
from custody.held import HOLD_SECONDS, Held, with_held
from custody.policy import policy_hash
from custody.statements import Signed
from signer_node.judge import Moment, Pinned, judge
from tests.fakes.clock import FakeClock
from tests.fakes.rules import DAY, NOW, PAY, STRANGER, Document, key_of, principal, rule, seed_of
from tests.governing import (
    ADMINS,
    CLOSED,
    OPEN_ALL,
    Edit,
    after,
    document_of,
    log_rules,
    signed_rules,
    user_of,
    with_rule,
    without_rule,
)
from tests.later import later_wallet, log_document, void_of
from tests.watchers import WatchedWorld, Watcher, genesis_with
from tests.world import World, book_of, make_genesis

FEW = rule("few", "require", {}, {"approvals": {"group": "ops", "threshold": 1}})
GENESIS = make_genesis(PAY, FEW)
FIRST = document_of(GENESIS)


def judged(world: World, bundle: Any, now: int, state: State | None = None) -> str:
    """Return the code with which node alpha refuses `bundle`, "" where it may sign."""
    at = start(world.genesis) if state is None else state
    found = judge(bundle, Pinned(world.genesis, "alpha"), at, Moment(now, now), (), book_of(world.wallet))
    return found.outcome.code if isinstance(found.outcome, Refused) else ""


def code_of(world: World, document: Document, *people: str, now: int = NOW) -> str:
    """Return why a document may not follow the rules in force, "" where it may."""
    found = successor_of(in_force(world.state(), now).rules, world.genesis, signed_rules(document, *people), now)
    return found.code if isinstance(found, Refused) else ""


def test_atk_085_psbt_swapped_after_its_approvals_is_refused() -> None:
    """The approvals and the logged RELEASE stay; the bytes to be signed are others: same payee, other coin."""
    world = World(GENESIS)
    approved = world.spend(world.withdrawal()).approved_by("bob")
    index = approved.release()
    swapped = world.spend(approved.asked, [world.coin(7)]).psbt
    stolen = world.spend(world.withdrawal((STRANGER, 50_000))).psbt

    assert judged(world, approved.bundle(index), NOW) == ""
    assert judged(world, approved.bundle(index, psbt=swapped), NOW) == "RELEASE_MISMATCH"
    assert judged(world, approved.bundle(index, psbt=stolen), NOW) == "OUTPUT_NOT_ASKED"


def test_atk_085_rules_swapped_after_the_approvals_judge_the_signing() -> None:
    """What was approved and released under version 1 is signed under version 2, or not at all."""
    world = World(GENESIS)
    approved = world.spend(world.withdrawal()).approved_by("bob")
    index = approved.release()
    log_rules(world, signed_rules(after(FIRST, with_rule(CLOSED))))

    assert judged(world, approved.bundle(index), NOW) == "CLOSED"


def test_atk_087_self_loosening_by_one_admin_counts_nothing() -> None:
    """One admin, however often he signs, and whatever quorum his document names."""
    world = World(GENESIS)
    mine = after(FIRST, without_rule("few"), lambda f: f["admin"]["change_quorum"].update(threshold=1))

    assert code_of(world, mine, "erin") == "RULES_QUORUM"
    assert code_of(world, mine, "erin", "erin", "erin") == "RULES_QUORUM"
    log_rules(world, signed_rules(mine, "erin"))
    assert in_force(world.state(), NOW + 30 * DAY - 1).policy.version == 1


def test_atk_087_document_signed_by_keys_that_it_brings_along_counts_nothing() -> None:
    """Only admins of the version that is replaced may sign, never those whom the document appoints."""
    world = World(GENESIS)
    appointed = after(
        FIRST, lambda f: f["principals"]["users"].extend(principal(n, "acme", ["admins"]) for n in ("x1", "x2", "x3"))
    )

    assert code_of(world, appointed, "x1", "x2", "x3") == "RULES_QUORUM"
    assert code_of(world, appointed, "erin", "x1", "x2") == "RULES_QUORUM"
    assert code_of(world, appointed, *ADMINS) == ""


def test_atk_087_admin_out_of_office_does_not_complete_a_quorum() -> None:
    """Signatures are judged when witnesses first see the document, not when they were made."""
    genesis = make_genesis(PAY, principals=_ending("grace", NOW + 100))
    world = World(genesis)
    document = after(document_of(genesis), with_rule(CLOSED))

    assert code_of(world, document, now=NOW + 99) == ""
    assert code_of(world, document, now=NOW + 100) == "RULES_QUORUM"


def _ending(name: str, valid_until: int) -> Document:
    found = document_of(GENESIS)
    user_of(found, name)["valid_until"] = valid_until
    principals: Document = found["principals"]
    return principals


def test_atk_090_effective_from_of_yesterday_shortens_no_wait() -> None:
    """A back-dated document that loosens waits from the moment at which witnesses saw it."""
    world = World(GENESIS)
    log_rules(world, signed_rules(after(FIRST, without_rule("few"), effective_from=FIRST["effective_from"] - DAY)))

    assert [w.due for w in world.state().rules.waiting] == [NOW + DAY]


def test_atk_091_older_rules_validly_signed_are_refused() -> None:
    """A document of version 2 that its quorum signed is nothing once version 2 or 3 is in effect."""
    world = World(GENESIS)
    kept_back = after(FIRST, without_rule("few"))
    second = after(FIRST, with_rule(CLOSED))
    log_rules(world, signed_rules(second))
    log_rules(world, signed_rules(after(second, with_rule({**CLOSED, "id": "closed-2"}))))

    assert code_of(world, kept_back) == "RULES_VERSION"
    assert code_of(world, after(kept_back, version=4)) == "RULES_PREV"
    log_rules(world, signed_rules(kept_back))
    assert in_force(world.state(), NOW + 30 * DAY - 1).policy.version == 3


def test_atk_091_log_cut_in_front_of_a_tightening_is_refused() -> None:
    """A node that followed version 2 takes no log without it, nor one with other entries in its place."""
    world = World(GENESIS)
    approved = world.spend(world.withdrawal()).approved_by("bob")
    index = approved.release()
    cut = approved.bundle(index)
    log_rules(world, signed_rules(after(FIRST, with_rule(CLOSED))))
    followed = advance(start(GENESIS), world.entries, world.statements, world.cosigned())

    assert judged(world, cut, NOW) == ""  # who never saw version 2: within 5 minutes of its entry, no longer
    assert judged(world, cut, NOW, followed) == "ROLLED_BACK"
    assert judged(world, cut, NOW + 301) == "CHECKPOINT_STALE"


def test_atk_091_retired_log_key_and_witness_vouch_for_nothing_any_more() -> None:
    """Whoever stole them after the change signs an older or another log in vain."""
    world = World(GENESIS)
    witnesses = [{"name": "witness2", "key": key_of("witness2").hex()}]
    roots = {**FIRST["roots"], "log_key": key_of("log2").hex(), "witnesses": witnesses}
    log_rules(world, signed_rules(after(FIRST, roots=roots)))
    world.notice(world.withdrawal())
    state = advance(start(GENESIS), world.entries, world.statements, world.cosigned())

    for at in (NOW + DAY, NOW + 2 * DAY):
        with pytest.raises(IntegrityError) as found:
            open_under(state, world.cosigned(at=at))
        assert found.value.code == "CHECKPOINT_RULES"
    world.log_seed, world.witness = seed_of("log2"), ("witness2", seed_of("witness2"))
    assert open_under(state, world.cosigned(at=NOW + DAY))[0].policy.version == 2


def test_atk_093_rules_changed_between_release_and_signature_refuse_by_the_newest() -> None:
    """The RELEASE counts, since it was made; the signer judges its people and rules again, under version 2."""
    world = World(GENESIS)
    approved = world.spend(world.withdrawal()).approved_by("bob")
    index = approved.release()
    log_rules(world, signed_rules(after(FIRST, lambda f: user_of(f, "bob").update(groups=["security"]))))

    assert judged(world, approved.bundle(index), NOW) == "APPROVALS_MISSING"
    assert len(world.state().releases) == 1


@pytest.mark.parametrize(
    "loosening",
    [
        with_rule(OPEN_ALL),
        without_rule("few"),
        lambda f: f["admin"].update(loosen_delay_s=0),
        lambda f: f["limits"].update(feerate_max_sat_vb=501),
        lambda f: f["roots"].update(origins=["https://desk.example"]),
    ],
)
def test_atk_099_emergency_path_carries_nothing_that_loosens(loosening: Any) -> None:
    """A document that tightens takes effect at once; with one loosening in it all of it waits, under the old delay."""
    world = World(GENESIS)

    log_rules(world, signed_rules(after(FIRST, with_rule(CLOSED), loosening)))

    assert world.state().policy.version == 1
    assert [w.due for w in world.state().rules.waiting] == [NOW + DAY]


def test_atk_099_freeze_and_unfreeze_change_no_rule() -> None:
    """The break-glass only stops: lifted, everything stands as before it."""
    world = World(GENESIS)
    before = world.state().policy
    world.freeze("dave")
    world.unfreeze("erin", "frank")

    assert world.state().policy == before
    assert judged(world, world.spend(world.withdrawal()).bundle(), NOW) == "APPROVALS_MISSING"


def test_atk_099_document_held_beside_the_log_loosens_nothing() -> None:
    """A node counts held freezes and stops at once; a rules document counts in the log alone."""
    world = World(GENESIS)
    held = Held(signed_rules(after(FIRST, without_rule("few"))), NOW - 30 * DAY)

    assert with_held(world.state(), [held]) == world.state()


@pytest.mark.parametrize("edit", [with_rule(CLOSED), with_rule(OPEN_ALL)])
def test_atk_091_rules_withheld_from_the_log_stop_its_checkpoints(tmp_path: Path, edit: Any) -> None:
    """A coordinator that keeps a signed document out of the log gets no cosignature after 60 s, with it again."""
    pinned = genesis_with(1, 1, 0, PAY)
    clock = FakeClock(NOW)
    watcher = Watcher("w1", pinned, tmp_path, clock)
    world = WatchedWorld(pinned, asks=(watcher,), clock=clock)
    world.notice(world.withdrawal())
    signed = signed_rules(after(document_of(pinned), edit))
    assert isinstance(watcher.hold(signed), Signed)

    world.wait(HOLD_SECONDS)
    world.notice(world.withdrawal(withdrawal_id="w-2"))
    assert watcher.said == "WITNESS_WITHHELD"

    world.covering = ""  # nobody vouched for the log without it
    log_rules(world, signed)
    assert watcher.said == ""


LISTS = {"groups": ["ops"], "threshold": 2, "exclude_author": False}
PEOPLE = {"groups": ["security"], "threshold": 2, "exclude_author": False}


def _apart() -> tuple[World, Document]:
    """Return a log under rules whose lists and people have quorums of their own, and those rules."""
    admin = {**FIRST["admin"], "list_quorum": LISTS, "people_quorum": PEOPLE, "locked_rules": ["few"]}
    genesis = make_genesis(PAY, FEW, admin=admin)
    return World(genesis), document_of(genesis)


def test_atk_087_people_quorum_that_makes_itself_admin_counts_nothing() -> None:
    """Whoever hires people cannot hire an admin, let himself sign lists, or let himself hire alone."""
    world, first = _apart()
    edits: tuple[tuple[Edit, str], ...] = (
        (lambda f: user_of(f, "bob")["groups"].append("admins"), "RULES_QUORUM"),
        (lambda f: user_of(f, "dave")["groups"].append("ops"), "RULES_QUORUM"),
        (lambda f: f["principals"]["users"].append(principal("eve", "acme", ["admins"])), "RULES_QUORUM"),
        (lambda f: f["admin"]["people_quorum"].update(threshold=1), "RULES_QUORUM"),
        (lambda f: f["principals"]["users"].append(principal("eve", "acme", ["bots"])), ""),
    )
    for edit, code in edits:
        assert code_of(world, after(first, edit), "bob", "dave") == code


def test_atk_087_payee_slipped_in_beside_a_harmless_change_needs_both_quorums() -> None:
    """Admins add no payee under the cover of another change, and list people change nothing else."""
    world, first = _apart()
    payee = {"address": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "label": "me", "valid_from": 0}
    both = after(
        first, with_rule(CLOSED), lambda f: f["lists"][0]["entries"].append({**payee, "expires_at": NOW + 99 * DAY})
    )

    assert code_of(world, both, *ADMINS) == "RULES_QUORUM"
    assert code_of(world, both, "alice", "bob") == "RULES_QUORUM"
    assert code_of(world, both, "alice", "bob", *ADMINS) == ""


def test_atk_087_locked_rule_is_taken_out_by_nobody() -> None:
    """Every admin there is, and every quorum: the rule stays, word for word."""
    world, first = _apart()
    everybody = ("alice", "bob", "carol", "dave", *ADMINS)
    softer = after(first, lambda f: f["rules"][1]["then"]["approvals"].update(seen=0, blind=True))
    unlocked = after(first, without_rule("few"), lambda f: f["admin"].update(locked_rules=[]))

    assert [code_of(world, document, *everybody) for document in (softer, unlocked)] == ["RULES_LOCKED"] * 2


def test_atk_091_document_that_was_taken_back_stays_dead_when_it_is_logged_again() -> None:
    """Its signatures hold for ever: a coordinator that kept it gains no new delay, before or after other entries."""
    world = World(GENESIS)
    looser = after(FIRST, without_rule("few"))
    log_rules(world, signed_rules(looser))
    log_document(world, void_of(GENESIS, policy_hash(looser)))
    for _ in range(2):
        world.now += DAY
        log_rules(world, signed_rules(looser))

    assert world.state().rules.waiting == ()
    assert in_force(world.state(), NOW + 30 * DAY - 1).policy.version == 1
    assert code_of(world, looser) == "RULES_VOIDED"


def test_atk_075_wallet_that_a_coordinator_adds_is_signed_for_by_no_node() -> None:
    """Its own keys in a "later wallet", with whatever signatures it can make: no follower takes it in."""
    for signed in (
        later_wallet(GENESIS, "mallory"),
        later_wallet(GENESIS, "erin", "erin", "erin"),
        later_wallet(GENESIS, unsigned=("cold",)),
        later_wallet(GENESIS, nodes=("alpha", "beta", "mallory"), threshold=2),
    ):
        world = World(GENESIS)
        log_document(world, signed)

        assert [wallet.name for wallet in world.state().genesis.wallets] == ["treasury"]
