"""A small log holder: real tree, checkpoints, cosignatures and statements, and a method for each lie it can tell."""

from __future__ import annotations

from dataclasses import dataclass, field

from custody import ed25519
from custody.audit import (
    Checkpoint,
    ExportKeys,
    Frontier,
    Log,
    WitnessKey,
    cosign,
    leaf_hash,
    origin_of,
    sign_checkpoint,
    with_lines,
    write_export,
)
from custody.canonical import encode
from custody.entries import Document, EntryKind, MoneyEntry, Witnessed, seal_of
from custody.statements import Kind, Signed, sign

LOG_SEED = b"\x01" * 32
ADMIN_SEED = b"\x09" * 32
GENESIS = sign(Kind.GENESIS, {"network": "regtest", "rules": 1}, ADMIN_SEED)
START = 1_700_000_000


@dataclass
class FakeLog:
    """A log with `witness_count` witnesses of which `w` must vouch. Each commit takes ten seconds of log time."""

    witness_count: int = 1
    w: int = 1
    money: list[bytes] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    bodies: list[Signed] = field(default_factory=list)
    note: str = ""
    now: int = START

    @property
    def seeds(self) -> dict[str, bytes]:
        """The witnesses' seeds by name."""
        return {f"witness-{n}": bytes([16 + n]) * 32 for n in range(self.witness_count)}

    @property
    def keys(self) -> ExportKeys:
        """What a verifier pins."""
        witnesses = [WitnessKey(name, ed25519.public_key(seed)) for name, seed in self.seeds.items()]
        return ExportKeys(GENESIS.digest, ed25519.public_key(LOG_SEED), witnesses, self.w)

    def event(self, kind: str, bodies: tuple[Signed, ...] = ()) -> None:
        """Append one event that names `bodies`."""
        fields = {"bodies": [body.digest.hex() for body in bodies]} if bodies else {}
        self.events.append(encode({"kind": kind, "time": self.now, "actor": "ops-1", "fields": fields}))
        self.bodies += bodies

    def commit(self, text: str) -> None:
        """Append a money entry that carries a statement, the WITNESS entry in front of it, and make a checkpoint."""
        self.now += 10
        statement = sign(Kind.FREEZE, {"text": text}, ADMIN_SEED)
        self.bodies.append(statement)
        if self.note:
            self.append(EntryKind.WITNESS, Witnessed(self.note))
        self.append(EntryKind.FREEZE, Document(statement.digest), statement)
        self.note = self.cosigned(Log.MONEY)

    def append(self, kind: EntryKind, body: Document | Witnessed, *named: Signed) -> None:
        """Append one money entry, which names these statements, over the event log as it is."""
        event_root = tree_of(self.events).root
        entry = MoneyEntry(kind, self.now, len(self.events), event_root, body, seal_of(named))
        self.money.append(entry.to_bytes())

    def cosigned(self, log: Log, at: int | None = None, size: int | None = None) -> str:
        """Return the log's checkpoint with every witness's cosignature at time `at`."""
        entries = self.money if log is Log.MONEY else self.events
        tree = tree_of(entries[:size])
        checkpoint = Checkpoint(origin_of(GENESIS.digest, log), tree.size, tree.root)
        note = sign_checkpoint(checkpoint, LOG_SEED)
        return with_lines(note, [cosign(note, name, seed, at or self.now + 1) for name, seed in self.seeds.items()])

    def export(self, **checkpoints: str) -> bytes:
        """Return the export; `money` and `event` replace the final checkpoints."""
        notes = {log: checkpoints.get(log.value) or self.cosigned(log) for log in Log}
        entries = {Log.MONEY: self.money, Log.EVENT: self.events}
        return b"".join(write_export(GENESIS, entries, self.bodies, notes))


def tree_of(entries: list[bytes]) -> Frontier:
    """Return the tree over entries."""
    tree = Frontier()
    for entry in entries:
        tree = tree.append(leaf_hash(entry))
    return tree


def small_log(witness_count: int = 1, w: int = 1) -> FakeLog:
    """Return an honest log of ten entries: seven of money, three of events."""
    log = FakeLog(witness_count, w)
    log.event("withdrawal.proposed", (sign(Kind.MESSAGE, {"text": "hello"}, ADMIN_SEED),))
    log.commit("first")
    log.event("withdrawal.read")
    log.commit("second")
    log.commit("third")
    log.event("withdrawal.denied")
    log.commit("fourth")
    return log
