"""Events copied to syslog and HTTPS receivers on loopback: nothing is skipped, whatever fails in between."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from coordinator.collectors import HttpsCollector, SyslogCollector, syslog_frame
from coordinator.config import _stream
from coordinator.restoring import read_file
from coordinator.store.port import Change, Event
from coordinator.streaming import Lag, open_stream, wait_after
from coordinator.tls import TlsFiles
from custody.audit import Log
from custody.errors import MalformedError, UnavailableError
from custody.fields import Fields
from deploy.ca import make_ca
from tests.fakes.clock import FakeClock
from tests.fakes.sessions import NOW
from tests.fakes.store import FakeStore

BODY = b"a PSBT"


async def events(store: FakeStore, count: int) -> None:
    """Log some events; the first of a fresh store names a body."""
    for _ in range(count):
        first = {} if store.head(Log.EVENT).size else {"bodies": [_sha256(BODY).hex()]}
        bodies = (BODY,) if first else ()
        await store.record(Change(NOW, events=(Event("withdrawal.read", "alice", first),), bodies=bodies))


def _sha256(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()


class Receiver:
    """A syslog receiver. messages: what it read.  breaks: connections to reset with bytes unread."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.breaks = 0
        self.port = 0


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Run a syslog receiver on a free port."""
    receiver = Receiver()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if receiver.breaks:
            receiver.breaks -= 1
            writer.transport.abort()
            return
        raw = await reader.read()
        while raw:
            length, _, rest = raw.partition(b" ")
            receiver.messages.append(rest[: int(length)])
            raw = rest[int(length) :]
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    async with server:
        yield receiver


class Posts(HTTPServer):
    """An HTTPS collector. bodies: what it got.  statuses: what it answers next, 200 behind them."""

    bodies: list[bytes]
    statuses: list[int]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Posts)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if status == 200:
            self.server.bodies.append(body)
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def collecting(directory: Path) -> Iterator[tuple[Posts, TlsFiles]]:
    """Run an HTTPS collector that asks for a certificate, on a free port."""
    ca = make_ca(directory / "ca")
    server_cert, server_key = ca.issue("collector", "collector", directory / "server", server=True)
    certificate, key = ca.issue("main", "coordinator", directory / "client", server=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_cert, server_key)
    context.load_verify_locations(ca.certificate_path)
    context.verify_mode = ssl.CERT_REQUIRED
    posts = Posts(("127.0.0.1", 0), _Handler)
    posts.bodies, posts.statuses = [], []
    posts.socket = context.wrap_socket(posts.socket, server_side=True)
    thread = threading.Thread(target=posts.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield posts, TlsFiles(certificate, key, ca.certificate_path)
    finally:
        posts.shutdown()
        posts.server_close()


def indices(raw: bytes) -> list[int]:
    """Return the indices of the events in lines, with the body that the first names."""
    found = read_file(raw)
    assert 0 not in found.entries[Log.EVENT] or found.bodies == {_sha256(BODY): BODY}
    return sorted(found.entries[Log.EVENT])


async def test_syslog_given_events_gets_each_as_one_message_behind_its_length() -> None:
    """Body lines and entry lines arrive as RFC 5424 messages; the position outlives the process."""
    store = FakeStore()
    await events(store, 3)
    async with receiving() as receiver:
        collector = SyslogCollector(f"127.0.0.1:{receiver.port}")
        await (await open_stream(store, collector, FakeClock(NOW))).step()
        await events(store, 1)
        again = await open_stream(store, collector, FakeClock(NOW))
        assert again.size == 3
        assert await again.step() == 1

    header = b"<110>1 - - keyturn - - - "
    assert all(message.startswith(header) for message in receiver.messages)
    lines = b"\n".join(message.removeprefix(header) for message in receiver.messages)
    assert len(receiver.messages) == 5
    assert indices(lines) == [0, 1, 2, 3]
    assert syslog_frame(b"{}\n") == b"27 <110>1 - - keyturn - - - {}"


async def test_syslog_given_a_reset_connection_sends_all_again() -> None:
    """A receiver that went away with bytes unread took nothing."""
    store = FakeStore()
    await events(store, 2)
    async with receiving() as receiver:
        receiver.breaks = 20  # its end may come in front of the reset or not
        stream = await open_stream(store, SyslogCollector(f"127.0.0.1:{receiver.port}"), FakeClock(NOW))
        for _ in range(20):
            with pytest.raises(ConnectionError):
                await stream.step()
        assert stream.size == 0
        await stream.step()

    assert (stream.size, len(receiver.messages)) == (2, 3)


@pytest.mark.slow
async def test_https_given_events_posts_lines_to_the_pinned_collector(tmp_path: Path) -> None:
    """A 2xx takes them; anything else, a redirect included, moves nothing, and all comes again."""
    store = FakeStore()
    await events(store, 2)
    with collecting(tmp_path) as (posts, files):
        collector = HttpsCollector(f"https://127.0.0.1:{posts.server_port}/events", files)
        posts.statuses = [503, 307]
        stream = await open_stream(store, collector, FakeClock(NOW))
        for _ in range(2):
            with pytest.raises(UnavailableError, match="STREAM_REFUSED"):
                await stream.step()
        refused_at = (await open_stream(store, collector, FakeClock(NOW))).size
        await stream.step()

    assert (refused_at, indices(b"".join(posts.bodies))) == (0, [0, 1])
    assert (await open_stream(store, collector, FakeClock(NOW))).size == 2


@pytest.mark.slow
async def test_https_given_a_collector_of_another_authority_sends_nothing(tmp_path: Path) -> None:
    """Only the pinned CA counts."""
    store = FakeStore()
    await events(store, 1)
    other = make_ca(tmp_path / "other").certificate_path
    with collecting(tmp_path) as (posts, files):
        collector = HttpsCollector(
            f"https://127.0.0.1:{posts.server_port}/", TlsFiles(files.certificate, files.key, other)
        )
        stream = await open_stream(store, collector, FakeClock(NOW))
        with pytest.raises(ssl.SSLCertVerificationError):
            await stream.step()

    assert (posts.bodies, stream.size) == ([], 0)


async def test_lag_given_an_absent_receiver_is_told_at_each_change_and_ends_with_it() -> None:
    """Entries that wait and the age of the oldest stand in the log and on the object."""
    store, clock = FakeStore(), FakeClock(NOW)
    await events(store, 2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    stream = await open_stream(store, SyslogCollector(f"127.0.0.1:{port}"), clock)
    clock.advance(7)

    with capture_logs() as told:
        with pytest.raises(ConnectionRefusedError):
            await stream.step()
        assert await stream.tell_lag() == Lag(2, 7) == stream.lag
        await stream.tell_lag()
        stream.size = 2
        await stream.tell_lag()

    lags = [(line["entries"], line["oldest_s"]) for line in told if line["event"] == "stream.lag"]
    assert lags == [(2, 7), (0, 0)]


async def test_run_given_an_absent_receiver_lives_and_catches_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task outlives failures of receiver and store, and hands over all once they are back."""
    monkeypatch.setattr("coordinator.streaming.STREAM_SECONDS", 0.01)
    store = FakeStore()
    await events(store, 2)
    async with receiving() as receiver:
        receiver.breaks = 1
        store.deny["entries"] = UnavailableError("STORE_UNREADABLE", "expected to read")
        stream = await open_stream(store, SyslogCollector(f"127.0.0.1:{receiver.port}"), FakeClock(NOW))
        task = asyncio.create_task(stream.run())
        await asyncio.sleep(0.05)
        store.deny.clear()
        async with asyncio.timeout(5):
            while stream.size < 2:  # noqa: ASYNC110 - what runs has no event for it
                await asyncio.sleep(0.01)
        task.cancel()

    assert len(receiver.messages) == 3


def test_wait_given_failures_doubles_up_to_a_minute() -> None:
    """A receiver that is down is not hammered, and is noticed within a minute."""
    assert [wait_after(n) for n in (0, 1, 2, 6, 1_000)] == [1, 2, 4, 60, 60]


def test_config_given_collectors_reads_them(tmp_path: Path) -> None:
    """Each is optional; an address that nothing can dial is refused at start."""
    said = {"syslog": "127.0.0.1:514", "https": "https://logs.example:8443/keyturn", "ca": "logs.pem"}
    found = _stream(Fields(said, "stream"), tmp_path)

    assert (found.file, found.ca) == (None, tmp_path / "logs.pem")
    for key, value in (("syslog", "127.0.0.1:99999"), ("https", "http://logs.example:80/"), ("syslog", "here")):
        with pytest.raises(MalformedError, match="CONFIG_STREAM"):
            _stream(Fields({**said, key: value}, "stream"), tmp_path)
