"""Who calls, and the table of who may call what."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import pytest

from coordinator.rpc.identity import ALLOWED, Context, Identity, Role, admit, check_own_name, expires_at, read_identity
from custody.errors import DeniedError
from custody.v1 import (
    approval_pb2,
    audit_pb2,
    chain_pb2,
    courier_pb2,
    message_pb2,
    policy_pb2,
    signer_pb2,
    wallet_pb2,
    withdrawal_pb2,
    witness_pb2,
)
from deploy.ca import make_ca

ROOT = Path(__file__).resolve().parents[2]
FILES = (
    approval_pb2,
    audit_pb2,
    chain_pb2,
    courier_pb2,
    message_pb2,
    policy_pb2,
    signer_pb2,
    wallet_pb2,
    withdrawal_pb2,
    witness_pb2,
)
METHODS = {
    f"/{service.full_name}/{method.name}"
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
GET = "/custody.v1.WithdrawalService/GetWithdrawal"


class FakeCall:
    """A call as grpc shows it, from whoever the auth context says."""

    def __init__(self, auth: Mapping[str, Iterable[bytes]]) -> None:
        self._auth = auth

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what TLS proved."""
        return self._auth


def test_every_method_of_the_protos_has_a_row() -> None:
    """The table speaks of every RPC, and of no RPC that is not there."""
    ours = {method for method in ALLOWED if method.startswith("/custody.v1.")}

    assert ours == METHODS
    assert (
        len({file.DESCRIPTOR.name for file in FILES})
        == len(list((ROOT / "protos" / "custody" / "v1").glob("*.proto"))) - 1
    )


def test_reader_may_not_initiate_administer_or_carry() -> None:
    """The hosted console reads and carries signed statements; what starts or loosens anything is closed to it."""
    closed = {method.rsplit("/", 1)[1] for method in METHODS if Role.READER not in ALLOWED[method]}

    assert closed >= {"Propose", "ProposePsbt", "ProposeRules", "Unfreeze", "SubmitGenesis", "Connect", "ImportAnswer"}


URIS: dict[str, tuple[list[bytes], str]] = {
    "none": ([], "IDENTITY_MISSING"),
    "another_scheme": ([b"spiffe://operator/ann"], "IDENTITY_MISSING"),
    "two": ([b"keyturn://operator/ann", b"keyturn://admin/ann"], "IDENTITY_AMBIGUOUS"),
    "unknown_role": ([b"keyturn://root/ann"], "IDENTITY_MALFORMED"),
    "upper_case": ([b"keyturn://operator/Ann"], "IDENTITY_MALFORMED"),
    "zero_byte": ([b"keyturn://operator/ann\0.evil"], "IDENTITY_MALFORMED"),
    "new_line": ([b"keyturn://operator/ann\n"], "IDENTITY_MALFORMED"),
    "longer_path": ([b"keyturn://operator/ann/x"], "IDENTITY_MALFORMED"),
}


@pytest.mark.parametrize("case", URIS)
def test_identity_given_other_uris_is_refused(case: str) -> None:
    """Anything but one URI of exactly our form is no identity."""
    uris, code = URIS[case]

    with pytest.raises(DeniedError) as caught:
        read_identity(uris)

    assert caught.value.code == code


def test_identity_given_one_uri_of_ours_is_read() -> None:
    """A URI of another scheme beside ours changes nothing."""
    assert read_identity([b"spiffe://a/b", b"keyturn://signer/node-a"]) == Identity(Role.SIGNER, "node-a")


def auth(tmp_path: Path) -> dict[str, list[bytes]]:
    """Return the auth context of a good call by an operator."""
    certificate, _ = make_ca(tmp_path).issue("ann", "operator", tmp_path, server=False)
    return {
        "ssl_tls_version": [b"TLSv1.3"],
        "x509_pem_cert": [certificate.read_bytes()],
        "peer_uri": [b"keyturn://operator/ann"],
    }


def test_admit_given_a_good_call_says_who(tmp_path: Path) -> None:
    """A call in TLS 1.3 by a role of the method's row is admitted."""
    good = auth(tmp_path)
    now = expires_at(good["x509_pem_cert"][0]) - 1

    assert admit(GET, cast(Context, FakeCall(good)), now) == Identity(Role.OPERATOR, "ann")


LIES: dict[str, tuple[str, dict[str, list[bytes]], str]] = {
    "older_tls": (GET, {"ssl_tls_version": [b"TLSv1.2"]}, "TLS_VERSION"),
    "no_tls": (GET, {"ssl_tls_version": []}, "TLS_VERSION"),
    "no_certificate": (GET, {"x509_pem_cert": []}, "CERTIFICATE_EXPIRED"),
    "another_role": (GET, {"peer_uri": [b"keyturn://witness/ann"]}, "ROLE_DENIED"),
    "method_of_nobody": ("/custody.v1.WithdrawalService/Approve", {}, "ROLE_DENIED"),
}


@pytest.mark.parametrize("case", LIES)
def test_admit_given_one_lie_refuses_with_its_code(tmp_path: Path, case: str) -> None:
    """One change to a good call, one code."""
    method, change, code = LIES[case]
    good = auth(tmp_path)
    now = expires_at(good["x509_pem_cert"][0]) - 1

    with pytest.raises(DeniedError) as caught:
        admit(method, cast(Context, FakeCall(good | change)), now)

    assert caught.value.code == code


def test_admit_given_an_expired_certificate_refuses(tmp_path: Path) -> None:
    """A connection that outlives its certificate is of no more use: CERTIFICATE_EXPIRED."""
    good = auth(tmp_path)
    now = expires_at(good["x509_pem_cert"][0]) + 1

    with pytest.raises(DeniedError, match="CERTIFICATE_EXPIRED"):
        admit(GET, cast(Context, FakeCall(good)), now)


def test_check_own_name_given_another_name_refuses() -> None:
    """A field that names somebody else than the certificate is refused."""
    check_own_name(Identity(Role.SIGNER, "node-a"), "node-a")
    with pytest.raises(DeniedError, match="IDENTITY_MISMATCH"):
        check_own_name(Identity(Role.SIGNER, "node-a"), "node-b")
