"""Both logs as static tiles over HTTP (C2SP tlog-tiles), so that anybody can monitor them without an account.

Read-only, GET and HEAD only, no state, no cookie, one answer per connection. Served on loopback for a reverse proxy to
publish; whoever reads checks what he gets against the checkpoint. Per log: /LOG/checkpoint, /LOG/tile/L/N[.p/W] and
/LOG/tile/entries/N[.p/W], with LOG "money" or "event".
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

import structlog

from coordinator.logs import Logs
from coordinator.store.port import LogStore
from custody.audit import Log
from custody.errors import CustodyError, MalformedError, NotFoundError

HEIGHT = 8  # tlog-tiles: a full tile holds 256 hashes
WIDTH = 1 << HEIGHT
MAX_LEVEL = 7  # 2^(8 * 8) leaves and more than any log has
MAX_REQUEST_BYTES = 4_096  # a request line and a proxy's headers
REQUEST_SECONDS = 10
MAX_CONNECTIONS = 64  # monitors poll; a proxy in front caches what is full
MAX_ENTRY_BYTES = 2**16 - 1  # tlog-tiles: 16 bits of length; a release of many payments is longer: see the export
_MAX_BUNDLE_BYTES = 256 * 512 * 1024  # 256 entries of the largest size
_TILE = re.compile(r"tile/(entries|[0-7])/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_FOREVER = "public, max-age=31536000, immutable"
log = structlog.get_logger("coordinator")


@dataclass(frozen=True, slots=True)
class Page:
    """One answer. is_final: its bytes can never change."""

    body: bytes
    kind: str
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class TilePath:
    """What a tile's path names. level: None for entries.  width: hashes or entries in it, 1..256."""

    level: int | None
    index: int
    width: int


def parse_tile_path(path: str) -> TilePath:
    """Return what `path` ("tile/...") names; each tile has one spelling.

    Raises:
        NotFoundError: TILE_PATH.
    """
    found = _TILE.fullmatch(path)
    if found is None:
        raise NotFoundError("TILE_PATH", "expected tile/L/N, tile/L/N.p/W or tile/entries/N")
    parts = found[2].replace("x", "").split("/")
    index, width = int("".join(parts)), int(found[3] or WIDTH)
    if index_path(index) != found[2] or (found[3] and width >= WIDTH):
        raise NotFoundError("TILE_PATH", "expected the one spelling of a tile's path")
    return TilePath(None if found[1] == "entries" else int(found[1]), index, width)


def index_path(index: int) -> str:
    """Return the path of a tile's index: groups of three digits, all but the last behind an x."""
    digits = f"{index:03d}"
    digits = digits.zfill((len(digits) + 2) // 3 * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    return "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])


class Tiles:
    """Answers paths. Args: logs and store of one coordinator."""

    def __init__(self, logs: Logs, store: LogStore) -> None:
        self._logs, self._store = logs, store

    async def page(self, path: str) -> Page:
        """Return what stands at `path`.

        Raises:
            NotFoundError: LOG_UNKNOWN, TILE_PATH, TILE_EMPTY, ENTRY_TOO_LONG, NO_CHECKPOINT.
            UnavailableError: the store cannot be read.
        """
        name, _, rest = path.removeprefix("/").partition("/")
        which = next((each for each in Log if each.value == name), None)
        if which is None:
            raise NotFoundError("LOG_UNKNOWN", "expected /money/... or /event/...")
        if rest == "checkpoint":
            cosigned = await self._logs.cosigned(which)
            if cosigned is None:
                raise NotFoundError("NO_CHECKPOINT", "expected a checkpoint that witnesses vouched for; none yet")
            return Page(cosigned.note.encode(), "text/plain; charset=utf-8")
        tile = parse_tile_path(rest)
        body = await (self._entries(which, tile) if tile.level is None else self._hashes(which, tile, tile.level))
        return Page(body, "application/octet-stream", is_final=True)

    async def _hashes(self, which: Log, tile: TilePath, level: int) -> bytes:
        first = tile.index * WIDTH
        self._check(which, (first + tile.width) << (HEIGHT * level))
        places = [(HEIGHT * level, first + at) for at in range(tile.width)]
        found: Mapping[tuple[int, int], bytes] = await self._store.subtrees(which, places)
        return b"".join(found[place] for place in places)

    async def _entries(self, which: Log, tile: TilePath) -> bytes:
        first, end = tile.index * WIDTH, tile.index * WIDTH + tile.width
        self._check(which, end)
        entries = await self._store.entries(which, first, end, _MAX_BUNDLE_BYTES)
        if max(map(len, entries)) > MAX_ENTRY_BYTES:
            raise NotFoundError("ENTRY_TOO_LONG", "expected entries below 64 KiB, as tlog-tiles writes them")
        return b"".join(len(entry).to_bytes(2) + entry for entry in entries)

    def _check(self, which: Log, size: int) -> None:
        head = self._store.head(which).size
        if size > head:
            raise NotFoundError("TILE_EMPTY", f"expected a tile of a log of {head} entries")


class TileServer:
    """Serves `tiles` on loopback until closed; see `listen`."""

    def __init__(self, tiles: Tiles) -> None:
        self._tiles = tiles
        self._open = 0
        self._server: asyncio.Server | None = None

    async def listen(self, address: str) -> int:
        """Listen on `address` ("127.0.0.1:PORT", 0 for a free one) and return the port.

        Raises:
            MalformedError: TILES_ADDRESS: not a loopback address; a proxy publishes them.
        """
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        try:
            is_loopback = ip_address(host).is_loopback
        except ValueError:
            is_loopback = False
        if not is_loopback or not port.isdecimal():
            raise MalformedError("TILES_ADDRESS", f"expected a loopback address and a port, found {address[:60]!r}")
        self._server = await asyncio.start_server(self._answer, host, int(port), limit=MAX_REQUEST_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= MAX_CONNECTIONS:
                async with asyncio.timeout(REQUEST_SECONDS):
                    writer.write(await self._response(await reader.readuntil(b"\r\n\r\n")))
                    await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a client that does not finish its request gets no answer
        finally:
            self._open -= 1
            writer.close()

    async def _response(self, request: bytes) -> bytes:
        words = request.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
            return _head("400 Bad Request", Page(b"", "text/plain"))
        if words[0] not in ("GET", "HEAD"):
            return _head("405 Method Not Allowed", Page(b"", "text/plain"))
        try:
            page = await self._tiles.page(words[1])
        except NotFoundError as error:
            missing = Page(f"{error.code}\n".encode(), "text/plain")
            return _head("404 Not Found", missing) + missing.body
        except CustodyError as error:
            log.warning("tiles.failed", code=error.code)
            return _head("503 Service Unavailable", Page(b"", "text/plain"))
        return _head("200 OK", page) + (b"" if words[0] == "HEAD" else page.body)


def _head(status: str, page: Page) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {page.kind}",
        f"Content-Length: {len(page.body)}",
        f"Cache-Control: {_FOREVER if page.is_final else 'no-store'}",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
