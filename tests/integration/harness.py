"""A whole organisation in one process: real store, chain, logs, witness and nodes; only couriers and clock are ours.

Nothing listens and nothing is mocked: bundles travel as bytes from the coordinator's outbox to `Node.answer` and back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from coordinator import flow, messages
from coordinator.asking import take_answer
from coordinator.chain.embedded import EmbeddedChain
from coordinator.effects import Hook, no_hook
from coordinator.followed import Followed
from coordinator.log_key import SeedKey
from coordinator.logs import LogPins, Logs
from coordinator.message_store import find as find_message
from coordinator.outbox import Link, Outbox
from coordinator.parts import Parts
from coordinator.rpc.couriers import Couriers
from coordinator.rpc.identity import Context
from coordinator.session import Session, Stage
from coordinator.store.sql import SqlStore
from custody.audit import Log
from custody.bundle import Answer, parse_answer
from custody.entries import StopCause, StopStatement
from custody.errors import CustodyError, Refused, UnavailableError
from custody.follow import witness_keys
from custody.genesis import Genesis, GenesisWallet, Purpose, Slot, check_signed, compose, parse_genesis
from custody.genesis import with_endorsement as endorsed
from custody.scripts import Template
from custody.statements import Kind, Signed, endorse, sign
from custody.v1 import courier_pb2
from custody.v1 import signer_pb2 as wire
from custody.wallet import Network, ScriptBook, make_wallet, parse_key
from custody.withdrawal import Withdrawal
from signer_node.backends.port import Access
from signer_node.backends.private_file import write_private_once
from signer_node.backends.sealed_file import Hardness, SealedFile, seal
from signer_node.followed import Followed as NodeFollowed
from signer_node.journal import Journal
from signer_node.judge import Pinned
from signer_node.node import Node
from signer_node.seed import key_material
from signer_node.witness import CosignRequest, WitnessPins
from signer_node.witness_store import Witness, WitnessPaths, WitnessStore, make_key, mark_path
from tests.fakes.clock import FakeClock
from tests.fakes.rules import DAY, NOW, PAY, document, node, rule, seed_of
from tests.world import LOG_SEED, WITNESS_SEED, World, approval, bitcoin_seed, record_of, signed_by_initiator

PASSPHRASE = b"canary-passphrase-of-a-sealed-file"
CHEAP = Hardness(memory_kib=8 * 1024, passes=1, lanes=1)
OPEN = b"\x51"
OFFLINE = frozenset({"cold"})
TWO_EYES = rule(
    "two-eyes", "require", {"amount": {"min_sats": 10_000_000}}, {"approvals": {"group": "ops", "threshold": 2}}
)
COLD = rule("cold", "require", {"amount": {"min_sats": 100_000_000}}, {"signers": {"min_offline": 1}})
DAILY = rule("daily", "limit", {}, {"window": "day", "max_sats": 200_000_000, "on_exceed": "deny"})
HOUSEKEEPING = rule("housekeeping", "allow", {"payments": "none", "fee": {"max_sats": 200_000}})
RULES = (PAY, HOUSEKEEPING, TWO_EYES, COLD, DAILY)


def genesis_of(*rules: Mapping[str, Any], nodes: tuple[str, ...] = ("alpha", "beta", "cold"), **more: Any) -> Genesis:
    """Return a signed 2-of-n genesis over `nodes`; `declared` adds keys that no node of ours holds.

    template: of the wallet, WSH where it is left out.  threshold: another m than 2.
    """
    template = more.pop("template", Template.WSH)
    slots = [Slot(key_material(bitcoin_seed(n), Network.REGTEST).key, n, record=record_of(n)) for n in nodes]
    slots += [Slot(key, None, admin="erin") for key in more.pop("declared", ())]
    keys = tuple(parse_key(slot.key, Network.REGTEST) for slot in slots)
    wallet = make_wallet(more.pop("threshold", 2), keys, Network.REGTEST, template)
    wallets = {"treasury": {"wallet_id": wallet.wallet_id.hex(), "classes": ["hot"]}}
    listed = [node(name, "offline" if name in OFFLINE else "online") for name in nodes]
    roots = {**document()["roots"], **more.pop("roots", {}), "nodes": listed}
    rules_document = document(*rules or RULES, wallets=wallets, roots=roots, **more)
    signed = compose(Purpose.DEMO, Network.REGTEST, (GenesisWallet("treasury", wallet, tuple(slots)),), rules_document)
    for name in (*nodes, "erin", "frank"):
        signed = endorsed(signed, endorse(Kind.GENESIS, signed.raw, seed_of(name)))
    genesis = parse_genesis(signed)
    check_signed(genesis)
    return genesis


class WitnessHere:
    """The witness port over witnesses in this process. is_away: nobody answers."""

    def __init__(self, genesis: Genesis, directory: Path, clock: FakeClock) -> None:
        self.is_away = False
        self._by_origin = {}
        key = directory / "witness" / "key"
        if not key.exists():
            make_key(key)  # for its marks; the key that the rules pin is the tests' own
        for log in Log:
            pins = WitnessPins(genesis.origin(log.value), genesis.policy.roots.log_key, "witness", WITNESS_SEED)
            paths = WitnessPaths(directory / "witness" / f"{log.value}.state", mark_path(key, log))
            self._by_origin[pins.origin] = Witness(pins, WitnessStore(paths, pins.origin), clock.now)

    async def add_checkpoint(self, origin: str, old_size: int, proof: tuple[bytes, ...], note: str) -> str | Refused:
        """See the port."""
        if self.is_away:
            raise UnavailableError("WITNESS_AWAY", "expected the test to bring it back")
        return self._by_origin[origin].answer(CosignRequest(origin, old_size, proof, note))


class Operator:
    """The context of a call by an operator's certificate, as far as the services look at it."""

    def auth_context(self) -> Mapping[str, list[bytes]]:
        """Return what gRPC says of the peer."""
        return {"peer_uri": [b"keyturn://operator/olga"]}


OPERATOR = cast("Context", Operator())


@dataclass
class Organisation:
    """One coordinator with its nodes. silent: online nodes that take bundles and say nothing."""

    genesis: Genesis
    directory: Path
    clock: FakeClock
    chain: EmbeddedChain
    witness: WitnessHere
    hook: Hook = no_hook
    parts: Parts = field(init=False)
    nodes: dict[str, Node] = field(init=False)
    silent: set[str] = field(default_factory=set)
    handed: list[str] = field(default_factory=list)

    @property
    def book(self) -> ScriptBook:
        """The treasury's scripts."""
        return next(iter(self.parts.books.values()))

    def start(self) -> None:
        """Open everything over the files that are there."""
        store = SqlStore.open(f"sqlite:///{self.directory}/store.db")
        policy = self.genesis.policy
        pins = LogPins(self.genesis.hash, SeedKey(LOG_SEED), policy.roots.log_key, witness_keys(policy), policy.roots.w)
        self.parts = Parts(
            genesis=self.genesis,
            store=store,
            logs=Logs(store, pins, {"witness": self.witness}, self.clock),
            chain=self.chain,
            clock=self.clock,
            followed=Followed(store, self.genesis),
            outbox=Outbox(),
            books={w.wallet.wallet_id: ScriptBook(w.wallet) for w in self.genesis.wallets},
            confirmations=1,
            hook=self.hook,
        )
        slots = [slot.node for slot in self.genesis.wallets[0].slots if slot.node is not None]
        self.nodes = {name: open_node(self.genesis, name, self.directory, self.clock) for name in slots}
        for name in slots:
            if name not in OFFLINE:
                self.connect(name)

    async def restart(self) -> None:
        """Stop the coordinator and start it anew over the same files; nodes dial again."""
        await self.parts.store.close()
        self.start()

    def connect(self, name: str) -> None:
        """Open the stream of an online node."""
        link = Link(name, self.nodes[name].state.size, self.clock.now(), int(wire.BACKEND_STATE_READY))
        self.parts.outbox.open(link)

    def withdrawal(self, amount: int = 1_000_000, payee: int = 11, **changes: Any) -> Withdrawal:
        """Return a withdrawal by alice that pays one payee; no payment for an amount of 0."""
        named = {"withdrawal_id": f"w-{payee}-{amount}", **changes}
        asked = World(self.genesis, self.clock.now()).withdrawal((payee, amount or 1), **named)
        return asked if amount else replace(asked, payments=())

    async def propose(self, asked: Withdrawal) -> Stage | Refused:
        """Propose and advance; return the stage it reached, or why it was not taken in."""
        proposed = await flow.propose(self.parts, signed_by_initiator(asked))
        return proposed if isinstance(proposed, Refused) else await self.advance(asked)

    async def approve(self, asked: Withdrawal, *people: str) -> Stage:
        """File approvals and advance."""
        for person in people:
            filed = await flow.approve(self.parts, approval(asked, person, self.clock.now()), asked.digest)
            assert not isinstance(filed, Refused), filed
        return await self.advance(asked)

    def stop_of(self, asked: Withdrawal, by: str, cause: StopCause = StopCause.CANCEL) -> Signed:
        """Return a signed stop."""
        said = StopStatement(self.genesis.hash, asked.digest, cause, by, self.clock.now())
        return sign(Kind.STOP, said.to_json(), seed_of(by))

    async def advance(self, asked: Withdrawal) -> Stage:
        """Run the stages until nothing moves."""
        return (await flow.advance(self.parts, asked.digest)).value.stage

    async def session(self, asked: Withdrawal) -> Session:
        """Return what is stored."""
        held = await self.parts.store.load(asked.digest)
        assert held is not None
        return held.value

    async def run(self, asked: Withdrawal) -> Stage:
        """Carry messages between coordinator and online nodes until nothing moves."""
        self.beat()
        stage = await self.advance(asked)
        while await self._deliver():
            stage = await self.advance(asked)
        return stage

    def lose(self) -> None:
        """Lose what is on its way to the nodes."""
        for name in self.nodes:
            link = self.parts.outbox.link(name)
            while link is not None and not link.queue.empty():
                link.queue.get_nowait()

    def beat(self) -> None:
        """Let every connected node be heard now."""
        for name in self.nodes:
            if (link := self.parts.outbox.link(name)) is not None:
                link.heard_at, link.money_size = self.clock.now(), self.nodes[name].state.size

    async def carry(self, asked: Withdrawal, name: str = "cold") -> Answer:
        """Carry the bundle to an offline node and its answer back, as files, through the courier's services."""
        couriers = Couriers(self.parts)
        request = courier_pb2.ExportBundleRequest(withdrawal_digest=asked.digest, node=name)
        exported = await couriers.ExportBundle(request, OPERATOR)
        answer = await self.nodes[name].answer(exported.bundle)
        await couriers.ImportAnswer(courier_pb2.ImportAnswerRequest(answer=answer.to_bytes()), OPERATOR)
        return answer

    async def mine(self, count: int = 1) -> None:
        """Mine blocks that pay nobody of ours."""
        await self.chain.mine(count, OPEN)

    async def _deliver(self) -> bool:
        """Hand what waits to the nodes and file their answers; return whether anything was there."""
        moved = False
        for name, signer in self.nodes.items():
            link = self.parts.outbox.link(name)
            while link is not None and not link.queue.empty():
                message = link.queue.get_nowait()
                assert message is not None
                moved = True
                self.handed.append(f"{name} {message.WhichOneof('message')}")
                if name in self.silent:
                    continue
                if message.WhichOneof("message") == "delta":
                    link.money_size = await signer.take_delta(message.delta.document)
                    continue
                answer = await signer.answer(message.bundle.document)
                link.money_size = signer.state.size
                try:
                    if await find_message(self.parts, answer.withdrawal_digest) is not None:
                        await messages.take_answer(self.parts, parse_answer(answer.to_bytes()), name)
                        continue
                    await take_answer(self.parts, parse_answer(answer.to_bytes()), name)
                except CustodyError as error:
                    self.handed.append(f"{name} {error.code}")
        return moved


def open_node(genesis: Genesis, name: str, directory: Path, clock: FakeClock, **more: Any) -> Node:
    """Return the node `name`, its key in a sealed file, its files under `directory`. wallets: later ones it pinned."""
    home = directory / name
    if not home.exists():
        home.mkdir(mode=0o700)
        write_private_once(home / "seed", seal(bitcoin_seed(name), bytearray(PASSPHRASE), os.urandom, CHEAP))
    access = Access(name, Network.REGTEST, passphrase=lambda: bytearray(PASSPHRASE))
    return Node(
        Pinned(genesis, name, more.pop("wallets", frozenset())),
        seed_of(name),
        NodeFollowed(home / "followed.log", genesis),
        Journal(home / "journal.log", genesis.hash),
        SealedFile(home / "seed", access),
        clock,
        **more,
    )


async def organise(genesis: Genesis, directory: Path, coins: int = 4, hook: Hook = no_hook) -> Organisation:
    """Return a running organisation whose treasury has `coins` coins of 50 BTC, on its first addresses."""
    book = ScriptBook(genesis.wallets[0].wallet)
    chain = await EmbeddedChain.open(directory / "chain", FakeClock())  # the kernel compares with the real clock
    for index in range(coins):
        await chain.mine(1, book.script(0, index).script)
    await chain.mine(101, OPEN)
    clock = FakeClock(NOW)
    organisation = Organisation(genesis, directory, clock, chain, WitnessHere(genesis, directory, clock), hook)
    organisation.start()
    return organisation


async def close(organisation: Organisation) -> None:
    """Let go of store and chain."""
    await organisation.parts.store.close()
    await organisation.chain.close()


__all__ = ["DAY", "NOW", "PASSPHRASE", "Organisation", "close", "genesis_of", "open_node", "organise"]
