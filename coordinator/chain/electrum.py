"""A `Source` over Electrum's protocol (1.4): one connection, TLS, its certificate pinned when it is first seen.

Reference: the protocol's documentation. A script is named by its SHA-256, so the server learns which coins are ours: a
server of one's own, or Tor. What `place` says of a block is checked by the merkle path under the header that the server
gives; the header itself is believed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import math
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from python_socks import ProxyError
from python_socks.async_.asyncio import Proxy

from coordinator.chain.answers import warily, wire
from coordinator.chain.outside import Place, RawBlock, Unspent
from coordinator.chain.port import Tip
from coordinator.chain.rejections import rejection
from custody.errors import IntegrityError, MalformedError, Refused, UnavailableError
from custody.transaction import OutPoint, hash256, parse_transaction

TIMEOUT_S = 20.0
MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_TRANSACTIONS = 10_000  # of one script: whoever spams an address slows down its own server first
MEDIAN_SPAN = 11  # BIP-113
HEADER_BYTES = 80
_TARGET_BLOCKS = 2
_warily = warily("Electrum's")


@dataclass(frozen=True, slots=True)
class ElectrumPlace:
    """Where a server is. pin: file with the SHA-256 of its certificate, written at first contact; None without TLS.

    proxy: `socks5://host:port`, or "".
    """

    host: str
    port: int
    pin: Path | None
    proxy: str = ""


class ElectrumSource:
    """Implements `Source`. Opens its connection when it is asked something, and again when it was lost."""

    def __init__(self, place: ElectrumPlace, timeout_s: float = TIMEOUT_S) -> None:
        self._place, self._timeout_s = place, timeout_s
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """See `Source.close`."""
        self._drop(UnavailableError("CHAIN_CLOSED", "expected an open connection, found it closed"))

    @_warily
    async def genesis_hash(self) -> str:
        """See `Source.genesis_hash`."""
        found = await self._call("blockchain.block.header", [0])
        return hash256(bytes.fromhex(found))[::-1].hex()

    @_warily
    async def tip(self) -> Tip:
        """See `Source.tip`."""
        found = await self._call("blockchain.headers.subscribe", [])
        height = int(found["height"])
        first = max(0, height - MEDIAN_SPAN + 1)
        said = await self._call("blockchain.block.headers", [first, height - first + 1])
        raw = bytes.fromhex(said["hex"])
        headers = [raw[at : at + HEADER_BYTES] for at in range(0, len(raw), HEADER_BYTES)]
        if len(headers) != height - first + 1 or len(raw) % HEADER_BYTES:
            raise UnavailableError("CHAIN_ANSWER", "expected the headers that were asked for")
        times = sorted(int.from_bytes(header[68:72], "little") for header in headers)
        return Tip(height, hash256(headers[-1]), times[len(times) // 2])

    async def lag_blocks(self) -> int | None:
        """See `Source.lag_blocks`: no word for it in this interface."""
        return None

    @_warily
    async def unspent(self, scripts: Sequence[bytes]) -> tuple[Unspent, ...]:
        """See `Source.unspent`."""
        pages = await asyncio.gather(*(self._unspent(script) for script in scripts))
        return tuple(one for page in pages for one in page)

    async def _unspent(self, script: bytes) -> list[Unspent]:
        found = await self._call("blockchain.scripthash.listunspent", [_name(script)])

        def read(one: Any) -> Unspent:
            outpoint = OutPoint(wire(one["tx_hash"]), int(one["tx_pos"]))
            return Unspent(outpoint, int(one["value"]), script, max(0, int(one["height"])))

        return [read(one) for one in found]

    @_warily
    async def transaction(self, txid: bytes) -> bytes | None:
        """See `Source.transaction`."""
        try:
            found = await self._call("blockchain.transaction.get", [txid[::-1].hex()])
        except _ServerError:
            return None  # servers have no common word for a transaction that is not there
        return bytes.fromhex(found)

    @_warily
    async def place(self, txid: bytes) -> Place | None:
        """See `Source.place`. Found by the history of one of its outputs."""
        raw = await self.transaction(txid)
        if raw is None:
            return None
        transaction = parse_transaction(raw)
        script = next((output.script for output in transaction.outputs if output.script[:1] != b"\x6a"), b"")
        if transaction.txid != txid or not script:
            return None
        height = (await self._history(script)).get(txid)
        if height is None:
            return None
        if height > 0 and not await self._is_in_block(txid, height):
            raise UnavailableError("CHAIN_PROOF", f"expected a proof of {txid[::-1].hex()} in block {height}")
        return Place(txid, height if height > 0 else None)

    @_warily
    async def spender(self, outpoint: OutPoint) -> Place | None:
        """See `Source.spender`. Found in the history of the script that is spent."""
        raw = await self.transaction(outpoint.txid)
        outputs = () if raw is None else parse_transaction(raw).outputs
        if outpoint.vout >= len(outputs):
            return None
        for txid, height in (await self._history(outputs[outpoint.vout].script)).items():
            other = await self.transaction(txid)
            if other is not None and outpoint in _spent_by(other):
                return Place(txid, height if height > 0 else None)
        return None

    @_warily
    async def block(self, height: int) -> RawBlock | None:
        """See `Source.block`: its header, for this protocol has no blocks."""
        try:
            found = await self._call("blockchain.block.header", [height])
        except _ServerError:
            return None  # servers have no common word for a block that is not there
        header = bytes.fromhex(found)
        if len(header) != HEADER_BYTES:
            raise UnavailableError("CHAIN_ANSWER", "expected a header")
        return RawBlock(header, None)

    @_warily
    async def history(self, scripts: Sequence[bytes]) -> tuple[Place, ...]:
        """See `Source.history`."""
        pages = await asyncio.gather(*(self._history(script) for script in scripts))
        return tuple(Place(txid, height if height > 0 else None) for page in pages for txid, height in page.items())

    @_warily
    async def send(self, raw: bytes) -> Refused | None:
        """See `Source.send`."""
        try:
            await self._call("blockchain.transaction.broadcast", [raw.hex()])
        except _ServerError as error:
            return rejection(error.words)
        return None

    @_warily
    async def fee_rate_sat_vb(self) -> int:
        """See `Source.fee_rate_sat_vb`. A server that cannot estimate says -1."""
        found = await self._call("blockchain.estimatefee", [_TARGET_BLOCKS])
        return max(1, math.ceil(round(float(found) * 100_000, 6)))  # BTC per 1,000 bytes

    async def _history(self, script: bytes) -> dict[bytes, int]:
        """Return txid -> height of what touches `script`; 0 and -1 where it waits."""
        found = await self._call("blockchain.scripthash.get_history", [_name(script)])
        if not isinstance(found, list) or len(found) > MAX_TRANSACTIONS:
            raise UnavailableError("CHAIN_ANSWER", f"expected a history of at most {MAX_TRANSACTIONS} transactions")
        return {wire(one["tx_hash"]): int(one["height"]) for one in found}

    async def _is_in_block(self, txid: bytes, height: int) -> bool:
        """Return whether the server proves `txid` under the header at `height`.

        A path of one transaction of 64 bytes that stands for an inner node leads nowhere: its bytes are ours to hash.
        """
        proof = await self._call("blockchain.transaction.get_merkle", [txid[::-1].hex(), height])
        header = await self._call("blockchain.block.header", [height])

        position, node = int(proof["pos"]), txid
        for one in proof["merkle"]:
            pair = (wire(one), node) if position & 1 else (node, wire(one))
            node, position = hash256(b"".join(pair)), position >> 1
        return position == 0 and node == bytes.fromhex(header)[36:68]

    async def _call(self, method: str, given: list[Any]) -> Any:
        number = next(self._ids)
        try:
            async with asyncio.timeout(self._timeout_s):
                writer = await self._connected()
                answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                self._waiting[number] = answer
                asked = {"jsonrpc": "2.0", "id": number, "method": method, "params": given}
                writer.write(json.dumps(asked).encode() + b"\n")
                await writer.drain()
                return await answer
        except (OSError, TimeoutError, ProxyError) as error:
            raise UnavailableError("CHAIN_ELECTRUM", f"expected an answer, found {type(error).__name__}") from error
        finally:
            self._waiting.pop(number, None)

    async def _connected(self) -> asyncio.StreamWriter:
        async with self._opening:
            if self._writer is None or self._writer.is_closing():
                reader, self._writer = await _dial(self._place)
                self._reading = asyncio.create_task(self._read_on(reader))
            return self._writer

    async def _read_on(self, reader: asyncio.StreamReader) -> None:
        """Hand each answer to the call that waits for it, until the server is gone."""
        failure = UnavailableError("CHAIN_ELECTRUM", "expected a server, found the connection closed")
        try:
            while line := await reader.readline():
                said = json.loads(line)
                answer = self._waiting.get(int(said.get("id") or 0)) if isinstance(said, dict) else None
                if answer is None or answer.done():
                    continue  # a notification, or an answer nobody waits for any more
                error = said.get("error")
                if error is not None:
                    words = error.get("message") if isinstance(error, dict) else error
                    answer.set_exception(_ServerError(str(words)))
                else:
                    answer.set_result(said.get("result"))
        except (OSError, ValueError, TypeError, asyncio.LimitOverrunError, RecursionError):
            failure = UnavailableError("CHAIN_ANSWER", "expected JSON lines")
        self._drop(failure)

    def _drop(self, failure: UnavailableError) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(failure)
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._reading is not None and self._reading is not asyncio.current_task():
            self._reading.cancel()
        self._reading = None


class _ServerError(UnavailableError):
    """The server answered with an error of its own."""

    def __init__(self, words: str) -> None:
        super().__init__("CHAIN_ANSWER", f"expected a result, found: {words[:200]}")
        self.words = words


async def _dial(place: ElectrumPlace) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection, through the proxy where one is set, whose certificate is the pinned one."""
    context = None
    if place.pin is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # most are self-signed: the pin decides
    if place.proxy:
        sock = await Proxy.from_url(place.proxy, rdns=True).connect(place.host, place.port)
        name = place.host if context else None
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=context, server_hostname=name, limit=MAX_LINE_BYTES
        )
    else:
        reader, writer = await asyncio.open_connection(place.host, place.port, ssl=context, limit=MAX_LINE_BYTES)
    if place.pin is not None:
        tls = writer.get_extra_info("ssl_object")
        try:
            check_pin(place.pin, hashlib.sha256(tls.getpeercert(binary_form=True)).hexdigest())
        except BaseException:
            writer.close()
            raise
    return reader, writer


def check_pin(pin: Path, found: str) -> None:
    """Compare a certificate's SHA-256 (hex) with the pinned one; write the pin where there is none yet.

    Raises:
        IntegrityError: CHAIN_CERTIFICATE: another one than at first contact. The operator removes the pin, having asked
            whoever runs the server.
    """
    try:
        with pin.open("x") as file:
            file.write(found + "\n")
            return
    except FileExistsError:
        pass
    if not hmac.compare_digest(pin.read_text().strip(), found):
        raise IntegrityError("CHAIN_CERTIFICATE", f"expected the certificate pinned in {pin.name}, found {found[:16]}")


def _spent_by(raw: bytes) -> set[OutPoint]:
    try:
        return {txin.outpoint for txin in parse_transaction(raw).inputs}
    except MalformedError:
        return set()


def _name(script: bytes) -> str:
    return hashlib.sha256(script).digest()[::-1].hex()
