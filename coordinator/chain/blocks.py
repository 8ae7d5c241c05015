"""Make regtest blocks: coinbase, merkle root, witness commitment, proof of work. Pure; the kernel judges the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from custody.reader import compact_size
from custody.transaction import OutPoint, Transaction, TxIn, TxOut, hash256
from custody.units import SATS_PER_BTC, Sats

COINBASE_MATURITY = 100  # consensus: COINBASE_MATURITY in Core's consensus.h
MAX_BLOCK_WEIGHT = 4_000_000  # consensus: MAX_BLOCK_WEIGHT
RESERVED_WEIGHT = 8_000  # for header, count and coinbase; Core's DEFAULT_BLOCK_RESERVED_WEIGHT
_REGTEST_BITS = 0x207FFFFF  # no retargeting on regtest
_REGTEST_TARGET = 0x7FFFFF << 8 * (0x20 - 3)
_HALVING_BLOCKS = 150  # regtest; 210,000 on mainnet
_VERSION_1 = (1).to_bytes(4, "little")  # of the genesis block
_VERSION = 0x2000_0000  # BIP-9, no deployment signalled
_COMMITMENT_PREFIX = bytes.fromhex("6a24aa21a9ed")  # BIP-141 "Commitment structure"


@dataclass(frozen=True, slots=True)
class Block:
    """One block. block_hash, parent: 32 bytes, wire order.  transactions: the coinbase first.  header: 80 bytes."""

    block_hash: bytes
    parent: bytes
    height: int
    time: int
    transactions: tuple[Transaction, ...]
    header: bytes

    def serialize(self) -> bytes:
        """Return the whole block, network form."""
        count = compact_size(len(self.transactions))
        return self.header + count + b"".join(transaction.serialize() for transaction in self.transactions)


# Core's chainparams.cpp; its one transaction cannot be spent, so it is left out.
GENESIS = Block(
    block_hash=bytes.fromhex("0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206")[::-1],
    parent=bytes(32),
    height=0,
    time=1_296_688_602,
    transactions=(),
    header=_VERSION_1
    + bytes(32)
    + bytes.fromhex("4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b")[::-1]
    + (1_296_688_602).to_bytes(4, "little")
    + _REGTEST_BITS.to_bytes(4, "little")
    + (2).to_bytes(4, "little"),
)


def mine_block(
    parent: Block, time: int, script: bytes, transactions: Sequence[Transaction], fees_sats: int, tag: int
) -> tuple[Block, bytes]:
    """Return a block on `parent` with its proof of work, and its raw bytes.

    Args:
        parent: what it builds on.
        time: UTC seconds, above the median of the last 11 blocks.
        script: scriptPubKey that gets subsidy and fees.
        transactions: without the coinbase, parents before children.
        fees_sats: the sum of their fees.
        tag: a number that makes the coinbase, and so the block, unlike any other on the same parent.
    """
    height = parent.height + 1
    reward = Sats(subsidy_sats(height) + fees_sats)
    coinbase = _coinbase(height, tag, TxOut(reward, script), transactions)
    whole = (coinbase, *transactions)
    root = merkle_root([transaction.txid for transaction in whole])
    header = _work(
        _VERSION.to_bytes(4, "little")
        + parent.block_hash
        + root
        + time.to_bytes(4, "little")
        + _REGTEST_BITS.to_bytes(4, "little")
    )
    raw = header + compact_size(len(whole)) + b"".join(transaction.serialize() for transaction in whole)
    return Block(hash256(header), parent.block_hash, height, time, whole, header), raw


def read_header(raw: bytes) -> tuple[bytes, bytes, int]:
    """Return (block hash, parent hash, time) of the raw block `raw`."""
    return hash256(raw[:80]), raw[4:36], int.from_bytes(raw[68:72], "little")


def subsidy_sats(height: int) -> int:
    """Return what the block at `height` may create: 50 BTC, halved every 150 blocks on regtest."""
    halvings = height // _HALVING_BLOCKS
    return 0 if halvings >= 64 else 50 * SATS_PER_BTC >> halvings


def merkle_branch(leaves: Sequence[bytes], position: int) -> list[bytes]:
    """Return the hashes (32 bytes each, lowest first) that lead from leaf `position` to the merkle root."""
    level, branch = list(leaves), list[bytes]()
    while len(level) > 1:
        if len(level) % 2:
            level.append(level[-1])
        branch.append(level[position ^ 1])
        level = [hash256(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
        position >>= 1
    return branch


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the block merkle root of `leaves` (32 bytes each, at least one): the last is doubled on odd levels."""
    level = list(leaves)
    while len(level) > 1:
        if len(level) % 2:
            level.append(level[-1])
        level = [hash256(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
    return level[0]


def _coinbase(height: int, tag: int, reward: TxOut, transactions: Sequence[Transaction]) -> Transaction:
    leaves = [bytes(32), *(hash256(transaction.serialize()) for transaction in transactions)]
    commitment = TxOut(Sats(0), _COMMITMENT_PREFIX + hash256(merkle_root(leaves) + bytes(32)))
    script_sig = _push_height(height) + b"\x08" + tag.to_bytes(8, "little")
    txin = TxIn(OutPoint(bytes(32), 0xFFFFFFFF), script_sig, 0xFFFFFFFF, witness=(bytes(32),))
    return Transaction(2, (txin,), (reward, commitment))


def _push_height(height: int) -> bytes:
    """BIP-34, minimally pushed: OP_1..OP_16, then a script number."""
    if height <= 16:
        return bytes([0x50 + height])
    number = height.to_bytes(height.bit_length() // 8 + 1, "little")  # one spare bit for the sign
    return bytes([len(number)]) + number


def _work(header: bytes) -> bytes:
    nonce = 0
    while int.from_bytes(hash256(header + nonce.to_bytes(4, "little")), "little") > _REGTEST_TARGET:
        nonce += 1
    return header + nonce.to_bytes(4, "little")
