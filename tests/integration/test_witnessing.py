"""Witnesses with the parts around them: nodes over their streams, a coordinator that takes over, real mTLS."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest

import coordinator.tls
from console.channel import Address
from console.posting import post_everywhere
from console.tls import TlsFiles
from coordinator.log_key import SeedKey
from coordinator.logs import LogPins, Logs, WitnessesMissingError
from coordinator.outbox import Link, Outbox
from coordinator.posted import take_in
from coordinator.session import Stage
from coordinator.store.port import Change, MoneyBody
from coordinator.witnesses import GrpcWitness, NodeWitness
from custody.audit import Log, WitnessKey, read_cosignature
from custody.bundle import Delta, LogPart
from custody.entries import Document, EntryKind, StopCause, parse_entry
from custody.errors import Refused, UnavailableError
from custody.statements import Signed
from deploy.ca import Ca, make_ca
from signer_node import online
from signer_node.backends.port import Backend
from signer_node.clock import SystemClock
from signer_node.config import CoordinatorConfig, TlsConfig
from signer_node.effects import no_hook
from signer_node.inbox import Inbox
from signer_node.node import Node
from signer_node.witness import CosignRequest
from signer_node.witness_dial import dial_for_ever
from signer_node.witness_store import make_key
from tests.fakes.clock import FakeClock
from tests.fakes.rules import NOW, PAY, seed_of
from tests.fakes.store import FakeStore
from tests.integration.harness import close, genesis_of, open_node, organise
from tests.watchers import WatchedWorld, Watcher, freeze_by, genesis_with, veto_by
from tests.world import LOG_SEED

THREE = genesis_with(3, 2, 0, PAY)


class Streamed:
    """A node that witnesses, behind its stream: the real courier's answers, without a socket."""

    def __init__(self, watcher: Watcher, node: Node) -> None:
        self.link = Link("w1", 0, NOW)
        self.courier = online.Courier(node, cast("Backend", None), watcher.pair, no_hook)

    async def serve(self) -> None:
        """Answer what the coordinator asks, until cancelled."""
        while (message := await self.link.queue.get()) is not None:
            self.link.take(online._vouch(self.courier, message.witness))


@asynccontextmanager
async def running(work: Any) -> AsyncIterator[None]:
    """Run a coroutine beside the block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_node_witness_asked_over_its_stream_follows_cosigns_and_refuses(tmp_path: Path) -> None:
    """The coordinator gets the same words from a node over its stream as from a stand-alone witness."""
    clock = FakeClock(NOW)
    world = WatchedWorld(THREE, NOW, liars=("w2", "w3"), clock=clock)
    world.freeze("dave")
    streamed = Streamed(Watcher("w1", THREE, tmp_path, clock), open_node(THREE, "alpha", tmp_path, clock))
    outbox = Outbox()
    outbox.open(streamed.link)
    witness, origin = NodeWitness("w1", outbox), THREE.origin("money")
    part = LogPart(0, tuple(world.entries), tuple(world.statements.values()), world.note())

    async with running(streamed.serve()):
        behind = await witness.add_checkpoint(origin, 0, (), world.note())
        taken = await witness.take_delta(Delta(THREE.hash, part).to_bytes())
        line = await witness.add_checkpoint(origin, 0, (), world.note())
        garbage = await witness.take_delta(b"{}")

    assert isinstance(behind, Refused)
    assert (behind.code, behind.found) == ("WITNESS_BEHIND", "0")
    assert taken == 1
    assert isinstance(line, str)
    assert isinstance(garbage, Refused)
    key = next(w for w in THREE.policy.roots.witnesses if w.name == "w1")
    assert read_cosignature(world.note(), line, WitnessKey(key.name, key.key)) == NOW
    again = streamed.courier.witness.again() if streamed.courier.witness else None
    assert again == line, "the cosignature that travels with the node's answers"


class FollowingHere:
    """The coordinator's port to a real money witness in this process. fed: sizes after each delta."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.fed: list[int | Refused] = []

    async def add_checkpoint(self, origin: str, old_size: int, proof: tuple[bytes, ...], note: str) -> str | Refused:
        """See `WitnessPort`."""
        return self.watcher.pair.answer(CosignRequest(origin, old_size, proof, note))[0]

    async def take_delta(self, delta: bytes) -> int | Refused:
        """See `FollowingWitness`."""
        self.fed.append(self.watcher.pair.money.watched.take(delta))
        return self.fed[-1]


async def test_logs_given_witnesses_that_follow_feed_them_by_chunks_and_name_who_withholds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each witness gets the entries that it lacks before it is asked; a held freeze that is left out shows by code."""
    monkeypatch.setattr("coordinator.feed._FEED_BYTES", 700)
    clock, store = FakeClock(NOW), FakeStore()
    ports = {f"w{n}": FollowingHere(Watcher(f"w{n}", THREE, tmp_path, clock)) for n in (1, 2, 3)}
    roots = THREE.policy.roots
    keys = tuple(WitnessKey(witness.name, witness.key) for witness in roots.witnesses)
    logs = Logs(store, LogPins(THREE.hash, SeedKey(LOG_SEED), roots.log_key, keys, roots.w), ports, clock)
    for n, person in enumerate(("dave", "erin", "frank", "grace")):
        signed = freeze_by(person, THREE, NOW, bytes([n]) * 16)
        entry = MoneyBody(EntryKind.FREEZE, Document(signed.digest))
        await store.record(Change(NOW, money=(entry,), bodies=(signed,)))
        if n == 2:
            first = await logs.collect(Log.MONEY)
    second = await logs.collect(Log.MONEY)
    for name in ("w1", "w2"):
        ports[name].watcher.hold(freeze_by("bob", THREE, NOW, b"\x09" * 16))
    clock.advance(60)

    with pytest.raises(WitnessesMissingError):
        await logs.collect(Log.MONEY)

    assert (first.checkpoint.size, second.checkpoint.size) == (3, store.head(Log.MONEY).size)
    assert len(first.counted) == len(second.counted) == 3
    assert ports["w1"].fed[-1] == second.checkpoint.size
    assert len(ports["w1"].fed) > 2, "in chunks"
    assert {name: refused.code for (_, name), refused in logs.refusals.items()} == {
        "w1": "WITNESS_WITHHELD",
        "w2": "WITNESS_WITHHELD",
    }


async def test_node_witness_whose_stream_ends_is_away_at_once() -> None:
    """Nobody waits ten seconds for a node that hung up, or that never came."""
    outbox, link = Outbox(), Link("w1", 0, NOW)
    witness = NodeWitness("w1", outbox)
    with pytest.raises(UnavailableError, match="WITNESS_AWAY"):
        await witness.add_checkpoint("origin", 0, (), "note")
    outbox.open(link)
    asking = asyncio.create_task(witness.add_checkpoint("origin", 0, (), "note"))
    await link.queue.get()

    outbox.close(link)

    with pytest.raises(UnavailableError, match="WITNESS_AWAY"):
        await asyncio.wait_for(asking, 1)


@pytest.mark.slow
async def test_coordinator_takes_over_what_witnesses_hold_and_logs_it_once(tmp_path: Path) -> None:
    """A veto of an open withdrawal, one of an unknown one, and a freeze: each in the log, once, and counted."""
    organisation = await organise(genesis_of(), tmp_path)
    parts, genesis = organisation.parts, organisation.genesis
    asked = organisation.withdrawal(20_000_000)
    assert await organisation.propose(asked) is Stage.APPROVING
    posted = [
        veto_by("bob", asked, NOW),
        veto_by("bob", organisation.withdrawal(withdrawal_id="unknown-here"), NOW),
        freeze_by("dave", genesis, NOW),
    ]

    said = [await take_in(parts, signed, "w1") for signed in posted for _ in range(2)]
    refused = await take_in(parts, freeze_by("alice", genesis, NOW), "w1")
    size = parts.store.head(Log.MONEY).size
    entries = [parse_entry(raw) for raw in await parts.store.entries(Log.MONEY, 0, size, 2**20)]
    state = await parts.followed.state(NOW)

    assert said == [None] * 6
    assert refused is not None
    assert refused.code == "POSTED_SIGNATURE"
    kinds = [entry.kind for entry in entries if entry.kind is not EntryKind.WITNESS]
    assert kinds == [EntryKind.STOP, EntryKind.STOP, EntryKind.FREEZE]
    assert [stop.cause for stop in state.stops] == [StopCause.VETO] * 2
    assert state.is_frozen(NOW)
    assert (await organisation.session(asked)).stage is Stage.REJECTED
    await close(organisation)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("freeze", "FROZEN"), ("veto", "STOPPED")])
async def test_node_holding_what_the_log_omits_refuses_through_a_restart(name: str, code: str, tmp_path: Path) -> None:
    """Coordinator and log know nothing of it: the release is logged, cosigned and handed out, and this node says no."""
    organisation = await organise(genesis_of(), tmp_path)
    genesis, asked = organisation.genesis, organisation.withdrawal()
    signed = freeze_by("dave", genesis, NOW) if name == "freeze" else veto_by("bob", asked, NOW)
    home = tmp_path / "alpha-inbox"
    node = open_node(genesis, "alpha", tmp_path, organisation.clock, inbox=Inbox(home))
    assert node.hold(signed) == NOW
    organisation.nodes["alpha"] = open_node(genesis, "alpha", tmp_path, organisation.clock, inbox=Inbox(home))

    assert await organisation.propose(asked) is Stage.SIGNING
    assert await organisation.run(asked) is Stage.SIGNING
    (refusal,) = [each for each in (await organisation.session(asked)).refusals if each.node == "alpha"]

    assert refusal.code == code
    assert not (await organisation.parts.followed.state(NOW)).is_frozen(NOW)
    await close(organisation)


CONFIG = """
name = "w1"
listen = "127.0.0.1:0"
genesis = "{genesis}"
log_key = "{log_key}"
witness_key = "w1.ed25519"
state = "state"
[tls]
ca = "{ca}"
certificate = "w1.pem"
key = "w1.key"
"""


@asynccontextmanager
async def witness_process(directory: Path, ca: Ca) -> AsyncIterator[int]:
    """Run a real stand-alone witness w1; yield its port."""
    make_key(directory / "w1.ed25519")
    (directory / "w1.ed25519").write_text(seed_of("w1").hex() + "\n")
    ca.issue("w1", "witness", directory, server=True)
    (directory / "genesis.json").write_bytes(THREE.signed.to_bytes())
    log_key = THREE.policy.roots.log_key.hex()
    text = CONFIG.format(genesis=THREE.hash.hex(), log_key=log_key, ca=ca.certificate_path)
    (directory / "w1.toml").write_text(text)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "signer_node", "witness", "--config", str(directory / "w1.toml")),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={"PATH": os.environ["PATH"]},
    )
    try:
        assert process.stdout is not None
        yield int(json.loads(await asyncio.wait_for(process.stdout.readline(), 20))["port"])
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.slow
async def test_posted_freeze_reaches_a_node_over_mtls_and_both_receipts_come_back(tmp_path: Path) -> None:
    """A person posts to a real witness process; a node dials it by itself, is frozen, and its receipt makes two of two.

    The coordinator is not there at all; asked later, the witness shows it what to log.
    """
    ca = make_ca(tmp_path / "ca")
    own = Watcher("w2", THREE, tmp_path / "alpha-witness", FakeClock(NOW))
    inbox = Inbox(tmp_path / "alpha-inbox")
    node = open_node(THREE, "alpha", tmp_path, cast("FakeClock", SystemClock()), inbox=inbox)
    node_files = ca.issue("alpha", "signer", tmp_path / "tls", server=False)
    dave = TlsFiles(*ca.issue("dave", "admin", tmp_path / "tls", server=False), ca.certificate_path)
    holder = ca.issue("main", "coordinator", tmp_path / "tls", server=False)
    freeze = freeze_by("dave", THREE, NOW)
    stranger = freeze_by("alice", THREE, NOW)
    async with witness_process(tmp_path, ca) as port:
        target = f"localhost:{port}"
        where = CoordinatorConfig(target, TlsConfig(ca.certificate_path, *node_files))
        roots, genesis = THREE.policy.roots, THREE.hash

        alone = await post_everywhere(freeze, [Address(target, dave)], roots, genesis, wait_s=0)
        async with running(dial_for_ever(node, where, own.pair.money)):
            both = await post_everywhere(freeze, [Address(target, dave)], roots, genesis)
        refused = await post_everywhere(stranger, [Address(target, dave)], roots, genesis, wait_s=0)
        witness = GrpcWitness(target, coordinator.tls.TlsFiles(*holder, ca.certificate_path))
        listed: tuple[Signed, ...] = await witness.held()
        await witness.close()

    assert (alone.posted.by, alone.posted.missing, alone.is_done) == (("w1",), 1, False)
    assert str(alone) == "NOT done: 1 of 2 receipts missing"
    assert (both.posted.by, both.is_done, both.failures) == (("w1", "w2"), True, ())
    assert (refused.posted.by, refused.failures) == ((), ((target, "POSTED_SIGNATURE"),))
    assert [held.signed for held in node.held] == [freeze]
    assert listed == (freeze,)
