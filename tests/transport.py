"""A real server behind the real border, with real certificates, for tests of the transport."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

import console.tls
import coordinator.tls
from console.channel import Address
from coordinator.logging import make_logger
from coordinator.rpc.identity import Context, check_own_name, identity_of
from coordinator.rpc.server import RpcServer, Served, build_server
from coordinator.rpc.statements import read_signed
from custody.v1 import signer_pb2, signer_pb2_grpc, withdrawal_pb2, withdrawal_pb2_grpc
from deploy.ca import Ca, make_ca


class ProbeWithdrawals(withdrawal_pb2_grpc.WithdrawalServiceServicer):
    """Answers who called; raises whatever `breaks` holds."""

    def __init__(self) -> None:
        self.breaks: Exception | None = None

    async def GetWithdrawal(  # noqa: N802, D102 - as in the protos
        self, request: withdrawal_pb2.GetWithdrawalRequest, context: Context
    ) -> withdrawal_pb2.GetWithdrawalResponse:
        if self.breaks is not None:
            raise self.breaks
        return withdrawal_pb2.GetWithdrawalResponse(
            withdrawal=withdrawal_pb2.Withdrawal(wallet=str(identity_of(context)))
        )

    async def Propose(  # noqa: N802, D102
        self, request: withdrawal_pb2.ProposeRequest, context: Context
    ) -> withdrawal_pb2.ProposeResponse:
        digest = read_signed(request.withdrawal).digest
        return withdrawal_pb2.ProposeResponse(withdrawal=withdrawal_pb2.Withdrawal(digest=digest), created=True)

    async def WatchWithdrawals(  # noqa: N802, D102
        self, request: withdrawal_pb2.WatchWithdrawalsRequest, context: Context
    ) -> AsyncIterator[withdrawal_pb2.WatchWithdrawalsResponse]:
        yield withdrawal_pb2.WatchWithdrawalsResponse()
        if self.breaks is not None:
            raise self.breaks

    ProposePsbt = ListWithdrawals = CancelWithdrawal = None  # type: ignore[assignment]  # not called here


class ProbeSigners(signer_pb2_grpc.SignerServiceServicer):
    """Welcomes a hello and gives the size of each answer back."""

    async def Connect(  # noqa: N802, D102
        self, requests: AsyncIterator[signer_pb2.ConnectRequest], context: Context
    ) -> AsyncIterator[signer_pb2.ConnectResponse]:
        async for request in requests:
            if request.HasField("hello"):
                check_own_name(identity_of(context), request.hello.node)
            size = len(request.answer.document)
            yield signer_pb2.ConnectResponse(welcome=signer_pb2.Welcome(money_size=size))

    ListSigners = ReportHealth = None  # type: ignore[assignment]  # not called here


@dataclass(frozen=True, slots=True)
class Wire:
    """A running server and what its peers need."""

    server: RpcServer
    ca: Ca
    directory: Path
    withdrawals: ProbeWithdrawals
    output: io.StringIO = field(repr=False)

    def address(self, name: str, role: str, ca: Ca | None = None, **issue: Any) -> Address:
        """Return an address with a fresh certificate for `name` in `role`."""
        authority = ca or self.ca
        certificate, key = authority.issue(
            name, role, self.directory / f"{role}-{id(authority)}", server=False, **issue
        )
        return Address(
            f"localhost:{self.server.port}", console.tls.TlsFiles(certificate, key, self.ca.certificate_path)
        )

    def lines(self) -> list[dict[str, Any]]:
        """Return the log so far."""
        return [json.loads(line) for line in self.output.getvalue().splitlines()]


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Wire]:
    """Serve the probes on a free port of loopback until the block ends."""
    ca = make_ca(directory / "ca")
    certificate, key = ca.issue("main", "coordinator", directory / "server", server=True)
    probe, output = ProbeWithdrawals(), io.StringIO()

    def add_withdrawals(server: grpc.aio.Server) -> None:
        withdrawal_pb2_grpc.add_WithdrawalServiceServicer_to_server(probe, server)

    def add_signers(server: grpc.aio.Server) -> None:
        signer_pb2_grpc.add_SignerServiceServicer_to_server(ProbeSigners(), server)

    server = build_server(
        [Served("custody.v1.WithdrawalService", add_withdrawals), Served("custody.v1.SignerService", add_signers)],
        "127.0.0.1:0",
        coordinator.tls.TlsFiles(certificate, key, ca.certificate_path),
        make_logger(output),
    )
    await server.start()
    try:
        yield Wire(server, ca, directory, probe, output)
    finally:
        await server.stop(0)


async def serve_until_end_of_input(directory: Path) -> None:
    """Serve the probes in a process of their own: writes the port, and ends when its input does."""
    async with serving(directory) as wire:
        wire.address("ann", "operator")
        print(wire.server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
