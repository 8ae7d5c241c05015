"""Servers that are slow, busy, broken or not who they were: a code, no answer made up, no second guess."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from coordinator.chain import http_source
from coordinator.chain.core import CoreSource, cookie_of
from coordinator.chain.electrum import ElectrumPlace, ElectrumSource, check_pin
from coordinator.chain.embedded import EmbeddedChain
from coordinator.chain.esplora import EsploraSource
from coordinator.chain.http_source import HttpSource
from coordinator.chain.outside import Source
from coordinator.chain.serving.electrum import serve_electrum
from custody.errors import CustodyError, IntegrityError, UnavailableError
from custody.transaction import OutPoint
from tests.fakes.clock import FakeClock
from tests.fakes.spends import OPEN

Say = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class BadServer:
    """A server that answers every connection with `say`."""

    def __init__(self, say: Say) -> None:
        self.say, self.connections = say, 0

    async def __aenter__(self) -> BadServer:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await self.say(reader, writer)
        writer.close()


def http(answer: bytes) -> Say:
    """Return a server that reads a request and says `answer`."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-l")), 0
        )
        await reader.readexactly(size)
        writer.write(answer)
        await writer.drain()

    return say


def ok(body: bytes) -> bytes:
    """Return a good answer with this body."""
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing."""
    await reader.read(1)
    await asyncio.sleep(30)


ESPLORA_ANSWERS: dict[str, tuple[Say, str]] = {
    "hangs": (hang, "CHAIN_HTTP"),
    "hangs_up": (http(b""), "CHAIN_HTTP"),
    "truncated": (http(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[1"), "CHAIN_HTTP"),
    "no_http": (http(b"hello\n"), "CHAIN_HTTP"),
    "not_json": (http(ok(b"<html>maintenance</html>")), "CHAIN_ANSWER"),
    "other_json": (http(ok(b'[{"txid": "00", "vout": 0}]')), "CHAIN_ANSWER"),
    "height_no_number": (
        http(ok(b'[{"txid": "%s", "vout": 0, "value": 1, "status": {"confirmed": true}}]' % (b"00" * 32))),
        "CHAIN_ANSWER",
    ),
    "redirect": (
        http(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"),
        "CHAIN_ANSWER",
    ),
    "error": (http(b"HTTP/1.1 500 Error\r\ncontent-length: 0\r\n\r\n"), "CHAIN_ANSWER"),
    "nested": (http(ok(b"[" * 200_000)), "CHAIN_ANSWER"),
}


@pytest.mark.parametrize("case", ESPLORA_ANSWERS)
async def test_esplora_given_a_bad_answer_says_which(case: str) -> None:
    """One bad answer, one code; no coin, no height is made up."""
    say, code = ESPLORA_ANSWERS[case]
    async with BadServer(say) as server:
        source = EsploraSource(HttpSource(f"http://127.0.0.1:{server.port}", timeout_s=0.5))
        with pytest.raises(UnavailableError) as error:
            await source.unspent([OPEN])
        await source.close()

    assert error.value.code == code


async def test_http_given_a_busy_server_asks_again_and_then_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rate limits are obeyed: three tries with pauses, none of a POST."""
    monkeypatch.setattr(http_source, "FIRST_PAUSE_S", 0.01)
    busy = http(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n")
    async with BadServer(busy) as server:
        source = HttpSource(f"http://127.0.0.1:{server.port}")
        with pytest.raises(UnavailableError, match="CHAIN_BUSY"):
            await source.get("/blocks/tip/height")
        asked = server.connections
        with pytest.raises(UnavailableError, match="CHAIN_BUSY"):
            await source.post("/tx", b"00")
        await source.close()

    assert (asked, server.connections) == (http_source.TRIES, http_source.TRIES + 1)


async def test_http_given_an_answer_without_end_stops_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server cannot fill our memory."""
    monkeypatch.setattr(http_source, "MAX_ANSWER_BYTES", 1_000)
    async with BadServer(http(ok(b"x" * 5_000))) as server:
        source = HttpSource(f"http://127.0.0.1:{server.port}")
        with pytest.raises(UnavailableError, match="CHAIN_HTTP: expected at most 1000 bytes"):
            await source.get("/")
        await source.close()


CORE_ANSWERS: dict[str, tuple[bytes, str]] = {
    "credentials": (b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "CHAIN_CREDENTIALS"),
    "warming_up": (ok(b'{"result": null, "error": {"code": -28, "message": "Loading..."}, "id": 1}'), "CHAIN_RPC"),
    "no_rpc": (ok(b"[]"), "CHAIN_ANSWER"),
    "strange_result": (ok(b'{"result": {"blocks": "many"}, "error": null, "id": 1}'), "CHAIN_ANSWER"),
}


@pytest.mark.parametrize("case", CORE_ANSWERS)
async def test_core_given_a_bad_answer_says_which(case: str) -> None:
    """A node that starts, a wrong cookie, something that is no node."""
    answer, code = CORE_ANSWERS[case]
    async with BadServer(http(answer)) as server:
        source = CoreSource(HttpSource(f"http://127.0.0.1:{server.port}"), lambda: "a:b", "w")
        with pytest.raises(UnavailableError) as error:
            await source.tip()
        await source.close()

    assert error.value.code == code


SPENDERS: dict[str, tuple[bytes, Callable[[str], Source]]] = {
    "esplora: no status": (b'{"spent": true, "txid": "%s"}' % (b"00" * 32), lambda url: EsploraSource(HttpSource(url))),
    "esplora: a list": (b"[]", lambda url: EsploraSource(HttpSource(url))),
    "core: none": (
        b'{"result": [], "error": null, "id": 1}',
        lambda url: CoreSource(HttpSource(url), lambda: "a:b", "w"),
    ),
    "core: another kind": (
        b'{"result": [7], "error": null, "id": 1}',
        lambda url: CoreSource(HttpSource(url), lambda: "a:b", "w"),
    ),
}


@pytest.mark.parametrize("case", SPENDERS)
async def test_spender_given_an_answer_that_lacks_a_part_is_no_answer(case: str) -> None:
    """Whatever part is missing, in whatever question: a code, never an exception of Python's own."""
    body, source_at = SPENDERS[case]
    async with BadServer(http(ok(body))) as server:
        source = source_at(f"http://127.0.0.1:{server.port}")
        with pytest.raises(UnavailableError, match="CHAIN_ANSWER"):
            await source.spender(OutPoint(bytes(32), 0))
        await source.close()


def test_cookie_given_no_file_says_so(tmp_path: Path) -> None:
    """A node that is not running has none; it is read anew for each call."""
    cookie = cookie_of(tmp_path / ".cookie")
    with pytest.raises(UnavailableError, match="CHAIN_COOKIE"):
        cookie()
    (tmp_path / ".cookie").write_text("__cookie__:one\n")
    assert cookie() == "__cookie__:one"


async def no_json(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a line with noise."""
    await reader.readline()
    writer.write(b"noise\n")
    await writer.drain()
    await asyncio.sleep(0.05)


async def other_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the first call with a result of another kind."""
    await reader.readline()
    writer.write(b'{"jsonrpc": "2.0", "id": 1, "result": {"height": "high"}}\n')
    await writer.drain()
    await asyncio.sleep(0.2)


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read the call and go."""
    await reader.readline()


ELECTRUM_ANSWERS: dict[str, tuple[Say, str]] = {
    "hangs": (hang, "CHAIN_ELECTRUM"),
    "hangs_up": (hang_up, "CHAIN_ELECTRUM"),
    "noise": (no_json, "CHAIN_ANSWER"),
    "other_answer": (other_answer, "CHAIN_ANSWER"),
}


@pytest.mark.parametrize("case", ELECTRUM_ANSWERS)
async def test_electrum_given_a_bad_answer_says_which(case: str) -> None:
    """One bad answer, one code."""
    say, code = ELECTRUM_ANSWERS[case]
    async with BadServer(say) as server:
        source = ElectrumSource(ElectrumPlace("127.0.0.1", server.port, pin=None), timeout_s=0.5)
        with pytest.raises(CustodyError) as error:
            await source.tip()
        await source.close()

    assert error.value.code == code


@pytest.fixture
async def tls_server(tmp_path: Path) -> AsyncIterator[tuple[ElectrumSource, Path]]:
    """An Electrum server with a self-signed certificate, and a source that has never met it."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=electrum"]
    await asyncio.to_thread(
        subprocess.run, [*make, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    chain = await EmbeddedChain.open(tmp_path / "chain", FakeClock())
    server = await serve_electrum(chain, "127.0.0.1", 0, context)
    source = ElectrumSource(ElectrumPlace("127.0.0.1", server.sockets[0].getsockname()[1], tmp_path / "pin"))
    yield source, tmp_path / "pin"
    await source.close()
    server.close()
    await chain.close()


async def test_electrum_given_tls_pins_the_certificate_it_meets_first(
    tls_server: tuple[ElectrumSource, Path],
) -> None:
    """Another certificate later is another server, whatever it says; nothing is asked of it."""
    source, pin = tls_server
    assert (await source.tip()).height == 0
    pinned = await asyncio.to_thread(pin.read_text)
    assert len(pinned.strip()) == 64
    await source.close()
    assert (await source.tip()).height == 0

    await source.close()
    await asyncio.to_thread(pin.write_text, "0" * 64 + "\n")

    with pytest.raises(IntegrityError, match="CHAIN_CERTIFICATE"):
        await source.tip()


def test_check_pin_given_none_yet_writes_it_and_given_another_refuses(tmp_path: Path) -> None:
    """First use is trusted, every later one compared."""
    check_pin(tmp_path / "pin", "ab" * 32)
    check_pin(tmp_path / "pin", "ab" * 32)
    with pytest.raises(IntegrityError, match="CHAIN_CERTIFICATE"):
        check_pin(tmp_path / "pin", "cd" * 32)


async def test_electrum_given_a_wrong_merkle_path_does_not_believe_the_block(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A server that says "confirmed" must prove it under the header that it gives."""
    chain = await EmbeddedChain.open(tmp_path / "chain", FakeClock())
    await chain.mine(1, OPEN)
    server = await serve_electrum(chain, "127.0.0.1", 0)
    source = ElectrumSource(ElectrumPlace("127.0.0.1", server.sockets[0].getsockname()[1], pin=None))
    block = await chain.ask(lambda regtest: regtest.block_at(1))
    assert block is not None
    txid = block.transactions[0].txid
    found = await source.place(txid)
    assert found is not None
    assert found.height == 1

    monkeypatch.setattr("coordinator.chain.serving.electrum.merkle_branch", lambda _txids, _position: [bytes(32)])

    with pytest.raises(UnavailableError, match="CHAIN_PROOF"):
        await source.place(txid)
    await source.close()
    server.close()
    await chain.close()


SOURCES: dict[str, Callable[[int], Source]] = {
    "esplora": lambda port: EsploraSource(HttpSource(f"http://127.0.0.1:{port}", "socks5://127.0.0.1:1")),
    "electrum": lambda port: ElectrumSource(ElectrumPlace("127.0.0.1", port, None, "socks5://127.0.0.1:1")),
}


@pytest.mark.parametrize("kind", SOURCES)
async def test_source_given_a_proxy_that_is_down_never_goes_around_it(kind: str) -> None:
    """A server must not learn our address because Tor is not running."""
    async with BadServer(hang) as server:
        source = SOURCES[kind](server.port)
        with pytest.raises(UnavailableError):
            await source.tip()
        await source.close()

    assert server.connections == 0
