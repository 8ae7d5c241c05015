"""Part of Bitcoin Core's JSON-RPC over the embedded chain: blocks, transactions, and watch-only descriptor wallets.

Reference: the help texts of Bitcoin Core 30. Amounts are BTC, hashes in display order. Wallets live in memory and know
the descriptors `raw(HEX)` and `addr(ADDRESS)`.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

from coordinator.chain.answers import display
from coordinator.chain.embedded import EmbeddedChain
from coordinator.chain.regtest import Regtest
from coordinator.chain.serving.core_answers import (
    CONFIRMED,
    MISC,
    NOT_FOUND,
    PARAMETER,
    REJECTED,
    RpcError,
    block_of,
    btc,
    decoded,
    described,
    header_json,
    place_json,
    since_json,
    unspent_json,
    wallet_json,
    wire,
    would_take,
)
from coordinator.chain.serving.http import HttpAnswer, HttpRequest
from custody.errors import CustodyError
from custody.transaction import OutPoint

VERSION = 300_000  # what getnetworkinfo says: clients choose calls by it
_METHOD, _NO_WALLET, _WALLET_THERE = -32601, -18, -4
# what Core calls the refusals that clients act on
_REASONS = {
    "TX_INPUT_MISSING": (-25, "bad-txns-inputs-missingorspent"),
    "TX_CONFLICT": (REJECTED, "txn-mempool-conflict"),
    "TX_REPLACEMENT_FEE": (REJECTED, "insufficient fee"),
    "TX_IMMATURE": (REJECTED, "bad-txns-premature-spend-of-coinbase"),
    "TX_CONSENSUS": (REJECTED, "mempool-script-verify-flag-failed"),
    "TX_DUST": (REJECTED, "dust"),
    "TX_FEE_RATE": (REJECTED, "min relay fee not met"),
}
Method = Callable[..., Awaitable[Any]]


class CoreServer:
    """Answers requests from one chain.

    Args:
        chain: what is served.
        credentials: `user:password`, as the cookie file has them.
    """

    def __init__(self, chain: EmbeddedChain, credentials: str) -> None:
        self._chain = chain
        self._authorization = "Basic " + base64.b64encode(credentials.encode()).decode()
        self._wallets: dict[str, dict[bytes, None]] = {}

    async def answer(self, request: HttpRequest) -> HttpAnswer:
        """Return the answer to one request, which may be a batch."""
        if not hmac.compare_digest(request.headers.get("authorization", ""), self._authorization):
            return HttpAnswer(401, b"", headers={"www-authenticate": 'Basic realm="jsonrpc"'})
        name = request.path.removeprefix("/wallet/") if request.path.startswith("/wallet/") else None
        try:
            asked = json.loads(request.body)
        except ValueError:
            return HttpAnswer(500, json.dumps(_answer(None, None, RpcError(-32700, "Parse error"))).encode())
        if isinstance(asked, list):
            found: Any = [await self._call(one, name) for one in asked]
            return HttpAnswer(200, json.dumps(found).encode(), "application/json")
        found = await self._call(asked, name)
        status = 200 if found["error"] is None else 404 if found["error"]["code"] == _METHOD else 500
        return HttpAnswer(status, json.dumps(found).encode(), "application/json")

    async def _call(self, one: Any, wallet: str | None) -> dict[str, Any]:
        name = str(one.get("method"))
        given = one.get("params") or []
        identity = one.get("id")
        try:
            if name in _WALLET_METHODS:
                scripts = self._scripts(wallet)
                method = _WALLET_METHODS[name]
                result = await (
                    method(self, scripts, **given) if isinstance(given, dict) else method(self, scripts, *given)
                )
            elif name in _METHODS:
                plain = _METHODS[name]
                result = await (plain(self, **given) if isinstance(given, dict) else plain(self, *given))
            else:
                raise RpcError(_METHOD, "Method not found")
        except RpcError as error:
            return _answer(identity, None, error)
        except (TypeError, ValueError) as error:
            return _answer(identity, None, RpcError(MISC, f"bad parameters: {type(error).__name__}"))
        return _answer(identity, result, None)

    def _scripts(self, wallet: str | None) -> dict[bytes, None]:
        if wallet is None and len(self._wallets) == 1:
            wallet = next(iter(self._wallets))
        if wallet is None or wallet not in self._wallets:
            raise RpcError(_NO_WALLET, "Requested wallet does not exist or is not loaded")
        return self._wallets[wallet]

    # --- The chain: names and parameters are Core's ---------------------------------------------------------------

    async def blockchain_info(self) -> dict[str, Any]:
        """Getblockchaininfo."""
        tip = await self._chain.tip()
        best = display(tip.block_hash)
        return {
            "chain": "regtest",
            "blocks": tip.height,
            "headers": tip.height,
            "bestblockhash": best,
            "mediantime": tip.median_time,
            "initialblockdownload": False,
            "verificationprogress": 1.0,
            "pruned": False,
        }

    async def network_info(self) -> dict[str, Any]:
        """Getnetworkinfo."""
        return {"version": VERSION, "subversion": "/Keyturn regtest/", "relayfee": 0.00001, "incrementalfee": 0.00001}

    async def block_count(self) -> int:
        """Getblockcount."""
        return await self._chain.height()

    async def best_hash(self) -> str:
        """Getbestblockhash."""
        return display((await self._chain.tip()).block_hash)

    async def block_hash(self, height: int) -> str:
        """Getblockhash."""
        block = await self._chain.ask(lambda chain: chain.block_at(height))
        if block is None:
            raise RpcError(PARAMETER, "Block height out of range")
        return display(block.block_hash)

    async def block_header(self, blockhash: str, verbose: bool = True) -> Any:
        """Getblockheader."""
        return await self._chain.ask(lambda chain: header_json(chain, block_of(chain, blockhash), verbose))

    async def block(self, blockhash: str, verbosity: int = 1) -> Any:
        """getblock, with verbosity 0 or 1."""
        if verbosity not in (0, 1):
            raise RpcError(PARAMETER, "verbosity 0 and 1 only here")

        def found(chain: Regtest) -> Any:
            block = block_of(chain, blockhash)
            if verbosity == 0:
                return block.serialize().hex()
            return {**header_json(chain, block, True), "tx": [display(one.txid) for one in block.transactions]}

        return await self._chain.ask(found)

    async def raw_transaction(self, txid: str, verbose: int = 0, blockhash: str | None = None) -> Any:
        """getrawtransaction; the index of all transactions is there."""
        del blockhash

        def found(chain: Regtest) -> Any:
            known = chain.find(wire(txid))
            if known is None:
                raise RpcError(NOT_FOUND, "No such mempool or blockchain transaction")
            raw = known[0].serialize().hex()
            return {"hex": raw, "txid": txid, **place_json(chain, known[1])} if verbose else raw

        return await self._chain.ask(found)

    async def mempool(self) -> list[str]:
        """Getrawmempool."""
        return await self._chain.ask(lambda chain: [display(one.txid) for one in chain.waiting()])

    async def mempool_entry(self, txid: str) -> dict[str, Any]:
        """Getmempoolentry."""

        def found(chain: Regtest) -> dict[str, Any]:
            for one in chain.waiting():
                if one.txid == wire(txid):
                    return {"vsize": one.vsize_vb, "fees": {"base": btc(one.fee_sats)}}
            raise RpcError(NOT_FOUND, "Transaction not in mempool")

        return await self._chain.ask(found)

    async def spending(self, outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Gettxspendingprevout."""

        def found(chain: Regtest) -> list[dict[str, Any]]:
            answers = []
            for one in outputs:
                spender = chain.spender(OutPoint(wire(one["txid"]), one["vout"]))
                waits = spender is not None and spender[1] is None
                answers.append({**one, "spendingtxid": display(spender[0])} if spender and waits else one)
            return answers

        return await self._chain.ask(found)

    async def tx_out(self, txid: str, n: int, include_mempool: bool = True) -> Any:
        """Gettxout."""

        def found(chain: Regtest) -> Any:
            outpoint = OutPoint(wire(txid), n)
            output, spender, known = chain.output(outpoint), chain.spender(outpoint), chain.find(outpoint.txid)
            waits = known is not None and known[1] is None
            spent = spender is not None and (spender[1] is not None or include_mempool)
            if output is None or known is None or spent or (waits and not include_mempool):
                return None
            confirmations = 0 if known[1] is None else chain.tip.height - known[1] + 1
            return {
                "bestblock": display(chain.tip.block_hash),
                "confirmations": confirmations,
                "value": btc(output.amount),
                "scriptPubKey": {"hex": output.script.hex()},
                "coinbase": known[0].inputs[0].outpoint.txid == bytes(32),
            }

        return await self._chain.ask(found)

    async def estimate(self, conf_target: int, estimate_mode: str = "economical") -> dict[str, Any]:
        """Estimatesmartfee."""
        del estimate_mode
        return {"feerate": btc(int(await self._chain.fee_rate_sat_vb()) * 1_000), "blocks": conf_target}

    async def send(self, hexstring: str, maxfeerate: float = 0.1) -> str:
        """Sendrawtransaction."""
        del maxfeerate
        raw, transaction = decoded(hexstring)
        known = await self._chain.ask(lambda chain: chain.find(transaction.txid))
        if known is not None and known[1] is not None:
            raise RpcError(CONFIRMED, "Transaction outputs already in utxo set")
        refused = await self._chain.broadcast(raw)
        if refused is not None:
            raise RpcError(*_REASONS.get(refused.code, (REJECTED, refused.code)))
        return display(transaction.txid)

    async def test_accept(self, rawtxs: list[str], maxfeerate: float = 0.1) -> list[dict[str, Any]]:
        """testmempoolaccept, of one transaction."""
        del maxfeerate
        raw, transaction = decoded(rawtxs[0])
        refused = await self._chain.ask(lambda chain: would_take(chain, raw, transaction))
        answer: dict[str, Any] = {"txid": display(transaction.txid), "allowed": refused is None}
        return [answer if refused is None else {**answer, "reject-reason": refused.code}]

    # --- Wallets ----------------------------------------------------------------------------------------------------

    async def create_wallet(self, wallet_name: str, *_: Any, **__: Any) -> dict[str, str]:
        """createwallet: watch-only, whatever was asked."""
        if wallet_name in self._wallets:
            raise RpcError(_WALLET_THERE, "Wallet file verification failed. Database already exists.")
        self._wallets[wallet_name] = {}
        return {"name": wallet_name}

    async def load_wallet(self, filename: str, *_: Any, **__: Any) -> dict[str, str]:
        """Loadwallet."""
        if filename not in self._wallets:
            raise RpcError(_NO_WALLET, "Wallet file verification failed. Path does not exist.")
        raise RpcError(-35, f'Wallet "{filename}" is already loaded.')

    async def wallets(self) -> list[str]:
        """Listwallets."""
        return list(self._wallets)

    async def import_descriptors(
        self, scripts: dict[bytes, None], requests: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Importdescriptors."""
        answers: list[dict[str, Any]] = []
        for one in requests:
            try:
                scripts[described(str(one.get("desc")))] = None
                answers.append({"success": True})
            except (CustodyError, ValueError):
                answers.append({"success": False, "error": {"code": NOT_FOUND, "message": "invalid descriptor"}})
        return answers

    async def list_unspent(
        self, scripts: dict[bytes, None], minconf: int = 1, maxconf: int = 9_999_999, *_: Any, **__: Any
    ) -> list[dict[str, Any]]:
        """Listunspent."""
        found = await self._chain.ask(lambda chain: unspent_json(chain, tuple(scripts)))
        return [one for one in found if minconf <= one["confirmations"] <= maxconf]

    async def wallet_transaction(self, scripts: dict[bytes, None], txid: str, *_: Any, **__: Any) -> dict[str, Any]:
        """Gettransaction."""
        known = await self._chain.ask(lambda chain: wallet_json(chain, set(scripts), wire(txid)))
        if known is None:
            raise RpcError(NOT_FOUND, "Invalid or non-wallet transaction id")
        return known

    async def since_block(self, scripts: dict[bytes, None], blockhash: str = "", *_: Any, **__: Any) -> dict[str, Any]:
        """Listsinceblock."""
        return await self._chain.ask(lambda chain: since_json(chain, tuple(scripts), blockhash))


def _answer(identity: Any, result: Any, error: RpcError | None) -> dict[str, Any]:
    said = None if error is None else {"code": error.code, "message": error.message}
    return {"result": result, "error": said, "id": identity}


_METHODS: dict[str, Method] = {
    "getblockchaininfo": CoreServer.blockchain_info,
    "getnetworkinfo": CoreServer.network_info,
    "getblockcount": CoreServer.block_count,
    "getbestblockhash": CoreServer.best_hash,
    "getblockhash": CoreServer.block_hash,
    "getblockheader": CoreServer.block_header,
    "getblock": CoreServer.block,
    "getrawtransaction": CoreServer.raw_transaction,
    "getrawmempool": CoreServer.mempool,
    "getmempoolentry": CoreServer.mempool_entry,
    "gettxspendingprevout": CoreServer.spending,
    "gettxout": CoreServer.tx_out,
    "estimatesmartfee": CoreServer.estimate,
    "sendrawtransaction": CoreServer.send,
    "testmempoolaccept": CoreServer.test_accept,
    "createwallet": CoreServer.create_wallet,
    "loadwallet": CoreServer.load_wallet,
    "listwallets": CoreServer.wallets,
}
_WALLET_METHODS: dict[str, Method] = {
    "importdescriptors": CoreServer.import_descriptors,
    "listunspent": CoreServer.list_unspent,
    "gettransaction": CoreServer.wallet_transaction,
    "listsinceblock": CoreServer.since_block,
}
