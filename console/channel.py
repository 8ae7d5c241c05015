"""The channel to the coordinator: every call has a deadline, every failure comes back as one of our errors.

What arrives in an error is text of a machine that is trusted for liveness only: codes are checked for their shape and
messages are stripped of what could steer a terminal.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # has stubs, says not so

from console.tls import TlsFiles, channel_credentials
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

Request = TypeVar("Request", contravariant=True)
Response = TypeVar("Response", covariant=True)

MAX_RECEIVE_BYTES = 8 * 1024 * 1024  # a bundle of 6 MiB is the largest answer
CALL_DEADLINE_S = 30.0  # what the coordinator allows a call
WATCH_DEADLINE_S = 3600.0  # what it allows a stream; whoever watches longer calls again
MAX_TEXT_CHARS = 1_000
DOMAIN = "keyturn"
DETAILS_KEY = "grpc-status-details-bin"

_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_ERRORS: Mapping[grpc.StatusCode, type[CustodyError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: MalformedError,
    grpc.StatusCode.ALREADY_EXISTS: ConflictError,
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.PERMISSION_DENIED: DeniedError,
    grpc.StatusCode.UNAUTHENTICATED: DeniedError,
    grpc.StatusCode.DATA_LOSS: IntegrityError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: UnavailableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: UnavailableError,
    grpc.StatusCode.UNIMPLEMENTED: UnavailableError,
    grpc.StatusCode.CANCELLED: UnavailableError,
}


class CallRefusedError(CustodyError):
    """The coordinator understood the call and refused it. refused: its code, what it expected and what it found."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.code, f"expected {refused.expected}, found {refused.found}")
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Address:
    """Where a coordinator listens. target: "host:port".  files: who we are, and the root it must have."""

    target: str
    files: TlsFiles


def open_channel(address: Address) -> grpc.aio.Channel:
    """Return a channel to use with a stub of custody.v1 and `call` or `stream`; close it with `async with`."""
    options = [
        ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
        ("grpc.max_send_message_length", MAX_RECEIVE_BYTES),
        ("grpc.compression_enabled_algorithms_bitset", 1),  # identity alone
        ("grpc.enable_retries", 0),  # whoever repeats a call must know that it may be repeated
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    ]
    return grpc.aio.secure_channel(address.target, channel_credentials(address.files), options=options)


async def call(
    method: grpc.aio.UnaryUnaryMultiCallable[Request, Response], request: Request, deadline_s: float = CALL_DEADLINE_S
) -> Response:
    """Return the answer of `method`, such as `WithdrawalServiceStub(channel).Propose`.

    Raises:
        CallRefusedError: a judged no.
        CustodyError: of the class and code that the coordinator had; UnavailableError when it cannot be reached.
    """
    try:
        return await method(request, timeout=deadline_s)
    except grpc.aio.AioRpcError as error:
        raise error_of(error) from error


async def stream(
    method: grpc.aio.UnaryStreamMultiCallable[Request, Response], request: Request, deadline_s: float = WATCH_DEADLINE_S
) -> AsyncIterator[Response]:
    """Yield the answers of `method` until it ends; raises as `call` does."""
    try:
        async for answer in method(request, timeout=deadline_s):
            yield answer
    except grpc.aio.AioRpcError as error:
        raise error_of(error) from error


def error_of(error: grpc.aio.AioRpcError) -> CustodyError:
    """Return what a failed call means: the coordinator's own error where it sent one, else the transport's."""
    info = _error_info(error)
    message = _plain(error.details() or "")
    if info is None:
        kind = _ERRORS.get(error.code(), CustodyError)
        return kind(error.code().name, message or "expected an answer of the coordinator")
    code = info.reason if _CODE.fullmatch(info.reason) else "UNKNOWN"
    if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
        words = info.metadata
        return CallRefusedError(Refused(code, _plain(words.get("expected", "")), _plain(words.get("found", ""))))
    return _ERRORS.get(error.code(), CustodyError)(code, message)


def _error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo | None:
    """Return the coordinator's ErrorInfo, or None when the transport or somebody else speaks."""
    info = error_details_pb2.ErrorInfo()
    for key, value in error.trailing_metadata() or ():
        if key != DETAILS_KEY or not isinstance(value, bytes):
            continue
        try:
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info) and info.domain == DOMAIN:
                    return info
        except DecodeError:
            return None
    return None


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_TEXT_CHARS])
