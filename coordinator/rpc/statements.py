"""Signed statements between the wire and custody: what is hashed is the canonical bytes, never protobuf's."""

from __future__ import annotations

from custody.canonical import decode
from custody.errors import MalformedError
from custody.statements import MAX_STATEMENT_BYTES, Signed
from custody.v1 import statement_pb2

MAX_ENDORSEMENTS = 64


def read_signed(message: statement_pb2.SignedStatement) -> Signed:
    """Return the statement in `message`; fields unknown to us are left behind.

    Raises:
        MalformedError: STATEMENT_TOO_LARGE, STATEMENT_KIND, NOT_CANONICAL, or a FIELD_ code.
    """
    if len(message.statement) > MAX_STATEMENT_BYTES:
        raise MalformedError("STATEMENT_TOO_LARGE", f"expected at most {MAX_STATEMENT_BYTES} bytes")
    if len(message.endorsements) > MAX_ENDORSEMENTS:
        raise MalformedError("FIELD_TOO_LONG", f"signed.endorsements: expected at most {MAX_ENDORSEMENTS} items")
    endorsements = [{"alg": e.alg, "key": e.key.hex(), "signature": e.signature.hex()} for e in message.endorsements]
    return Signed.from_json(
        {"kind": message.kind, "statement": decode(message.statement), "endorsements": endorsements}
    )


def write_signed(signed: Signed) -> statement_pb2.SignedStatement:
    """Return the message that carries `signed`."""
    return statement_pb2.SignedStatement(
        kind=signed.kind.value,
        statement=signed.raw,
        endorsements=[
            statement_pb2.Endorsement(alg=e.alg, key=e.key, signature=e.signature) for e in signed.endorsements
        ],
    )
