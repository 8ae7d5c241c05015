"""The border over a real socket: who comes in, what an error looks like on the other side, what the log says of it."""

import asyncio
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import console.tls
import coordinator.tls
from console.channel import CallRefusedError, call, open_channel, stream
from coordinator.logging import make_logger
from coordinator.rpc.server import build_server
from coordinator.rpc.status import RefusedCallError
from custody.errors import (
    ConflictError,
    CustodyError,
    DeniedError,
    MalformedError,
    NotFoundError,
    Refused,
    UnavailableError,
)
from custody.v1 import withdrawal_pb2, withdrawal_pb2_grpc
from tests.transport import Wire, serving

pytestmark = pytest.mark.slow
GET = withdrawal_pb2.GetWithdrawalRequest(digest=b"\1" * 32)


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    """Serve the probes."""
    async with serving(tmp_path) as running:
        yield running


async def get(wire: Wire, name: str = "ann", role: str = "operator") -> str:
    """Call GetWithdrawal and return who the server says called."""
    async with open_channel(wire.address(name, role)) as channel:
        answer = await call(withdrawal_pb2_grpc.WithdrawalServiceStub(channel).GetWithdrawal, GET)
    return answer.withdrawal.wallet


async def test_call_given_a_certificate_is_known_by_its_uri(wire: Wire) -> None:
    """Role and name behind the border are those of the URI SAN, and one line of the log says so."""
    assert await get(wire) == "operator/ann"

    (line,) = wire.lines()
    assert (
        line.items()
        >= {
            "event": "call.end",
            "method": "/custody.v1.WithdrawalService/GetWithdrawal",
            "role": "operator",
            "peer": "ann",
            "code": "OK",
        }.items()
    )


ERRORS: dict[str, tuple[Exception, type[CustodyError], str]] = {
    "malformed": (MalformedError("FIELD_HEX", "withdrawal.genesis: expected hex"), MalformedError, "FIELD_HEX"),
    "conflict": (ConflictError("WITHDRAWAL_ID_TAKEN", "expected one digest"), ConflictError, "WITHDRAWAL_ID_TAKEN"),
    "stale": (ConflictError("SESSION_STALE", "expected version 3, found 4"), ConflictError, "SESSION_STALE"),
    "not_found": (NotFoundError("WITHDRAWAL", "expected a known digest"), NotFoundError, "WITHDRAWAL"),
    "unavailable": (UnavailableError("STORE", "expected to write"), UnavailableError, "STORE"),
    "denied": (DeniedError("NOT_YOURS", "expected the initiator"), DeniedError, "NOT_YOURS"),
    "surprise": (ValueError("seed is abandon abandon"), CustodyError, "INTERNAL"),
}


@pytest.mark.parametrize("case", ERRORS)
async def test_error_of_a_service_comes_back_as_the_same_error(wire: Wire, case: str) -> None:
    """A client gets the class and code that the service raised; a surprise says INTERNAL and nothing else."""
    wire.withdrawals.breaks, kind, code = ERRORS[case]

    with pytest.raises(kind) as caught:
        await get(wire)

    assert caught.value.code == code
    assert "abandon" not in str(caught.value)
    assert wire.lines()[0]["reason"] == code


async def test_refusal_of_a_service_comes_back_whole(wire: Wire) -> None:
    """Code, expected and found of a refusal reach the client."""
    refused = Refused("NEEDS_SUPERSEDE", "a withdrawal before its release", "one released at index 7")
    wire.withdrawals.breaks = RefusedCallError(refused)

    with pytest.raises(CallRefusedError) as caught:
        await get(wire)

    assert caught.value.refused == refused


async def test_stream_that_breaks_yields_first_and_then_raises(wire: Wire) -> None:
    """A stream delivers what it had and ends with the service's error."""
    wire.withdrawals.breaks = UnavailableError("STORE", "expected to read")

    async with open_channel(wire.address("ann", "reader")) as channel:
        watch = withdrawal_pb2_grpc.WithdrawalServiceStub(channel).WatchWithdrawals
        answers = stream(watch, withdrawal_pb2.WatchWithdrawalsRequest())
        assert await anext(answers) == withdrawal_pb2.WatchWithdrawalsResponse()
        with pytest.raises(UnavailableError, match="STORE"):
            await anext(answers)


async def test_deadline_that_runs_out_is_unavailable(wire: Wire) -> None:
    """A coordinator that cannot be reached, or not in time, is the same error to a client."""
    address = wire.address("ann", "operator")
    await wire.server.stop(0)

    async with open_channel(address) as channel:
        with pytest.raises(UnavailableError):
            await call(withdrawal_pb2_grpc.WithdrawalServiceStub(channel).GetWithdrawal, GET, 1.0)


async def test_health_and_reflection_serve_by_role(wire: Wire) -> None:
    """Anybody with a certificate sees the health; operators list the services; others are denied."""
    listing = reflection_pb2.ServerReflectionRequest(list_services="")
    async with open_channel(wire.address("w1", "witness")) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # Any: the stubs of both packages know no aio
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await health.Check(health_pb2.HealthCheckRequest(service="x"), timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as denied:
            await anext(aiter(reflection.ServerReflectionInfo(iter([listing]), timeout=5)))
    async with open_channel(wire.address("ann", "operator")) as channel:
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]  # as above
        answers = [answer async for answer in reflection.ServerReflectionInfo(iter([listing]), timeout=5)]

    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "custody.v1.WithdrawalService" in {s.name for s in answers[0].list_services_response.service}
    assert [line["code"] for line in wire.lines()] == ["OK", "NOT_FOUND", "PERMISSION_DENIED", "OK"]


def handshake(port: int, files: console.tls.TlsFiles, newest: ssl.TLSVersion) -> tuple[str | None, list[str]]:
    """Return the TLS version that a plain client negotiates, and the URIs in the server's certificate."""
    context = ssl.create_default_context(cafile=files.ca)
    context.load_cert_chain(files.certificate, files.key)
    context.set_alpn_protocols(["h2"])
    context.maximum_version = newest
    with (
        socket.create_connection(("localhost", port), 5) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as wrapped,
    ):
        names = (wrapped.getpeercert() or {})["subjectAltName"]
        return wrapped.version(), [str(name[1]) for name in names if name[0] == "URI"]


SERVE = """
import coordinator, asyncio, pathlib, sys
from tests.transport import serve_until_end_of_input
asyncio.run(serve_until_end_of_input(pathlib.Path(sys.argv[1])))
"""


def test_handshake_below_tls_1_3_fails(tmp_path: Path) -> None:
    """A client whose newest version is TLS 1.2 gets no connection from a coordinator's process; with 1.3 it does."""
    environment = {key: text for key, text in os.environ.items() if key != coordinator.tls.CIPHERS_VARIABLE}
    command = [sys.executable, "-c", SERVE, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = int(server.stdout.readline())
        (certificate,) = tmp_path.glob("operator-*/ann.pem")
        files = console.tls.TlsFiles(certificate, certificate.with_suffix(".key"), tmp_path / "ca" / "ca.pem")
        with pytest.raises(OSError, match=r"SSL|EOF|reset"):
            handshake(port, files, ssl.TLSVersion.TLSv1_2)
        negotiated, _ = handshake(port, files, ssl.TLSVersion.TLSv1_3)
        server.stdin.close()

    assert negotiated == "TLSv1.3"


async def test_handshake_after_a_renewal_shows_the_new_certificate(wire: Wire) -> None:
    """A certificate that was replaced on disk is the one of the next handshake, without a restart."""
    fresh, key = wire.ca.issue("renewed", "coordinator", wire.directory / "renewed", server=True)
    key.replace(wire.directory / "server" / "main.key")
    fresh.replace(wire.directory / "server" / "main.pem")
    files = wire.address("ann", "operator").files

    _, uris = await asyncio.to_thread(handshake, wire.server.port, files, ssl.TLSVersion.TLSv1_3)

    assert uris == ["keyturn://coordinator/renewed"]


async def test_second_server_on_a_taken_port_does_not_start(wire: Wire) -> None:
    """The port is not shared with another process: LISTEN."""
    files = wire.address("other", "coordinator").files
    own = coordinator.tls.TlsFiles(files.certificate, files.key, files.ca)

    with pytest.raises(UnavailableError, match="LISTEN"):
        build_server([], f"127.0.0.1:{wire.server.port}", own, make_logger(wire.output))


def test_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """A key file with a mode above 0600 is refused by both sides: TLS_KEY_MODE."""
    key = tmp_path / "key"
    key.write_text("key")
    key.chmod(0o640)

    with pytest.raises(MalformedError, match="TLS_KEY_MODE"):
        coordinator.tls.channel_credentials(coordinator.tls.TlsFiles(key, key, key))
    with pytest.raises(MalformedError, match="TLS_KEY_MODE"):
        console.tls.channel_credentials(console.tls.TlsFiles(key, key, key))
