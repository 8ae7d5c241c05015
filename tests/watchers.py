"""A log holder who needs real witnesses: they follow, hold, and cosign by their own judgement; others of them lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custody.audit import Checkpoint, Frontier, consistency_proof, cosign, leaf_hash, sign_checkpoint, with_lines
from custody.bundle import Delta, LogPart
from custody.entries import Freeze, StopCause, StopStatement
from custody.errors import Refused
from custody.genesis import Genesis
from custody.held import read_receipt
from custody.statements import Kind, Signed, sign
from custody.withdrawal import Withdrawal
from signer_node.inbox import Inbox
from signer_node.witness import CosignRequest
from signer_node.witness_money import WitnessHome, open_pair
from signer_node.witness_store import make_key
from tests.fakes.clock import FakeClock
from tests.fakes.rules import document, key_of, seed_of
from tests.world import LOG_SEED, World, make_genesis


def genesis_with(count: int, w: int, f: int, *rules: Mapping[str, Any]) -> Genesis:
    """Return a genesis whose rules pin `count` witnesses w1.., of which `w` must vouch."""
    witnesses = [{"name": f"w{n}", "key": key_of(f"w{n}").hex()} for n in range(1, count + 1)]
    return make_genesis(*rules, roots={**document()["roots"], "witnesses": witnesses, "w": w, "f": f})


class Watcher:
    """One real witness of the money log. said: the code of its last refusal, or ""."""

    def __init__(self, name: str, genesis: Genesis, directory: Path, clock: FakeClock) -> None:
        self.name, self.clock, self.said = name, clock, ""
        self.home = WitnessHome(name, directory / f"{name}.key", directory / name)
        if not self.home.key.exists():
            make_key(self.home.key)
            self.home.key.write_text(seed_of(name).hex() + "\n")
        self.inbox = Inbox(self.home.state)
        self.pair = open_pair(self.home, genesis, self.inbox, clock.now)

    def hold(self, signed: Signed) -> Signed | Refused:
        """Post a statement to it; return its receipt."""
        since = self.inbox.take(signed, self.pair.money.watched.state, self.clock.now())
        return since if isinstance(since, Refused) else self.pair.money.receipt(signed, since)

    def vouch(self, world: WatchedWorld, note: str) -> str | None:
        """Feed it the entries of `world` and ask for its line over `note`, which the log signed."""
        money, leaves = self.pair.money, [leaf_hash(raw) for raw in world.entries]
        part = LogPart(0, tuple(world.entries), tuple(world.statements.values()), note)
        taken = money.watched.take(Delta(world.genesis.hash, part).to_bytes())
        if isinstance(taken, Refused):
            self.said = taken.code
            return None
        at = money.state.size
        proof = consistency_proof(leaves, at, len(leaves)) if at <= len(leaves) else ()
        answer, _ = self.pair.answer(CosignRequest(money.pins.origin, at, proof, note))
        self.said = answer.code if isinstance(answer, Refused) else ""
        return None if isinstance(answer, Refused) else answer


@dataclass
class WatchedWorld(World):
    """A `World` whose checkpoints bear the lines of the witnesses it shows them to, and of those who sign anything."""

    asks: tuple[Watcher, ...] = ()
    liars: tuple[str, ...] = ()
    clock: FakeClock = field(default_factory=FakeClock)

    def note(self) -> str:
        """Return the log's checkpoint over all entries, signed by the log key alone."""
        tree = Frontier()
        for raw in self.entries:
            tree = tree.append(leaf_hash(raw))
        return sign_checkpoint(Checkpoint(self.genesis.origin("money"), tree.size, tree.root), LOG_SEED)

    def cosigned(self, at: int | None = None, size: int | None = None) -> str:
        """Return the checkpoint with whatever lines there are to be had now."""
        note = self.note()
        lines = [line for watcher in self.asks if (line := watcher.vouch(self, note)) is not None]
        lines += [cosign(note, name, seed_of(name), self.now) for name in self.liars]
        return with_lines(note, lines)

    def wait(self, seconds: int) -> None:
        """Let time pass for the log holder and its witnesses."""
        self.clock.advance(seconds)
        self.now = self.clock.at


def freeze_by(person: str, genesis: Genesis, at: int, freeze_id: bytes = b"\x05" * 16) -> Signed:
    """Return a freeze that `person` signed."""
    return sign(Kind.FREEZE, Freeze(genesis.hash, freeze_id, person, at).to_json(), seed_of(person))


def veto_by(person: str, asked: Withdrawal, at: int) -> Signed:
    """Return a veto of `asked` that `person` signed."""
    said = StopStatement(asked.genesis, asked.digest, StopCause.VETO, person, at)
    return sign(Kind.STOP, said.to_json(), seed_of(person))


def witness_of(receipt: Signed | Refused) -> str:
    """Return whose receipt it is."""
    assert isinstance(receipt, Signed), receipt
    return read_receipt(receipt).witness
