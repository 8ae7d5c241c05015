"""Checkpoints, cosignatures and proofs of the coordinator's logs, against real witnesses' judgement."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from coordinator import logs as logs_module
from coordinator.log_key import SeedKey
from coordinator.logs import LogPins, Logs
from coordinator.store import Change, Event, MoneyBody, Store
from coordinator.store.sql import SqlStore
from custody import ed25519
from custody.audit import (
    Checkpoint,
    ExportKeys,
    Log,
    Subtrees,
    VerdictKind,
    cosign,
    leaf_hash,
    open_checkpoint,
    sign_checkpoint,
    verify_consistency,
    verify_export,
    verify_inclusion,
    write_export,
)
from custody.entries import EntryKind, Notice, parse_entry
from custody.errors import IntegrityError, NotFoundError, Refused, UnavailableError
from signer_node.witness import CosignRequest, WitnessPins, WitnessState, step
from tests.fakes.audit_log import GENESIS
from tests.fakes.clock import FakeClock
from tests.fakes.sessions import NOW, drafted
from tests.fakes.store import FakeStore

SEED = b"\x01" * 32
PROPOSED = Event("withdrawal.proposed", "payroll")


@dataclass
class LocalWitness:
    """A witness's own step without its process. asked: old sizes it was asked from.  ill: what it does instead."""

    pins: WitnessPins
    clock: FakeClock
    state: WitnessState = field(default_factory=WitnessState)
    asked: list[int] = field(default_factory=list)
    ill: str = ""

    async def add_checkpoint(self, origin: str, old_size: int, proof: tuple[bytes, ...], note: str) -> str | Refused:
        """Implements `coordinator.logs.WitnessPort`."""
        self.asked.append(old_size)
        if self.ill == "away":
            raise UnavailableError("WITNESS_AWAY", "expected an answer")
        if self.ill == "silent":
            await asyncio.sleep(60)
        if self.ill == "garbage":
            return "— nobody AAAA"
        answer = step(self.state, CosignRequest(origin, old_size, proof, note), self.pins, self.clock.now())
        if isinstance(answer, Refused):
            return answer
        self.state, line = answer
        return line


class World:
    """A store, its logs and W witnesses of `log`, of which w must vouch."""

    def __init__(self, count: int = 3, w: int = 2, log: Log = Log.EVENT, store: Store | None = None) -> None:
        self.fake = FakeStore()
        self.store, self.clock = store or self.fake, FakeClock(NOW)
        pins = LogPins(GENESIS.digest, SeedKey(SEED), ed25519.public_key(SEED), (), w)
        self.witnesses = {
            f"w{n}": LocalWitness(
                WitnessPins(pins.origin(log), pins.log_key, f"w{n}", bytes([16 + n]) * 32), self.clock
            )
            for n in range(count)
        }
        keys = tuple(witness.pins.key for witness in self.witnesses.values())
        self.pins = LogPins(GENESIS.digest, SeedKey(SEED), pins.log_key, keys, w)
        self.logs = Logs(self.store, self.pins, self.witnesses, self.clock)

    async def log(self, count: int) -> None:
        """Append `count` events."""
        await self.store.record(Change(NOW, events=(PROPOSED,) * count))

    @property
    def codes(self) -> dict[str, str]:
        """Why each witness did not vouch."""
        return {name: refused.code for (_, name), refused in self.logs.refusals.items()}


async def test_collect_when_log_grows_then_each_witness_follows() -> None:
    """Every checkpoint gets w cosignatures, and a witness is asked from where it is."""
    world = World()
    for size in (3, 8, 8, 20):
        await world.log(size - world.store.head(Log.EVENT).size)

        cosigned = await world.logs.collect(Log.EVENT)

        assert cosigned.checkpoint.size == size
        assert cosigned.checkpoint.root == world.store.head(Log.EVENT).root
        assert len(cosigned.counted) >= 2
        kept = await world.logs.cosigned(Log.EVENT)
        assert kept == open_checkpoint(
            cosigned.note, world.pins.log_key, world.pins.origin(Log.EVENT), world.pins.witnesses
        )
    assert world.witnesses["w0"].asked == [0, 3, 8, 8]


async def test_collect_when_coordinator_restarted_then_learns_where_the_witness_is() -> None:
    """A new process knows no sizes: one more question finds them."""
    world = World()
    await world.log(5)
    await world.logs.collect(Log.EVENT)
    await world.log(5)

    again = Logs(world.store, world.pins, world.witnesses, world.clock)
    cosigned = await again.collect(Log.EVENT)

    assert cosigned.checkpoint.size == 10
    assert world.witnesses["w0"].asked == [0, 0, 5]


@pytest.mark.parametrize("ill", ["away", "silent", "garbage"])
async def test_collect_when_one_witness_is_ill_then_the_others_suffice(ill: str) -> None:
    """One of three may be away, silent or lying; the two others vouch, and nobody waits long."""
    world = World()
    await world.log(2)
    world.witnesses["w1"].ill = ill

    async with asyncio.timeout(5):
        cosigned = await world.logs.collect(Log.EVENT)

    assert [name for name, _ in cosigned.counted] == ["w0", "w2"]


@pytest.mark.parametrize(("ill", "code"), [("away", "WITNESS_UNREACHABLE"), ("garbage", "NOTE_SIGNATURE_FORM")])
async def test_collect_when_too_few_vouch_then_unavailable_and_nothing_kept(ill: str, code: str) -> None:
    """Below w there is no checkpoint, and each witness's reason is known."""
    world = World()
    await world.log(2)
    for name in ("w0", "w1"):
        world.witnesses[name].ill = ill

    with pytest.raises(UnavailableError) as caught:
        await world.logs.collect(Log.EVENT)

    assert caught.value.code == "WITNESSES_MISSING"
    assert world.codes == {"w0": code, "w1": code}
    assert await world.logs.cosigned(Log.EVENT) is None
    assert await world.logs.fresh(Log.EVENT) is None


async def test_collect_when_witness_is_silent_then_time_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A witness that says nothing is given up after the timeout."""
    monkeypatch.setattr(logs_module, "WITNESS_TIMEOUT_S", 0.05)
    world = World(count=1, w=1)
    world.witnesses["w0"].ill = "silent"

    assert await world.logs.fresh(Log.EVENT) is None
    assert world.codes == {"w0": "WITNESS_UNREACHABLE"}


async def test_collect_when_witness_is_not_configured_then_it_counts_as_away() -> None:
    """A pinned witness without an address cannot vouch."""
    world = World(count=1, w=1)
    logs = Logs(world.store, world.pins, {}, world.clock)

    assert await logs.fresh(Log.EVENT) is None
    assert [refused.code for refused in logs.refusals.values()] == ["WITNESS_UNREACHABLE"]


async def test_collect_when_store_lost_history_then_witness_says_rolled_back() -> None:
    """A database from yesterday is shorter than what witnesses saw: nothing is vouched for."""
    world = World(count=1, w=1)
    await world.log(5)
    await world.logs.collect(Log.EVENT)
    yesterday = FakeStore()
    await yesterday.record(Change(NOW, events=(PROPOSED,) * 3))

    logs = Logs(yesterday, world.pins, world.witnesses, world.clock)

    assert await logs.fresh(Log.EVENT) is None
    assert [refused.code for refused in logs.refusals.values()] == ["WITNESS_ROLLED_BACK"]


async def test_collect_when_store_changed_history_then_witness_refuses() -> None:
    """Another history of the same length is a fork."""
    world = World(count=1, w=1)
    await world.log(5)
    await world.logs.collect(Log.EVENT)
    other = FakeStore()
    await other.record(Change(NOW + 1, events=(PROPOSED,) * 6))

    logs = Logs(other, world.pins, world.witnesses, world.clock)

    assert await logs.fresh(Log.EVENT) is None
    assert [refused.code for refused in logs.refusals.values()] == ["WITNESS_BAD_PROOF"]


async def test_fresh_when_asked_then_only_as_often_as_needed() -> None:
    """An unchanged checkpoint is asked for again only when old; its first note stays, its newest is new."""
    world = World(count=1, w=1)
    await world.log(2)
    first = await world.logs.fresh(Log.EVENT)
    world.clock.advance(logs_module.FRESH_S)
    assert await world.logs.fresh(Log.EVENT) == first
    world.clock.advance(1)

    later = await world.logs.fresh(Log.EVENT)

    assert first is not None
    assert later is not None
    assert (later.first, len(world.witnesses["w0"].asked)) == (first.first, 2)
    assert later.newest != first.newest
    cosigned = await world.logs.cosigned(Log.EVENT)
    assert cosigned is not None
    assert cosigned.newest == NOW + logs_module.FRESH_S + 1


async def test_fresh_when_refresh_fails_then_old_word_is_not_passed_off_as_new() -> None:
    """What witnesses said long ago does not become fresh because they are away now."""
    world = World(count=1, w=1)
    await world.log(2)
    assert await world.logs.fresh(Log.EVENT) is not None
    world.clock.advance(logs_module.FRESH_S + 1)
    world.witnesses["w0"].ill = "away"

    assert await world.logs.fresh(Log.EVENT) is None
    assert await world.logs.cosigned(Log.EVENT) is not None


async def test_fresh_when_many_ask_at_once_then_witnesses_are_asked_once() -> None:
    """Callers at the same time share one round."""
    world = World(count=1, w=1)
    await world.log(4)

    notes = await asyncio.gather(*(world.logs.fresh(Log.EVENT) for _ in range(64)))

    assert {note.size for note in notes if note} == {4}
    assert len(world.witnesses["w0"].asked) == 1


@pytest.mark.parametrize("method", ["keep_cosigned", "subtrees"])
async def test_collect_when_store_fails_then_unavailable(method: str) -> None:
    """A checkpoint that cannot be kept, or proofs that cannot be read, are never passed on."""
    world = World(count=1, w=1)
    await world.log(1)
    await world.logs.collect(Log.EVENT)
    await world.log(1)
    world.fake.deny[method] = UnavailableError("STORE_UNWRITABLE", "expected to write")

    with pytest.raises(UnavailableError):
        await world.logs.collect(Log.EVENT)


async def test_proofs_when_asked_then_they_verify() -> None:
    """Every inclusion and consistency proof of a small log holds."""
    world = World()
    await world.log(11)
    entries = await world.store.entries(Log.EVENT, 0, 11, 2**20)
    tree = Subtrees(map(leaf_hash, entries))
    for size in range(1, 12):
        for index in range(size):
            proof = await world.logs.inclusion(Log.EVENT, index, size)
            assert verify_inclusion(leaf_hash(entries[index]), index, size, proof, tree.root_at(size))
        for old in range(1, size + 1):
            proof = await world.logs.consistency(Log.EVENT, old, size)
            assert verify_consistency(old, size, proof, tree.root_at(old), tree.root_at(size))


async def test_proofs_when_beyond_the_log_then_refused() -> None:
    """No proof is made of what is not there."""
    world = World()
    await world.log(3)

    with pytest.raises(NotFoundError):
        await world.logs.inclusion(Log.EVENT, 0, 4)
    with pytest.raises(NotFoundError):
        await world.logs.consistency(Log.EVENT, 0, 4)
    with pytest.raises(IntegrityError):
        await world.logs.inclusion(Log.EVENT, 3, 3)


def test_logs_when_seed_is_of_another_key_then_do_not_start() -> None:
    """A log key that is not the pinned one would sign what nobody accepts."""
    pins = LogPins(GENESIS.digest, SeedKey(b"\x02" * 32), ed25519.public_key(SEED), (), 1)

    with pytest.raises(IntegrityError) as caught:
        Logs(FakeStore(), pins, {}, FakeClock(NOW))

    assert caught.value.code == "LOG_KEY"


async def test_export_when_logs_were_vouched_for_along_the_way_then_verifies(tmp_path: Path) -> None:
    """A stand-alone verifier accepts what the real store wrote, WITNESS entries included; one flipped byte is named."""
    store = SqlStore.open(f"sqlite:///{tmp_path / 'store.db'}")
    money, events = World(log=Log.MONEY, store=store), World(log=Log.EVENT, store=store)
    sessions = [drafted(f"w-{number}") for number in range(6)]
    for number, session in enumerate(sessions):
        notice = MoneyBody(EntryKind.NOTICE, Notice(session.digest))
        await store.commit(None, session, Change(money.clock.now(), (notice,), (PROPOSED,)))
        money.clock.advance(5)
        if number != 3:  # once the witnesses are too late: no WITNESS entry may follow
            assert await money.logs.fresh(Log.MONEY) is not None
    notes = {Log.MONEY: await money.logs.fresh(Log.MONEY), Log.EVENT: await events.logs.fresh(Log.EVENT)}

    entries = {log: await store.entries(log, 0, store.head(log).size, 2**20) for log in Log}
    checkpoints = {log: note.newest for log, note in notes.items() if note}
    raw = b"".join(write_export(GENESIS, entries, [session.withdrawal for session in sessions], checkpoints))
    keys = ExportKeys(GENESIS.digest, money.pins.log_key, money.pins.witnesses, money.pins.w)

    verdict = verify_export(raw, keys)
    assert (verdict.kind, verdict.size, verdict.event_size) == (VerdictKind.OK, 10, 6)
    kinds = [parse_entry(entry).kind for entry in entries[Log.MONEY]]
    assert kinds.count(EntryKind.WITNESS) == 4
    flipped = raw.replace(sessions[2].digest.hex().encode(), sessions[1].digest.hex().encode(), 1)
    assert verify_export(flipped, keys).kind is VerdictKind.MODIFIED
    await store.close()


async def test_add_word_when_a_witness_says_it_unasked_then_only_its_own_newer_word_counts() -> None:
    """A node sends its cosignature with each answer: it replaces its older one, and nobody can say it for another."""
    world = World(log=Log.MONEY)
    kept = await world.logs.collect(Log.MONEY)
    first = dict(kept.counted)
    world.clock.advance(30)
    pins = world.witnesses["w0"].pins

    line = cosign(kept.note, "w0", pins.seed, world.clock.now())
    assert await world.logs.add_word(line)

    again = await world.logs.cosigned(Log.MONEY)
    assert again is not None
    assert dict(again.counted) == {**first, "w0": NOW + 30}
    assert again.note.count("w0 ") == 1
    other = sign_checkpoint(Checkpoint(world.pins.origin(Log.MONEY), 9, bytes(32)), SEED)
    for bad in (
        line,  # not newer
        "no line",
        cosign(kept.note, "w1", pins.seed, NOW + 40),  # by another key
        cosign(kept.note, "stranger", bytes(32), NOW + 40),
        cosign(other, "w0", pins.seed, NOW + 40),  # over another checkpoint
    ):
        assert not await world.logs.add_word(bad)
    assert await world.logs.cosigned(Log.MONEY) == again
