"""Errors on the wire and back, and the limits that stand at the border."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # has stubs, says not so

from console.channel import CallRefusedError, error_of
from coordinator.rpc.limits import bounded, check_protobuf_backend, deadline_s, exactly, message_limit, page_size
from coordinator.rpc.status import DETAILS_KEY, STATUS, Failure, RefusedCallError, failure_of
from custody import errors
from custody.errors import ConflictError, CustodyError, MalformedError, Refused

WATCH = "/custody.v1.WithdrawalService/WatchWithdrawals"
CONNECT = "/custody.v1.SignerService/Connect"
GET = "/custody.v1.WithdrawalService/GetWithdrawal"


def details_of(failure: Failure) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.BadRequest]:
    """Return the ErrorInfo and the BadRequest that travel with a failure."""
    ((key, raw),) = failure.trailers()
    assert key == DETAILS_KEY
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status_pb2.Status.FromString(raw).details:
        assert detail.Unpack(info) or detail.Unpack(bad)
    return info, bad


def test_every_kind_of_error_has_one_status() -> None:
    """The table speaks of each child of CustodyError."""
    children = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CustodyError)}

    assert set(STATUS) == children - {CustodyError}


def test_malformed_names_its_field_expected_and_found() -> None:
    """A bad argument tells which field, what was expected and what was found."""
    info, bad = details_of(failure_of(MalformedError("FIELD_RANGE", "payment.index: expected 0..9, found 12")))

    assert (info.reason, info.domain) == ("FIELD_RANGE", "keyturn")
    assert dict(info.metadata) == {"expected": "0..9", "found": "12"}
    assert (bad.field_violations[0].field, bad.field_violations[0].reason) == ("payment.index", "FIELD_RANGE")


def test_refusal_is_a_failed_precondition_with_its_words() -> None:
    """A judged no keeps code, expected and found."""
    failure = failure_of(RefusedCallError(Refused("FEE_ABOVE_MAX", "at most 500", "501")))
    info, _ = details_of(failure)

    assert failure.status is grpc.StatusCode.FAILED_PRECONDITION
    assert (info.reason, dict(info.metadata)) == ("FEE_ABOVE_MAX", {"expected": "at most 500", "found": "501"})


def test_surprise_says_nothing() -> None:
    """An error that is not ours goes out as INTERNAL without text."""
    failure = failure_of(RuntimeError("token hvs.ABCDEFGH"))

    assert (failure.status, failure.reason, failure.text) == (grpc.StatusCode.INTERNAL, "INTERNAL", "")
    assert b"hvs" not in failure.trailers()[0][1]


def test_conflict_that_moved_on_is_aborted() -> None:
    """A stale version may be tried again, a taken name may not."""
    assert failure_of(ConflictError("SESSION_STALE", "")).status is grpc.StatusCode.ABORTED
    assert failure_of(ConflictError("WITHDRAWAL_ID_TAKEN", "")).status is grpc.StatusCode.ALREADY_EXISTS


def test_details_of_long_texts_stay_small() -> None:
    """Trailers fit a client that takes 8 KiB of metadata."""
    text = "expected " + "\U0001f4a5" * 5000 + ", found " + "\U0001f4a5" * 5000

    assert len(failure_of(MalformedError("FIELD_HEX", text)).trailers()[0][1]) < 7_000


def test_error_text_that_steers_a_terminal_is_made_plain() -> None:
    """A client shows no control characters of a coordinator, and no code of another shape."""
    info = error_details_pb2.ErrorInfo(reason="\x1b[2J", domain="keyturn", metadata={"found": "\x1b]0;paid\x07"})
    status = status_pb2.Status(code=9)
    status.details.add().Pack(info)
    trailers = grpc.aio.Metadata((DETAILS_KEY, status.SerializeToString()))
    error = grpc.aio.AioRpcError(grpc.StatusCode.FAILED_PRECONDITION, grpc.aio.Metadata(), trailers, "\x1b[31mok")

    found = error_of(error)

    assert isinstance(found, CallRefusedError)
    assert found.refused == Refused("UNKNOWN", "", "?]0;paid?")


def test_error_details_that_are_no_protobuf_are_left_out() -> None:
    """Garbage in the trailers is not an error of ours."""
    trailers = grpc.aio.Metadata((DETAILS_KEY, b"\xff\xff"))

    found = error_of(grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), trailers, "gone"))

    assert (type(found), found.code) == (errors.NotFoundError, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "asked", "allowed"), [(GET, None, 30), (GET, 5, 5), (GET, 1e9, 30), (GET, -1, 0), (WATCH, None, 3600)]
)
def test_deadline_is_the_lesser_of_both(method: str, asked: float | None, allowed: float) -> None:
    """A call without a deadline gets ours; one beyond ours gets ours too."""
    assert deadline_s(method, asked) == allowed


def test_message_limit_is_wider_on_the_signers_stream_alone() -> None:
    """8 MiB for signers, 3 MiB elsewhere."""
    assert (message_limit(CONNECT), message_limit(GET)) == (8 * 1024 * 1024, 3 * 1024 * 1024)


def test_bounds_at_the_edge_refuse_with_their_codes() -> None:
    """Sizes, ranges and pages outside their bounds are refused; inside they pass."""
    assert exactly(b"\0" * 32, 32, "digest") == b"\0" * 32
    assert bounded(200, 1, 200, "blocks") == 200
    assert (page_size(0, 50), page_size(7, 50)) == (50, 7)
    for code, wrong in (
        ("FIELD_SIZE", lambda: exactly(b"\0" * 31, 32, "digest")),
        ("FIELD_RANGE", lambda: bounded(201, 1, 200, "blocks")),
        ("PAGE_SIZE", lambda: page_size(1001, 50)),
    ):
        with pytest.raises(MalformedError, match=code):
            wrong()


def test_protobuf_backend_is_upb() -> None:
    """This installation may serve."""
    check_protobuf_backend()
