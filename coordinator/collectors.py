"""Where the event log is copied to: a file, a syslog receiver (RFC 5424 over TCP), an HTTPS collector.

Each takes whole batches of lines. What was taken twice is harmless; what was not taken raises, and comes again.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from coordinator.tls import TlsFiles
from custody.errors import UnavailableError

TIMEOUT_S = 10.0  # of one batch; a receiver that needs longer is as good as away
_SYSLOG_HEADER = b"<110>1 - - keyturn - - - "  # facility 13 (log audit), severity 6; time and names are in the line
_READ = 4096
_TCP_CLOSE = 7  # Linux: the state in the first byte of TCP_INFO once both sides ended
_POLL_S = 0.01


class Collector(Protocol):
    """One receiver of the stream."""

    @property
    def name(self) -> str:
        """Return its kind."""
        ...

    @property
    def address(self) -> str:
        """Return what tells it from others."""
        ...

    async def take(self, lines: Sequence[bytes]) -> None:
        """Hand over lines (newlines included); return once they were taken.

        Raises:
            OSError, UnavailableError: it did not take all of them.
        """
        ...


@dataclass(frozen=True, slots=True)
class FileCollector:
    """Appends to `path`, flushed to disk."""

    path: Path
    name: str = "file"

    @property
    def address(self) -> str:
        """Return the path."""
        return str(self.path)

    async def take(self, lines: Sequence[bytes]) -> None:
        """Append; a line that a crash cut stays cut, and what is written now begins behind it."""
        await asyncio.to_thread(_append, self.path, b"".join(lines))


@dataclass(frozen=True, slots=True)
class SyslogCollector:
    """RFC 5424 messages with octet counting (RFC 6587) over plain TCP. address: host:port.

    Syslog has no acknowledgement, so each batch is a connection of its own: we end our side and wait for the receiver
    to end its, which it does behind the last byte. One that hung up with bytes unread resets the connection instead.
    """

    address: str
    name: str = "syslog"

    async def take(self, lines: Sequence[bytes]) -> None:
        """Send and wait until the receiver has read to the end."""
        host, _, port = self.address.rpartition(":")
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                for line in lines:
                    writer.write(syslog_frame(line))
                    await writer.drain()
                writer.write_eof()
                while await reader.read(_READ):
                    pass
                await _closed_clean(writer.get_extra_info("socket"))
            finally:
                writer.close()


@dataclass(frozen=True, slots=True)
class HttpsCollector:
    """POSTs a batch as lines of JSON to `address` (https://host:port/path). Taken is what is answered 2xx.

    tls: our certificate, shown where the collector asks for one; `ca` is the one authority that its own may come from.
    """

    address: str
    tls: TlsFiles
    name: str = "https"

    async def take(self, lines: Sequence[bytes]) -> None:
        """Post and read the status."""
        await asyncio.to_thread(self._post, b"".join(lines))

    def _post(self, body: bytes) -> None:
        where = urlsplit(self.address)
        connection = http.client.HTTPSConnection(
            where.hostname or "", where.port, timeout=TIMEOUT_S, context=_pinned(self.tls)
        )
        try:
            connection.request("POST", where.path or "/", body, {"Content-Type": "application/x-ndjson"})
            status = connection.getresponse().status
        except http.client.HTTPException as error:
            raise UnavailableError("STREAM_REFUSED", f"expected an HTTP answer: {type(error).__name__}") from error
        finally:
            connection.close()
        if not 200 <= status < 300:  # a redirect leads to nobody that was pinned
            raise UnavailableError("STREAM_REFUSED", f"expected 2xx, found {status}")


def syslog_frame(line: bytes) -> bytes:
    """Return one line as a syslog message behind its length."""
    message = _SYSLOG_HEADER + line.rstrip(b"\n")
    return b"%d %b" % (len(message), message)


async def _closed_clean(connection: socket.socket) -> None:
    """Return once the peer's kernel has all we sent and both sides ended; raise where it was reset.

    A receiver that hung up before our bytes came ends its side first and resets later: its end alone proves nothing.
    """
    while connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _TCP_CLOSE:  # noqa: ASYNC110 - no event
        await asyncio.sleep(_POLL_S)
    if code := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise ConnectionResetError(code, os.strerror(code))


def _pinned(files: TlsFiles) -> ssl.SSLContext:
    """Return a context that trusts `files.ca` alone; read anew each time, as certificates are short-lived."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(files.ca)
    context.load_cert_chain(files.certificate, files.key)
    return context


def _append(path: Path, raw: bytes) -> None:
    with path.open("ab") as file:
        if file.tell() and not _ends_whole(path):
            file.write(b"\n")
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
