"""Transactions that wait for a block: who conflicts with whom, who may replace whom, what fits into the next block.

Pure; what enters was checked before. Parents always stand before their children.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from custody.errors import Refused
from custody.transaction import OutPoint, Transaction, TxOut

_SIGNALS_BELOW = 0xFFFFFFFE  # BIP-125: an input sequence below this allows replacement
MAX_REPLACED = 100  # BIP-125 rule 5
INCREMENTAL_RATE_SAT_VB = 1  # DEFAULT_INCREMENTAL_RELAY_FEE before Core 29.1


@dataclass(frozen=True, slots=True)
class Entry:
    """One waiting transaction."""

    txid: bytes
    transaction: Transaction
    fee_sats: int
    vsize_vb: int

    @property
    def signals(self) -> bool:
        """Whether it may be replaced (BIP-125)."""
        return any(txin.sequence < _SIGNALS_BELOW for txin in self.transaction.inputs)


class Mempool:
    """Waiting transactions in an order a block can take them in."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._spenders: dict[OutPoint, bytes] = {}

    def __contains__(self, txid: bytes) -> bool:
        return txid in self._entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def entry(self, txid: bytes) -> Entry | None:
        """Return one waiting transaction."""
        return self._entries.get(txid)

    def output(self, outpoint: OutPoint) -> TxOut | None:
        """Return the output of a waiting transaction at `outpoint`."""
        entry = self._entries.get(outpoint.txid)
        if entry is None or outpoint.vout >= len(entry.transaction.outputs):
            return None
        return entry.transaction.outputs[outpoint.vout]

    def spender(self, outpoint: OutPoint) -> bytes | None:
        """Return the txid of the waiting transaction that spends `outpoint`."""
        return self._spenders.get(outpoint)

    def displaced_by(self, transaction: Transaction) -> tuple[Entry, ...]:
        """Return the entries that cannot stay beside `transaction`: direct conflicts and all that build on them."""
        doomed = {self._spenders[i.outpoint] for i in transaction.inputs if i.outpoint in self._spenders}
        for entry in self:  # parents stand first, so one pass finds every descendant
            if any(txin.outpoint.txid in doomed for txin in entry.transaction.inputs):
                doomed.add(entry.txid)
        return tuple(entry for entry in self if entry.txid in doomed)

    def may_replace(self, new: Entry) -> Refused | None:
        """Return None if `new` conflicts with nothing or may take the place of what it conflicts with (BIP-125)."""
        displaced = self.displaced_by(new.transaction)
        if not displaced:
            return None
        spent = {txin.outpoint for txin in new.transaction.inputs}
        direct = [e for e in displaced if any(i.outpoint in spent for i in e.transaction.inputs)]
        if not all(entry.signals for entry in direct):
            return Refused(
                "TX_CONFLICT", "coins that nothing spends", "a mempool transaction that allows no replacement"
            )
        if any(outpoint.txid in {entry.txid for entry in displaced} for outpoint in spent):
            return Refused("TX_CONFLICT", "inputs that outlive the replacement", "an output of what it replaces")
        if len(displaced) > MAX_REPLACED:
            return Refused("TX_CONFLICT", f"at most {MAX_REPLACED} replaced transactions", f"{len(displaced)}")
        least = sum(entry.fee_sats for entry in displaced) + new.vsize_vb * INCREMENTAL_RATE_SAT_VB
        if new.fee_sats < least:
            return Refused("TX_REPLACEMENT_FEE", f"a fee of at least {least} sats", f"{new.fee_sats}")
        if any(new.fee_sats * entry.vsize_vb <= entry.fee_sats * new.vsize_vb for entry in direct):
            return Refused("TX_REPLACEMENT_FEE", "a higher fee rate than what it replaces", "none")
        return None

    def add(self, new: Entry) -> None:
        """Take `new` in, in the place of what it conflicts with."""
        for entry in self.displaced_by(new.transaction):
            del self._entries[entry.txid]
            for txin in entry.transaction.inputs:
                del self._spenders[txin.outpoint]
        self._entries[new.txid] = new
        for txin in new.transaction.inputs:
            self._spenders[txin.outpoint] = new.txid

    def fitting(self, weight: int) -> tuple[Entry, ...]:
        """Return the entries from the front that fit into `weight`; no child without its parent."""
        chosen: list[Entry] = []
        for entry in self:
            weight -= entry.transaction.weight
            if weight < 0:
                break
            chosen.append(entry)
        return tuple(chosen)
