"""The `Chain` port over somebody else's view of the chain: what is computed here, and what is only asked.

A `Source` answers questions; this module believes it for confirmations and the fee rate alone. Amounts and scripts come
from previous transactions that hash to their outpoints, signatures are checked here before anything is sent.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from coordinator.chain.blocks import COINBASE_MATURITY, merkle_root, read_header
from coordinator.chain.check import check_transaction
from coordinator.chain.kernel import transactions_of
from coordinator.chain.port import ChainCoin, SeenBlock, Tip, Touch, TxState, TxStatus
from coordinator.chain.relay import NextBlock
from custody.errors import IntegrityError, MalformedError, Refused, UnavailableError
from custody.transaction import OutPoint, Transaction, TxOut, parse_transaction
from custody.units import SatsPerVByte
from custody.wallet import Network

POLL_SECONDS = 5.0  # blocks come every ten minutes; nobody waits for a screen by this
MAX_KEPT_TRANSACTIONS = 2_000  # previous transactions, about 1 MB; they never change
# block hash at height 0, display order (Core's chainparams.cpp)
GENESIS_HASHES = {
    Network.MAINNET: "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
    Network.TESTNET4: "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043",
    Network.SIGNET: "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6",
    Network.REGTEST: "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
}
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")
log = structlog.get_logger("coordinator")


@dataclass(frozen=True, slots=True)
class Unspent:
    """What a source says is unspent. height: of its block, 0 while it has none."""

    outpoint: OutPoint
    amount_sats: int
    script: bytes
    height: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a transaction stands. height: of its block, None while it waits."""

    txid: bytes
    height: int | None


@dataclass(frozen=True, slots=True)
class RawBlock:
    """A block as a server gives it. header: 80 bytes.  raw: the whole block with its header, None for headers alone."""

    header: bytes
    raw: bytes | None


class Source(Protocol):
    """Questions to one server. Every method may raise UnavailableError; none is believed for amounts."""

    async def genesis_hash(self) -> str:
        """Return the hash of the block at height 0, display order."""
        ...

    async def tip(self) -> Tip:
        """Return the tip as the server has it."""
        ...

    async def lag_blocks(self) -> int | None:
        """Return how many headers the server knows beyond its tip, None where it does not say."""
        ...

    async def unspent(self, scripts: Sequence[bytes]) -> tuple[Unspent, ...]:
        """Return what is unspent on `scripts`, by blocks and by the mempool."""
        ...

    async def transaction(self, txid: bytes) -> bytes | None:
        """Return the raw transaction, None where the server has none."""
        ...

    async def place(self, txid: bytes) -> Place | None:
        """Return where a transaction stands, None where the server does not know it."""
        ...

    async def spender(self, outpoint: OutPoint) -> Place | None:
        """Return the transaction that spends `outpoint`, None where the server knows none."""
        ...

    async def block(self, height: int) -> RawBlock | None:
        """Return the block at `height` as far as the server has it, None above its tip."""
        ...

    async def history(self, scripts: Sequence[bytes]) -> tuple[Place, ...]:
        """Return where every transaction stands that touches `scripts`; more than those do no harm."""
        ...

    async def send(self, raw: bytes) -> Refused | None:
        """Hand a transaction to the server."""
        ...

    async def fee_rate_sat_vb(self) -> int:
        """Return the server's estimate, rounded up."""
        ...

    async def close(self) -> None:
        """Let go of connections. Idempotent."""
        ...


class OutsideChain:
    """Implements `Chain`. Not durable: a mempool may forget, so callers broadcast again until confirmed.

    Args:
        name: of the backend, for the log.
        source: what is asked.
        network: the source must serve it.
        poll_s: how often `wait_for_change` looks.
    """

    def __init__(self, name: str, source: Source, network: Network, poll_s: float = POLL_SECONDS) -> None:
        self.name = name
        self._source, self._network, self._poll_s = source, network, poll_s
        self._is_known = self._is_closed = False
        self._kept: OrderedDict[bytes, Transaction] = OrderedDict()
        self._version = 1
        self._view: Tip | None = None

    async def close(self) -> None:
        """Let go of connections; later calls raise UnavailableError. Idempotent."""
        self._is_closed = True
        await self._source.close()

    async def tip(self) -> Tip:
        """See `Chain.tip`."""
        await self._ready()
        return self._seen(await self._source.tip())

    async def height(self) -> int:
        """See `Chain.height`."""
        return (await self.tip()).height

    async def lag_blocks(self) -> int | None:
        """See `Chain.lag_blocks`."""
        await self._ready()
        return await self._source.lag_blocks()

    async def coins(self, scripts: Sequence[bytes]) -> tuple[ChainCoin, ...]:
        """See `Chain.coins`. What does not hash to its outpoint is left out and said in the log."""
        await self._ready()
        wanted = dict.fromkeys(scripts)
        if not wanted:
            return ()
        tip = await self.tip()
        said = [one for one in await self._source.unspent(tuple(wanted)) if one.height > 0]
        found = await _each(said, lambda one: self._proven(one, tip.height))
        coins = [coin for coin in found if coin is not None and coin.script in wanted]
        return tuple(sorted(coins, key=lambda coin: (coin.height, coin.outpoint)))

    async def block(self, height: int) -> SeenBlock | None:
        """See `Chain.block`. A block that is not what its header commits to is no answer, and said in the log."""
        await self._ready()
        said = await self._source.block(height)
        if said is None:
            return None
        try:
            return await asyncio.to_thread(_read_block, height, said)
        except MalformedError as error:
            log.error("chain.lie", backend=self.name, block=height)
            raise UnavailableError("CHAIN_BLOCK", f"expected block {height} as its header says") from error

    async def history(self, scripts: Sequence[bytes]) -> tuple[Touch, ...]:
        """See `Chain.history`. What does not hash to its name is left out."""
        await self._ready()
        wanted = frozenset(scripts)
        places = {place.txid: place for place in await self._source.history(tuple(wanted))} if wanted else {}
        found = await _each(tuple(places), self._previous)
        known = {one.txid: one for one in found if one is not None}
        if len(known) < len(places):
            log.warning("chain.gap", backend=self.name, missing=len(places) - len(known))
        paid = {
            OutPoint(txid, vout)
            for txid, one in known.items()
            for vout, output in enumerate(one.outputs)
            if output.script in wanted
        }
        return in_order(
            Touch(one, places[txid].height)
            for txid, one in known.items()
            if any(output.script in wanted for output in one.outputs)
            or any(txin.outpoint in paid for txin in one.inputs)
        )

    async def check(self, raw: bytes, spent: Sequence[TxOut]) -> Refused | None:
        """See `Chain.check`. Computed here."""
        tip = await self.tip()
        return await asyncio.to_thread(check_transaction, raw, spent, NextBlock(tip.height + 1, tip.median_time))

    async def broadcast(self, raw: bytes) -> Refused | None:
        """See `Chain.broadcast`."""
        # Plan: 1 already there · 2 the coins it spends · 3 our own check · 4 out.
        await self._ready()
        transaction = parse_transaction(raw)
        if await self._source.place(transaction.txid) is not None:
            return None
        spent = await self._spent(transaction)
        if isinstance(spent, Refused):
            return spent
        if refused := await self.check(raw, spent):
            return refused
        refused = await self._source.send(raw)
        if refused is None:
            self._keep(transaction)
            self._version += 1
        return refused

    async def status(self, txid: bytes, outpoints: Sequence[OutPoint] = ()) -> TxStatus:
        """See `Chain.status`. Without `outpoints`, CONFLICTED is told of what was asked for as a transaction here."""
        await self._ready()
        if (place := await self._source.place(txid)) is not None:
            return await self._at(TxState.CONFIRMED, place.height) if place.height else TxStatus(TxState.MEMPOOL)
        known = self._kept.get(txid)
        spent = outpoints or (() if known is None else tuple(txin.outpoint for txin in known.inputs))
        spenders = [await self._source.spender(outpoint) for outpoint in spent]
        others = [spender for spender in spenders if spender is not None and spender.txid != txid]
        heights = [spender.height for spender in others if spender.height]
        if heights:
            return await self._at(TxState.CONFLICTED, min(heights))
        return TxStatus(TxState.CONFLICTED if others else TxState.UNKNOWN)

    async def fee_rate_sat_vb(self) -> SatsPerVByte:
        """See `Chain.fee_rate_sat_vb`."""
        await self._ready()
        return SatsPerVByte(max(1, await self._source.fee_rate_sat_vb()))

    async def wait_for_change(self, seen: int) -> int:
        """See `Chain.wait_for_change`. Looks at the tip; what waits in the mempool is no change here."""
        await self.tip()
        while self._version == seen:
            await asyncio.sleep(self._poll_s)
            await self.tip()
        return self._version

    async def _ready(self) -> None:
        """Refuse a closed chain, and a server of another network before anything else is asked."""
        if self._is_closed:
            raise UnavailableError("CHAIN_CLOSED", "expected an open chain, found it closed")
        if not self._is_known:
            found = await self._source.genesis_hash()
            if found != GENESIS_HASHES[self._network]:
                raise IntegrityError(
                    "CHAIN_NETWORK", f"expected {self._network.value} at {self.name}, found {found[:64]}"
                )
            self._is_known = True

    def _seen(self, tip: Tip) -> Tip:
        if tip != self._view:
            self._view = tip
            self._version += 1
        return tip

    async def _proven(self, said: Unspent, tip_height: int) -> ChainCoin | None:
        """Return the coin if its transaction says what the server says, None for a lie or a young coinbase."""
        previous = await self._previous(said.outpoint.txid)
        outputs = () if previous is None else previous.outputs
        output = outputs[said.outpoint.vout] if said.outpoint.vout < len(outputs) else None
        if previous is None or output is None or (output.amount, output.script) != (said.amount_sats, said.script):
            log.error("chain.lie", backend=self.name, outpoint=str(said.outpoint))
            return None
        is_coinbase = previous.inputs[0].outpoint.txid == bytes(32)
        if is_coinbase and tip_height + 1 - said.height < COINBASE_MATURITY:
            return None
        return ChainCoin(said.outpoint, output.amount, output.script, said.height, previous.serialize())

    async def _previous(self, txid: bytes) -> Transaction | None:
        """Return the transaction `txid`, whose bytes hash to it, None where the server has no such bytes."""
        if (kept := self._kept.get(txid)) is not None:
            self._kept.move_to_end(txid)
            return kept
        raw = await self._source.transaction(txid)
        try:
            found = None if raw is None else parse_transaction(raw)
        except MalformedError:
            found = None
        if found is None or found.txid != txid:
            return None
        self._keep(found)
        return found

    def _keep(self, transaction: Transaction) -> None:
        self._kept[transaction.txid] = transaction
        if len(self._kept) > MAX_KEPT_TRANSACTIONS:
            self._kept.popitem(last=False)

    async def _spent(self, transaction: Transaction) -> tuple[TxOut, ...] | Refused:
        """Return the outputs that `transaction` spends, or why it cannot spend one of them."""
        spent: list[TxOut] = []
        tip = await self.tip()
        for txin in transaction.inputs:
            point = txin.outpoint
            previous = await self._previous(point.txid)
            if previous is None or point.vout >= len(previous.outputs):
                return Refused("TX_INPUT_MISSING", f"a transaction that made {point}", "none")
            spender = await self._source.spender(point)
            if spender is not None and spender.height and spender.txid != transaction.txid:
                return Refused("TX_CONFLICT", f"{point} unspent", f"spent in block {spender.height}")
            place = await self._source.place(point.txid)
            height = None if place is None else place.height
            is_coinbase = previous.inputs[0].outpoint.txid == bytes(32)
            if is_coinbase and height and tip.height + 1 - height < COINBASE_MATURITY:
                return Refused("TX_IMMATURE", "a coinbase of at least 100 blocks", f"height {height} in {point}")
            spent.append(previous.outputs[point.vout])
        return tuple(spent)

    async def _at(self, state: TxState, height: int) -> TxStatus:
        return TxStatus(state, height, max(0, (await self.tip()).height - height + 1))


async def _each(items: Sequence[_Item], call: Callable[[_Item], Awaitable[_Answer]]) -> list[_Answer]:
    """Return what `call` gives for each item, asked side by side; the source bounds how many at once."""
    return list(await asyncio.gather(*(call(item) for item in items)))


def in_order(touches: Iterable[Touch]) -> tuple[Touch, ...]:
    """Return `touches` by height, those that wait last; parents are not sorted before children."""
    return tuple(sorted(touches, key=lambda touch: (touch.height is None, touch.height or 0, touch.transaction.txid)))


def _read_block(height: int, said: RawBlock) -> SeenBlock:
    """Return the block if its transactions are those of its header. Raises MalformedError BLOCK."""
    block_hash, parent, _ = read_header(said.header)
    if said.raw is None:
        return SeenBlock(height, block_hash, parent, None)
    try:
        transactions = tuple(parse_transaction(raw) for raw in transactions_of(said.raw))
    except (RuntimeError, ValueError) as error:  # the kernel's own errors derive from these
        raise MalformedError("BLOCK", "expected a block") from error
    if not transactions or said.raw[:80] != said.header:
        raise MalformedError("BLOCK", "expected transactions behind the header")
    txids = [transaction.txid for transaction in transactions]
    if len(set(txids)) < len(txids) or merkle_root(txids) != said.header[36:68]:  # doubled ones can have the same root
        raise MalformedError("BLOCK", "expected the transactions that the header commits to")
    return SeenBlock(height, block_hash, parent, transactions)
