"""Logs to measure: as many events as asked, and a log of real releases, each with people, PSBT and transaction."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from custody import curve, ed25519
from custody.audit import (
    Checkpoint,
    Frontier,
    Log,
    body_digest,
    cosign,
    cosignature_message,
    leaf_hash,
    parse_note,
    sign_checkpoint,
    with_lines,
    write_export,
)
from custody.canonical import Json, encode
from custody.entries import Body, EntryKind, MoneyEntry, Witnessed, seal_of
from custody.finalise import finalize
from custody.psbt import parse
from custody.release import release_of
from custody.signatures import accept, sighashes
from custody.statements import Signed
from tests.world import LOG_SEED, WITNESS_SEED, Spend, World, make_genesis, signed_by_initiator

SECONDS_APART = 60


def event_of(number: int) -> Json:
    """Return an event of the usual size."""
    digest = number.to_bytes(32).hex()
    return {
        "kind": "signature.accepted",
        "time": 1_800_000_000 + number,
        "actor": "alpha by alpha",
        "fields": {"withdrawal": digest, "count": 1, "bodies": []},
    }


class Releases:
    """A log of `count` withdrawals, each proposed, approved, released and finished; what its verifier must check."""

    def __init__(self, count: int, approvers: tuple[str, ...] = ("bob", "carol")) -> None:
        self.world = World(make_genesis())
        self.events: list[bytes] = []
        self.ed25519: list[tuple[bytes, bytes, bytes]] = []
        self.ecdsa: list[tuple[bytes, bytes, bytes]] = []
        self._tree, self._money = Frontier(), Frontier()
        self._bodies: list[Signed | bytes] = []
        self._note = ""
        for number in range(count):
            self._pay(number, approvers)
        self.export = self._export()
        for endorsed in (self.world.genesis.signed, *self._bodies):
            if isinstance(endorsed, Signed):
                self.ed25519 += [(e.key, endorsed.digest, e.signature) for e in endorsed.endorsements]

    @property
    def entries(self) -> int:
        """How many entries both logs have."""
        return len(self.events) + len(self.world.entries)

    def _pay(self, number: int, approvers: tuple[str, ...]) -> None:
        world = self.world
        asked = world.withdrawal((11, 50_000 + number), withdrawal_id=f"w-{number}")
        coin = world.coin(number % 250, amount=50_000_000 + number, index=number % 20)
        spend: Spend = world.spend(asked, [coin], change_index=min(number, 15)).approved_by(*approvers)
        self._bodies += [signed_by_initiator(asked), *spend.approvals]
        psbt, facts, book = parse(spend.psbt), spend.facts(), world.book
        self._event("withdrawal.proposed", asked.digest, spend.psbt)
        self._event("approval.accepted", asked.digest, *spend.approvals)
        release = release_of(asked, [a.digest for a in spend.approvals], facts, asked.digest, world.now)
        self._append(EntryKind.RELEASE, release, signed_by_initiator(asked), *spend.approvals)
        signatures = [s for node in ("alpha", "beta") for s in spend.signatures(node)]
        accepted = accept(psbt, facts, book, signatures)
        raw = finalize(psbt, facts, book, accepted).serialize()
        digests = sighashes(psbt, facts, book)
        self.ecdsa += [(s.pubkey, digests[s.input_index], s.signature[:-1]) for s in signatures]
        for kind in ("signature.accepted", "signature.accepted"):
            self._event(kind, asked.digest)
        self._event("transaction.finalised", asked.digest, raw, txid=facts.txid[::-1].hex())
        for kind in ("transaction.broadcast", "transaction.confirmed"):
            self._event(kind, asked.digest, txid=facts.txid[::-1].hex())
        world.now += SECONDS_APART

    def _event(self, kind: str, withdrawal: bytes, *bodies: Signed | bytes, **more: Json) -> None:
        self._bodies += [body for body in bodies if isinstance(body, bytes)]
        named = {"bodies": [body_digest(body).hex() for body in bodies]} if bodies else {}
        fields: dict[str, Json] = {"withdrawal": withdrawal.hex(), **named, **more}
        self.events.append(encode({"kind": kind, "time": self.world.now, "actor": "alice", "fields": fields}))
        self._tree = self._tree.append(leaf_hash(self.events[-1]))

    def _append(self, kind: EntryKind, body: Body, *named: Signed) -> None:
        bodies: list[tuple[EntryKind, Body, bytes]] = [(kind, body, seal_of(named))]
        if self._note:
            bodies.insert(0, (EntryKind.WITNESS, Witnessed(self._note), b""))
        for each, said, signed in bodies:
            raw = MoneyEntry(each, self.world.now, self._tree.size, self._tree.root, said, signed).to_bytes()
            self.world.entries.append(raw)
            self._money = self._money.append(leaf_hash(raw))
        self._note = self._cosigned(Log.MONEY, self._money)

    def _cosigned(self, log: Log, tree: Frontier) -> str:
        checkpoint = Checkpoint(self.world.genesis.origin(log.value), tree.size, tree.root)
        note = sign_checkpoint(checkpoint, LOG_SEED)
        line = cosign(note, "witness", WITNESS_SEED, self.world.now)
        found = parse_note(with_lines(note, [line]))
        for signature, seed in zip(found.signatures, (LOG_SEED, WITNESS_SEED), strict=True):
            told = signature.blob[-64:]
            text = found.body.encode() if seed is LOG_SEED else cosignature_message(found.body, self.world.now)
            self.ed25519.append((ed25519.public_key(seed), text, told))
        return str(found)

    def _export(self) -> bytes:
        entries = {Log.MONEY: self.world.entries, Log.EVENT: self.events}
        notes = {Log.MONEY: self._note, Log.EVENT: self._cosigned(Log.EVENT, self._tree)}
        return b"".join(write_export(self.world.genesis.signed, entries, self._bodies, notes))

    def floor(self) -> None:
        """Verify every signature of the log once, and do nothing else."""
        for key, message, signature in self.ed25519:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)  # raises; past our cache
        for pubkey, digest, der in self.ecdsa:
            if not curve.ecdsa_verify(pubkey, digest, der):
                raise ValueError("the floor refuses a signature")
