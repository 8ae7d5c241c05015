"""The inbox of a node or witness: what it keeps over a restart, what it lets go, and files that people drop."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from custody.errors import IntegrityError, Refused, UnavailableError
from custody.held import HOLD_SECONDS
from signer_node import inbox as inbox_module
from signer_node.inbox import Inbox
from tests.fakes.rules import NOW, PAY
from tests.watchers import freeze_by, veto_by
from tests.world import World, make_genesis

GENESIS = make_genesis(PAY)
FREEZE = freeze_by("dave", GENESIS, NOW, b"\x01" * 16)


@pytest.fixture
def world() -> World:
    """Return an empty log."""
    return World(GENESIS)


def test_inbox_given_a_restart_holds_what_it_held_since_then(world: World, tmp_path: Path) -> None:
    """A statement is on the disk when it is taken; the same again keeps its first time."""
    inbox = Inbox(tmp_path)
    assert inbox.take(FREEZE, world.state(), NOW) == NOW
    assert inbox.take(FREEZE, world.state(), NOW + 5) == NOW

    again = Inbox(tmp_path)

    assert again.held == inbox.held
    assert [held.received_at for held in again.held] == [NOW]


def test_inbox_given_what_is_in_the_log_gives_a_time_and_holds_nothing(world: World, tmp_path: Path) -> None:
    """Who posts what already counts gets a receipt all the same."""
    world.freeze("dave")
    inbox = Inbox(tmp_path)

    assert inbox.take(FREEZE, world.state(), NOW) == NOW
    assert inbox.held == ()


def test_inbox_given_logged_statement_lets_go_after_a_minute(world: World, tmp_path: Path) -> None:
    """What counts in the log is kept until others had time to take it over."""
    inbox = Inbox(tmp_path)
    inbox.take(FREEZE, world.state(), NOW)
    inbox.forget(world.state(), NOW + HOLD_SECONDS)
    assert len(inbox.held) == 1
    world.freeze("dave")
    inbox.forget(world.state(), NOW + HOLD_SECONDS - 1)
    assert len(inbox.held) == 1

    inbox.forget(world.state(), NOW + HOLD_SECONDS)

    assert inbox.held == Inbox(tmp_path).held == ()


def test_inbox_given_a_flood_by_one_person_still_takes_anothers(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One person's stops fill one person's share."""
    monkeypatch.setattr(inbox_module, "MAX_HELD_OF_ONE", 2)
    inbox = Inbox(tmp_path)
    stops = [veto_by("bob", world.withdrawal(withdrawal_id=f"w-{n}"), NOW) for n in range(3)]

    said = [inbox.take(stop, world.state(), NOW) for stop in stops]

    assert said[:2] == [NOW, NOW]
    assert isinstance(said[2], Refused)
    assert said[2].code == "INBOX_FULL"
    assert inbox.take(veto_by("carol", world.withdrawal(), NOW), world.state(), NOW) == NOW
    assert inbox.take(FREEZE, world.state(), NOW) == NOW


def test_inbox_given_dropped_files_takes_the_good_and_sets_the_bad_aside(world: World, tmp_path: Path) -> None:
    """A freeze carried to an air-gapped node as a file counts; a link, garbage and what nobody may sign do not."""
    inbox = Inbox(tmp_path)
    drop = tmp_path / "inbox"
    (drop / "a.json").write_bytes(FREEZE.to_bytes())
    (drop / "b.json").write_bytes(b"{}")
    (drop / "c.json").write_bytes(freeze_by("alice", GENESIS, NOW).to_bytes())
    (drop / "d.json").symlink_to("/dev/zero")
    os.mkfifo(drop / "e.json")

    taken = inbox.take_dropped(world.state(), NOW)

    assert taken == (FREEZE,)
    assert [held.signed for held in inbox.held] == [FREEZE]
    assert sorted(path.name for path in drop.iterdir()) == [f"{name}.json.refused" for name in "bcde"]


def test_inbox_given_a_damaged_file_does_not_start(world: World, tmp_path: Path) -> None:
    """Somebody has a receipt for what cannot be read any more: that is not passed over."""
    inbox = Inbox(tmp_path)
    inbox.take(FREEZE, world.state(), NOW)
    (path,) = (tmp_path / "held").glob("*.json")
    path.write_bytes(path.read_bytes()[:-5])

    with pytest.raises(IntegrityError, match="HELD_DAMAGED"):
        Inbox(tmp_path)


def test_inbox_given_a_full_disk_holds_nothing_and_says_so(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No receipt without a durable statement."""

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(inbox_module, "replace_durably", full)
    inbox = Inbox(tmp_path)

    with pytest.raises(UnavailableError, match="HELD_UNWRITABLE"):
        inbox.take(FREEZE, world.state(), NOW)
    assert inbox.held == ()
