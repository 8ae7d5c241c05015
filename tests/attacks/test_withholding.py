"""A hostile log holder, with the log key and every coordinator key, hides what people posted to witnesses, or splits.

protocol.md "Nothing important can be withheld" and "The logs"; threats.md H4, H10.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from custody.approval import Approval, Decision
from custody.bundle import Bundle
from custody.entries import Document, EntryKind, StopCause, StopStatement
from custody.errors import IntegrityError, Refused
from custody.follow import start
from custody.genesis import Genesis
from custody.held import Held, count_receipts
from custody.statements import Kind, Signed, sign
from signer_node.inbox import Inbox
from signer_node.judge import Judged, Moment, Pinned, judge
from signer_node.marks import held_mark_path
from signer_node.witness_money import open_pair
from tests.fakes.clock import FakeClock
from tests.fakes.rules import DAY, NOW, PAY, seed_of
from tests.watchers import WatchedWorld, Watcher, freeze_by, genesis_with, veto_by, witness_of
from tests.world import EXCHANGE, NODES, World

THREE, FOUR = genesis_with(3, 2, 0, PAY), genesis_with(4, 3, 1, PAY)


def watched(genesis: Genesis, directory: Path, *liars: str) -> WatchedWorld:
    """Return an empty log under `genesis` with all its witnesses, of which `liars` sign anything."""
    clock = FakeClock(NOW)
    names = [witness.name for witness in genesis.policy.roots.witnesses if witness.name not in liars]
    asks = tuple(Watcher(name, genesis, directory, clock) for name in names)
    return WatchedWorld(genesis, NOW, asks=asks, liars=liars, clock=clock)


def judged(bundle: Bundle, world: World, node: str = "alpha", *held: Held) -> Judged:
    """Judge `bundle` as `node` now, from an empty follower."""
    addressed = replace(bundle, node=node)
    moment = Moment(world.now, 0)
    return judge(addressed, Pinned(world.genesis, node), start(world.genesis), moment, (), world.book, held)


def code(found: Judged) -> str:
    """Return the refusal's code, or what else came out."""
    return found.outcome.code if isinstance(found.outcome, Refused) else type(found.outcome).__name__


HIDDEN: dict[str, tuple[Callable[[World], Signed], str]] = {
    "freeze": (lambda world: freeze_by("dave", world.genesis, world.now), "FROZEN"),
    "veto": (lambda world: veto_by("bob", world.withdrawal(), world.now), "STOPPED"),
    "cancel": (lambda world: _cancel(world), "STOPPED"),
    "reject": (lambda world: _reject(world), "STOPPED"),
}


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("name", HIDDEN)
def test_withheld_statement_hidden_from_the_log_is_refused_by_every_signer_that_holds_it(
    name: str, node: str, tmp_path: Path
) -> None:
    """What a witness holds counts at a node that took it over, at once, though the log it is shown lacks it."""
    make, expected = HIDDEN[name]
    world = watched(THREE, tmp_path)
    signed = make(world)
    world.asks[0].hold(signed)
    bundle = world.spend(world.withdrawal()).bundle()
    inbox = Inbox(tmp_path / node)
    for held in world.asks[0].inbox.held:  # what the node's own dialling brings
        inbox.take(held.signed, start(world.genesis), world.now)

    assert code(judged(bundle, world, node)) == "Cleared"
    assert code(judged(bundle, world, node, *inbox.held)) == expected
    again = Inbox(tmp_path / node)
    assert code(judged(bundle, world, node, *again.held)) == expected, "a restart forgets nothing"


def test_withheld_freeze_posted_to_enough_witnesses_stops_signing_within_a_minute_and_five(tmp_path: Path) -> None:
    """W - w + 1 receipts: after 60 s no fresh checkpoint omits it, after 5 min more no old one passes anywhere."""
    world = watched(THREE, tmp_path)
    roots, freeze = world.genesis.policy.roots, freeze_by("dave", world.genesis, NOW)
    bundle = world.spend(world.withdrawal()).bundle()
    receipts = [watcher.hold(freeze) for watcher in world.asks[:2]]
    given = [receipt for receipt in receipts if isinstance(receipt, Signed)]
    assert count_receipts(roots.witnesses, roots.w, world.genesis.hash, freeze.digest, given).missing == 0
    assert [witness_of(receipt) for receipt in receipts] == ["w1", "w2"]

    world.wait(59)
    last = world.cosigned()  # the newest word that omits the freeze
    hidden = replace(bundle, log=replace(bundle.log, note=last))
    assert code(judged(hidden, world)) == "Cleared"

    world.wait(1)
    late = replace(bundle, log=replace(bundle.log, note=world.cosigned()))
    assert [watcher.said for watcher in world.asks] == ["WITNESS_WITHHELD", "WITNESS_WITHHELD", ""]
    assert {code(judged(late, world, node)) for node in NODES} == {"CHECKPOINT_UNDERSIGNED"}

    world.wait(300)  # 60 s + 5 min after it was posted
    assert {code(judged(hidden, world, node)) for node in ("alpha", "beta")} == {"CHECKPOINT_STALE"}


def test_withheld_freeze_posted_to_fewer_is_told_as_missing_and_can_be_hidden(tmp_path: Path) -> None:
    """One receipt of two: the program says that one is missing, and rightly: the holder asks those who do not know."""
    world = watched(THREE, tmp_path)
    roots, freeze = world.genesis.policy.roots, freeze_by("dave", world.genesis, NOW)
    bundle = world.spend(world.withdrawal()).bundle()
    receipt = world.asks[0].hold(freeze)
    assert isinstance(receipt, Signed)

    posted = count_receipts(roots.witnesses, roots.w, world.genesis.hash, freeze.digest, [receipt, receipt])
    world.wait(61)
    hidden = replace(bundle, log=replace(bundle.log, note=world.cosigned()))

    assert (posted.by, posted.missing) == (("w1",), 1)
    assert code(judged(hidden, world)) == "Cleared"


def test_withheld_freeze_in_the_log_lets_witnesses_vouch_again(tmp_path: Path) -> None:
    """The one way on for the log holder is to log it; then witnesses vouch, and every signer sees it there."""
    honest = watched(THREE, tmp_path)
    for watcher in honest.asks:
        watcher.hold(freeze_by("dave", honest.genesis, NOW, b"\x01" * 16))
    honest.wait(61)
    honest.freeze("dave")
    bundle = honest.spend(honest.withdrawal()).bundle()

    assert [watcher.said for watcher in honest.asks] == ["", "", ""]
    assert code(judged(bundle, honest)) == "FROZEN"


def test_withheld_freeze_logged_without_its_signature_is_still_withheld(tmp_path: Path) -> None:
    """An entry that names the freeze over a body stripped of its signature counts nothing, so it is no way out."""
    world = watched(THREE, tmp_path)
    freeze = freeze_by("dave", world.genesis, NOW)
    for watcher in world.asks:
        watcher.hold(freeze)
    world.wait(61)

    _log_freeze(world, replace(freeze, endorsements=()))

    assert [watcher.said for watcher in world.asks] == ["WITNESS_WITHHELD"] * 3


def test_atk_122_one_lying_witness_of_three_splits_the_log(tmp_path: Path) -> None:
    """W = 3, w = 2 is f = 0: with one liar, two nodes are shown two logs, and each clears what it is shown."""
    assert _split(THREE, tmp_path, "w3") == ["Cleared", "Cleared"]


def test_atk_122_one_lying_witness_of_four_gains_nothing(tmp_path: Path) -> None:
    """W = 4, w = 3 is f = 1: however the honest three are divided, only one history finds enough of them."""
    assert _split(FOUR, tmp_path / "one", "w4", first=1) == ["CHECKPOINT_UNDERSIGNED", "Cleared"]
    assert _split(FOUR, tmp_path / "two", "w4", first=2) == ["Cleared", "CHECKPOINT_UNDERSIGNED"]


def test_atk_122_two_lying_witnesses_of_four_split_the_log(tmp_path: Path) -> None:
    """W = 4, w = 3 with two liars: the log splits, as f = 1 says."""
    assert _split(FOUR, tmp_path, "w3", "w4") == ["Cleared", "Cleared"]


def test_atk_122_witness_shown_both_histories_vouches_for_the_first(tmp_path: Path) -> None:
    """An honest witness that followed one history refuses the other, whatever proof it is given."""
    one = watched(THREE, tmp_path)
    other = WatchedWorld(THREE, NOW, asks=one.asks, clock=one.clock)
    one.spend(one.withdrawal()).release()
    other.spend(other.withdrawal((EXCHANGE, 70_000))).release()

    assert [watcher.said for watcher in one.asks] == ["WITNESS_FORK"] * 3


def _split(genesis: Genesis, directory: Path, *liars: str, first: int = 1) -> list[str]:
    """Show one history to alpha and `first` honest witnesses, another to beta and the rest; return what they say."""
    whole = watched(genesis, directory, *liars)
    honest = whole.asks
    said = []
    for node, amount, asks in (("alpha", 50_000, honest[:first]), ("beta", 70_000, honest[first:])):
        world = WatchedWorld(genesis, NOW, asks=asks, liars=liars, clock=whole.clock)
        bundle = world.spend(world.withdrawal((EXCHANGE, amount))).bundle()
        said.append(code(judged(bundle, world, node)))
    return said


def _log_freeze(world: WatchedWorld, signed: Signed) -> None:
    world.append(EntryKind.FREEZE, Document(signed.digest), signed)


def _cancel(world: World) -> Signed:
    asked = world.withdrawal()
    said = StopStatement(asked.genesis, asked.digest, StopCause.CANCEL, "alice", world.now)
    return sign(Kind.STOP, said.to_json(), seed_of("alice"))


def _reject(world: World) -> Signed:
    asked = world.withdrawal()
    said = Approval(asked.genesis, asked.digest, Decision.REJECT, "carol", world.now, world.now + DAY)
    return sign(Kind.APPROVAL, said.to_json(), seed_of("carol"))


@pytest.mark.parametrize("lost", ["the directory of yesterday", "the statement alone", "the record alone"])
def test_atk_123_witness_restored_without_what_it_held_never_vouches_again(lost: str, tmp_path: Path) -> None:
    """A freeze that it gave a receipt for is part of its state: an older state is refused, with the log unchanged."""
    world = watched(THREE, tmp_path)
    watcher = world.asks[0]
    world.cosigned()
    yesterday = tmp_path / "yesterday"
    shutil.copytree(watcher.home.state, yesterday)
    receipt = watcher.hold(freeze_by("dave", world.genesis, NOW))
    assert isinstance(receipt, Signed)
    for origin in watcher.pair.origins:
        watcher.pair.of(origin)._store.close()  # type: ignore[union-attr]  # as the end of its process does
    held = watcher.home.state / "held"
    if lost == "the directory of yesterday":
        shutil.rmtree(watcher.home.state)
        shutil.copytree(yesterday, watcher.home.state)
    else:
        for path in held.glob("*.json" if lost == "the statement alone" else "changes"):
            path.unlink()

    with pytest.raises(IntegrityError) as refused:
        open_pair(watcher.home, world.genesis, Inbox(watcher.home.state), world.clock.now)

    assert refused.value.code == ("HELD_DAMAGED" if lost == "the statement alone" else "WITNESS_HELD_REWOUND")


def test_witness_that_died_between_record_and_mark_of_what_it_holds_starts_again(tmp_path: Path) -> None:
    """The receipt leaves after the mark, so a record that is ahead of it is no loss."""
    world = watched(THREE, tmp_path)
    watcher = world.asks[0]
    mark = held_mark_path(watcher.home.key)
    before = mark.read_bytes()
    watcher.hold(freeze_by("dave", world.genesis, NOW))
    for origin in watcher.pair.origins:
        watcher.pair.of(origin)._store.close()  # type: ignore[union-attr]  # as the end of its process does
    mark.write_bytes(before)

    inbox = Inbox(watcher.home.state)
    open_pair(watcher.home, world.genesis, inbox, world.clock.now)

    assert len(inbox.held) == 1
    assert mark.read_bytes() != before
