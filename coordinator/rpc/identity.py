"""Who calls, and what that role may call: from the client certificate's URI SAN alone, never from metadata or fields.

A role says which doors open, never whose word a statement is: principals come from signatures.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, TypeAlias

import grpc
from cryptography import x509

from custody.errors import DeniedError

# Any: the border handles calls of every message type and looks into none of them.
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

TLS_VERSION = b"TLSv1.3"
_URI = re.compile(rb"keyturn://([a-z]{1,16})/([a-z0-9][a-z0-9._-]{0,63})")


class Role(Enum):
    """What a certificate is for; the value is the authority part of its URI."""

    OPERATOR = "operator"
    CLIENT = "client"
    READER = "reader"
    SIGNER = "signer"
    WITNESS = "witness"
    ADMIN = "admin"
    COORDINATOR = "coordinator"


@dataclass(frozen=True, slots=True)
class Identity:
    """One peer, as its certificate says."""

    role: Role
    name: str

    def __str__(self) -> str:
        return f"{self.role.value}/{self.name}"


_ADMIN = frozenset({Role.ADMIN})
_OPERATOR = frozenset({Role.OPERATOR})
_SIGNER = frozenset({Role.SIGNER})
_RUNS = frozenset({Role.OPERATOR, Role.ADMIN})
_ASKS = frozenset({Role.OPERATOR, Role.CLIENT})
_PEOPLE = frozenset({Role.OPERATOR, Role.CLIENT, Role.READER, Role.ADMIN})
_SETS_UP = frozenset({Role.OPERATOR, Role.ADMIN, Role.SIGNER})  # an online node brings its own ceremony documents
_EVERYBODY = frozenset(Role)

# Deny by default: a method without a row is closed. The hosted console is a reader: it reads and carries statements
# already signed, but initiating, rule documents and unfreezing exist only in programs that people run themselves.
ALLOWED: Mapping[str, frozenset[Role]] = {
    "/custody.v1.WithdrawalService/Propose": _ASKS,
    "/custody.v1.WithdrawalService/ProposePsbt": _ASKS,
    "/custody.v1.WithdrawalService/GetWithdrawal": _PEOPLE,
    "/custody.v1.WithdrawalService/ListWithdrawals": _PEOPLE,
    "/custody.v1.WithdrawalService/WatchWithdrawals": _PEOPLE,
    "/custody.v1.WithdrawalService/CancelWithdrawal": _PEOPLE,
    "/custody.v1.ApprovalService/SubmitApproval": _PEOPLE,
    "/custody.v1.ApprovalService/SubmitStop": _PEOPLE,
    "/custody.v1.ApprovalService/ListApprovals": _PEOPLE,
    "/custody.v1.PolicyService/GetRules": _EVERYBODY,
    "/custody.v1.PolicyService/ProposeRules": _ADMIN,
    "/custody.v1.PolicyService/Explain": _PEOPLE,
    "/custody.v1.PolicyService/Freeze": _PEOPLE,
    "/custody.v1.PolicyService/Unfreeze": _RUNS,
    "/custody.v1.MessageService/ProposeMessage": _ASKS,
    "/custody.v1.MessageService/ApproveMessage": _PEOPLE,
    "/custody.v1.MessageService/GetMessage": _PEOPLE,
    "/custody.v1.MessageService/ListMessages": _PEOPLE,
    "/custody.v1.MessageService/ExportMessage": _OPERATOR,
    "/custody.v1.MessageService/ImportMessageAnswer": _OPERATOR,
    "/custody.v1.SignerService/Connect": _SIGNER,
    "/custody.v1.SignerService/ReportHealth": _SIGNER | _OPERATOR,  # online nodes bring their own, people carry others
    "/custody.v1.SignerService/ListSigners": _PEOPLE,
    "/custody.v1.CourierService/ExportBundle": _OPERATOR,
    "/custody.v1.CourierService/ImportAnswer": _OPERATOR,
    "/custody.v1.CourierService/ExportDelta": _OPERATOR,
    "/custody.v1.CourierService/ExportPsbt": _OPERATOR,
    "/custody.v1.CourierService/ImportPsbt": _OPERATOR,
    "/custody.v1.WalletService/ListWallets": _PEOPLE,
    "/custody.v1.WalletService/GetWallet": _PEOPLE,
    "/custody.v1.WalletService/NextAddress": _ASKS,
    "/custody.v1.WalletService/GetBalance": _PEOPLE,
    "/custody.v1.WalletService/ListCoins": _PEOPLE,
    "/custody.v1.WalletService/SubmitKeyRecord": _SETS_UP,
    "/custody.v1.WalletService/ListKeyRecords": _SETS_UP,
    "/custody.v1.WalletService/SubmitGenesis": _RUNS,
    "/custody.v1.WalletService/SubmitGenesisSignature": _SETS_UP,
    "/custody.v1.WalletService/GetGenesis": _EVERYBODY,
    "/custody.v1.AuditService/GetCheckpoint": _EVERYBODY,
    "/custody.v1.AuditService/ListEntries": _PEOPLE | _SIGNER,
    "/custody.v1.AuditService/GetInclusionProof": _EVERYBODY,
    "/custody.v1.AuditService/GetConsistencyProof": _EVERYBODY,
    "/custody.v1.AuditService/GetCosignatures": _EVERYBODY,
    "/custody.v1.AuditService/Export": _PEOPLE,
    "/custody.v1.WitnessService/AddCheckpoint": frozenset(),  # served by witnesses, which keep their own table
    "/custody.v1.WitnessService/GetWitnessState": frozenset(),
    "/custody.v1.WitnessService/TakeDelta": frozenset(),
    "/custody.v1.WitnessService/PostStatement": frozenset(),
    "/custody.v1.WitnessService/ListHeld": frozenset(),
    "/custody.v1.ChainService/Mine": _OPERATOR,
    "/custody.v1.ChainService/GetTip": _OPERATOR,
    "/grpc.health.v1.Health/Check": _EVERYBODY,
    "/grpc.health.v1.Health/Watch": _EVERYBODY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _RUNS,
}


def read_identity(uris: Iterable[bytes]) -> Identity:
    """Return the one identity among a certificate's URI SANs; those of other schemes say nothing to us.

    Raises:
        DeniedError: IDENTITY_MISSING, IDENTITY_AMBIGUOUS (two of ours) or IDENTITY_MALFORMED (an unknown role too).
    """
    ours = [uri for uri in uris if uri.startswith(b"keyturn:")]
    if len(ours) != 1:
        code = "IDENTITY_AMBIGUOUS" if ours else "IDENTITY_MISSING"
        raise DeniedError(code, f"expected one URI keyturn://ROLE/NAME in the certificate, found {len(ours)}")
    match = _URI.fullmatch(ours[0])
    role = next((r for r in Role if match and r.value.encode() == match[1]), None)
    if match is None or role is None:
        raise DeniedError("IDENTITY_MALFORMED", "expected keyturn://ROLE/NAME with a known role")
    return Identity(role, match[2].decode())


def identity_of(context: Context) -> Identity:
    """Return who calls, for the services behind the border, which has admitted the call."""
    return read_identity(context.auth_context().get("peer_uri", ()))


def admit(method: str, context: Context, now: float) -> Identity:
    """Return who calls `method`, or refuse the call.

    Args:
        method: full path, "/package.Service/Method".
        context: of the call.
        now: UTC seconds; a connection may outlive the certificate that opened it.

    Raises:
        DeniedError: TLS_VERSION, CERTIFICATE_EXPIRED, an IDENTITY_ code, or ROLE_DENIED.
    """
    auth = context.auth_context()
    if list(auth.get("ssl_tls_version", ())) != [TLS_VERSION]:
        raise DeniedError("TLS_VERSION", "expected TLS 1.3")
    certificate = b"".join(auth.get("x509_pem_cert", ()))
    if now > expires_at(certificate):
        raise DeniedError("CERTIFICATE_EXPIRED", "expected a certificate in date")
    identity = read_identity(auth.get("peer_uri", ()))
    if identity.role not in ALLOWED.get(method, ()):
        raise DeniedError("ROLE_DENIED", f"expected a role that may call {method}, found {identity.role.value}")
    return identity


@lru_cache(maxsize=256)
def expires_at(pem: bytes) -> float:
    """Return when a certificate expires, UTC seconds; 0 when it cannot be read, which is long ago."""
    try:
        return x509.load_pem_x509_certificate(pem).not_valid_after_utc.astimezone(dt.UTC).timestamp()
    except ValueError:
        return 0.0


def check_own_name(identity: Identity, claimed: str) -> None:
    """Refuse a message that names somebody else than its certificate does: IDENTITY_MISMATCH."""
    if claimed != identity.name:
        raise DeniedError("IDENTITY_MISMATCH", f"expected {identity.name}, as the certificate says")
