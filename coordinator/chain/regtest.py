"""A whole regtest chain in one object: kernel, block log, index and mempool. Synchronous; one thread at a time.

What was acknowledged is in the log. Opening replays the log through the same functions as live calls, so the state
after a SIGKILL is the state before it, mempool included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from coordinator.chain.blocklog import BlockLog, Record, RecordKind
from coordinator.chain.blocks import (
    GENESIS,
    MAX_BLOCK_WEIGHT,
    RESERVED_WEIGHT,
    Block,
    mine_block,
    read_header,
)
from coordinator.chain.check import check_transaction
from coordinator.chain.kernel import Kernel, transactions_of
from coordinator.chain.ledger import Ledger
from coordinator.chain.mempool import Entry, Mempool
from coordinator.chain.port import ChainCoin, Tip, Touch, TxState, TxStatus
from coordinator.chain.relay import NextBlock, check_final
from coordinator.clock import Clock
from custody.errors import IntegrityError, Refused
from custody.transaction import OutPoint, Transaction, TxOut, parse_transaction

_MEDIAN_SPAN = 11  # BIP-113


class Regtest:
    """One chain on one directory.

    Args:
        directory: holds `chain.log`, which is all that lasts, and the kernel's throw-away files; made when missing.
        clock: gives block times; not more than two hours ahead of the machine, or the kernel refuses the blocks.

    Attributes:
        cut_bytes: length of an incomplete last log record that was cut at opening; it was never acknowledged.

    Raises:
        IntegrityError: BLOCKLOG_DAMAGED, or BLOCK_INVALID for a logged block that the kernel refuses.
        UnavailableError: BLOCKLOG_IN_USE, BLOCKLOG_IO, KERNEL_DIRECTORY.
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._log = BlockLog(directory / "chain.log")  # first: its lock guards the kernel's directory too
        self.cut_bytes = self._log.cut_bytes
        try:
            self._kernel = Kernel(directory / "kernel")
            self._blocks = {GENESIS.block_hash: GENESIS}
            self._best = [GENESIS]
            self._ledger = Ledger()
            self._mempool = Mempool()
            self._seen: dict[bytes, tuple[OutPoint, ...]] = {}
            self._scripts: dict[bytes, bytes] = {}
            for record in self._log.take_records():
                self._replay(record)
        except BaseException:
            self._log.close()
            raise

    def close(self) -> None:
        """Let go of files and lock; nothing acknowledged is lost."""
        self._kernel.close()
        self._log.close()

    @property
    def tip(self) -> Tip:
        """The last block of the best chain."""
        return Tip(self._best[-1].height, self._best[-1].block_hash, _median_time(self._best))

    @property
    def block_count(self) -> int:
        """How many blocks were ever made, replaced ones and the genesis block included."""
        return len(self._blocks)

    def coins(self, scripts: Iterable[bytes]) -> tuple[ChainCoin, ...]:
        """See `Chain.coins`."""
        next_height = self._best[-1].height + 1
        found = [
            ChainCoin(
                coin.outpoint, coin.output.amount, coin.output.script, coin.height, self._previous_raw(coin.outpoint)
            )
            for coin in self._ledger.coins(scripts)
            if coin.is_mature(next_height) and self._mempool.spender(coin.outpoint) is None
        ]
        return tuple(sorted(found, key=lambda coin: (coin.height, coin.outpoint)))

    def check(self, raw: bytes, spent: Sequence[TxOut]) -> Refused | None:
        """See `Chain.check`."""
        return check_transaction(raw, spent, self._next_block())

    def broadcast(self, raw: bytes) -> Refused | None:
        """See `Chain.broadcast`; durable when it returns None."""
        transaction = parse_transaction(raw)
        if transaction.txid in self._mempool or self._ledger.confirmed(transaction.txid):
            return None
        entry = self._judge(transaction)
        if isinstance(entry, Refused):
            return entry
        self._log.append(Record(RecordKind.TRANSACTION, raw))
        self._log.flush()
        self._take(entry)
        return None

    def status(self, txid: bytes, outpoints: Sequence[OutPoint] = ()) -> TxStatus:
        """See `Chain.status`."""
        if confirmed := self._ledger.confirmed(txid):
            return self._in_block(TxState.CONFIRMED, confirmed[1])
        if txid in self._mempool:
            return TxStatus(TxState.MEMPOOL)
        outpoints = outpoints or self._seen.get(txid, ())
        for outpoint in outpoints:
            if spender := self._ledger.spender(outpoint):
                return self._in_block(TxState.CONFLICTED, spender[1])
        if any(self._mempool.spender(outpoint) for outpoint in outpoints):
            return TxStatus(TxState.CONFLICTED)
        return TxStatus(TxState.UNKNOWN)

    def block_at(self, height: int) -> Block | None:
        """Return the block of the best chain at `height`."""
        return self._best[height] if 0 <= height < len(self._best) else None

    def block_named(self, block_hash: bytes) -> Block | None:
        """Return a block that was ever made, of the best chain or replaced."""
        return self._blocks.get(block_hash)

    def script_named(self, scripthash: bytes) -> bytes | None:
        """Return the script whose SHA-256 is `scripthash` (32 bytes), if the chain or the mempool has seen it."""
        return self._scripts.get(scripthash)

    def median_time_at(self, height: int) -> int:
        """Return the median time of the 11 blocks up to `height` (BIP-113)."""
        return _median_time(self._best[max(0, height + 1 - _MEDIAN_SPAN) : height + 1])

    def find(self, txid: bytes) -> tuple[Transaction, int | None] | None:
        """Return a transaction and the height of its block, None where it still waits."""
        if confirmed := self._ledger.confirmed(txid):
            return confirmed
        entry = self._mempool.entry(txid)
        return None if entry is None else (entry.transaction, None)

    def history(self, script: bytes) -> tuple[tuple[bytes, int], ...]:
        """Return txid and height of every confirmed transaction that pays or spends `script`, in order of the chain."""
        return self._ledger.history(script)

    def touches(self, scripts: Iterable[bytes]) -> tuple[Touch, ...]:
        """See `Chain.history`."""
        wanted = frozenset(scripts)
        heights = {txid: height for script in wanted for txid, height in self._ledger.history(script)}
        found = [(height, self._ledger.confirmed(txid)) for txid, height in heights.items()]
        placed = [Touch(known[0], height) for height, known in found if known is not None]
        placed.sort(key=lambda touch: (touch.height or 0, touch.transaction.txid))
        waiting = [Touch(entry.transaction, None) for entry in self._mempool if self._touches(entry, wanted)]
        return (*placed, *waiting)

    def _touches(self, entry: Entry, scripts: frozenset[bytes]) -> bool:
        spent = (self.output(txin.outpoint) for txin in entry.transaction.inputs)
        return any(output is not None and output.script in scripts for output in (*spent, *entry.transaction.outputs))

    def waiting(self) -> tuple[Entry, ...]:
        """Return what is in the mempool, parents first."""
        return tuple(self._mempool)

    def spender(self, outpoint: OutPoint) -> tuple[bytes, int | None] | None:
        """Return the transaction that spends `outpoint`, and its height, None where it still waits."""
        if spender := self._ledger.spender(outpoint):
            return spender
        waiting = self._mempool.spender(outpoint)
        return None if waiting is None else (waiting, None)

    def output(self, outpoint: OutPoint) -> TxOut | None:
        """Return what stands at `outpoint`, spent or not, confirmed or not."""
        return self._confirmed_output(outpoint) or self._mempool.output(outpoint)

    def mine(self, count: int, script: bytes) -> tuple[bytes, ...]:
        """See `MineableChain.mine`."""
        made: list[bytes] = []
        for _ in range(count):
            entries = self._mempool.fitting(MAX_BLOCK_WEIGHT - RESERVED_WEIGHT)
            made.append(self._extend(self._best, script, [entry.transaction for entry in entries]))
        self._log.flush()
        return tuple(made)

    def reorg(self, depth: int, script: bytes, transactions: Sequence[bytes] = ()) -> tuple[bytes, ...]:
        """See `MineableChain.reorg`.

        Raises:
            IntegrityError: BLOCK_INVALID for transactions that consensus refuses on that branch.
        """
        if not 1 <= depth < len(self._best):
            raise ValueError(f"expected a depth of 1..{len(self._best) - 1} blocks, found {depth}")
        branch = self._best[:-depth]
        inside = [parse_transaction(raw) for raw in transactions]
        made: list[bytes] = []
        for _ in range(depth + 1):
            made.append(self._extend(branch, script, inside))
            branch.append(self._blocks[made[-1]])
            inside = []
        self._log.flush()
        return tuple(made)

    def _replay(self, record: Record) -> None:
        if record.kind is RecordKind.TRANSACTION:
            entry = self._judge(parse_transaction(record.body))
            if isinstance(entry, Entry):  # stricter rules since then may refuse it; its owner broadcasts again
                self._take(entry)
            return
        block_hash, parent_hash, time = read_header(record.body)
        parent = self._blocks.get(parent_hash)
        if parent is None:
            raise IntegrityError("BLOCKLOG_DAMAGED", f"expected a parent of {block_hash[::-1].hex()}, found none")
        transactions = tuple(parse_transaction(raw) for raw in transactions_of(record.body))
        block = Block(block_hash, parent_hash, parent.height + 1, time, transactions, record.body[:80])
        self._submit(block, record.body)

    def _extend(self, branch: Sequence[Block], script: bytes, transactions: Sequence[Transaction]) -> bytes:
        """Make, submit and log one block on the last of `branch`; durable after the next flush."""
        time = max(_median_time(branch) + 1, self._clock.now())
        block, raw = mine_block(
            branch[-1], time, script, transactions, self._fees_sats(transactions), tag=self.block_count
        )
        self._submit(block, raw)
        self._log.append(Record(RecordKind.BLOCK, raw))
        return block.block_hash

    def _submit(self, block: Block, raw: bytes) -> None:
        steps = self._kernel.submit(raw)
        if isinstance(steps, Refused):
            raise IntegrityError(steps.code, f"expected {steps.expected}, found {steps.found}")
        self._blocks[block.block_hash] = block
        returned: list[Transaction] = []
        for step in steps:
            moved = self._blocks[step.block_hash]
            if step.is_connected:
                self._name_scripts(moved.transactions)
                self._ledger.connect(moved)
                self._best.append(moved)
            else:
                self._ledger.disconnect(moved)
                self._best.pop()
                returned[:0] = moved.transactions[1:]
        if steps:
            self._refill([*returned, *(entry.transaction for entry in self._mempool)])

    def _refill(self, candidates: Iterable[Transaction]) -> None:
        """Keep of `candidates` (parents first) what can still confirm: one path for every kind of new tip."""
        self._mempool = Mempool()
        for transaction in candidates:
            self._seen[transaction.txid] = tuple(txin.outpoint for txin in transaction.inputs)
            spent = self._spent_outputs(transaction)
            is_taken = any(self._mempool.spender(txin.outpoint) for txin in transaction.inputs)
            if isinstance(spent, Refused) or is_taken or check_final(transaction, self._next_block()):
                continue  # confirmed ones end here too: their coins are spent
            self._mempool.add(_entry(transaction, spent))

    def _judge(self, transaction: Transaction) -> Entry | Refused:
        spent = self._spent_outputs(transaction)
        if isinstance(spent, Refused):
            return spent
        if refused := check_transaction(transaction.serialize(), spent, self._next_block()):
            return refused
        entry = _entry(transaction, spent)
        return self._mempool.may_replace(entry) or entry

    def _spent_outputs(self, transaction: Transaction) -> tuple[TxOut, ...] | Refused:
        outputs: list[TxOut] = []
        for txin in transaction.inputs:
            output = self._spendable(txin.outpoint)
            if isinstance(output, Refused):
                return output
            outputs.append(output)
        return tuple(outputs)

    def _spendable(self, outpoint: OutPoint) -> TxOut | Refused:
        if coin := self._ledger.coin(outpoint):
            if coin.is_mature(self._best[-1].height + 1):
                return coin.output
            return Refused("TX_IMMATURE", "a coinbase of at least 100 blocks", f"height {coin.height} in {outpoint}")
        if output := self._mempool.output(outpoint):
            return output
        if spender := self._ledger.spender(outpoint):
            return Refused("TX_CONFLICT", f"{outpoint} unspent", f"spent in block {spender[1]}")
        return Refused("TX_INPUT_MISSING", f"a transaction that made {outpoint}", "none")

    def _fees_sats(self, transactions: Sequence[Transaction]) -> int:
        """What the transactions of a new block pay together; their coins are on the chain or made beside them."""
        made = {OutPoint(t.txid, vout): output for t in transactions for vout, output in enumerate(t.outputs)}
        fees_sats = 0
        for transaction in transactions:
            spent = (made.get(i.outpoint) or self._confirmed_output(i.outpoint) for i in transaction.inputs)
            fees_sats += sum(output.amount for output in spent if output)
            fees_sats -= sum(output.amount for output in transaction.outputs)
        return max(0, fees_sats)  # below zero the kernel refuses the block

    def _name_scripts(self, transactions: Iterable[Transaction]) -> None:
        for transaction in transactions:
            for output in transaction.outputs:
                self._scripts[hashlib.sha256(output.script).digest()] = output.script

    def _take(self, entry: Entry) -> None:
        self._name_scripts((entry.transaction,))
        self._mempool.add(entry)
        self._seen[entry.txid] = tuple(txin.outpoint for txin in entry.transaction.inputs)

    def _confirmed_output(self, outpoint: OutPoint) -> TxOut | None:
        confirmed = self._ledger.confirmed(outpoint.txid)
        if confirmed and outpoint.vout < len(confirmed[0].outputs):
            return confirmed[0].outputs[outpoint.vout]
        return None

    def _previous_raw(self, outpoint: OutPoint) -> bytes:
        confirmed = self._ledger.confirmed(outpoint.txid)
        if confirmed is None:
            raise IntegrityError("LEDGER", f"expected the transaction of the coin {outpoint}, found none")
        return confirmed[0].serialize()

    def _in_block(self, state: TxState, height: int) -> TxStatus:
        return TxStatus(state, height, self.tip.height - height + 1)

    def _next_block(self) -> NextBlock:
        return NextBlock(self.tip.height + 1, self.tip.median_time)


def _entry(transaction: Transaction, spent: Sequence[TxOut]) -> Entry:
    fee_sats = sum(o.amount for o in spent) - sum(o.amount for o in transaction.outputs)
    return Entry(transaction.txid, transaction, fee_sats, transaction.vsize_vb)


def _median_time(chain: Sequence[Block]) -> int:
    times = sorted(block.time for block in chain[-_MEDIAN_SPAN:])
    return times[len(times) // 2]
