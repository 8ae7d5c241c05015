"""What a follower knows is a function of genesis and log: each entry counts from its T, by whoever may say it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from custody.audit import cosign
from custody.entries import (
    Document,
    EntryKind,
    Freeze,
    MoneyEntry,
    StopCause,
    Unfreeze,
    Witnessed,
)
from custody.errors import CustodyError
from custody.follow import LONE_FREEZE_SECONDS, State, advance, append, family_of, settled, start
from custody.policy.duties import Veto
from custody.statements import Kind, sign
from tests.fakes.rules import NOW, seed_of
from tests.world import WITNESS_SEED, World, make_genesis, supersedes

GENESIS = make_genesis()


@pytest.fixture
def world() -> World:
    """A log with nothing in it."""
    return World(GENESIS)


def test_follow_in_any_parts_then_gives_one_state(world: World) -> None:
    """Entry by entry or all at once: the same state, so that no order of messages changes what a signer knows."""
    notes = []
    for at in range(4):
        world.now += 10
        world.spend(world.withdrawal(withdrawal_id=f"w-{at}"), (world.coin(at),), change_index=at).release()
        notes.append((len(world.entries), world.cosigned()))

    stepwise = start(GENESIS)
    for size, note in notes:
        stepwise = advance(stepwise, world.entries[stepwise.size : size], world.statements, note)

    assert stepwise == advance(start(GENESIS), world.entries, world.statements, notes[-1][1])
    assert stepwise.size == 7


def test_release_then_happened_when_witnesses_first_saw_it(world: World) -> None:
    """T comes from the first checkpoint that covers an entry, whatever the entry says and whoever cosigns later."""
    world.spend(world.withdrawal()).release()
    world.now += 5_000
    world.freeze()

    (found,) = world.state().releases

    assert found.t == NOW
    assert settled(world.state(), NOW + 9_999).releases[0].t == NOW


def test_family_of_a_chain_of_replacements_then_is_its_first(world: World) -> None:
    """Each replacement joins the family of what it replaces; one that replaces nothing released has none."""
    first = world.withdrawal()
    second = world.withdrawal(withdrawal_id="w-2", relation=supersedes(first))
    third = world.withdrawal(withdrawal_id="w-3", relation=supersedes(second))
    assert family_of(world.state(), second) is None
    world.spend(first).release()
    world.spend(second, fee=4_000).release()

    state = world.state()

    assert [family_of(state, asked) for asked in (first, second, third)] == [first.digest] * 3
    assert len(state.family(first.digest)) == 2


INADMISSIBLE: dict[str, Callable[[World], int]] = {
    "of a smaller cap": lambda w: w.spend(w.withdrawal()).release(max_fee_sats=1),
    "under another id": lambda w: w.spend(w.withdrawal()).release(withdrawal_id="w-other"),
    "of another wallet": lambda w: w.spend(w.withdrawal()).release(wallet_id=bytes(32)),
    "of another family": lambda w: w.spend(w.withdrawal()).release(family=bytes(32)),
    "of another initiator": lambda w: w.spend(w.withdrawal()).release(initiator="bob"),
    "of other payments": lambda w: w.spend(w.withdrawal()).release(payments=()),
    "asked by a stranger": lambda w: w.spend(w.withdrawal(initiator="mallory")).release(),
    "of another genesis": lambda w: w.spend(w.withdrawal(genesis=bytes(32))).release(),
}


@pytest.mark.parametrize("name", INADMISSIBLE)
def test_release_that_does_not_say_what_was_signed_then_counts_nothing(name: str, world: World) -> None:
    """It stays in the log, and neither budgets nor families nor change indices know of it."""
    INADMISSIBLE[name](world)

    state = world.state()

    assert state.size == 1
    assert state.releases == ()
    assert state.highest_change_index(world.wallet.wallet_id) == -1


def test_freeze_by_one_then_lapses_and_by_two_then_stands(world: World) -> None:
    """72 hours for one person; a second one makes it last until a quorum lifts both."""
    world.freeze("dave")
    assert world.state().is_frozen(NOW + LONE_FREEZE_SECONDS - 1)
    assert not world.state().is_frozen(NOW + LONE_FREEZE_SECONDS)

    world.freeze("erin", b"\x02" * 16)

    assert world.state().is_frozen(NOW + 100 * LONE_FREEZE_SECONDS)


def test_freeze_again_by_the_same_person_then_is_no_second_one(world: World) -> None:
    """One person cannot keep everything frozen alone: neither by another id nor by the lifted one."""
    world.freeze("dave")
    world.freeze("dave", b"\x02" * 16)
    assert len(world.state().freezes) == 1
    world.unfreeze("erin", "frank")
    assert world.state().freezes == ()
    world.freeze("bob")

    assert world.state().freezes == ()


@pytest.mark.parametrize(("who", "signer"), [("alice", "alice"), ("dave", "alice"), ("mallory", "mallory")])
def test_freeze_by_who_may_not_then_freezes_nothing(who: str, signer: str, world: World) -> None:
    """Only people of the groups that the rules name, by their own keys."""
    signed = sign(Kind.FREEZE, Freeze(GENESIS.hash, b"\x03" * 16, who, NOW).to_json(), seed_of(signer))

    world.append(EntryKind.FREEZE, Document(signed.digest), signed)

    assert not world.state().is_frozen(NOW)


@pytest.mark.parametrize("people", [("erin",), ("erin", "erin"), ("erin", "dave"), ("bob", "dave")])
def test_unfreeze_by_too_few_then_lifts_nothing(people: tuple[str, ...], world: World) -> None:
    """A quorum of distinct admins, or the freeze stands."""
    world.freeze()
    world.unfreeze(*people)

    assert world.state().is_frozen(NOW)


def test_unfreeze_of_another_id_then_lifts_nothing(world: World) -> None:
    """It lists what it lifts; a later freeze is not lifted in advance unless its id is dead."""
    world.freeze()
    world.unfreeze("erin", "frank", freeze_id=b"\x09" * 16)

    assert world.state().is_frozen(NOW)
    assert Unfreeze(GENESIS.hash, (b"\x09" * 16,), NOW).freeze_ids


@pytest.mark.parametrize(
    ("by", "cause", "stops"),
    [
        ("alice", StopCause.CANCEL, True),
        ("bob", StopCause.CANCEL, False),
        ("carol", StopCause.REJECT, True),
        ("mallory", StopCause.REJECT, False),
        ("bob", StopCause.VETO, False),
    ],
)
def test_stop_then_counts_at_once_by_who_may(by: str, cause: StopCause, stops: bool, world: World) -> None:
    """A cancel is the initiator's, a reject anybody's who is listed; it needs no T to protect. A veto: rules say."""
    asked = world.withdrawal()
    world.stop(asked, by, cause)

    unsettled = append(start(GENESIS), world.entries[0], world.statements)

    assert (unsettled.is_stopped(asked) is not None) is stops
    assert unsettled.is_stopped(world.withdrawal(withdrawal_id="w-2")) is None


TWO_OF_SECURITY, ONE_OF_ADMINS = Veto("security", 2), Veto("admins", 1)


@pytest.mark.parametrize(
    ("people", "vetoes", "by"),
    [
        ((), (TWO_OF_SECURITY,), ()),
        (("bob",), (TWO_OF_SECURITY,), ()),
        (("bob", "bob"), (TWO_OF_SECURITY,), ()),
        (("bob", "carol"), (TWO_OF_SECURITY,), ()),
        (("bob", "dave"), (TWO_OF_SECURITY,), ("bob", "dave")),
        (("erin",), (TWO_OF_SECURITY, ONE_OF_ADMINS), ("erin",)),
        (("carol",), (TWO_OF_SECURITY, ONE_OF_ADMINS), ()),
        (("carol",), (), ("carol",)),
        (("mallory",), (), ()),
    ],
)
def test_vetoed_by_given_vetoes_counts_people_of_the_group(
    people: tuple[str, ...], vetoes: tuple[Veto, ...], by: tuple[str, ...], world: World
) -> None:
    """As many different people of one of the groups that the rules name; where they name none, anybody listed."""
    asked = world.withdrawal()
    for at, person in enumerate(people):
        world.now = NOW + at
        world.stop(asked, person, StopCause.VETO)

    state = world.state()

    assert state.vetoed_by(asked, vetoes) == by
    assert state.vetoed_by(world.withdrawal(withdrawal_id="w-2"), vetoes) == ()
    assert state.is_stopped(asked) is None


def _entries(world: World, entries: list[bytes], note: str = "") -> State:
    return advance(start(GENESIS), entries, world.statements, note or world.cosigned())


def _witnessed(world: World, note: str) -> bytes:
    return MoneyEntry(EntryKind.WITNESS, NOW, 0, bytes(32), Witnessed(note)).to_bytes()


BROKEN: dict[str, tuple[Callable[[World], State], str]] = {
    "an entry too few": (lambda w: _entries(w, w.entries[:-1]), "LOG_SIZE"),
    "an entry twice": (lambda w: _entries(w, [*w.entries, w.entries[-1]]), "LOG_SIZE"),
    "another order": (lambda w: _entries(w, w.entries[::-1]), "WITNESS_ENTRY"),
    "an older note of another tree": (lambda w: _entries(w, w.entries[:1], w.cosigned(size=2)), "LOG_SIZE"),
    "a note nobody cosigned": (
        lambda w: _entries(w, w.entries, "\n".join(w.cosigned().split("\n")[:-2]) + "\n"),
        "CHECKPOINT_UNDERSIGNED",
    ),
    "no statements": (lambda w: advance(start(GENESIS), w.entries, {}, w.cosigned()), "MISSING_BODY"),
    "no JSON": (lambda w: _entries(w, [b"\xff"]), "NOT_JSON"),
    "an event log that shrank": (
        lambda w: append(replace(start(GENESIS), event_size=1), w.entries[0], w.statements),
        "EVENT_SIZE",
    ),
    "a WITNESS entry of nothing": (
        lambda w: append(start(GENESIS), _witnessed(w, w.cosigned(size=0)), {}),
        "WITNESS_ENTRY",
    ),
    "a WITNESS entry of another size": (
        lambda w: append(
            append(start(GENESIS), w.entries[0], w.statements), _witnessed(w, w.cosigned(size=2)), w.statements
        ),
        "WITNESS_ENTRY",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_log_that_contradicts_itself_then_is_refused(name: str, world: World) -> None:
    """Nothing is skipped: what is missing, doubled, reordered or unvouched ends following with its code."""
    world.spend(world.withdrawal()).release()
    world.freeze()
    lie, code = BROKEN[name]

    with pytest.raises(CustodyError) as refused:
        lie(world)

    assert refused.value.code == code


def test_checkpoint_cosigned_anew_then_changes_no_t(world: World) -> None:
    """A later word of the witness over the same tree proves freshness and nothing else."""
    world.spend(world.withdrawal()).release()
    world.freeze()
    bare = "\n".join(world.cosigned().split("\n")[:-2]) + "\n"
    later = bare + cosign(bare, "witness", WITNESS_SEED, NOW + 500) + "\n"

    assert _entries(world, world.entries, later).releases[0].t == NOW
