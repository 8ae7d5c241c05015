"""What the chain says in the shapes of Bitcoin Core's JSON-RPC: amounts in BTC, hashes in display order."""

from __future__ import annotations

from typing import Any

from coordinator.chain.answers import display
from coordinator.chain.blocks import COINBASE_MATURITY, Block
from coordinator.chain.regtest import Regtest
from custody.address import script_of
from custody.errors import MalformedError, Refused
from custody.transaction import OutPoint, Transaction, TxOut, parse_transaction
from custody.units import SATS_PER_BTC
from custody.wallet import Network, descriptor_checksum

MISC, NOT_FOUND, PARAMETER, DECODE, REJECTED, CONFIRMED = -1, -5, -8, -22, -26, -27


class RpcError(Exception):
    """What a call is answered with instead of a result."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def wire(text: str) -> bytes:
    """Return a hash in wire order (32 bytes). Raises RpcError."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise RpcError(PARAMETER, "expected 64 hex digits")
    return found[::-1]


def btc(sats: int) -> float:
    """Return an amount in BTC."""
    return round(sats / SATS_PER_BTC, 8)  # the shortest decimal of 8 places, which is exact for every amount there is


def block_of(chain: Regtest, block_hash: str) -> Block:
    """Return the block that a hash in display order names. Raises RpcError."""
    block = chain.block_named(wire(block_hash))
    if block is None:
        raise RpcError(NOT_FOUND, "Block not found")
    return block


def header_json(chain: Regtest, block: Block, verbose: bool) -> Any:
    """Return a header as hex or as an object."""
    if not verbose:
        return block.header.hex()
    is_best = chain.block_at(block.height) is block
    return {
        "hash": display(block.block_hash),
        "height": block.height,
        "confirmations": chain.tip.height - block.height + 1 if is_best else -1,
        "time": block.time,
        "mediantime": chain.median_time_at(block.height),
        "previousblockhash": display(block.parent),
    }


def place_json(chain: Regtest, height: int | None) -> dict[str, Any]:
    """Return where a transaction stands: its block, or that it has none."""
    block = None if height is None else chain.block_at(height)
    if block is None:
        return {"confirmations": 0}
    depth = chain.tip.height - block.height + 1
    return {"confirmations": depth, "blockhash": display(block.block_hash), "blockheight": block.height}


def decoded(text: str) -> tuple[bytes, Transaction]:
    """Return a transaction given as hex. Raises RpcError."""
    try:
        raw = bytes.fromhex(text)
        return raw, parse_transaction(raw)
    except (ValueError, MalformedError) as error:
        raise RpcError(DECODE, "TX decode failed") from error


def would_take(chain: Regtest, raw: bytes, transaction: Transaction) -> Refused | None:
    """Return why the mempool would not take a transaction, or None."""
    spent = [chain.output(txin.outpoint) for txin in transaction.inputs]
    known: list[TxOut] = [output for output in spent if output is not None]
    return chain.check(raw, known)


def described(descriptor: str) -> bytes:
    """Return the script of `raw(HEX)#...` or `addr(ADDRESS)#...`. Raises ValueError, MalformedError."""
    body, _, checksum = descriptor.partition("#")
    if descriptor_checksum(body) != checksum:
        raise ValueError("checksum")
    if body.startswith("raw(") and body.endswith(")"):
        return bytes.fromhex(body[4:-1])
    if body.startswith("addr(") and body.endswith(")"):
        return script_of(body[5:-1], Network.REGTEST)
    raise ValueError("descriptor")


def unspent_json(chain: Regtest, scripts: tuple[bytes, ...]) -> list[dict[str, Any]]:
    """Return the mature coins on `scripts` that nothing spends."""
    found = []
    for script in scripts:
        for txid, height in chain.history(script):
            known = chain.find(txid)
            outputs = () if known is None else known[0].outputs
            depth = chain.tip.height - height + 1
            is_young = known is not None and _is_coinbase(known[0]) and depth < COINBASE_MATURITY
            for vout, output in enumerate(outputs):
                if output.script == script and chain.spender(OutPoint(txid, vout)) is None and not is_young:
                    found.append(
                        {
                            "txid": display(txid),
                            "vout": vout,
                            "scriptPubKey": script.hex(),
                            "amount": btc(output.amount),
                            "confirmations": depth,
                            "spendable": False,
                            "safe": True,
                        }
                    )
    return found


def _is_coinbase(transaction: Transaction) -> bool:
    return transaction.inputs[0].outpoint.txid == bytes(32)


def wallet_json(chain: Regtest, scripts: set[bytes], txid: bytes) -> dict[str, Any] | None:
    """Return a transaction that touches `scripts`, or None."""
    known = chain.find(txid)
    if known is None:
        return None
    spent = [chain.output(txin.outpoint) for txin in known[0].inputs]
    touched = {output.script for output in (*spent, *known[0].outputs) if output is not None}
    if not touched & scripts:
        return None
    return {
        "txid": display(txid),
        "hex": known[0].serialize().hex(),
        "walletconflicts": [],
        **place_json(chain, known[1]),
    }


def since_json(chain: Regtest, scripts: tuple[bytes, ...], block_hash: str) -> dict[str, Any]:
    """Return the transactions of `scripts` after a block, and those that wait."""
    start = block_of(chain, block_hash).height if block_hash else -1
    txids = {txid: height for script in scripts for txid, height in chain.history(script) if height > start}
    found = [{"txid": display(txid), **place_json(chain, height)} for txid, height in txids.items()]
    waiting = (one.txid for one in chain.waiting() if wallet_json(chain, set(scripts), one.txid) is not None)
    found += [{"txid": display(txid), "confirmations": 0} for txid in waiting]
    return {"transactions": found, "removed": [], "lastblock": display(chain.tip.block_hash)}
