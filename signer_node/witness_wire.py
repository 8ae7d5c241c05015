"""What a witness is asked and answers, on the wire: the same over its own listener and over a node's stream."""

from __future__ import annotations

from custody.errors import Refused
from custody.v1 import statement_pb2, witness_pb2
from signer_node.witness import CosignRequest

ASK_AGAIN = frozenset({"WITNESS_BEHIND", "WITNESS_STALE_SIZE"})  # they say where the witness is: nothing is wrong


def cosign_request(message: witness_pb2.AddCheckpointRequest) -> CosignRequest:
    """Return what is asked in `message`, of a stand-alone witness or over a node's stream."""
    return CosignRequest(message.origin, message.old_size, tuple(message.consistency_proof), message.note)


def checkpoint_response(answer: str | int | Refused, size: int) -> witness_pb2.AddCheckpointResponse:
    """Return the message that carries a cosignature or a refusal."""
    if isinstance(answer, Refused):
        return witness_pb2.AddCheckpointResponse(refusal=refusal_message(answer), size=size)
    return witness_pb2.AddCheckpointResponse(cosignature=str(answer), size=size)


def delta_response(taken: str | int | Refused, size: int) -> witness_pb2.TakeDeltaResponse:
    """Return the message that says how far a witness follows."""
    refusal = refusal_message(taken) if isinstance(taken, Refused) else None
    return witness_pb2.TakeDeltaResponse(size=size, refusal=refusal)


def refusal_message(refused: Refused) -> statement_pb2.Refusal:
    """Return the message that carries `refused`."""
    return statement_pb2.Refusal(code=refused.code, expected=refused.expected, found=refused.found)
