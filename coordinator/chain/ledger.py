"""The unspent coins of the best chain, indexed by script; every step can be undone. Pure; believes what it is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from coordinator.chain.blocks import COINBASE_MATURITY, Block
from custody.transaction import OutPoint, Transaction, TxOut

_UNSPENDABLE = b"\x6a"  # OP_RETURN


@dataclass(frozen=True, slots=True)
class Coin:
    """One unspent output. height: of the block that holds it."""

    outpoint: OutPoint
    output: TxOut
    height: int
    is_coinbase: bool

    def is_mature(self, height: int) -> bool:
        """Return whether a block at `height` may spend it."""
        return not self.is_coinbase or height - self.height >= COINBASE_MATURITY


class Ledger:
    """Follows the best chain block by block; cost per block does not depend on how many coins there are."""

    def __init__(self) -> None:
        self._coins: dict[OutPoint, Coin] = {}
        self._by_script: dict[bytes, dict[OutPoint, Coin]] = {}
        self._spenders: dict[OutPoint, tuple[bytes, int]] = {}
        self._confirmed: dict[bytes, tuple[Transaction, int]] = {}
        self._undo: dict[bytes, list[Coin]] = {}
        self._touched: dict[bytes, dict[bytes, int]] = {}

    def coin(self, outpoint: OutPoint) -> Coin | None:
        """Return the unspent coin at `outpoint`, mature or not."""
        return self._coins.get(outpoint)

    def coins(self, scripts: Iterable[bytes]) -> Iterator[Coin]:
        """Yield the unspent coins on `scripts`, mature or not."""
        for script in dict.fromkeys(scripts):
            yield from self._by_script.get(script, {}).values()

    def confirmed(self, txid: bytes) -> tuple[Transaction, int] | None:
        """Return the confirmed transaction and the height of its block."""
        return self._confirmed.get(txid)

    def spender(self, outpoint: OutPoint) -> tuple[bytes, int] | None:
        """Return txid and height of the confirmed transaction that spent `outpoint`."""
        return self._spenders.get(outpoint)

    def history(self, script: bytes) -> tuple[tuple[bytes, int], ...]:
        """Return txid and height of every transaction that pays or spends `script`, in order of the chain."""
        return tuple(self._touched.get(script, {}).items())

    def connect(self, block: Block) -> None:
        """Apply the block that extends the tip."""
        spent: list[Coin] = []
        for position, transaction in enumerate(block.transactions):
            txid = transaction.txid
            if position:
                for txin in transaction.inputs:
                    spent.append(self._remove(txin.outpoint))
                    self._touch(spent[-1].output.script, txid, block.height)
                    self._spenders[txin.outpoint] = (txid, block.height)
            for vout, output in enumerate(transaction.outputs):
                if output.script[:1] != _UNSPENDABLE:
                    self._touch(output.script, txid, block.height)
                    self._add(Coin(OutPoint(txid, vout), output, block.height, position == 0))
            self._confirmed[txid] = (transaction, block.height)
        self._undo[block.block_hash] = spent

    def disconnect(self, block: Block) -> None:
        """Take back the block at the tip."""
        spent = self._undo.pop(block.block_hash)
        for position, transaction in reversed(list(enumerate(block.transactions))):
            txid = transaction.txid
            del self._confirmed[txid]
            for vout, output in enumerate(transaction.outputs):
                if output.script[:1] != _UNSPENDABLE:
                    self._untouch(output.script, txid)
                    self._remove(OutPoint(txid, vout))
            if position:
                for txin in reversed(transaction.inputs):
                    del self._spenders[txin.outpoint]
                    self._untouch(spent[-1].output.script, txid)
                    self._add(spent.pop())

    def _touch(self, script: bytes, txid: bytes, height: int) -> None:
        self._touched.setdefault(script, {})[txid] = height

    def _untouch(self, script: bytes, txid: bytes) -> None:
        touched = self._touched.get(script, {})
        touched.pop(txid, None)
        if not touched:
            self._touched.pop(script, None)

    def _add(self, coin: Coin) -> None:
        self._coins[coin.outpoint] = coin
        self._by_script.setdefault(coin.output.script, {})[coin.outpoint] = coin

    def _remove(self, outpoint: OutPoint) -> Coin:
        coin = self._coins.pop(outpoint)
        on_script = self._by_script[coin.output.script]
        del on_script[outpoint]
        if not on_script:
            del self._by_script[coin.output.script]
        return coin
