"""Tiles over HTTP: what a monitor fetches gives the cosigned root again, and nothing else is served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from coordinator.store.port import Change, Event
from coordinator.tiles import WIDTH, Tiles, TileServer, index_path, parse_tile_path
from custody.audit import EMPTY_ROOT, Log, leaf_hash, node_hash, open_checkpoint
from custody.errors import MalformedError, NotFoundError
from tests.fakes.sessions import NOW
from tests.unit.test_logs import World


class Monitor:
    """A small independent reader: HTTP by hand, roots by RFC 6962."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def ask(self, request: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"{request}\r\nHost: x\r\n\r\n".encode())
        raw = await reader.read()
        writer.close()
        head, _, body = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body

    async def get(self, path: str) -> bytes:
        """Return the body of a page that is there."""
        status, _, body = await self.ask(f"GET {path} HTTP/1.1")
        assert status == 200, (path, status, body)
        return body

    async def leaves(self, size: int) -> list[bytes]:
        """Return the leaf hashes from tiles of level 0."""
        found = b""
        for index in range((size + WIDTH - 1) // WIDTH):
            width = min(WIDTH, size - index * WIDTH)
            part = "" if width == WIDTH else f".p/{width}"
            found += await self.get(f"/event/tile/0/{index_path(index)}{part}")
        return [found[at : at + 32] for at in range(0, len(found), 32)]

    async def entries(self, size: int) -> list[bytes]:
        """Return the entries from entry bundles."""
        found: list[bytes] = []
        for index in range((size + WIDTH - 1) // WIDTH):
            width = min(WIDTH, size - index * WIDTH)
            raw = await self.get(f"/event/tile/entries/{index_path(index)}" + (f".p/{width}" if width < WIDTH else ""))
            while raw:
                length = int.from_bytes(raw[:2])
                found.append(raw[2 : 2 + length])
                raw = raw[2 + length :]
        return found


def root(leaves: list[bytes]) -> bytes:
    """Return the root, straight from RFC 6962 section 2.1."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(root(leaves[:split]), root(leaves[split:]))


@pytest_asyncio.fixture
async def served() -> AsyncIterator[tuple[World, Monitor]]:
    """A log of 600 events, cosigned, and its tiles."""
    world = World()
    events = tuple(Event("thing.happened", "ops", {"number": number}) for number in range(600))
    await world.store.record(Change(NOW, events=events))
    await world.logs.collect(Log.EVENT)
    server = TileServer(Tiles(world.logs, world.store))
    yield world, Monitor(await server.listen("127.0.0.1:0"))
    await server.close()


async def test_tiles_given_a_monitor_give_the_cosigned_root(served: tuple[World, Monitor]) -> None:
    """Checkpoint, leaf tiles, entry bundles and a higher tile agree, and witnesses vouch for their root."""
    world, monitor = served
    note = (await monitor.get("/event/checkpoint")).decode()
    cosigned = open_checkpoint(note, world.pins.log_key, world.pins.origin(Log.EVENT), world.pins.witnesses)
    size = cosigned.checkpoint.size
    leaves = await monitor.leaves(size)

    assert size == 600
    assert root(leaves) == cosigned.checkpoint.root
    assert [leaf_hash(entry) for entry in await monitor.entries(size)] == leaves
    assert await monitor.get("/event/tile/1/000.p/2") == root(leaves[:256]) + root(leaves[256:512])
    assert len(cosigned.counted) >= 2


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /event/tile/0/002 HTTP/1.1", 404),
        ("GET /event/tile/0/002.p/89 HTTP/1.1", 404),
        ("GET /event/tile/0/0000 HTTP/1.1", 404),
        ("GET /event/tile/0/x000/001 HTTP/1.1", 404),
        ("GET /event/tile/0/000.p/256 HTTP/1.1", 404),
        ("GET /event/tile/8/000 HTTP/1.1", 404),
        ("GET /event/../money/checkpoint HTTP/1.1", 404),
        ("GET /money/checkpoint HTTP/1.1", 404),
        ("GET /secrets HTTP/1.1", 404),
        ("POST /event/checkpoint HTTP/1.1", 405),
        ("nonsense", 400),
    ],
)
async def test_tiles_given_other_requests_serve_nothing(
    served: tuple[World, Monitor], request_line: str, status: int
) -> None:
    """Tiles beyond the log, second spellings, other logs, paths and methods get a status and no content."""
    found, _, body = await served[1].ask(request_line)

    assert found == status
    assert len(body) < 40


async def test_tiles_given_head_and_caching_say_what_is_final(served: tuple[World, Monitor]) -> None:
    """A tile never changes, a checkpoint does; HEAD gives the length alone."""
    _, headers, body = await served[1].ask("HEAD /event/tile/0/000 HTTP/1.1")
    _, fresh, _ = await served[1].ask("GET /event/checkpoint HTTP/1.1")

    assert (headers["Content-Length"], body) == (str(256 * 32), b"")
    assert "immutable" in headers["Cache-Control"]
    assert fresh["Cache-Control"] == "no-store"


@pytest.mark.parametrize("address", ["0.0.0.0:0", "example.org:80", "127.0.0.1", "10.1.2.3:80"])
async def test_listen_given_an_address_that_is_not_loopback_refuses(address: str) -> None:
    """A proxy publishes the tiles; the coordinator itself listens to its own machine only."""
    world = World()
    with pytest.raises(MalformedError, match="TILES_ADDRESS"):
        await TileServer(Tiles(world.logs, world.store)).listen(address)


@pytest.mark.parametrize(
    ("index", "path"), [(0, "000"), (999, "999"), (1_000, "x001/000"), (1_234_067, "x001/x234/067")]
)
def test_index_path_given_index_is_the_spelling_of_tlog_tiles(index: int, path: str) -> None:
    """Paths are those of C2SP tlog-tiles, and are read back."""
    assert index_path(index) == path
    assert parse_tile_path(f"tile/0/{path}").index == index


def test_parse_tile_path_given_nothing_of_the_kind_refuses() -> None:
    """A path has one spelling."""
    for path in ("tile/0", "tile/0/1", "tile/entries/x000/000", "tile/0/000.p/0", "tile//000"):
        with pytest.raises(NotFoundError, match="TILE_PATH"):
            parse_tile_path(path)
