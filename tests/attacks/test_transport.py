"""Attacks on the transport: false identities, large and compressed messages, messages that hide something."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from google.protobuf.descriptor import FieldDescriptor, FileDescriptor

import coordinator.rpc.interceptors
from console.channel import Address, call, open_channel
from console.tls import channel_credentials
from coordinator.rpc.limits import check_protobuf_backend
from coordinator.rpc.statements import read_signed, write_signed
from custody.canonical import Json, encode
from custody.errors import ConflictError, CustodyError, DeniedError, IntegrityError, MalformedError, UnavailableError
from custody.statements import Kind, sign
from custody.units import MAX_MONEY_SATS
from custody.v1 import (
    courier_pb2,
    courier_pb2_grpc,
    signer_pb2,
    signer_pb2_grpc,
    statement_pb2,
    withdrawal_pb2,
    withdrawal_pb2_grpc,
)
from custody.withdrawal import read_withdrawal
from deploy.ca import make_ca
from tests.transport import Wire, serving

MIB = 1024 * 1024
GET = withdrawal_pb2.GetWithdrawalRequest(digest=b"\1" * 32)
STATEMENT: dict[str, Json] = {
    "genesis": "00" * 32,
    "withdrawal_id": "w-1",
    "wallet_id": "11" * 32,
    "network": "regtest",
    "payments": [{"address": "bcrt1q", "amount_sats": 1000, "label": ""}],
    "max_fee_sats": 500,
    "relation": {"kind": "new", "digests": []},
    "initiator": "ann",
    "created_at": 1_800_000_000,
    "expires_at": 1_800_003_600,
    "rules_floor": 1,
}


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    """Serve the probes."""
    async with serving(tmp_path) as running:
        yield running


async def get(address: Address, metadata: list[tuple[str, str]] | None = None) -> str:
    """Return who the server says called GetWithdrawal."""
    async with open_channel(address) as channel:
        method = withdrawal_pb2_grpc.WithdrawalServiceStub(channel).GetWithdrawal
        answer = await method(GET, timeout=5, metadata=metadata)
    return answer.withdrawal.wallet


def reissued(wire: Wire, name: str, sans: list[x509.GeneralName]) -> Address:
    """Return an address whose certificate, signed by the true CA, has `sans` instead of its own."""
    address = wire.address(name, "operator")
    old = x509.load_pem_x509_certificate(address.files.certificate.read_bytes())
    builder = x509.CertificateBuilder(
        old.issuer,
        old.subject,
        old.public_key(),
        old.serial_number,
        old.not_valid_before_utc,
        old.not_valid_after_utc,
    )
    for extension in old.extensions:
        if not isinstance(extension.value, x509.SubjectAlternativeName):
            builder = builder.add_extension(extension.value, extension.critical)
    fresh = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False).sign(wire.ca.key, hashes.SHA256())
    address.files.certificate.write_bytes(fresh.public_bytes(serialization.Encoding.PEM))
    return address


@pytest.mark.slow
async def test_atk_101_certificate_of_another_role_is_denied(wire: Wire) -> None:
    """A witness's or a signer's valid certificate opens no method of people; an unknown role opens none."""
    stranger = reissued(wire, "root", [x509.UniformResourceIdentifier("keyturn://root/ann")])
    for address, code in (
        (wire.address("w1", "witness"), "ROLE_DENIED"),
        (wire.address("node-a", "signer"), "ROLE_DENIED"),
        (stranger, "IDENTITY_MALFORMED"),
    ):
        async with open_channel(address) as channel:
            with pytest.raises(DeniedError) as caught:
                await call(withdrawal_pb2_grpc.WithdrawalServiceStub(channel).GetWithdrawal, GET)
        assert caught.value.code == code
        assert wire.lines()[-1]["reason"] == code


SANS: dict[str, tuple[list[x509.GeneralName], str]] = {
    "name_in_cn_alone": ([x509.DNSName("localhost")], "IDENTITY_MISSING"),
    "uri_as_dns_name": ([x509.DNSName("keyturn://operator/ann")], "IDENTITY_MISSING"),
    "two_uris": (
        [
            x509.UniformResourceIdentifier("keyturn://operator/ann"),
            x509.UniformResourceIdentifier("keyturn://admin/ann"),
        ],
        "IDENTITY_AMBIGUOUS",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", SANS)
async def test_atk_101_identity_outside_one_uri_san_counts_nothing(wire: Wire, case: str) -> None:
    """The CN, a DNS name that looks like our URI, and a second URI make no identity."""
    sans, code = SANS[case]

    async with open_channel(reissued(wire, "ann", sans)) as channel:
        with pytest.raises(DeniedError) as caught:
            await call(withdrawal_pb2_grpc.WithdrawalServiceStub(channel).GetWithdrawal, GET)

    assert caught.value.code == code


@pytest.mark.slow
async def test_atk_101_expired_and_foreign_certificates_get_no_connection(wire: Wire, tmp_path: Path) -> None:
    """An expired certificate, one of another CA with the same name, and none at all end at the handshake."""
    other = make_ca(tmp_path / "other")
    expired = wire.address("ann", "operator", lifetime_s=-10)
    foreign = wire.address("ann", "operator", ca=other)
    for address in (expired, foreign):
        async with open_channel(address) as channel:
            with pytest.raises(UnavailableError):
                await call(withdrawal_pb2_grpc.WithdrawalServiceStub(channel).GetWithdrawal, GET, 5)
    nobody = grpc.ssl_channel_credentials(wire.ca.certificate_path.read_bytes())
    async with grpc.aio.secure_channel(f"localhost:{wire.server.port}", nobody) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await withdrawal_pb2_grpc.WithdrawalServiceStub(channel).GetWithdrawal(GET, timeout=5)

    assert wire.lines() == []


@pytest.mark.slow
async def test_atk_101_connection_that_outlives_its_certificate_is_denied(wire: Wire) -> None:
    """A call on an open connection is judged by the certificate's date too."""
    async with open_channel(wire.address("ann", "operator", lifetime_s=2)) as channel:
        method = withdrawal_pb2_grpc.WithdrawalServiceStub(channel).GetWithdrawal
        await call(method, GET)
        await asyncio.sleep(2.1)
        with pytest.raises(DeniedError) as caught:
            await call(method, GET)

    assert caught.value.code == "CERTIFICATE_EXPIRED"


@pytest.mark.slow
async def test_atk_101_unknown_and_unserved_methods_are_closed(wire: Wire) -> None:
    """A method without a row is denied, and one that is not served here says so; both leave a line."""
    async with open_channel(wire.address("ann", "operator")) as channel:
        unknown: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/custody.v1.WithdrawalService/Approve"
        )
        with pytest.raises(grpc.aio.AioRpcError) as denied:
            await unknown(b"", timeout=5)
        with pytest.raises(UnavailableError) as unserved:
            await call(courier_pb2_grpc.CourierServiceStub(channel).ExportPsbt, courier_pb2.ExportPsbtRequest())

    assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert unserved.value.code == "NOT_SERVED"
    assert [line["reason"] for line in wire.lines()] == ["ROLE_DENIED", "NOT_SERVED"]


@pytest.mark.slow
async def test_atk_102_identity_in_metadata_or_a_field_counts_nothing(wire: Wire) -> None:
    """Headers that claim another identity change nothing; a hello in another node's name is denied."""
    claims = [("role", "admin"), ("x-user", "root"), ("peer_uri", "keyturn://admin/eve"), ("authorization", "Bearer x")]
    assert await get(wire.address("ann", "reader"), claims) == "reader/ann"

    hello = signer_pb2.ConnectRequest(hello=signer_pb2.Hello(node="node-b"))
    async with open_channel(wire.address("node-a", "signer")) as channel:
        answers = signer_pb2_grpc.SignerServiceStub(channel).Connect(iter([hello]), timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(answers))

    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert wire.lines()[-1]["reason"] == "IDENTITY_MISMATCH"


def proposal(size: int) -> withdrawal_pb2.ProposeRequest:
    """Return a request of somewhat more than `size` bytes."""
    return withdrawal_pb2.ProposeRequest(withdrawal=statement_pb2.SignedStatement(statement=b"0" * size))


@pytest.mark.slow
async def test_atk_104_large_messages_are_refused_by_method(wire: Wire) -> None:
    """People's calls take 3 MiB, checked before parsing; a signer's stream takes 8 MiB; more, the transport refuses."""
    async with open_channel(wire.address("ann", "operator")) as channel:
        propose = withdrawal_pb2_grpc.WithdrawalServiceStub(channel).Propose
        with pytest.raises(CustodyError) as above:
            await call(propose, proposal(3 * MIB))
        with pytest.raises(MalformedError) as inside:
            await call(propose, proposal(3 * MIB - 100))
    assert (above.value.code, inside.value.code) == ("MESSAGE_TOO_LARGE", "STATEMENT_TOO_LARGE")

    answer = signer_pb2.ConnectRequest(answer=signer_pb2.Answer(document=b"0" * 6 * MIB))
    async with open_channel(wire.address("node-a", "signer")) as channel:
        connect = signer_pb2_grpc.SignerServiceStub(channel).Connect
        first = await anext(aiter(connect(iter([answer]), timeout=5)))
    assert first.welcome.money_size == 6 * MIB

    unbounded = grpc.aio.secure_channel(
        f"localhost:{wire.server.port}", channel_credentials(wire.address("bob", "operator").files)
    )
    async with unbounded as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await withdrawal_pb2_grpc.WithdrawalServiceStub(channel).Propose(proposal(9 * MIB), timeout=5)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.slow
async def test_atk_104_compressed_messages_are_not_unpacked(wire: Wire) -> None:
    """A gzip bomb is refused by the transport as it stands: no service sees it."""
    credentials = channel_credentials(wire.address("ann", "operator").files)
    async with grpc.aio.secure_channel(
        f"localhost:{wire.server.port}", credentials, compression=grpc.Compression.Gzip
    ) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await withdrawal_pb2_grpc.WithdrawalServiceStub(channel).Propose(proposal(2 * MIB), timeout=5)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert not any(line["reason"] == "STATEMENT_TOO_LARGE" for line in wire.lines())


@pytest.mark.slow
async def test_atk_104_metadata_above_8_kib_is_refused(wire: Wire) -> None:
    """Headers are not a place for content; the server goes on serving."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await get(wire.address("ann", "operator"), [("x-large", "0" * 100_000)])

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await get(wire.address("bob", "operator")) == "operator/bob"


def test_atk_105_messages_are_flat_and_the_backend_is_upb(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request nests in itself or holds an Any, and a process on another protobuf backend does not start."""
    check_protobuf_backend()
    monkeypatch.setattr("google.protobuf.internal.api_implementation.Type", lambda: "python")
    with pytest.raises(IntegrityError, match="PROTOBUF_BACKEND"):
        check_protobuf_backend()

    file: FileDescriptor
    for file in (withdrawal_pb2.DESCRIPTOR, signer_pb2.DESCRIPTOR, courier_pb2.DESCRIPTOR, statement_pb2.DESCRIPTOR):
        for message in file.message_types_by_name.values():
            assert depth(message.fields, set()) <= 6, message.full_name


def depth(fields: Sequence[FieldDescriptor], outer: set[str]) -> int:
    """Return how deep messages nest below `fields`; fails where one is inside itself or is not ours."""
    deepest = 0
    for field in fields:
        if field.message_type is not None:
            name = field.message_type.full_name
            assert name not in outer
            assert name.startswith("custody.v1.")
            deepest = max(deepest, 1 + depth(field.message_type.fields, outer | {name}))
    return deepest


@pytest.mark.slow
async def test_atk_105_bytes_that_are_no_message_are_refused(wire: Wire) -> None:
    """Deeply nested groups and garbage get a code of ours, and the service goes on."""
    async with open_channel(wire.address("ann", "operator")) as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/custody.v1.WithdrawalService/GetWithdrawal"
        )
        for raw in (b"\x9b\x06" * 100_000, b"\xff" * 50):  # 100,000 open groups of an unknown field; no field at all
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await method(raw, timeout=5)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    assert {line["reason"] for line in wire.lines()} == {"MESSAGE_UNREADABLE"}


def test_atk_106_unknown_fields_are_left_at_the_border() -> None:
    """Bytes smuggled into a message change no digest and do not travel on."""
    message = write_signed(sign(Kind.WITHDRAWAL, STATEMENT, b"\7" * 32))
    smuggled = statement_pb2.SignedStatement.FromString(message.SerializeToString() + b"\xa2\x06\x06hidden")
    assert b"hidden" in smuggled.SerializeToString()

    signed = read_signed(smuggled)

    assert signed.digest == read_signed(message).digest
    assert write_signed(signed).SerializeToString() == message.SerializeToString()


def test_atk_106_another_spelling_of_a_statement_is_refused() -> None:
    """Only canonical bytes have a digest here."""
    message = write_signed(sign(Kind.WITHDRAWAL, STATEMENT, b"\7" * 32))
    message.statement = message.statement.replace(b":", b": ", 1)

    with pytest.raises(MalformedError, match="NOT_CANONICAL"):
        read_signed(message)


AMOUNTS: dict[str, tuple[object, str]] = {
    "negative": (-1, "AMOUNT_OUT_OF_RANGE"),
    "2^63": (2**63, "NOT_CANONICAL_VALUE"),
    "2^64 - 1": (2**64 - 1, "NOT_CANONICAL_VALUE"),
    "above_21_million": (MAX_MONEY_SATS + 1, "AMOUNT_OUT_OF_RANGE"),
    "text": ("1000", "AMOUNT_NOT_WHOLE"),
    "fraction": (0.5, "NOT_CANONICAL_VALUE"),
}


@pytest.mark.parametrize("case", AMOUNTS)
def test_atk_94_amount_that_is_no_number_of_sats_is_refused_at_the_edge(case: str) -> None:
    """Money comes in as whole sats inside a signed statement alone; every other number ends before the service."""
    amount, code = AMOUNTS[case]
    raw = encode(STATEMENT).replace(b'"amount_sats":1000', b'"amount_sats":' + json.dumps(amount).encode())
    message = statement_pb2.SignedStatement(kind=Kind.WITHDRAWAL.value, statement=raw)

    with pytest.raises(MalformedError) as caught:
        read_withdrawal(read_signed(message))

    assert caught.value.code == code


@pytest.mark.slow
async def test_atk_95_other_content_under_a_taken_id_is_a_conflict_on_the_wire(wire: Wire) -> None:
    """A client can tell a taken id (never to be repeated) from a state that moved on (to be read again)."""
    wire.withdrawals.breaks = ConflictError("WITHDRAWAL_ID_TAKEN", "expected the digest first sent, found another")
    async with open_channel(wire.address("ann", "operator")) as channel:
        method = withdrawal_pb2_grpc.WithdrawalServiceStub(channel).GetWithdrawal
        with pytest.raises(ConflictError) as caught:
            await call(method, GET)

    assert caught.value.code == "WITHDRAWAL_ID_TAKEN"
    assert wire.lines()[-1]["code"] == "ALREADY_EXISTS"


@pytest.mark.slow
async def test_atk_107_call_without_a_deadline_ends_by_ours(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sets no deadline does not hold a call for ever."""
    monkeypatch.setattr(coordinator.rpc.interceptors, "deadline_s", lambda method, asked: 0.05 if asked is None else 9)
    silence = asyncio.Event()

    async def nothing() -> AsyncIterator[signer_pb2.ConnectRequest]:
        await silence.wait()
        yield signer_pb2.ConnectRequest()

    async with open_channel(wire.address("node-a", "signer")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(signer_pb2_grpc.SignerServiceStub(channel).Connect(nothing())))
        silence.set()

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert wire.lines()[-1]["reason"] == "DEADLINE_EXCEEDED"


@pytest.mark.slow
async def test_atk_107_one_peer_takes_no_more_than_its_share(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer with all its calls open gets no further one; another peer does, and it too once one ends."""
    monkeypatch.setattr(coordinator.rpc.interceptors, "MAX_CALLS_OF_ONE_PEER", 1)
    hello = signer_pb2.ConnectRequest(hello=signer_pb2.Hello(node="node-a"))
    node_a, node_b = wire.address("node-a", "signer"), wire.address("node-b", "signer")
    async with open_channel(node_a) as channel, open_channel(node_b) as other:
        stub = signer_pb2_grpc.SignerServiceStub(channel)
        held = stub.Connect(timeout=9)
        await held.write(hello)
        await held.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(stub.Connect(iter([hello]), timeout=5)))
        empty = signer_pb2.ConnectRequest()
        await anext(aiter(signer_pb2_grpc.SignerServiceStub(other).Connect(iter([empty]), timeout=5)))
        await held.done_writing()
        await held.code()
        await anext(aiter(stub.Connect(iter([hello]), timeout=5)))

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "TOO_MANY_CALLS" in {line["reason"] for line in wire.lines()}
