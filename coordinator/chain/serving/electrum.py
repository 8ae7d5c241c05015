"""Electrum's protocol (1.4) over the embedded chain: JSON lines, subscriptions for headers and scripts.

Reference: the protocol's documentation, version 1.4. A script is named by its SHA-256 in reverse byte order, hashes are
in display order, values are sats.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from coordinator.chain.answers import display
from coordinator.chain.blocks import merkle_branch
from coordinator.chain.embedded import EmbeddedChain
from coordinator.chain.regtest import Regtest
from custody.errors import CustodyError, MalformedError
from custody.transaction import OutPoint, parse_transaction

PROTOCOL = "1.4"
SOFTWARE = "Keyturn regtest"
MAX_LINE_BYTES = 8 * 1024 * 1024  # a transaction of 4,000,000 weight units as hex
MAX_HEADERS = 2_016  # per answer, as servers have it
_BAD_REQUEST, _UNKNOWN = 1, -32601
_RPC_ERROR = "the transaction was rejected by network rules.\n\n"
Method = Callable[..., Awaitable[Any]]


class ElectrumError(Exception):
    """What a call is answered with instead of a result. code: as JSON-RPC has it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


async def serve_electrum(
    chain: EmbeddedChain, host: str, port: int, context: ssl.SSLContext | None = None
) -> asyncio.Server:
    """Serve `chain` until the returned server is closed. context: for TLS."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _Connection(chain, reader, writer).run()

    return await asyncio.start_server(connected, host, port, ssl=context, limit=MAX_LINE_BYTES)


class _Connection:
    """One client. Its subscriptions end with it."""

    def __init__(self, chain: EmbeddedChain, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._chain, self._reader, self._writer = chain, reader, writer
        self._wants_headers = False
        self._told: dict[str, str | None] = {}
        self._tip = b""

    async def run(self) -> None:
        """Answer until the client hangs up."""
        telling = asyncio.create_task(self._tell())
        try:
            while line := await self._reader.readline():
                await self._answer(json.loads(line))
        except (OSError, ValueError, asyncio.LimitOverrunError, CustodyError):
            pass  # whoever sends no JSON lines, or is gone, is not answered
        finally:
            telling.cancel()
            self._writer.close()

    async def _answer(self, asked: Any) -> None:
        calls = asked if isinstance(asked, list) else [asked]
        answers = [await self._call(one) for one in calls]
        self._send(answers if isinstance(asked, list) else answers[0])
        await self._writer.drain()

    async def _call(self, one: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": one.get("id")}
        method = _METHODS.get(str(one.get("method")))
        try:
            if method is None:
                raise ElectrumError(_UNKNOWN, f"unknown method {one.get('method')}")
            given = one.get("params", [])
            answer["result"] = await (method(self, **given) if isinstance(given, dict) else method(self, *given))
        except ElectrumError as error:
            answer["error"] = {"code": error.code, "message": error.message}
        except (TypeError, ValueError, CustodyError) as error:
            answer["error"] = {"code": _BAD_REQUEST, "message": f"bad request: {type(error).__name__}"}
        return answer

    def _send(self, message: Any) -> None:
        self._writer.write(json.dumps(message).encode() + b"\n")

    def _notify(self, method: str, params: list[Any]) -> None:
        self._send({"jsonrpc": "2.0", "method": method, "params": params})

    async def _tell(self) -> None:
        """Tell of each change what the client subscribed to."""
        seen = 0
        while True:
            seen = await self._chain.wait_for_change(seen)
            tip = await self._chain.tip()
            if self._wants_headers and tip.block_hash != self._tip:
                self._tip = tip.block_hash
                self._notify("blockchain.headers.subscribe", [await self._chain.ask(_tip_header)])
            for scripthash in list(self._told):
                status = await self._chain.ask(lambda chain, name=scripthash: _status(chain, name))  # type: ignore[misc]
                if scripthash in self._told and status != self._told[scripthash]:
                    self._told[scripthash] = status
                    self._notify("blockchain.scripthash.subscribe", [scripthash, status])

    # --- Methods: names and parameters are the protocol's ---------------------------------------------------------

    async def version(self, *_: Any, **__: Any) -> list[str]:
        """server.version."""
        return [SOFTWARE, PROTOCOL]

    async def features(self) -> dict[str, Any]:
        """server.features."""
        genesis = await self._chain.ask(lambda chain: display(_block(chain, 0).block_hash))
        return {
            "genesis_hash": genesis,
            "hosts": {},
            "protocol_min": PROTOCOL,
            "protocol_max": PROTOCOL,
            "server_version": SOFTWARE,
            "hash_function": "sha256",
            "pruning": None,
        }

    async def nothing(self) -> None:
        """server.ping."""

    async def empty(self) -> list[Any]:
        """server.peers.subscribe, mempool.get_fee_histogram."""
        return []

    async def text(self) -> str:
        """server.banner, server.donation_address."""
        return ""

    async def header(self, height: int, cp_height: int = 0) -> str:
        """blockchain.block.header."""
        if cp_height:
            raise ElectrumError(_BAD_REQUEST, "no checkpoints here")
        return await self._chain.ask(lambda chain: _block(chain, height).header.hex())

    async def headers(self, start_height: int, count: int, cp_height: int = 0) -> dict[str, Any]:
        """blockchain.block.headers."""
        if cp_height or count < 0:
            raise ElectrumError(_BAD_REQUEST, "no checkpoints here")

        def found(chain: Regtest) -> dict[str, Any]:
            last = min(start_height + min(count, MAX_HEADERS), chain.tip.height + 1)
            headers = [_block(chain, height).header.hex() for height in range(start_height, last)]
            return {"count": len(headers), "hex": "".join(headers), "max": MAX_HEADERS}

        return await self._chain.ask(found)

    async def subscribe_headers(self) -> dict[str, Any]:
        """blockchain.headers.subscribe."""
        self._wants_headers = True
        self._tip = (await self._chain.tip()).block_hash
        return await self._chain.ask(_tip_header)

    async def estimate_fee(self, number: int, mode: str = "") -> float:
        """blockchain.estimatefee: BTC per 1,000 bytes."""
        del number, mode
        return float(await self._chain.fee_rate_sat_vb()) * 1_000 / 100_000_000

    async def relay_fee(self) -> float:
        """blockchain.relayfee: BTC per 1,000 bytes."""
        return 0.00001

    async def balance(self, scripthash: str) -> dict[str, int]:
        """blockchain.scripthash.get_balance."""
        unspent = await self.unspent(scripthash)
        confirmed = sum(one["value"] for one in unspent if one["height"])
        return {"confirmed": confirmed, "unconfirmed": sum(one["value"] for one in unspent) - confirmed}

    async def history(self, scripthash: str) -> list[dict[str, Any]]:
        """blockchain.scripthash.get_history."""
        return await self._chain.ask(lambda chain: _history(chain, scripthash))

    async def mempool(self, scripthash: str) -> list[dict[str, Any]]:
        """blockchain.scripthash.get_mempool."""
        return [one for one in await self.history(scripthash) if one["height"] <= 0]

    async def unspent(self, scripthash: str) -> list[dict[str, Any]]:
        """blockchain.scripthash.listunspent."""
        return await self._chain.ask(lambda chain: _unspent(chain, scripthash))

    async def subscribe(self, scripthash: str) -> str | None:
        """blockchain.scripthash.subscribe."""
        self._told[scripthash] = await self._chain.ask(lambda chain: _status(chain, scripthash))
        return self._told[scripthash]

    async def unsubscribe(self, scripthash: str) -> bool:
        """blockchain.scripthash.unsubscribe."""
        return self._told.pop(scripthash, False) is not False

    async def broadcast(self, raw_tx: str) -> str:
        """blockchain.transaction.broadcast."""
        raw = bytes.fromhex(raw_tx)
        try:
            refused = await self._chain.broadcast(raw)
        except MalformedError as error:
            raise ElectrumError(_BAD_REQUEST, f"{_RPC_ERROR}TX decode failed") from error
        if refused is not None:
            raise ElectrumError(_BAD_REQUEST, f"{_RPC_ERROR}{refused.code}")
        return display(parse_transaction(raw).txid)

    async def transaction(self, tx_hash: str, verbose: bool = False) -> str:
        """blockchain.transaction.get."""
        if verbose:
            raise ElectrumError(_BAD_REQUEST, "no verbose transactions here")
        known = await self._chain.ask(lambda chain: chain.find(_wire(tx_hash)))
        if known is None:
            raise ElectrumError(_BAD_REQUEST, "No such mempool or blockchain transaction")
        return known[0].serialize().hex()

    async def merkle(self, tx_hash: str, height: int) -> dict[str, Any]:
        """blockchain.transaction.get_merkle."""

        def found(chain: Regtest) -> dict[str, Any]:
            txids = [one.txid for one in _block(chain, height).transactions]
            if _wire(tx_hash) not in txids:
                raise ElectrumError(_BAD_REQUEST, "tx not in block at height")
            position = txids.index(_wire(tx_hash))
            branch = [display(one) for one in merkle_branch(txids, position)]
            return {"block_height": height, "merkle": branch, "pos": position}

        return await self._chain.ask(found)

    async def id_from_position(self, height: int, tx_pos: int, merkle: bool = False) -> str:
        """blockchain.transaction.id_from_pos."""
        if merkle:
            raise ElectrumError(_BAD_REQUEST, "no proofs by position here")
        block = await self._chain.ask(lambda chain: _block(chain, height))
        return display(block.transactions[tx_pos].txid)


def _block(chain: Regtest, height: int) -> Any:
    block = chain.block_at(height)
    if block is None:
        raise ElectrumError(_BAD_REQUEST, f"height {height} out of range")
    return block


def _tip_header(chain: Regtest) -> dict[str, Any]:
    height = chain.tip.height
    return {"height": height, "hex": _block(chain, height).header.hex()}


def _history(chain: Regtest, scripthash: str) -> list[dict[str, Any]]:
    """Return what touches a script, as the status hash takes it: confirmed in order of the chain, then waiting."""
    script = chain.script_named(_wire(scripthash))
    if script is None:
        return []
    found: list[dict[str, Any]] = [
        {"tx_hash": display(txid), "height": height} for txid, height in chain.history(script)
    ]
    for entry in chain.waiting():
        spent = [chain.output(txin.outpoint) for txin in entry.transaction.inputs]
        if any(output is not None and output.script == script for output in (*spent, *entry.transaction.outputs)):
            parents = [chain.find(txin.outpoint.txid) for txin in entry.transaction.inputs]
            height = -1 if any(parent is not None and parent[1] is None for parent in parents) else 0
            found.append({"tx_hash": display(entry.txid), "height": height, "fee": entry.fee_sats})
    return found


def _unspent(chain: Regtest, scripthash: str) -> list[dict[str, Any]]:
    script = chain.script_named(_wire(scripthash))
    found = []
    for one in _history(chain, scripthash):
        txid = _wire(one["tx_hash"])
        known = chain.find(txid)
        for vout, output in enumerate(() if known is None else known[0].outputs):
            if output.script == script and chain.spender(OutPoint(txid, vout)) is None:
                height = max(0, one["height"])
                found.append({"tx_hash": one["tx_hash"], "tx_pos": vout, "height": height, "value": int(output.amount)})
    return found


def _status(chain: Regtest, scripthash: str) -> str | None:
    """Return the hash of a script's history (protocol documentation, "Script Hashes"), None where it is empty."""
    history = _history(chain, scripthash)
    if not history:
        return None
    text = "".join(f"{one['tx_hash']}:{one['height']}:" for one in history)
    return hashlib.sha256(text.encode()).hexdigest()


def _wire(text: str) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != 32:
        raise ElectrumError(_BAD_REQUEST, "expected 32 bytes of hex")
    return found[::-1]


_METHODS: dict[str, Method] = {
    "server.version": _Connection.version,
    "server.features": _Connection.features,
    "server.ping": _Connection.nothing,
    "server.banner": _Connection.text,
    "server.donation_address": _Connection.text,
    "server.peers.subscribe": _Connection.empty,
    "mempool.get_fee_histogram": _Connection.empty,
    "blockchain.block.header": _Connection.header,
    "blockchain.block.headers": _Connection.headers,
    "blockchain.headers.subscribe": _Connection.subscribe_headers,
    "blockchain.estimatefee": _Connection.estimate_fee,
    "blockchain.relayfee": _Connection.relay_fee,
    "blockchain.scripthash.get_balance": _Connection.balance,
    "blockchain.scripthash.get_history": _Connection.history,
    "blockchain.scripthash.get_mempool": _Connection.mempool,
    "blockchain.scripthash.listunspent": _Connection.unspent,
    "blockchain.scripthash.subscribe": _Connection.subscribe,
    "blockchain.scripthash.unsubscribe": _Connection.unsubscribe,
    "blockchain.transaction.broadcast": _Connection.broadcast,
    "blockchain.transaction.get": _Connection.transaction,
    "blockchain.transaction.get_merkle": _Connection.merkle,
    "blockchain.transaction.id_from_pos": _Connection.id_from_position,
}
