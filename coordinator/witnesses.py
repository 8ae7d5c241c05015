"""The ports to witnesses: stand-alone ones that we dial, and online nodes, asked over the streams that they opened.

`coordinator.logs` verifies every line that comes back; nothing here is believed.
"""

from __future__ import annotations

import asyncio

import grpc

from coordinator.logs import WITNESS_TIMEOUT_S
from coordinator.outbox import Outbox
from coordinator.rpc.statements import read_signed, write_signed
from coordinator.tls import TlsFiles, channel_credentials
from custody.bundle import MAX_DELTA_BYTES
from custody.errors import MalformedError, Refused, UnavailableError
from custody.statements import Signed
from custody.v1 import signer_pb2 as wire
from custody.v1 import statement_pb2, witness_pb2, witness_pb2_grpc

_OPTIONS = (
    ("grpc.max_send_message_length", MAX_DELTA_BYTES + 64 * 1024),
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),  # what a witness may hold
)


class GrpcWitness:
    """One stand-alone witness at `address` (host:port)."""

    def __init__(self, address: str, files: TlsFiles) -> None:
        self._channel = grpc.aio.secure_channel(address, channel_credentials(files), _OPTIONS)
        self._stub = witness_pb2_grpc.WitnessServiceStub(self._channel)
        self._address = address

    async def add_checkpoint(self, origin: str, old_size: int, proof: tuple[bytes, ...], note: str) -> str | Refused:
        """See `WitnessPort`."""
        request = witness_pb2.AddCheckpointRequest(origin=origin, old_size=old_size, consistency_proof=proof, note=note)
        try:
            return _line_or_refusal(await self._stub.AddCheckpoint(request, timeout=WITNESS_TIMEOUT_S))
        except grpc.aio.AioRpcError as error:
            raise self._away(error) from error

    async def take_delta(self, delta: bytes) -> int | Refused:
        """See `FollowingWitness`."""
        try:
            request = witness_pb2.TakeDeltaRequest(delta=delta)
            return _size_or_refusal(await self._stub.TakeDelta(request, timeout=WITNESS_TIMEOUT_S))
        except grpc.aio.AioRpcError as error:
            raise self._away(error) from error

    async def held(self) -> tuple[Signed, ...]:
        """Return what this witness holds, unjudged; what cannot be read is left out. Raises UnavailableError."""
        try:
            answer = await self._stub.ListHeld(witness_pb2.ListHeldRequest(), timeout=WITNESS_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise self._away(error) from error
        return _readable(list(answer.statements))

    async def receipts(self, signed: Signed) -> tuple[Signed, ...]:
        """Return this witness's receipt for what it holds, and others' that it knows, unjudged.

        Raises:
            UnavailableError: WITNESS_AWAY.
        """
        request = witness_pb2.PostStatementRequest(statement=write_signed(signed))
        try:
            answer = await self._stub.PostStatement(request, timeout=WITNESS_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise self._away(error) from error
        own = [answer.receipt] if answer.WhichOneof("answer") == "receipt" else []
        return _readable([*own, *answer.others])

    async def close(self) -> None:
        """Hang up."""
        await self._channel.close()

    def _away(self, error: grpc.aio.AioRpcError) -> UnavailableError:
        return UnavailableError("WITNESS_AWAY", f"{self._address}: {error.code().name}")


class NodeWitness:
    """One online node that witnesses, asked over its stream."""

    def __init__(self, node: str, outbox: Outbox) -> None:
        self._node, self._outbox = node, outbox

    async def add_checkpoint(self, origin: str, old_size: int, proof: tuple[bytes, ...], note: str) -> str | Refused:
        """See `WitnessPort`."""
        asked = witness_pb2.AddCheckpointRequest(origin=origin, old_size=old_size, consistency_proof=proof, note=note)
        answer = await self._ask(wire.WitnessQuestion(checkpoint=asked))
        return _line_or_refusal(answer.checkpoint)

    async def take_delta(self, delta: bytes) -> int | Refused:
        """See `FollowingWitness`."""
        answer = await self._ask(wire.WitnessQuestion(delta=witness_pb2.TakeDeltaRequest(delta=delta)))
        return _size_or_refusal(answer.delta)

    async def _ask(self, question: wire.WitnessQuestion) -> wire.WitnessAnswer:
        link = self._outbox.link(self._node)
        if link is None:
            raise UnavailableError("WITNESS_AWAY", f"expected a stream of {self._node}")
        question.id, waiting = link.ask()
        link.queue.put_nowait(wire.ConnectResponse(witness=question))
        try:
            async with asyncio.timeout(WITNESS_TIMEOUT_S):
                return await waiting
        except TimeoutError as error:
            raise UnavailableError("WITNESS_AWAY", f"expected an answer of {self._node}") from error
        finally:
            link.forget(question.id)


def _line_or_refusal(answer: witness_pb2.AddCheckpointResponse) -> str | Refused:
    return answer.cosignature if answer.WhichOneof("answer") == "cosignature" else _refused(answer.refusal)


def _size_or_refusal(answer: witness_pb2.TakeDeltaResponse) -> int | Refused:
    return _refused(answer.refusal) if answer.HasField("refusal") else answer.size


def _refused(message: statement_pb2.Refusal) -> Refused:
    return Refused(message.code, message.expected, message.found)


def _readable(messages: list[statement_pb2.SignedStatement]) -> tuple[Signed, ...]:
    found = []
    for message in messages:
        try:
            found.append(read_signed(message))
        except MalformedError:
            continue
    return tuple(found)
