"""The gRPC side of `coordinator.logs.WitnessPort`: stand-alone witnesses that we dial; `Logs` verifies their lines."""

from __future__ import annotations

import grpc

from coordinator.logs import WITNESS_TIMEOUT_S
from coordinator.tls import TlsFiles, channel_credentials
from custody.errors import Refused, UnavailableError
from custody.v1 import witness_pb2, witness_pb2_grpc


class GrpcWitness:
    """One witness at `address` (host:port)."""

    def __init__(self, address: str, files: TlsFiles) -> None:
        self._channel = grpc.aio.secure_channel(address, channel_credentials(files))
        self._stub = witness_pb2_grpc.WitnessServiceStub(self._channel)
        self._address = address

    async def add_checkpoint(self, origin: str, old_size: int, proof: tuple[bytes, ...], note: str) -> str | Refused:
        """See `WitnessPort`."""
        request = witness_pb2.AddCheckpointRequest(origin=origin, old_size=old_size, consistency_proof=proof, note=note)
        try:
            answer = await self._stub.AddCheckpoint(request, timeout=WITNESS_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise UnavailableError("WITNESS_AWAY", f"{self._address}: {error.code().name}") from error
        if answer.WhichOneof("answer") == "cosignature":
            return answer.cosignature
        return Refused(answer.refusal.code, answer.refusal.expected, answer.refusal.found)

    async def close(self) -> None:
        """Hang up."""
        await self._channel.close()
