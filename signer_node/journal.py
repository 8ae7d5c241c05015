"""A node's own memory: what it signed, and the latest time it accepted. Written before a signature can exist.

Everything else a node knows is a pure function of the genesis and the money log; this file is what the log cannot know.
"""

from __future__ import annotations

from pathlib import Path

from custody.canonical import Json, decode, encode
from custody.errors import IntegrityError
from custody.fields import Fields
from custody.once import OwnSignature
from custody.transaction import OutPoint
from signer_node.judge import Cleared
from signer_node.records import RecordFile


class Journal:
    """The journal of one node under one genesis.

    Args:
        path: its file; opened for as long as the node runs.
        genesis: 32 bytes; a journal of another genesis is refused (JOURNAL_OTHER).
    """

    def __init__(self, path: Path, genesis: bytes) -> None:
        self._file = RecordFile(path)
        self.signed: tuple[OwnSignature, ...] = ()
        self.high_water = 0
        if not self._file.records:
            self._file.append(encode({"genesis": genesis.hex()}))
        opened, *records = self._file.records
        if Fields(decode(opened), "journal").hex("genesis", 32) != genesis:
            raise IntegrityError("JOURNAL_OTHER", f"expected the journal of genesis {genesis.hex()[:16]}")
        for raw in records:
            self._take(raw)

    def has(self, digest: bytes, txid: bytes) -> bool:
        """Return whether this transaction (32 bytes, wire order, unsigned) was journalled for this withdrawal."""
        return any((own.withdrawal_digest, own.txid) == (digest, txid) for own in self.signed)

    def record(self, cleared: Cleared) -> None:
        """Make durable that `cleared` is about to be signed; a repeat only moves the high-water mark."""
        own = () if self.has(cleared.withdrawal_digest, cleared.txid) else [cleared]
        if not own and cleared.lo <= self.high_water:
            return
        raw = encode(
            {
                "high_water": max(self.high_water, cleared.lo),
                "signed": [own_to_json(c) for c in own],
            }
        )
        self._file.append(raw)
        self._take(raw)

    def reach(self, lo: int) -> None:
        """Make durable that `lo` (UTC seconds) was accepted, where nothing that spends is signed."""
        if lo > self.high_water:
            raw = encode({"high_water": lo, "signed": []})
            self._file.append(raw)
            self._take(raw)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def _take(self, raw: bytes) -> None:
        fields = Fields(decode(raw), "journal")
        self.high_water = max(self.high_water, fields.time("high_water"))
        for item in fields.items("signed", 1):
            self.signed = (*self.signed, own_from_fields(Fields(item, "signed")))


def own_to_json(cleared: Cleared) -> Json:
    """Return what a signer keeps of a transaction that it signs."""
    return {
        "withdrawal_digest": cleared.withdrawal_digest.hex(),
        "family": cleared.family.hex(),
        "txid": cleared.txid[::-1].hex(),
        "release_index": cleared.release_index,
        "outpoints": [str(outpoint) for outpoint in sorted(cleared.outpoints)],
    }


def own_from_fields(fields: Fields) -> OwnSignature:
    """Read `own_to_json` back."""
    outpoints = frozenset(OutPoint.parse(str(text)) for text in fields.items("outpoints"))
    return OwnSignature(
        fields.hex("withdrawal_digest", 32), fields.hex("family", 32), fields.hex("txid", 32)[::-1], outpoints
    )
