"""A `Source` over Bitcoin Core's JSON-RPC, with a watch-only descriptor wallet: the backend of those who run a node.

Reference: the help texts of Bitcoin Core 30. A pruned node is enough: the wallet keeps the transactions that pay or
spend what it watches. It watches `raw(SCRIPT)` descriptors, imported as they are first asked for.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Sequence
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any

from coordinator.chain.answers import warily, wire
from coordinator.chain.http_source import Answer, HttpSource
from coordinator.chain.outside import Place, RawBlock, Unspent
from coordinator.chain.port import Tip
from coordinator.chain.rejections import rejection
from custody.errors import Refused, UnavailableError
from custody.transaction import OutPoint, parse_transaction
from custody.units import SATS_PER_BTC
from custody.wallet import descriptor_checksum

MAX_COOKIE_BYTES = 256
IMPORT_BATCH = 500  # scripts per call: a call that rescans holds the wallet's lock
_NOT_FOUND, _NO_WALLET, _WALLET_THERE, _WALLET_LOADED = -5, -18, -4, -35
_MISC, _NO_SUCH_HEIGHT = -1, -8
_TX_ERRORS = frozenset((-22, -25, -26, -27))
_TARGET_BLOCKS = 2
_warily = warily("Core's")


class CoreError(UnavailableError):
    """Core answered with an error of its own. number: as Core counts them."""

    def __init__(self, number: int, words: str) -> None:
        super().__init__("CHAIN_RPC", f"expected a result, found error {number}: {words[:200]}")
        self.number, self.words = number, words


class CoreSource:
    """Implements `Source`.

    Args:
        http: the node's RPC address.
        credentials: called before each call, since a node writes a new cookie at each start: `user:password`.
        wallet: name of the watch-only wallet, made when missing.
        born_at: UTC seconds from when on the chain is searched for what is imported; 0 for all of it.
    """

    def __init__(self, http: HttpSource, credentials: Callable[[], str], wallet: str, born_at: int = 0) -> None:
        self._http, self._credentials, self._wallet, self._born_at = http, credentials, wallet, born_at
        self._ids = itertools.count(1)
        self._is_open = False
        self._watched: set[bytes] = set()
        self._spenders: dict[OutPoint, bytes] = {}
        self._seen_block = ""

    async def close(self) -> None:
        """See `Source.close`."""
        await self._http.close()

    @_warily
    async def genesis_hash(self) -> str:
        """See `Source.genesis_hash`."""
        return str(await self._call("getblockhash", [0]))

    @_warily
    async def tip(self) -> Tip:
        """See `Source.tip`."""
        info = await self._call("getblockchaininfo", [])
        return Tip(int(info["blocks"]), wire(info["bestblockhash"]), int(info["mediantime"]))

    @_warily
    async def lag_blocks(self) -> int | None:
        """See `Source.lag_blocks`."""
        info = await self._call("getblockchaininfo", [])
        return max(0, int(info["headers"]) - int(info["blocks"]))

    @_warily
    async def unspent(self, scripts: Sequence[bytes]) -> tuple[Unspent, ...]:
        """See `Source.unspent`."""
        await self._watch(scripts)
        height = int(await self._call("getblockcount", []))
        found = await self._of_wallet("listunspent", [0])

        def read(one: Any) -> Unspent:
            depth = int(one["confirmations"])
            sats = int(one["amount"] * SATS_PER_BTC)
            outpoint = OutPoint(wire(one["txid"]), int(one["vout"]))
            return Unspent(outpoint, sats, bytes.fromhex(one["scriptPubKey"]), height - depth + 1 if depth > 0 else 0)

        return tuple(read(one) for one in found)

    @_warily
    async def transaction(self, txid: bytes) -> bytes | None:
        """See `Source.transaction`."""
        shown = txid[::-1].hex()
        found = await self._wallet_transaction(shown)
        if found is None:
            raw = await self._call_or_none("getrawtransaction", [shown])
            return None if raw is None else bytes.fromhex(raw)
        return bytes.fromhex(found["hex"])

    @_warily
    async def place(self, txid: bytes) -> Place | None:
        """See `Source.place`. A transaction that conflicts with the chain is known to the wallet and nowhere else."""
        shown = txid[::-1].hex()
        found = await self._wallet_transaction(shown)
        if found is None:
            found = await self._call_or_none("getrawtransaction", [shown, 1])
            if found is not None and found.get("confirmations") and "blockheight" not in found:
                header = await self._call("getblockheader", [found["blockhash"]])
                found["blockheight"] = header["height"]
        if found is None:
            return None
        if int(found.get("confirmations", 0)) > 0:
            return Place(txid, int(found["blockheight"]))
        waits = await self._call_or_none("getmempoolentry", [shown])
        return None if waits is None else Place(txid, None)

    @_warily
    async def spender(self, outpoint: OutPoint) -> Place | None:
        """See `Source.spender`. Known for coins that the wallet watches, and for what waits in the mempool."""
        named = {"txid": outpoint.txid[::-1].hex(), "vout": outpoint.vout}
        (found,) = await self._call("gettxspendingprevout", [[named]])
        if "spendingtxid" in found:
            return Place(wire(found["spendingtxid"]), None)
        if await self._call("gettxout", [named["txid"], outpoint.vout, False]) is not None:
            return None
        await self._look_for_spenders()
        spender = self._spenders.get(outpoint)
        return None if spender is None else await self.place(spender)

    @_warily
    async def block(self, height: int) -> RawBlock | None:
        """See `Source.block`. Of what a pruned node has thrown away, its header."""
        try:
            name = str(await self._call("getblockhash", [height]))
        except CoreError as error:
            if error.number == _NO_SUCH_HEIGHT:
                return None
            raise
        said = await self._call("getblockheader", [name, False])
        header = bytes.fromhex(said)
        try:
            whole = await self._call("getblock", [name, 0])
        except CoreError as error:
            if error.number == _MISC:  # "Block not available (pruned data)"
                return RawBlock(header, None)
            raise
        return RawBlock(header, bytes.fromhex(whole))

    @_warily
    async def history(self, scripts: Sequence[bytes]) -> tuple[Place, ...]:
        """See `Source.history`: what the wallet has, of all scripts that it watches."""
        await self._watch(scripts)
        found = await self._of_wallet("listsinceblock", [])

        def read(one: Any) -> tuple[bytes, int | None]:
            depth = int(one["confirmations"])
            return wire(one["txid"]), int(one["blockheight"]) if depth > 0 else None if depth == 0 else -1

        heights = dict(read(one) for one in found["transactions"])
        placed = [Place(txid, height) for txid, height in heights.items() if height is not None and height >= 0]
        waits = [await self.place(txid) for txid, height in heights.items() if height is None]
        return (*placed, *(place for place in waits if place is not None))

    @_warily
    async def send(self, raw: bytes) -> Refused | None:
        """See `Source.send`."""
        try:
            await self._call("sendrawtransaction", [raw.hex()])
        except CoreError as error:
            if error.number in _TX_ERRORS:
                return rejection(error.words)
            raise
        return None

    @_warily
    async def fee_rate_sat_vb(self) -> int:
        """See `Source.fee_rate_sat_vb`. A node that has seen too little to estimate says 1."""
        found = await self._call("estimatesmartfee", [_TARGET_BLOCKS])
        rate = found.get("feerate")
        per_kvb = Decimal(0) if rate is None else Decimal(rate) * SATS_PER_BTC
        return max(1, int((per_kvb / 1_000).to_integral_value(ROUND_CEILING)))

    async def _watch(self, scripts: Sequence[bytes]) -> None:
        """Have the wallet watch `scripts`, each imported once."""
        await self._open()
        new = [script for script in dict.fromkeys(scripts) if script not in self._watched]
        for at in range(0, len(new), IMPORT_BATCH):
            batch = new[at : at + IMPORT_BATCH]
            requests = [{"desc": _raw_descriptor(script), "timestamp": self._born_at} for script in batch]
            answers = await self._of_wallet("importdescriptors", [requests])
            if not all(one["success"] for one in answers):
                raise UnavailableError("CHAIN_IMPORT", "expected Core to watch every script")
            self._watched.update(batch)
            self._seen_block = ""

    async def _open(self) -> None:
        """Load the wallet, or make it; it never holds a private key."""
        if self._is_open:
            return
        if self._wallet not in await self._call("listwallets", []):
            try:
                await self._call("loadwallet", [self._wallet])
            except CoreError as error:
                if error.number not in (_NO_WALLET, _WALLET_LOADED, _WALLET_THERE):
                    raise
                if error.number == _NO_WALLET:
                    # name, disable_private_keys, blank, passphrase, avoid_reuse, descriptors
                    await self._call("createwallet", [self._wallet, True, True, "", False, True])
        self._is_open = True

    async def _look_for_spenders(self) -> None:
        """Note what the wallet's transactions spend, those that are new since the last look."""
        await self._open()
        found = await self._of_wallet("listsinceblock", [self._seen_block] if self._seen_block else [])
        for shown in {str(one["txid"]) for one in found["transactions"]}:
            known = await self._wallet_transaction(shown)
            if known is None:
                continue
            transaction = parse_transaction(bytes.fromhex(known["hex"]))
            if int(known.get("confirmations", 0)) > 0:
                for txin in transaction.inputs:
                    self._spenders[txin.outpoint] = transaction.txid
        self._seen_block = str(found["lastblock"]) if not found.get("removed") else ""

    async def _wallet_transaction(self, txid: str) -> Any:
        await self._open()
        return await self._call_or_none("gettransaction", [txid], wallet=True)

    async def _of_wallet(self, method: str, given: list[Any]) -> Any:
        return await self._call(method, given, wallet=True)

    async def _call_or_none(self, method: str, given: list[Any], *, wallet: bool = False) -> Any:
        try:
            return await self._call(method, given, wallet=wallet)
        except CoreError as error:
            if error.number == _NOT_FOUND:
                return None
            raise

    async def _call(self, method: str, given: list[Any], *, wallet: bool = False) -> Any:
        asked = json.dumps({"jsonrpc": "1.0", "id": next(self._ids), "method": method, "params": given})
        authorization = "Basic " + base64.b64encode(self._credentials().encode()).decode()
        headers = {"authorization": authorization, "content-type": "application/json"}
        answer = await self._http.post(f"/wallet/{self._wallet}" if wallet else "/", asked.encode(), headers)
        return _result(answer)


def cookie_of(path: Path) -> Callable[[], str]:
    """Return what reads a node's cookie file (0600) anew; it changes when the node starts."""

    def read() -> str:
        try:
            with path.open("rb") as file:
                return file.read(MAX_COOKIE_BYTES).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UnavailableError("CHAIN_COOKIE", f"expected Core's cookie in {path.name}") from error

    return read


def _result(answer: Answer) -> Any:
    """Return the result of a call; amounts as Decimal, which no amount is too exact for."""
    if answer.status == 401:
        raise UnavailableError("CHAIN_CREDENTIALS", "expected Core to know these credentials")
    try:
        found = json.loads(answer.body, parse_float=Decimal)
        error, result = found["error"], found["result"]
    except (ValueError, RecursionError, KeyError, TypeError) as failure:
        raise UnavailableError("CHAIN_ANSWER", "expected JSON-RPC") from failure
    if error is not None:
        raise CoreError(int(error["code"]), str(error["message"]))
    return result


def _raw_descriptor(script: bytes) -> str:
    body = f"raw({script.hex()})"
    return f"{body}#{descriptor_checksum(body)}"
