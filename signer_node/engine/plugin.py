"""The go-plugin services around the engine: broker, health, version, the end. Serves one server until it goes away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.const import Cardinality, Handler
from grpclib.server import Server, Stream

from custody.errors import UnavailableError
from signer_node.engine.backend import BackendService, MakeEngine
from signer_node.engine.handshake import HOST_NAME, Handshake
from signer_node.engine.hclog import say
from signer_node.engine.version import VERSION
from signer_node.engine.wire import plugin_pb2 as wire

BROKER_WAIT_S = 5.0  # go-plugin's own patience for a brokered connection
SERVING = 1  # grpc.health.v1

Method = tuple[Callable[[Stream[Any, Any]], Awaitable[None]], Cardinality, type, type]


class PluginService:
    """What go-plugin asks of every plugin.

    Args:
        handshake: how connections to the server are made.
    """

    def __init__(self, handshake: Handshake) -> None:
        self._handshake = handshake
        self._offered: dict[int, asyncio.Future[wire.ConnInfo]] = {}
        self.ended = asyncio.Event()

    def __mapping__(self) -> dict[str, Handler]:
        """Return the methods by name, for grpclib."""
        methods: dict[str, Method] = {
            "plugin.GRPCBroker/StartStream": (self._broker, Cardinality.STREAM_STREAM, wire.ConnInfo, wire.ConnInfo),
            "plugin.GRPCStdio/StreamStdio": (self._stdio, Cardinality.UNARY_STREAM, wire.Empty, wire.StdioData),
            "plugin.GRPCController/Shutdown": (self._shutdown, Cardinality.UNARY_UNARY, wire.Empty, wire.Empty),
            "pluginutil.multiplexing.PluginMultiplexing/MultiplexingSupport": (
                self._multiplexing,
                Cardinality.UNARY_UNARY,
                wire.Empty,
                wire.MultiplexingReply,
            ),
            "logical.PluginVersion/Version": (self._version, Cardinality.UNARY_UNARY, wire.Empty, wire.VersionReply),
            "grpc.health.v1.Health/Check": (
                self._health,
                Cardinality.UNARY_UNARY,
                wire.HealthRequest,
                wire.HealthReply,
            ),
        }
        return {f"/{name}": Handler(*method) for name, method in methods.items()}

    async def dial(self, number: int) -> Channel:
        """Return the connection that the server's broker offers under `number`; it is made at its first use.

        Raises:
            UnavailableError: BROKER_SILENT.
        """
        try:
            info = await asyncio.wait_for(self._offer(number), BROKER_WAIT_S)
        except TimeoutError:
            raise UnavailableError("BROKER_SILENT", f"expected an offer of connection {number}") from None
        if info.network != "unix":
            raise UnavailableError("BROKER_NETWORK", f"expected a unix socket, found {info.network[:20]!r}")
        config = Configuration(ssl_target_name_override=HOST_NAME)
        return Channel(path=info.address, ssl=self._handshake.client_side, config=config)

    def _offer(self, number: int) -> asyncio.Future[wire.ConnInfo]:
        return self._offered.setdefault(number, asyncio.get_running_loop().create_future())

    async def _broker(self, stream: Stream[wire.ConnInfo, wire.ConnInfo]) -> None:
        """Take offers for as long as the server lives: the end of this stream is the end of this process."""
        try:
            await stream.send_initial_metadata()
            while (info := await stream.recv_message()) is not None:
                offer = self._offer(info.service_id)
                if not offer.done():
                    offer.set_result(info)
        finally:
            self.ended.set()

    async def _stdio(self, stream: Stream[wire.Empty, wire.StdioData]) -> None:
        """Nothing of ours goes this way; the stream stays open."""
        await stream.send_initial_metadata()
        await self.ended.wait()

    async def _shutdown(self, stream: Stream[wire.Empty, wire.Empty]) -> None:
        await stream.send_message(wire.Empty())
        self.ended.set()

    async def _multiplexing(self, stream: Stream[wire.Empty, wire.MultiplexingReply]) -> None:
        """One process for each mount: no key's process ever serves another."""
        await stream.send_message(wire.MultiplexingReply(supported=False))

    async def _version(self, stream: Stream[wire.Empty, wire.VersionReply]) -> None:
        await stream.send_message(wire.VersionReply(plugin_version=VERSION))

    async def _health(self, stream: Stream[wire.HealthRequest, wire.HealthReply]) -> None:
        await stream.send_message(wire.HealthReply(status=SERVING))


async def serve(handshake: Handshake, make: MakeEngine) -> None:
    """Serve the server behind `handshake` until it says so or goes away; the socket is gone when this returns."""
    plugin = PluginService(handshake)
    server = Server([plugin, BackendService(plugin.dial, make)])
    try:
        await server.start(path=str(handshake.socket), ssl=handshake.server_side)
        _announce(handshake.line)
        say("info", "engine started", version=VERSION, pid=os.getpid())
        await plugin.ended.wait()
        server.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), 1.0)
    finally:
        shutil.rmtree(handshake.directory, ignore_errors=True)


def _announce(line: str) -> None:
    """Say the one line that the server waits for, then nothing on stdout any more."""
    print(line, flush=True)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, sys.stdout.fileno())
    os.close(silent)
