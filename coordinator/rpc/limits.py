"""How large, how many and how long: what a peer with a valid certificate can cost us at most."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.protobuf.internal import api_implementation

from custody.errors import IntegrityError, MalformedError

MIB = 1024 * 1024
MAX_MESSAGE_BYTES = 3 * MIB  # a 2 MiB PSBT beside a 512 KiB statement
MAX_SIGNER_MESSAGE_BYTES = 8 * MIB  # documents of 6 MiB with room; also what the transport takes
MAX_METADATA_BYTES = 8 * 1024  # we read none of it
MAX_STREAMS = 64  # per connection; a console page holds two or three
MAX_CALLS = 512  # at once; each can hold one message
MAX_CALLS_OF_ONE_PEER = 64  # a share, so that one peer cannot take them all
UNARY_DEADLINE_S = 30.0  # longer than a commit under load with its witness cosignatures
STREAM_DEADLINE_S = 3600.0  # watchers come back; so a stream cannot outlive a revoked certificate for long
MAX_PAGE = 1_000

_SIGNER_STREAM = "/custody.v1.SignerService/Connect"
_MESSAGE_BYTES: Mapping[str, int] = {_SIGNER_STREAM: MAX_SIGNER_MESSAGE_BYTES}
_STREAMS = frozenset(
    {
        _SIGNER_STREAM,
        "/custody.v1.WithdrawalService/WatchWithdrawals",
        "/custody.v1.AuditService/Export",
        "/grpc.health.v1.Health/Watch",
    }
)

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_SIGNER_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_SIGNER_MESSAGE_BYTES),
    ("grpc.compression_enabled_algorithms_bitset", 1),  # identity alone: nothing small may unpack into something large
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.so_reuseport", 0),  # a second process on our port must fail, not share it
)
NO_COMPRESSION = grpc.Compression.NoCompression


def message_limit(method: str) -> int:
    """Return how many bytes one request message of `method` may have."""
    return _MESSAGE_BYTES.get(method, MAX_MESSAGE_BYTES)


def deadline_s(method: str, asked_s: float | None) -> float:
    """Return how long a call may run: what the client asked for (None: nothing), never more than our cap."""
    cap = STREAM_DEADLINE_S if method in _STREAMS else UNARY_DEADLINE_S
    return cap if asked_s is None else max(0.0, min(asked_s, cap))


def page_size(asked: int, default: int, high: int = MAX_PAGE) -> int:
    """Return the size of a page: 0 means `default`; more than `high` is refused with PAGE_SIZE."""
    if asked > high:
        raise MalformedError("PAGE_SIZE", f"page_size: expected at most {high}, found {asked}")
    return asked or default


def exactly(value: bytes, size: int, where: str) -> bytes:
    """Return `value` when it has `size` bytes; else FIELD_SIZE, naming the field `where`."""
    if len(value) != size:
        raise MalformedError("FIELD_SIZE", f"{where}: expected {size} bytes, found {len(value)}")
    return value


def bounded(value: int, low: int, high: int, where: str) -> int:
    """Return `value` when it is inside low..high; else FIELD_RANGE, naming the field `where`."""
    if not low <= value <= high:
        raise MalformedError("FIELD_RANGE", f"{where}: expected {low}..{high}, found {value}")
    return value


def check_protobuf_backend() -> None:
    """Refuse to start on any protobuf backend but upb, the one whose nesting limit was checked (PROTOBUF_BACKEND)."""
    found = api_implementation.Type()
    if found != "upb":
        raise IntegrityError("PROTOBUF_BACKEND", f"expected upb, found {found}")
