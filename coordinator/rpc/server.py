"""The gRPC server of the coordinator: bounded, mutually authenticated, and told apart from its services."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from coordinator.rpc.calls import Calls
from coordinator.rpc.interceptors import NO_CALLS, Border, Log
from coordinator.rpc.limits import MAX_CALLS, NO_COMPRESSION, SERVER_OPTIONS, check_protobuf_backend
from coordinator.tls import TlsFiles, server_credentials
from custody.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class Served:
    """One service. name: full name in the protos.  add: puts its servicer on the server."""

    name: str
    add: Callable[[grpc.aio.Server], None]


class RpcServer:
    """Serves until stopped. Made by `build_server`."""

    def __init__(self, server: grpc.aio.Server, checks: health.aio.HealthServicer, port: int) -> None:
        self._server = server
        self._checks = checks
        self.port = port

    async def start(self) -> None:
        """Begin to take calls."""
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, then take no new call and give those under way `grace_s` seconds."""
        await self._checks.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    async def wait(self) -> None:
        """Return when the server has stopped."""
        await self._server.wait_for_termination()


def build_server(
    services: Sequence[Served],
    address: str,
    files: TlsFiles,
    log: Log,
    calls: Calls = NO_CALLS,
    client_calls_a_minute: int = 0,
) -> RpcServer:
    """Return a server bound to `address` ("host:port", port 0 for a free one), not yet started; `calls` hears of calls.

    client_calls_a_minute: of each client certificate; 0 for no bound.

    Raises:
        UnavailableError: LISTEN when the address cannot be bound; TLS_FILE.
        IntegrityError: PROTOBUF_BACKEND or TLS_CIPHERS: this process must not serve.
    """
    check_protobuf_backend()
    server = grpc.aio.server(
        interceptors=[Border(log, calls=calls, client_calls_a_minute=client_calls_a_minute)],
        options=SERVER_OPTIONS,
        maximum_concurrent_rpcs=MAX_CALLS,
        compression=NO_COMPRESSION,
    )
    for service in services:
        service.add(server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    names = [service.name for service in services]
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    try:
        port = server.add_secure_port(address, server_credentials(files))
    except RuntimeError as error:  # what grpc raises for a port that is taken
        raise UnavailableError("LISTEN", f"expected to listen on {address}") from error
    return RpcServer(server, checks, port)
