"""Mutual TLS 1.3 from files: certificates are short-lived, so a server takes a renewed one without a restart.

That nothing below TLS 1.3 is negotiated is set where this package begins, before grpc is imported;
the border checks the version of every call besides (`coordinator.rpc.identity.admit`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from custody.errors import IntegrityError, MalformedError, UnavailableError

CIPHERS_VARIABLE = "GRPC_SSL_CIPHER_SUITES"
NO_TLS_1_2 = "ECDHE-PSK-AES128-CBC-SHA"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: own certificate chain, own key (readable by its owner alone), and the root that peers must have."""

    certificate: Path
    key: Path
    ca: Path

    def stamp(self) -> tuple[int, ...]:
        """Return what changes when a file is replaced."""
        return tuple(path.stat().st_mtime_ns for path in (self.certificate, self.key, self.ca))

    def read(self) -> tuple[bytes, bytes, bytes]:
        """Return certificate, key and root.

        Raises:
            UnavailableError: TLS_FILE, naming the file that cannot be read.
            MalformedError: TLS_KEY_MODE for a key that others could read.
        """
        try:
            if stat.S_IMODE(self.key.stat().st_mode) & 0o077:
                raise MalformedError("TLS_KEY_MODE", f"expected {self.key} with mode 0600")
            return self.certificate.read_bytes(), self.key.read_bytes(), self.ca.read_bytes()
        except OSError as error:
            raise UnavailableError("TLS_FILE", f"expected a readable {error.filename}: {error.strerror}") from error


def require_tls_1_3() -> None:
    """Refuse to run where the environment asks grpc for other ciphers than this package set: TLS_CIPHERS."""
    found = os.environ.get(CIPHERS_VARIABLE, "")
    if found != NO_TLS_1_2:
        raise IntegrityError("TLS_CIPHERS", f"expected {CIPHERS_VARIABLE} unset, found {found[:80]!r}")


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return credentials that demand a client certificate, and follow the files when they are replaced."""
    require_tls_1_3()
    return grpc.dynamic_ssl_server_credentials(
        _configuration(files),
        _follow(files),  # type: ignore[arg-type]  # None keeps the last one, says grpc; its stubs forget it
        require_client_authentication=True,
    )


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """Return the credentials for dialling out, to a witness."""
    require_tls_1_3()
    certificate, key, ca = files.read()
    return grpc.ssl_channel_credentials(ca, key, certificate)


def _configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    certificate, key, ca = files.read()
    return grpc.ssl_server_certificate_configuration([(key, certificate)], ca)


def _follow(files: TlsFiles) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
    """Return the function that grpc asks at each handshake: a new configuration, or None to keep the last."""
    seen = files.stamp()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal seen
        try:
            stamp = files.stamp()
            if stamp == seen:
                return None
            configuration = _configuration(files)
        except (OSError, UnavailableError, MalformedError):
            return None  # being replaced just now: the next handshake asks again
        seen = stamp
        return configuration

    return fetch
