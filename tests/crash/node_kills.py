"""SIGKILL a signer node, and the witness in its process, at each of their fsyncs; no second payment, no lost count.

The coordinator is hostile, its log key and the witness that the rules pin included. For each withdrawal it makes two
histories that contradict each other, with another transaction in each, and a third bundle pays the withdrawal again in
a true log. The node dies somewhere in the first, comes back, and is shown the second before the first. Each turn is
one withdrawal and one death; the files go on from turn to turn. Shared by the test (25 kills) and the soak (1,000).
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from custody.audit import Log, Subtrees, consistency_proof, leaf_hash, open_signed
from custody.bundle import Bundle, parse_bundle
from custody.errors import Refused
from custody.follow import State, settled, start
from custody.genesis import Genesis, parse_genesis
from custody.once import OwnSignature
from custody.signatures import InputSignature
from custody.statements import Signed
from custody.wallet import Network
from signer_node.backends.port import Access, Cleared
from signer_node.backends.private_file import write_private_once
from signer_node.backends.sealed_file import SealedFile, seal
from signer_node.followed import Followed
from signer_node.journal import Journal
from signer_node.judge import Cleared as Judged
from signer_node.judge import Moment, Pinned, judge
from signer_node.medium import write_carried
from signer_node.node import Node
from signer_node.witness import CosignRequest, WitnessPins
from signer_node.witness_store import Witness, WitnessPaths, WitnessStore, make_key, mark_path
from tests.crash.kills import SERVER
from tests.crash.node_process import Recording
from tests.fakes.clock import FakeClock
from tests.fakes.rules import NOW, PAY, rule, seed_of
from tests.integration.harness import CHEAP, PASSPHRASE, genesis_of
from tests.world import World, bitcoin_seed

ME = "alpha"
ROOM = 4  # withdrawals a day that the rules allow
TRIED = ROOM + 1  # a count that a crash lost would let the last one through
AMOUNT_SATS = 1_000_000
RULES = (PAY, rule("cap", "limit", {}, {"window": "day", "max_count": ROOM, "on_exceed": "deny"}))
END_S = 60


class Death(Enum):
    """What of the bytes in front of an fsync the disk has when the process dies there."""

    TORN = "torn"  # a part, as after a power failure
    BEFORE = "before"  # all of them, as after a SIGKILL
    AFTER = "after"  # all of them, and the fsync had returned


@dataclass(frozen=True, slots=True)
class Order:
    """Die at the fsync number `at` (from 1) of a process."""

    at: int
    death: Death


@dataclass(frozen=True, slots=True)
class Killed:
    """One turn. signed: pairs of withdrawal and transaction that the key has signed for, in this node's life so far."""

    order: Order
    withdrawal: int
    signed: int


@dataclass(slots=True)
class Life:
    """One node from its first start on. world: the history that it follows."""

    home: Path
    world: World
    turn: int = 0


class NodeFuse:
    """Stands in for `os.fsync` in one process, and ends that process by SIGKILL at the one that `order` names."""

    def __init__(self, order: Order, home: Path) -> None:
        self._order, self._left = order, order.at
        self._fsync: Callable[[int], None] = os.fsync
        self._durable = {_file(path.stat()): path.stat().st_size for path in home.rglob("*")}

    def __call__(self, handle: int) -> None:
        """Make durable, or die."""
        self._left -= 1
        if self._left == 0:
            if self._order.death is Death.AFTER:
                self._fsync(handle)
            if self._order.death is Death.TORN:
                self._tear(handle)
            os.kill(os.getpid(), signal.SIGKILL)
        self._fsync(handle)
        self._durable[_file(os.fstat(handle))] = os.fstat(handle).st_size

    def _tear(self, handle: int) -> None:
        status = os.fstat(handle)
        durable, written = self._durable.get(_file(status), 0), status.st_size
        if stat.S_ISREG(status.st_mode) and written > durable:  # a mark is written in its place and keeps its size
            os.ftruncate(handle, durable + (written - durable) // 2)


class Kept(Recording):
    """Writes down what the key signed, in front of everyone else; a SIGKILL takes nothing of it back."""

    async def sign(self, cleared: Cleared) -> tuple[InputSignature, ...]:
        """See the port."""
        signatures = await self._inner.sign(cleared)
        assert isinstance(cleared, Judged)
        line = [cleared.withdrawal_digest.hex(), cleared.txid.hex(), [s.signature.hex() for s in signatures]]
        _add_line(self._path, line)
        return signatures


def node_kills(directory: Path, count: int) -> Iterator[Killed]:
    """Kill a node `count` times, at every fsync in turn and in each way; yield after each turn what was found right.

    Raises:
        AssertionError: a second transaction, a lost count, a changed signature, two histories under one witness key, or
            a node that does not come back.
    """
    done, at, round_, life = 0, 1, 0, None
    while done < count:
        if life is None or life.turn == TRIED:
            life = _begin(directory / f"life-{done}-{at}")
        order = Order(at, list(Death)[round_ % len(Death)])
        is_killed = one_turn(life, order)
        at, round_ = (at + 1, round_) if is_killed else (1, round_ + 1)  # no fsync of that number: all were tried
        if is_killed:
            done += 1
            yield Killed(order, life.turn, len(_signed(life.home)))
        if life.turn == TRIED:
            shutil.rmtree(life.home)


def one_turn(life: Life, order: Order) -> bool:
    """Ask for one withdrawal, killed by `order`, then until it is answered; return whether that fsync came at all."""
    base, number = life.world, life.turn
    life.turn += 1
    left, right = _history(base, number, coin=2 * number), _history(base, number, coin=2 * number + 1)
    again = _paid_again(left, number, coin=2 * number + 1)

    bundles = (left.bundle, right.bundle, again.bundle)

    is_killed = _run(life.home, bundles, order)
    _check(life, bundles)
    assert not _run(life.home, (right.bundle, left.bundle, again.bundle), None)
    state = _check(life, bundles)

    life.world = next(each.world for each in (left, right, again) if _is_at(each.world, state))
    paid = {txid for digest, txid in _signed(life.home) if digest == left.bundle.withdrawal.digest.hex()}
    assert len(paid) == (1 if number < ROOM else 0), f"withdrawal {number} has {len(paid)} transactions"
    return is_killed


@dataclass(frozen=True, slots=True)
class _History:
    """A log, and the bundle of the release at its end."""

    world: World
    bundle: Bundle


def _history(base: World, number: int, coin: int) -> _History:
    """Return `base` with one more release: of withdrawal `number`, from one coin."""
    world = deepcopy(base)
    asked = world.withdrawal((11, AMOUNT_SATS + number), withdrawal_id=f"w-{number}")
    return _History(world, world.spend(asked, (world.coin(coin),)).bundle(node=ME))


def _paid_again(first: _History, number: int, coin: int) -> _History:
    return _history(first.world, number, coin)


def _begin(home: Path) -> Life:
    """Make a node's key and a witness's, with nothing followed and nothing signed."""
    home.mkdir(mode=0o700)
    write_private_once(home / "seed", seal(bitcoin_seed(ME), bytearray(PASSPHRASE), os.urandom, CHEAP))
    make_key(home / "witness" / "key")
    return Life(home, World(_genesis()))


@cache
def _genesis() -> Genesis:
    return genesis_of(*RULES)


def _run(home: Path, bundles: tuple[Bundle, ...], order: Order | None) -> bool:
    """Start the node over `home`, show it `bundles`; return whether `order` ended it, and nothing else may."""
    raw = tuple(bundle.to_bytes() for bundle in bundles)
    worker = SERVER.Process(target=_work, args=(home, _genesis().signed, raw, order), daemon=True)
    worker.start()
    worker.join(END_S)
    assert worker.exitcode in (0, -signal.SIGKILL), f"the node ended with {worker.exitcode} at {order}"
    return worker.exitcode != 0


def _work(home: Path, signed_genesis: Signed, bundles: tuple[bytes, ...], order: Order | None) -> None:
    """Be the node: open everything, answer each bundle, and leave the answers in a file."""
    genesis = parse_genesis(signed_genesis)
    if order is not None:
        os.fsync = NodeFuse(order, home)  # type: ignore[assignment]  # nobody here hands it an object
    asyncio.run(_answer(home, genesis, bundles))


async def _answer(home: Path, genesis: Genesis, bundles: tuple[bytes, ...]) -> None:
    clock = FakeClock(NOW)
    pins = WitnessPins(genesis.origin("money"), genesis.policy.roots.log_key, ME, seed_of(ME))
    paths = WitnessPaths(home / "witness-state" / "money.state", mark_path(home / "witness" / "key", Log.MONEY))
    witness = Witness(pins, WitnessStore(paths, pins.origin), clock.now)
    access = Access(ME, Network.REGTEST, passphrase=lambda: bytearray(PASSPHRASE))
    followed, journal = Followed(home / "followed.log", genesis), Journal(home / "journal.log", genesis.hash)
    backend = Kept(SealedFile(home / "seed", access), home / "signed.jsonl")
    node = Node(Pinned(genesis, ME), seed_of(ME), followed, journal, backend, clock)
    for raw in bundles:
        bundle = parse_bundle(raw)
        vouched = witness.answer(_request(pins.origin, witness.state.size, bundle))
        if isinstance(vouched, str):
            _add_line(home / "vouched.jsonl", [len(bundle.log.entries), _root(genesis, bundle.log.note).hex()])
        if isinstance(vouched, str) or node.state.size >= len(bundle.log.entries):  # else the two would part for good
            answer = await node.answer(raw)
            write_carried(home / "answer", answer.to_bytes())
            _add_line(home / "answered.jsonl", [node.state.size, not isinstance(answer.outcome, Refused)])


def _request(origin: str, old_size: int, bundle: Bundle) -> CosignRequest:
    leaves = [leaf_hash(raw) for raw in bundle.log.entries]
    proof = consistency_proof(Subtrees(leaves), old_size, len(leaves)) if old_size <= len(leaves) else ()
    return CosignRequest(origin, old_size, proof, bundle.log.note)


def _check(life: Life, bundles: tuple[Bundle, ...]) -> State:
    """Open a copy of what is on the disk; return the state that the node comes back with."""
    # Plan: 1 nothing acknowledged is lost · 2 one transaction per withdrawal, signed in one way · 3 what was signed is
    # journalled and counted · 4 the journal alone refuses a second transaction · 5 one history per witness key.
    copy = life.home.with_name("copy")
    shutil.copytree(life.home, copy)
    try:
        followed = Followed(copy / "followed.log", _genesis())
        journal = Journal(copy / "journal.log", _genesis().hash)
        state, mine = followed.state, journal.signed
        followed.close()
        journal.close()
    finally:
        shutil.rmtree(copy)
    assert all(size <= state.size for size, _ in _lines(life.home / "answered.jsonl")), "an acknowledged entry is lost"
    signed = _signed(life.home)
    assert len({digest for digest, _ in signed}) == len(signed) <= ROOM, (
        "a second transaction, or one beyond the budget"
    )
    assert all(len(ways) == 1 for ways in signed.values()), "one transaction, signed in two ways"
    counted = {(r.release.withdrawal_digest.hex(), r.release.txid.hex()) for r in settled(state, NOW).releases}
    journalled = {(own.withdrawal_digest.hex(), own.txid.hex()) for own in mine}
    assert signed.keys() <= journalled, "a signature without its journal"
    assert signed.keys() <= counted, "a signature whose release does not count"
    _check_journal_alone(life, mine, bundles)
    roots: dict[int, set[str]] = {}
    for size, root in _lines(life.home / "vouched.jsonl"):
        roots.setdefault(size, set()).add(root)
    assert all(len(found) == 1 for found in roots.values()), "two histories under one witness key"
    return state


def _check_journal_alone(life: Life, mine: tuple[OwnSignature, ...], bundles: tuple[Bundle, ...]) -> None:
    """Judge as a node that lost the log and kept its journal: a second transaction is refused all the same."""
    own = {signed.withdrawal_digest: signed.txid for signed in mine}
    for bundle in bundles:
        me, moment = Pinned(_genesis(), ME), Moment(NOW, 0)
        outcome = judge(bundle, me, start(_genesis()), moment, mine, life.world.book).outcome
        if isinstance(outcome, Judged):
            assert own.get(outcome.withdrawal_digest, outcome.txid) == outcome.txid, (
                "the journal let another one through"
            )


def _signed(home: Path) -> dict[tuple[str, str], set[str]]:
    """Return every set of signatures that the key ever gave, by withdrawal and transaction."""
    found: dict[tuple[str, str], set[str]] = {}
    for digest, txid, signatures in _lines(home / "signed.jsonl"):
        found.setdefault((digest, txid), set()).add(json.dumps(signatures))
    return found


def _is_at(world: World, state: State) -> bool:
    return (len(world.entries), _root(world.genesis, world.cosigned())) == (state.size, state.frontier.root)


def _root(genesis: Genesis, note: str) -> bytes:
    """Return the root that the log signed in `note`."""
    checkpoint, _ = open_signed(note, genesis.policy.roots.log_key, genesis.origin(Log.MONEY.value))
    return checkpoint.root


def _add_line(path: Path, value: object) -> None:
    with path.open("a") as file:
        file.write(json.dumps(value) + "\n")


def _lines(path: Path) -> list[list[Any]]:  # Any: each file has lines of its own form
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _file(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
