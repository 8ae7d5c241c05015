"""Serve the desk on this machine alone, on a port that nobody else has, until it is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import uvicorn

from console.desk.app import make_app
from console.desk.room import Room
from custody.errors import UnavailableError

PORT = 8420  # fixed, since a passkey's rules list the origin it was made at
GRACE_SECONDS = 2  # for answers under way; streams end by themselves


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal."""
        yield


def take_port(port: int) -> list[socket.socket]:
    """Return sockets that listen on `port` of this machine's loopback, for nobody else to share; 0 takes a free one.

    Raises:
        UnavailableError: PORT_TAKEN: another program is there, maybe to be taken for this desk.
    """
    taken: list[socket.socket] = []
    try:
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            bound = _bound(family, host, port)
            if bound is not None:
                taken.append(bound)
                port = bound.getsockname()[1]
    except OSError as error:
        for each in taken:
            each.close()
        raise UnavailableError("PORT_TAKEN", f"expected port {port} to be free: {error.strerror}") from error
    return taken


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket | None:
    """Return a listening socket; None where this machine has no such loopback (IPv6 switched off)."""
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family is socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if os.name == "posix":  # there it passes over connections that linger, never over a program that listens
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))  # without SO_REUSEPORT: it is ours alone
        made.listen(64)
    except OSError as error:
        made.close()
        if family is socket.AF_INET6 and error.errno in (99, 97):  # EADDRNOTAVAIL, EAFNOSUPPORT
            return None
        raise
    return made


@contextlib.asynccontextmanager
async def serving(room: Room, taken: list[socket.socket], entered: Callable[[], None]) -> AsyncIterator[None]:
    """Serve `room` on the sockets `taken` while the block runs."""
    port = taken[0].getsockname()[1]
    app = make_app(room, port, entered)
    settings = uvicorn.Config(
        app,
        log_config=None,
        lifespan="off",
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(settings)
    async with room.at_work():
        task = asyncio.create_task(server.serve(taken))
        try:
            yield  # the sockets listen already: who comes early waits
        finally:
            room.close()
            server.should_exit = True
            await task


def link(room: Room, port: int) -> str:
    """Return the link that opens the desk once."""
    return f"http://localhost:{port}/enter?token={room.sessions.token}"
