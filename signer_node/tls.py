"""mTLS of a node's process: credentials from PEM files, and who a caller is.

Role and name come from the client certificate's URI SAN alone (`keyturn://ROLE/NAME`), never from metadata, subject or
other SANs. Python's gRPC cannot set a least TLS version, so `peer_of` refuses calls that came by less than TLS 1.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import grpc

from custody.errors import DeniedError, MalformedError
from signer_node.config import TlsConfig

_URI = re.compile(r"keyturn://([a-z]{1,16})/([a-z0-9][a-z0-9._-]{0,63})")


@dataclass(frozen=True, slots=True)
class Peer:
    """Who calls, as its certificate says: role ("coordinator") and name."""

    role: str
    name: str


def server_credentials(tls: TlsConfig) -> grpc.ServerCredentials:
    """Return credentials of a listener that admits only clients of its own authority.

    Raises:
        MalformedError: TLS_FILE: a file cannot be read.
    """
    ca, certificate, key = _pem(tls)
    return grpc.ssl_server_credentials([(key, certificate)], root_certificates=ca, require_client_auth=True)


def client_credentials(tls: TlsConfig) -> grpc.ChannelCredentials:
    """Return credentials that dial as this identity and trust its own authority alone.

    Raises:
        MalformedError: TLS_FILE: a file cannot be read.
    """
    ca, certificate, key = _pem(tls)
    return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=certificate)


def peer_of(auth: Mapping[str, Iterable[bytes]]) -> Peer:
    """Return who calls, from `context.auth_context()`.

    Raises:
        DeniedError: TLS_VERSION, or IDENTITY_UNKNOWN unless the certificate has exactly one URI SAN of our form.
    """
    if list(auth.get("ssl_tls_version", ())) != [b"TLSv1.3"]:
        raise DeniedError("TLS_VERSION", "expected TLS 1.3")
    uris = list(auth.get("peer_uri", ()))
    found = _URI.fullmatch(uris[0].decode("ascii", "replace")) if len(uris) == 1 else None
    if found is None:
        raise DeniedError("IDENTITY_UNKNOWN", "expected a certificate with one URI SAN keyturn://ROLE/NAME")
    return Peer(found[1], found[2])


def _pem(tls: TlsConfig) -> tuple[bytes, bytes, bytes]:
    try:
        return tls.ca.read_bytes(), tls.certificate.read_bytes(), tls.key.read_bytes()
    except OSError as error:
        raise MalformedError("TLS_FILE", f"expected PEM files: {error.strerror}: {error.filename}") from error
