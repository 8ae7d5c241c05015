"""The port to the block chain: the same promises from an embedded regtest, Bitcoin Core, Esplora or Electrum.

A backend is trusted for confirmations and for the fee rate (which policy caps), never for an amount: whoever uses a
coin hashes `previous_raw` and reads the amount there. Hashes are 32 bytes in wire order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from custody.errors import Refused
from custody.transaction import OutPoint, Transaction, TxOut
from custody.units import Sats, SatsPerVByte


@dataclass(frozen=True, slots=True)
class Tip:
    """The last block of the best chain.

    block_hash: 32 bytes, wire order.  median_time: UTC seconds, median of the last 11 block times (BIP-113).
    """

    height: int
    block_hash: bytes
    median_time: int


@dataclass(frozen=True, slots=True)
class ChainCoin:
    """A confirmed output that the next block may spend.

    height: of the block that holds it.  previous_raw: the whole transaction that made it, network form; its hash
    must be `outpoint.txid` before anything here is believed.
    """

    outpoint: OutPoint
    amount_sats: Sats
    script: bytes
    height: int
    previous_raw: bytes


class TxState(Enum):
    """Where a transaction stands."""

    UNKNOWN = "unknown"
    MEMPOOL = "mempool"
    CONFIRMED = "confirmed"
    CONFLICTED = "conflicted"


@dataclass(frozen=True, slots=True)
class TxStatus:
    """What became of a transaction.

    height: of its block, or for CONFLICTED of the block of the other transaction; None while neither is in a block.
    depth_blocks: confirmations of that block (1 = in the tip), 0 while there is none.
    """

    state: TxState
    height: int | None = None
    depth_blocks: int = 0


@dataclass(frozen=True, slots=True)
class Touch:
    """A transaction that pays or spends a script. height: of its block, None while it waits for one. Not proven."""

    transaction: Transaction
    height: int | None


@dataclass(frozen=True, slots=True)
class SeenBlock:
    """One block of the best chain. block_hash, parent: 32 bytes, wire order.

    transactions: in the block's order, under the merkle root of its header; None where the backend has headers alone.
    """

    height: int
    block_hash: bytes
    parent: bytes
    transactions: tuple[Transaction, ...] | None


class Chain(Protocol):
    """One view of one block chain. Safe to call from many tasks at once; no call blocks the event loop.

    Every method may raise UnavailableError: nothing is known, and asking again is safe. A call that its task gives up
    on may still take effect.
    """

    async def tip(self) -> Tip:
        """Return the tip of the best chain. It may be replaced by a reorganisation at any time. Trusted."""
        ...

    async def height(self) -> int:
        """Return the height of the tip; 0 is the genesis block. Trusted."""
        ...

    async def lag_blocks(self) -> int | None:
        """Return how many blocks the tip is behind the best known header; None where nobody can tell. Trusted."""
        ...

    async def coins(self, scripts: Sequence[bytes]) -> tuple[ChainCoin, ...]:
        """Return the coins on `scripts` (scriptPubKeys) that the next block may spend, oldest first.

        Left out: unconfirmed outputs, coinbase outputs younger than 100 blocks, and coins that a transaction in the
        mempool spends. Reads only. Amounts are NOT trusted (see the module).
        """
        ...

    async def block(self, height: int) -> SeenBlock | None:
        """Return the block of the best chain at `height`, at least 1; None above the tip. A later call may see another.

        Trusted to be of the best chain; that its transactions are all that its header commits to is proven.
        """
        ...

    async def history(self, scripts: Sequence[bytes]) -> tuple[Touch, ...]:
        """Return every transaction that pays or spends one of `scripts`, each once: by height, those that wait last.

        Its bytes are proven by what they hash to; heights are NOT, and a backend may leave out what it likes.
        """
        ...

    async def check(self, raw: bytes, spent: Sequence[TxOut]) -> Refused | None:
        """Return None if `raw` could enter the next block and be relayed, given that it spends `spent`.

        Consensus by libbitcoinkernel, every script flag on every input, then the relay rules; whether the coins are
        there is for `broadcast`. Computed on this machine: needs no trust in the backend. Changes nothing.

        Args:
            raw: the signed transaction, network form.
            spent: the output behind each input, in order of the inputs, proven by the caller.

        Raises:
            MalformedError: `raw` is not a transaction.
        """
        ...

    async def broadcast(self, raw: bytes) -> Refused | None:
        """Hand `raw` to the network; None when it is in the mempool or already in a block.

        Idempotent. Durable where the adapter says so; elsewhere a mempool may forget, so the caller broadcasts again
        until the transaction is confirmed. Refused (TX_...): nothing changed.

        Raises:
            MalformedError: `raw` is not a transaction.
            UnavailableError: not known whether it went out; broadcast again.
        """
        ...

    async def status(self, txid: bytes, outpoints: Sequence[OutPoint] = ()) -> TxStatus:
        """Return what became of the transaction `txid`. Confirmations may be undone by a reorganisation.

        Args:
            txid: 32 bytes, wire order.
            outpoints: what it spends. Without them CONFLICTED is told only by a backend that has seen it; with them
                any backend can tell.
        """
        ...

    async def fee_rate_sat_vb(self) -> SatsPerVByte:
        """Return the rate that should confirm soon, at least 1. Trusted, so the caller caps it by the withdrawal."""
        ...

    async def wait_for_change(self, seen: int) -> int:
        """Return the number of the present view once it is not `seen`: tip or mempool changed since.

        Start with 0, then pass what came back; no change between two calls is missed. Numbers mean nothing after a
        restart. May return without a change; never returns too late for ever.
        """
        ...


class MineableChain(Chain, Protocol):
    """A regtest chain whose blocks we make ourselves."""

    async def mine(self, count: int, script: bytes) -> tuple[bytes, ...]:
        """Mine `count` blocks that pay `script` and take what is in the mempool; return their hashes.

        Durable when it returns. Not idempotent.
        """
        ...

    async def reorg(self, depth: int, script: bytes, transactions: Sequence[bytes] = ()) -> tuple[bytes, ...]:
        """Replace the last `depth` blocks by `depth + 1` new ones; return the new hashes.

        The first new block holds `transactions` (raw, in order), the others none; what was in the replaced blocks
        goes back to the mempool where it still can. Durable when it returns.
        """
        ...
