"""The money log's witness: it replays before it vouches, and its state survives, or ends its key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from custody.audit import read_cosignature
from custody.bundle import Delta, LogPart
from custody.errors import IntegrityError, Refused
from custody.genesis import Genesis
from custody.held import Held
from signer_node.witness import CosignRequest
from tests.fakes.clock import FakeClock
from tests.fakes.rules import NOW, PAY
from tests.watchers import WatchedWorld, Watcher, freeze_by, genesis_with
from tests.world import make_genesis

GENESIS = genesis_with(1, 1, 0, PAY)


def watched(directory: Path, genesis: Genesis = GENESIS) -> tuple[WatchedWorld, Watcher]:
    """Return an empty log and its one witness."""
    clock = FakeClock(NOW)
    watcher = Watcher("w1", genesis, directory, clock)
    return WatchedWorld(genesis, NOW, asks=(watcher,), clock=clock), watcher


def let_go(watcher: Watcher) -> None:
    """Close what one process holds."""
    for origin in watcher.pair.origins:
        witness = watcher.pair.of(origin)
        assert witness is not None
        witness._store.close()


def test_money_witness_given_a_checkpoint_beyond_what_it_followed_says_where_it_is(tmp_path: Path) -> None:
    """No entries, no cosignature, whatever is proven about the tree."""
    world, watcher = watched(tmp_path)
    world.freeze("dave")
    world.asks = ()
    world.liars = ("w1",)
    world.freeze("erin", b"\x02" * 16)

    answer, size = watcher.pair.answer(CosignRequest(GENESIS.origin("money"), 1, (), world.note()))

    assert isinstance(answer, Refused)
    assert (answer.code, answer.found, size) == ("WITNESS_BEHIND", "1", 1)


def test_money_witness_given_entries_vouches_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    """What it followed and what it vouched for are on its disk."""
    world, watcher = watched(tmp_path)
    world.freeze("dave")
    world.freeze("erin", b"\x02" * 16)
    let_go(watcher)

    again = Watcher("w1", GENESIS, tmp_path, world.clock)
    world.asks = (again,)
    world.freeze("grace", b"\x03" * 16)
    line = again.vouch(world, world.note())

    assert line is not None
    assert read_cosignature(world.note(), line, again.pair.money.pins.key) == NOW
    assert again.pair.money.watched.state.size == len(world.entries) == 5


LIES: dict[str, tuple[str, Callable[[Delta], Delta]]] = {
    "another_genesis": ("GENESIS_OTHER", lambda d: Delta(bytes(32), d.log)),
    "gap": ("WITNESS_BEHIND", lambda d: Delta(d.genesis, LogPart(1, d.log.entries[1:], d.log.statements, d.log.note))),
    "no_statements": ("MISSING_BODY", lambda d: Delta(d.genesis, LogPart(0, d.log.entries, (), d.log.note))),
    "short": ("WITNESS_FORK", lambda d: Delta(d.genesis, LogPart(0, d.log.entries[:1], d.log.statements, d.log.note))),
    "not_a_note": ("NOTE_FORM", lambda d: Delta(d.genesis, LogPart(0, d.log.entries, d.log.statements, "hello"))),
}


@pytest.mark.parametrize("lie", LIES)
def test_money_witness_given_a_wrong_delta_follows_nothing(lie: str, tmp_path: Path) -> None:
    """Entries that do not continue, end or verify as the log's signed checkpoint says are refused by code."""
    code, change = LIES[lie]
    world, watcher = watched(tmp_path)
    world.asks, world.liars = (), ("w1",)
    world.freeze("dave")
    world.freeze("erin", b"\x02" * 16)
    honest = Delta(GENESIS.hash, LogPart(0, tuple(world.entries), tuple(world.statements.values()), world.note()))

    taken = watcher.pair.money.watched.take(change(honest).to_bytes())

    assert isinstance(taken, Refused)
    assert taken.code == code
    assert watcher.pair.money.watched.state.size == 0


def test_money_witness_given_a_log_without_a_held_statement_refuses_until_it_is_there(tmp_path: Path) -> None:
    """WITNESS_WITHHELD after a minute, in this process and the next; logged, it vouches again."""
    world, watcher = watched(tmp_path)
    watcher.hold(freeze_by("dave", GENESIS, NOW, b"\x01" * 16))
    world.wait(60)
    let_go(watcher)
    again = Watcher("w1", GENESIS, tmp_path, world.clock)
    world.asks = (again,)

    assert again.inbox.held == (Held(freeze_by("dave", GENESIS, NOW, b"\x01" * 16), NOW),)
    assert again.vouch(world, world.note()) is None
    assert again.said == "WITNESS_WITHHELD"
    world.freeze("dave")
    assert again.said == ""


def test_money_witness_given_another_tree_of_its_size_keeps_both_signed_checkpoints(tmp_path: Path) -> None:
    """The log key signed two histories: whoever asks this machine can prove it."""
    world, watcher = watched(tmp_path)
    world.freeze("dave")
    other = WatchedWorld(GENESIS, NOW, liars=("w1",), clock=world.clock)
    other.freeze("erin")

    answer, _ = watcher.pair.answer(CosignRequest(GENESIS.origin("money"), 1, (), other.note()))
    evidence = json.loads((watcher.home.state / "money.fork").read_bytes())

    assert isinstance(answer, Refused)
    assert answer.code == "WITNESS_FORK"
    assert evidence == {"ours": world.note(), "theirs": other.note()}


def test_money_witness_restored_from_yesterday_does_not_start(tmp_path: Path) -> None:
    """Its directory from a backup, held statements and followed log included, is older than the mark beside the key."""
    world, watcher = watched(tmp_path)
    world.freeze("dave")
    shutil.copytree(watcher.home.state, tmp_path / "yesterday")
    world.freeze("erin", b"\x02" * 16)
    let_go(watcher)
    shutil.rmtree(watcher.home.state)
    (tmp_path / "yesterday").rename(watcher.home.state)

    with pytest.raises(IntegrityError, match="WITNESS_STATE_REWOUND"):
        Watcher("w1", GENESIS, tmp_path, world.clock)


def test_money_witness_restored_with_its_key_refuses_for_ever_once_shown_its_own_word(tmp_path: Path) -> None:
    """A whole machine from yesterday, marks included: its own newer cosignature ends the key, for both logs."""
    world, watcher = watched(tmp_path / "now")
    world.freeze("dave")
    let_go(watcher)
    shutil.copytree(tmp_path / "now", tmp_path / "yesterday")
    watcher = Watcher("w1", GENESIS, tmp_path / "now", world.clock)
    world.asks = (watcher,)
    world.freeze("erin", b"\x02" * 16)
    newest = world.cosigned()

    restored = Watcher("w1", GENESIS, tmp_path / "yesterday", world.clock)
    codes = []
    for note in (newest, world.note()):
        restored.vouch(world, note)
        codes.append(restored.said)
    event, _ = restored.pair.answer(CosignRequest(GENESIS.origin("event"), 0, (), ""))

    assert codes == ["WITNESS_REWOUND", "WITNESS_REWOUND"]
    assert isinstance(event, Refused)
    assert event.code == "WITNESS_REWOUND"


def test_money_witness_given_another_organisations_log_refuses(tmp_path: Path) -> None:
    """Origin and genesis are pinned."""
    world, watcher = watched(tmp_path)
    other = make_genesis(PAY)

    answer, _ = watcher.pair.answer(CosignRequest(other.origin("money"), 0, (), world.note()))

    assert isinstance(answer, Refused)
    assert answer.code == "CHECKPOINT_ORIGIN"
