"""Signed statements between the wire and custody: what is hashed is the canonical bytes, never protobuf's."""

from __future__ import annotations

from dataclasses import replace

from custody.canonical import decode
from custody.errors import MalformedError
from custody.statements import MAX_STATEMENT_BYTES, Signed
from custody.v1 import statement_pb2

MAX_ENDORSEMENTS = 64


def read_signed(message: statement_pb2.SignedStatement) -> Signed:
    """Return the statement in `message`; unknown fields, and endorsements that do not hold, are left behind.

    What is logged is kept for ever, and a verifier of the log refuses a statement with a single wrong endorsement.

    Raises:
        MalformedError: STATEMENT_TOO_LARGE, STATEMENT_KIND, NOT_CANONICAL, or a FIELD_ code.
    """
    if len(message.statement) > MAX_STATEMENT_BYTES:
        raise MalformedError("STATEMENT_TOO_LARGE", f"expected at most {MAX_STATEMENT_BYTES} bytes")
    if len(message.endorsements) > MAX_ENDORSEMENTS:
        raise MalformedError("FIELD_TOO_LONG", f"signed.endorsements: expected at most {MAX_ENDORSEMENTS} items")
    endorsements = [{"alg": e.alg, "key": e.key.hex(), "signature": e.signature.hex()} for e in message.endorsements]
    signed = Signed.from_json(
        {"kind": message.kind, "statement": decode(message.statement), "endorsements": endorsements}
    )
    by_key = {e.key: e for e in signed.endorsements if e.holds(signed.kind, signed.raw)}
    return replace(signed, endorsements=tuple(by_key.values()))


def write_signed(signed: Signed) -> statement_pb2.SignedStatement:
    """Return the message that carries `signed`."""
    return statement_pb2.SignedStatement(
        kind=signed.kind.value,
        statement=signed.raw,
        endorsements=[
            statement_pb2.Endorsement(alg=e.alg, key=e.key, signature=e.signature) for e in signed.endorsements
        ],
    )
