"""What an error becomes on the wire: one table, one stable code in google.rpc.ErrorInfo, never a surprise's text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # has stubs, says not so

from custody.errors import (
    ConflictError,
    CustodyError,
    DeniedError,
    IntegrityError,
    MalformedError,
    NotFoundError,
    Refused,
    UnavailableError,
)

DOMAIN = "keyturn"
DETAILS_KEY = "grpc-status-details-bin"
MAX_TEXT_CHARS = 400  # trailers of all texts together stay under a client's 8 KiB

STATUS: Mapping[type[CustodyError], grpc.StatusCode] = {
    MalformedError: grpc.StatusCode.INVALID_ARGUMENT,
    IntegrityError: grpc.StatusCode.DATA_LOSS,
    ConflictError: grpc.StatusCode.ABORTED,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    DeniedError: grpc.StatusCode.PERMISSION_DENIED,
}
# Codes whose status says more than their class does.
STATUS_OF_CODE: Mapping[str, grpc.StatusCode] = {
    "WITHDRAWAL_ID_TAKEN": grpc.StatusCode.ALREADY_EXISTS,  # for ever; other conflicts: the state moved on, read again
    "MESSAGE_TOO_LARGE": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "TOO_MANY_CALLS": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "TOO_MANY_CALLS_A_MINUTE": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "DEADLINE_EXCEEDED": grpc.StatusCode.DEADLINE_EXCEEDED,
    "NOT_SERVED": grpc.StatusCode.UNIMPLEMENTED,
    "TLS_VERSION": grpc.StatusCode.UNAUTHENTICATED,
    "CERTIFICATE_EXPIRED": grpc.StatusCode.UNAUTHENTICATED,
    "IDENTITY_MISSING": grpc.StatusCode.UNAUTHENTICATED,
    "IDENTITY_AMBIGUOUS": grpc.StatusCode.UNAUTHENTICATED,
    "IDENTITY_MALFORMED": grpc.StatusCode.UNAUTHENTICATED,
}
_FIELD = re.compile(r"([a-z_]+(?:\.[a-z_0-9]+)*): ")  # how custody.fields begins its messages


class RefusedCallError(Exception):
    """Carries a refusal out of a service; the border turns it into FAILED_PRECONDITION. Made by `refuse` alone."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.code)
        self.refused = refused


def refuse(refused: Refused) -> NoReturn:
    """End the call with `refused`: FAILED_PRECONDITION with its code, expected and found."""
    raise RefusedCallError(refused)


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call ends that does not end well. reason: the stable code.  unexpected: for us to look into."""

    status: grpc.StatusCode
    reason: str
    message: str
    expected: str = ""
    found: str = ""
    field: str = ""
    unexpected: bool = False

    @property
    def text(self) -> str:
        """What the status line says to people."""
        return _clip(self.message)

    def trailers(self) -> tuple[tuple[str, bytes], ...]:
        """Return the trailing metadata: google.rpc.Status with ErrorInfo, and BadRequest for bad arguments."""
        words = {"expected": _clip(self.expected), "found": _clip(self.found)}
        info = error_details_pb2.ErrorInfo(
            reason=self.reason, domain=DOMAIN, metadata={key: text for key, text in words.items() if text}
        )
        details = [_packed(info)]
        if self.status is grpc.StatusCode.INVALID_ARGUMENT:
            violation = error_details_pb2.BadRequest.FieldViolation(
                field=self.field, description=self.text, reason=self.reason
            )
            details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
        number: int = self.status.value[0]
        status = status_pb2.Status(code=number, message=self.text, details=details)
        return ((DETAILS_KEY, status.SerializeToString()),)


INTERNAL = Failure(grpc.StatusCode.INTERNAL, "INTERNAL", "", unexpected=True)


def failure_of(error: Exception) -> Failure:
    """Return how a call ends after `error`. What is not ours says nothing but INTERNAL."""
    if isinstance(error, RefusedCallError):
        refused = error.refused
        message = f"expected {refused.expected}, found {refused.found}"
        return Failure(
            grpc.StatusCode.FAILED_PRECONDITION, refused.code, message, expected=refused.expected, found=refused.found
        )
    if not isinstance(error, CustodyError):
        return INTERNAL
    status = STATUS_OF_CODE.get(error.code) or next((s for kind, s in STATUS.items() if isinstance(error, kind)), None)
    if status is None:
        return INTERNAL
    expected, found = _words(error.message)
    field = _FIELD.match(error.message)
    return Failure(status, error.code, error.message, expected, found, field[1] if field else "")


def _words(message: str) -> tuple[str, str]:
    """Return what our messages ("expected A, found B") expected and found; "" where a message does not say."""
    match = re.search(r"expected (.*?)(?:, found (.*))?$", message, re.DOTALL)
    return (match[1], match[2] or "") if match else ("", "")


def _clip(text: str) -> str:
    return text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - 1] + "…"


def _packed(detail: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
