"""A `Source` over Esplora's REST interface: blockstream.info, mempool.space, or a server of one's own.

Reference: API.md of the Esplora project. A script is named by its SHA-256, so the server learns which coins are ours:
a server of one's own, or Tor.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from coordinator.chain.answers import warily, wire
from coordinator.chain.http_source import Answer, HttpSource
from coordinator.chain.outside import Place, RawBlock, Unspent
from coordinator.chain.port import Tip
from coordinator.chain.rejections import rejection
from custody.errors import Refused, UnavailableError
from custody.transaction import OutPoint

HEADER_BYTES = 80
PAGE = 25  # confirmed transactions in one answer (API.md)
MAX_TRANSACTIONS = 10_000  # of one script: whoever spams an address slows down its own server first
_FOUND, _MISSING, _REFUSED = 200, 404, 400
_TARGET = "2"  # blocks: what should confirm soon
_warily = warily("Esplora's")


class EsploraSource:
    """Implements `Source`. Args: http: the server's root, `https://host/api`."""

    def __init__(self, http: HttpSource) -> None:
        self._http = http

    async def close(self) -> None:
        """See `Source.close`."""
        await self._http.close()

    @_warily
    async def genesis_hash(self) -> str:
        """See `Source.genesis_hash`."""
        return _found(await self._http.get("/block-height/0")).text

    @_warily
    async def tip(self) -> Tip:
        """See `Source.tip`."""
        block_hash = _found(await self._http.get("/blocks/tip/hash")).text
        block = _json(await self._http.get(f"/block/{block_hash}"))
        return Tip(int(block["height"]), wire(block_hash), int(block["mediantime"]))

    async def lag_blocks(self) -> int | None:
        """See `Source.lag_blocks`: no word for it in this interface."""
        return None

    @_warily
    async def unspent(self, scripts: Sequence[bytes]) -> tuple[Unspent, ...]:
        """See `Source.unspent`."""
        pages = await asyncio.gather(*(self._unspent(script) for script in scripts))
        return tuple(one for page in pages for one in page)

    async def _unspent(self, script: bytes) -> list[Unspent]:
        name = hashlib.sha256(script).hexdigest()
        found = _json(await self._http.get(f"/scripthash/{name}/utxo"))

        def read(one: Any) -> Unspent:
            height = int(one["status"]["block_height"]) if one["status"]["confirmed"] else 0
            return Unspent(OutPoint(wire(one["txid"]), int(one["vout"])), int(one["value"]), script, height)

        return [read(one) for one in found]

    @_warily
    async def transaction(self, txid: bytes) -> bytes | None:
        """See `Source.transaction`."""
        answer = await self._http.get(f"/tx/{txid[::-1].hex()}/raw")
        return None if answer.status == _MISSING else _found(answer).body

    @_warily
    async def place(self, txid: bytes) -> Place | None:
        """See `Source.place`."""
        answer = await self._http.get(f"/tx/{txid[::-1].hex()}/status")
        if answer.status == _MISSING:
            return None
        status = _json(answer)
        return Place(txid, int(status["block_height"]) if status["confirmed"] else None)

    @_warily
    async def spender(self, outpoint: OutPoint) -> Place | None:
        """See `Source.spender`."""
        answer = await self._http.get(f"/tx/{outpoint.txid[::-1].hex()}/outspend/{outpoint.vout}")
        if answer.status == _MISSING:
            return None
        found = _json(answer)
        if not found.get("spent"):
            return None
        status = found["status"]
        height = int(status["block_height"]) if status["confirmed"] else None
        return Place(wire(found["txid"]), height)

    @_warily
    async def block(self, height: int) -> RawBlock | None:
        """See `Source.block`."""
        answer = await self._http.get(f"/block-height/{height}")
        if answer.status == _MISSING:
            return None
        name = _found(answer).text
        raw = _found(await self._http.get(f"/block/{wire(name)[::-1].hex()}/raw")).body
        return RawBlock(raw[:HEADER_BYTES], raw)

    @_warily
    async def history(self, scripts: Sequence[bytes]) -> tuple[Place, ...]:
        """See `Source.history`."""
        pages = await asyncio.gather(*(self._history(script) for script in scripts))
        return tuple(one for page in pages for one in page)

    async def _history(self, script: bytes) -> list[Place]:
        """Return the places of one script: what waits (at most 50 are told), then pages of the chain, newest first."""
        path = f"/scripthash/{hashlib.sha256(script).hexdigest()}/txs"

        def read(one: Any) -> Place:
            status = one["status"]
            return Place(wire(one["txid"]), int(status["block_height"]) if status["confirmed"] else None)

        async def page(at: str) -> list[Place]:
            said = _json(await self._http.get(path + at))
            return [read(one) for one in said]

        found, last = await page("/mempool"), await page("/chain")
        while last:
            found += last
            if len(found) > MAX_TRANSACTIONS:
                raise UnavailableError("CHAIN_ANSWER", f"expected at most {MAX_TRANSACTIONS} transactions of a script")
            last = await page(f"/chain/{last[-1].txid[::-1].hex()}") if len(last) >= PAGE else []
        return found

    @_warily
    async def send(self, raw: bytes) -> Refused | None:
        """See `Source.send`."""
        answer = await self._http.post("/tx", raw.hex().encode(), {"content-type": "text/plain"})
        if answer.status == _REFUSED:
            return rejection(answer.text)
        _found(answer)
        return None

    @_warily
    async def fee_rate_sat_vb(self) -> int:
        """See `Source.fee_rate_sat_vb`."""
        found = _json(await self._http.get("/fee-estimates"))
        return math.ceil(float(found.get(_TARGET, found.get("1", 1))))


def _found(answer: Answer) -> Answer:
    if answer.status != _FOUND:
        raise UnavailableError("CHAIN_ANSWER", f"expected an answer, found status {answer.status}")
    return answer


def _json(answer: Answer) -> Any:
    try:
        return json.loads(_found(answer).body)
    except (ValueError, RecursionError) as error:
        raise UnavailableError("CHAIN_ANSWER", "expected JSON") from error
