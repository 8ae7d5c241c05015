"""Both followers of the money log: a node's own file, and the coordinator's view of its store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.followed import Followed as StoreFollowed
from coordinator.store.port import Change, MoneyBody
from custody.audit import Log
from custody.bundle import LogPart, parse_delta
from custody.entries import EntryKind, Notice
from custody.errors import CustodyError
from custody.follow import advance
from signer_node import followed as followed_module
from signer_node.followed import Followed, followed_since
from tests.fakes.rules import NOW
from tests.fakes.store import FakeStore
from tests.world import World, make_genesis, signed_by_initiator

GENESIS = make_genesis()


def part(world: World, first: int = 0) -> LogPart:
    """Return the log from `first` on with all its statements."""
    return LogPart(first, tuple(world.entries[first:]), tuple(world.statements.values()), world.cosigned())


def take(followed: Followed, log: LogPart) -> None:
    """Follow `log` as a node does."""
    state = followed.state
    followed.take(log, advance(state, log.from_size(state.size), log.by_digest(), log.note))


def test_followed_reopened_then_stands_where_it_stood(tmp_path: Path) -> None:
    """State is replayed from the file alone, in as many parts as it came, overlaps included."""
    world = World(GENESIS)
    followed = Followed(tmp_path / "log", GENESIS)
    world.spend(world.withdrawal()).release()
    take(followed, part(world))
    world.freeze()
    take(followed, part(world))
    followed.close()

    again = Followed(tmp_path / "log", GENESIS)
    again.close()

    assert again.state == followed.state
    assert again.state.size == len(world.entries)


def test_followed_given_statements_that_no_entry_names_then_keeps_none_of_them(tmp_path: Path) -> None:
    """A coordinator cannot fill a node's disk with what nobody will read."""
    world = World(GENESIS)
    world.spend(world.withdrawal()).release()
    junk = tuple(signed_by_initiator(world.withdrawal(withdrawal_id=f"junk-{at}")) for at in range(200))
    log = part(world)
    followed = Followed(tmp_path / "log", GENESIS)

    take(followed, replace(log, statements=(*junk, *log.statements)))
    followed.close()

    assert (tmp_path / "log").stat().st_size < 4_000
    assert Followed(tmp_path / "log", GENESIS).state == followed.state


@pytest.mark.parametrize(("most_bytes", "deltas"), [(1_000_000, 1), (8_000, 3), (1, 6)])
def test_followed_since_given_a_size_then_a_follower_that_has_it_catches_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int, deltas: int
) -> None:
    """Small parts are joined up to a size; each delta ends at a checkpoint, and what the follower has is left out."""
    monkeypatch.setattr(followed_module, "MAX_JOINED_BYTES", most_bytes)
    world, other = World(GENESIS), Followed(tmp_path / "other", GENESIS)
    followed = Followed(tmp_path / "log", GENESIS)
    for number in range(8):
        asked = world.withdrawal((11, 50_000 + number), withdrawal_id=f"w-{number}")
        world.spend(asked, [world.coin(number)]).release()
        take(followed, part(world, followed.state.size))
        if number == 1:
            take(other, part(world))

    found = [parse_delta(raw).log for raw in followed_since(tmp_path / "log", other.state.size)]
    for log in found:
        take(other, log)

    assert len(found) == deltas
    assert other.state == followed.state
    assert list(followed_since(tmp_path / "log", followed.state.size)) == []
    assert list(followed_since(tmp_path / "none", 0)) == []


def test_followed_under_another_genesis_then_is_refused(tmp_path: Path) -> None:
    """A log is read under the genesis that was pinned, and under no other."""
    world = World(GENESIS)
    world.spend(world.withdrawal()).release()
    followed = Followed(tmp_path / "log", GENESIS)
    take(followed, part(world))
    followed.close()

    with pytest.raises(CustodyError) as refused:
        Followed(tmp_path / "log", make_genesis(threshold=1))

    assert refused.value.code == "CHECKPOINT_ORIGIN"


async def filled(count: int) -> tuple[FakeStore, StoreFollowed]:
    """Return a store with `count` notices and a follower that has seen none."""
    store = FakeStore()
    asked = signed_by_initiator(World(GENESIS).withdrawal())
    notice = MoneyBody(EntryKind.NOTICE, Notice(asked.digest))
    for _ in range(count):
        await store.record(Change(NOW, (notice,), bodies=(asked,)))
    return store, StoreFollowed(store, GENESIS)


async def test_followed_store_when_many_tasks_read_then_counts_each_entry_once() -> None:
    """Tasks that catch up at the same time, while more is written, all see one history."""
    store, followed = await filled(3)
    asked = signed_by_initiator(World(GENESIS).withdrawal())

    async def entries(log: Log, first: int, end: int, max_bytes: int) -> tuple[bytes, ...]:
        await asyncio.sleep(0)
        found = await FakeStore.entries(store, log, first, end, 300)  # one entry at a time
        await asyncio.sleep(0)
        return found

    store.entries = entries  # type: ignore[method-assign]  # a slow disk
    change = Change(NOW, (MoneyBody(EntryKind.NOTICE, Notice(asked.digest)),), bodies=(asked,))

    await asyncio.gather(*(followed.state(NOW) for _ in range(20)), *(store.record(change) for _ in range(5)))
    state = await followed.state(NOW)

    assert state.size == store.head(Log.MONEY).size == 8
    assert len(state.notices) == 8
    assert state.frontier.root == store.head(Log.MONEY).root


async def test_followed_store_when_witnesses_saw_the_tail_then_dates_it_by_their_word() -> None:
    """T of the tail stands still once a checkpoint covers it; before that it is now."""
    store, followed = await filled(1)
    world = World(GENESIS, now=NOW + 7)
    world.entries = list(await store.entries(Log.MONEY, 0, 1, 10_000))

    assert (await followed.state(NOW + 500)).notices[0][1] == NOW + 500
    await store.keep_cosigned(Log.MONEY, 1, world.cosigned())
    assert (await followed.state(NOW + 900)).notices[0][1] == NOW + 7
