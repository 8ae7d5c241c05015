"""Esplora's REST interface over the embedded chain: what wallets ask, in the shapes that they read.

Reference: the interface's own description (API.md of the Esplora project). Hashes in paths and answers are in display
order, values are sats.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from typing import Any

from coordinator.chain.answers import display, wire
from coordinator.chain.blocks import Block, merkle_branch
from coordinator.chain.embedded import EmbeddedChain
from coordinator.chain.mempool import Entry
from coordinator.chain.regtest import Regtest
from coordinator.chain.serving.http import HttpAnswer, HttpRequest
from custody.address import address_of, script_of
from custody.errors import CustodyError, MalformedError
from custody.transaction import OutPoint, Transaction, TxIn, TxOut, parse_transaction
from custody.wallet import Network

PAGE = 25  # confirmed transactions per answer, as Esplora has it
_JSON = "application/json"
_TARGETS = (*range(1, 26), 144, 504, 1008)  # blocks, of /fee-estimates
_HASH = "([0-9a-f]{64})"
Question = Callable[[Regtest], HttpAnswer]
_NOT_FOUND = HttpAnswer(404, b"not found")


class EsploraServer:
    """Answers requests from one chain. Scripts are found by their hash once they were seen in it."""

    def __init__(self, chain: EmbeddedChain) -> None:
        self._chain = chain

    async def answer(self, request: HttpRequest) -> HttpAnswer:
        """Return the answer to one request."""
        path = request.path.partition("?")[0].removesuffix("/")
        if (request.method, path) == ("POST", "/tx"):
            return await self._broadcast(request.body)
        if (request.method, path) == ("GET", "/fee-estimates"):
            rate = float(await self._chain.fee_rate_sat_vb())
            return _json({str(target): rate for target in _TARGETS})
        for pattern, make in _ROUTES:
            found = pattern.fullmatch(path)
            if found is not None and request.method == "GET":
                question = make(*found.groups())
                return await self._chain.ask(question)
        return _NOT_FOUND

    async def _broadcast(self, body: bytes) -> HttpAnswer:
        try:
            raw = bytes.fromhex(body.decode("ascii").strip())
            refused = await self._chain.broadcast(raw)
        except (ValueError, MalformedError):
            return HttpAnswer(400, b"sendrawtransaction RPC error: TX decode failed")
        if refused is not None:
            return HttpAnswer(400, f"sendrawtransaction RPC error: {refused.code}".encode())
        return HttpAnswer(200, display(parse_transaction(raw).txid).encode())


def _json(value: Any) -> HttpAnswer:
    return HttpAnswer(200, json.dumps(value).encode(), _JSON)


# --- Blocks --------------------------------------------------------------------------------------------------------


def _tip_height() -> Question:
    return lambda chain: HttpAnswer(200, str(chain.tip.height).encode())


def _tip_hash() -> Question:
    return lambda chain: HttpAnswer(200, display(chain.tip.block_hash).encode())


def _block_hash(height: str) -> Question:
    def found(chain: Regtest) -> HttpAnswer:
        block = chain.block_at(int(height))
        return _NOT_FOUND if block is None else HttpAnswer(200, display(block.block_hash).encode())

    return found


def _block(block_hash: str) -> Question:
    def found(chain: Regtest) -> HttpAnswer:
        block = chain.block_named(wire(block_hash))
        return _NOT_FOUND if block is None else _json(_block_json(chain, block))

    return found


def _header(block_hash: str) -> Question:
    def found(chain: Regtest) -> HttpAnswer:
        block = chain.block_named(wire(block_hash))
        return _NOT_FOUND if block is None else HttpAnswer(200, block.header.hex().encode())

    return found


def _block_raw(block_hash: str) -> Question:
    def found(chain: Regtest) -> HttpAnswer:
        block = chain.block_named(wire(block_hash))
        return _NOT_FOUND if block is None else HttpAnswer(200, block.serialize(), "application/octet-stream")

    return found


def _block_status(block_hash: str) -> Question:
    def found(chain: Regtest) -> HttpAnswer:
        block = chain.block_named(wire(block_hash))
        if block is None:
            return _NOT_FOUND
        after = chain.block_at(block.height + 1)
        best = chain.block_at(block.height) is block
        return _json(
            {
                "in_best_chain": best,
                "height": block.height if best else None,
                "next_best": display(after.block_hash) if best and after else None,
            }
        )

    return found


def _block_txids(block_hash: str) -> Question:
    def found(chain: Regtest) -> HttpAnswer:
        block = chain.block_named(wire(block_hash))
        return _NOT_FOUND if block is None else _json([display(one.txid) for one in block.transactions])

    return found


def _blocks(start: str | None = None) -> Question:
    def found(chain: Regtest) -> HttpAnswer:
        top = chain.tip.height if start is None else min(int(start), chain.tip.height)
        blocks = [chain.block_at(height) for height in range(top, max(-1, top - 10), -1)]
        return _json([_block_json(chain, block) for block in blocks if block is not None])

    return found


def _block_json(chain: Regtest, block: Block) -> dict[str, Any]:
    header = block.header
    return {
        "id": display(block.block_hash),
        "height": block.height,
        "version": int.from_bytes(header[:4], "little"),
        "timestamp": block.time,
        "tx_count": max(1, len(block.transactions)),
        "size": 80 + sum(len(one.serialize()) for one in block.transactions),
        "weight": 320 + sum(one.weight for one in block.transactions),
        "merkle_root": display(header[36:68]),
        "previousblockhash": display(block.parent) if block.height else None,
        "mediantime": chain.median_time_at(block.height),
        "nonce": int.from_bytes(header[76:], "little"),
        "bits": int.from_bytes(header[72:76], "little"),
        "difficulty": 0,
    }


# --- Transactions ----------------------------------------------------------------------------------------------------


def _tx(txid: str, what: str | None = None) -> Question:
    def found(chain: Regtest) -> HttpAnswer:
        known = chain.find(wire(txid))
        if known is None:
            return _NOT_FOUND
        transaction, height = known
        if what == "hex":
            return HttpAnswer(200, transaction.serialize().hex().encode())
        if what == "raw":
            return HttpAnswer(200, transaction.serialize(), "application/octet-stream")
        if what == "status":
            return _json(_status_json(chain, height))
        if what == "outspends":
            points = (OutPoint(transaction.txid, vout) for vout in range(len(transaction.outputs)))
            return _json([_outspend_json(chain, point) for point in points])
        if what == "merkle-proof":
            return _merkle_proof(chain, transaction.txid, height)
        return _json(_tx_json(chain, transaction, height))

    return found


def _outspend(txid: str, vout: str) -> Question:
    return lambda chain: _json(_outspend_json(chain, OutPoint(wire(txid), int(vout))))


def _merkle_proof(chain: Regtest, txid: bytes, height: int | None) -> HttpAnswer:
    block = None if height is None else chain.block_at(height)
    if block is None:
        return _NOT_FOUND
    txids = [one.txid for one in block.transactions]
    position = txids.index(txid)
    branch = [display(one) for one in merkle_branch(txids, position)]
    return _json({"block_height": height, "merkle": branch, "pos": position})


def _status_json(chain: Regtest, height: int | None) -> dict[str, Any]:
    block = None if height is None else chain.block_at(height)
    if block is None:
        return {"confirmed": False}
    return {
        "confirmed": True,
        "block_height": block.height,
        "block_hash": display(block.block_hash),
        "block_time": block.time,
    }


def _outspend_json(chain: Regtest, outpoint: OutPoint) -> dict[str, Any]:
    spender = chain.spender(outpoint)
    if spender is None:
        return {"spent": False}
    known = chain.find(spender[0])
    inputs = () if known is None else known[0].inputs
    vin = next(at for at, txin in enumerate(inputs) if txin.outpoint == outpoint)
    return {"spent": True, "txid": display(spender[0]), "vin": vin, "status": _status_json(chain, spender[1])}


def _tx_json(chain: Regtest, transaction: Transaction, height: int | None) -> dict[str, Any]:
    spent = [chain.output(txin.outpoint) for txin in transaction.inputs]
    is_coinbase = transaction.inputs[0].outpoint.txid == bytes(32)
    paid = sum(output.amount for output in spent if output)
    fee = 0 if is_coinbase else paid - sum(output.amount for output in transaction.outputs)
    return {
        "txid": display(transaction.txid),
        "version": transaction.version,
        "locktime": transaction.locktime,
        "vin": [_vin_json(txin, output, is_coinbase) for txin, output in zip(transaction.inputs, spent, strict=True)],
        "vout": [_vout_json(output) for output in transaction.outputs],
        "size": len(transaction.serialize()),
        "weight": transaction.weight,
        "sigops": 0,
        "fee": fee,
        "status": _status_json(chain, height),
    }


def _vin_json(txin: TxIn, spent: TxOut | None, is_coinbase: bool) -> dict[str, Any]:
    return {
        "txid": display(txin.outpoint.txid),
        "vout": txin.outpoint.vout,
        "prevout": None if spent is None else _vout_json(spent),
        "scriptsig": txin.script_sig.hex(),
        "scriptsig_asm": "",
        "witness": [item.hex() for item in txin.witness],
        "is_coinbase": is_coinbase,
        "sequence": txin.sequence,
    }


def _vout_json(output: TxOut) -> dict[str, Any]:
    found = {"scriptpubkey": output.script.hex(), "scriptpubkey_asm": "", "scriptpubkey_type": "unknown"}
    with contextlib.suppress(CustodyError):  # not every script has an address
        found["scriptpubkey_address"] = address_of(output.script, Network.REGTEST)
    return {**found, "value": int(output.amount)}


# --- Scripts ---------------------------------------------------------------------------------------------------------


def _of_address(address: str, what: str | None = None) -> Question:
    def found(chain: Regtest) -> HttpAnswer:
        try:
            return _of_script(chain, script_of(address, Network.REGTEST), what)
        except CustodyError:
            return HttpAnswer(400, b"invalid bitcoin address")

    return found


def _of_scripthash(scripthash: str, what: str | None = None) -> Question:
    def found(chain: Regtest) -> HttpAnswer:
        return _of_script(chain, chain.script_named(bytes.fromhex(scripthash)), what)

    return found


def _of_script(chain: Regtest, script: bytes | None, what: str | None) -> HttpAnswer:
    """Answer about one script; None for a hash that the chain has never seen."""
    confirmed = () if script is None else chain.history(script)[::-1]  # newest first
    waiting = [] if script is None else [one for one in chain.waiting() if _touches(chain, one, script)]
    if what == "utxo":
        return _json([] if script is None else _utxos(chain, script, [txid for txid, _ in confirmed], waiting))
    txs = [_tx_json(chain, one.transaction, None) for one in waiting]
    if what == "txs/mempool":
        return _json(txs)
    if what is not None:
        last = what.removeprefix("txs").removeprefix("/chain").removeprefix("/")
        txids = [txid for txid, _ in confirmed]
        start = txids.index(wire(last)) + 1 if last and wire(last) in txids else 0
        page = confirmed[start : start + PAGE]
        known = [(chain.find(txid), height) for txid, height in page]
        chained = [_tx_json(chain, one[0], height) for one, height in known if one is not None]
        return _json(chained if "/chain" in what else [*txs, *chained])
    counts = {"tx_count": len(confirmed)}
    return _json({"chain_stats": counts, "mempool_stats": {"tx_count": len(waiting)}})


def _touches(chain: Regtest, entry: Entry, script: bytes) -> bool:
    if any(output.script == script for output in entry.transaction.outputs):
        return True
    spent = (chain.output(txin.outpoint) for txin in entry.transaction.inputs)
    return any(output is not None and output.script == script for output in spent)


def _utxos(chain: Regtest, script: bytes, txids: list[bytes], waiting: list[Entry]) -> list[dict[str, Any]]:
    found = []
    for txid in dict.fromkeys([*txids, *(one.txid for one in waiting)]):
        known = chain.find(txid)
        if known is None:
            continue
        for vout, output in enumerate(known[0].outputs):
            if output.script == script and chain.spender(OutPoint(txid, vout)) is None:
                status = _status_json(chain, known[1])
                found.append({"txid": display(txid), "vout": vout, "status": status, "value": int(output.amount)})
    return found


_OF_SCRIPT = f"(utxo|txs|txs/mempool|txs/chain|txs/chain/{_HASH[1:-1]})"
_ROUTES: tuple[tuple[re.Pattern[str], Callable[..., Question]], ...] = tuple(
    (re.compile(pattern), make)
    for pattern, make in (
        ("/blocks/tip/height", _tip_height),
        ("/blocks/tip/hash", _tip_hash),
        ("/blocks", _blocks),
        ("/blocks/([0-9]{1,9})", _blocks),
        ("/block-height/([0-9]{1,9})", _block_hash),
        (f"/block/{_HASH}", _block),
        (f"/block/{_HASH}/header", _header),
        (f"/block/{_HASH}/raw", _block_raw),
        (f"/block/{_HASH}/status", _block_status),
        (f"/block/{_HASH}/txids", _block_txids),
        (f"/tx/{_HASH}", _tx),
        (f"/tx/{_HASH}/(hex|raw|status|outspends|merkle-proof)", _tx),
        (f"/tx/{_HASH}/outspend/([0-9]{{1,6}})", _outspend),
        (f"/scripthash/{_HASH}", _of_scripthash),
        (f"/scripthash/{_HASH}/{_OF_SCRIPT}", _of_scripthash),
        ("/address/([0-9A-Za-z]{1,90})", _of_address),
        (f"/address/([0-9A-Za-z]{{1,90}})/{_OF_SCRIPT}", _of_address),
    )
)
