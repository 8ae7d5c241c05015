"""Mutual TLS 1.3 of a client, from files.

The root and the host name prove that a coordinator of ours answers; which one, and what it says, is never believed for
more than liveness. That nothing below TLS 1.3 is negotiated is set before grpc is imported (console/__init__).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import grpc

from custody.errors import IntegrityError, MalformedError, UnavailableError

CIPHERS_VARIABLE = "GRPC_SSL_CIPHER_SUITES"
NO_TLS_1_2 = "ECDHE-PSK-AES128-CBC-SHA"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: own certificate chain, own key (readable by its owner alone), and the root of the coordinator."""

    certificate: Path
    key: Path
    ca: Path


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """Return the credentials of this client.

    Raises:
        UnavailableError: TLS_FILE, naming the file that cannot be read.
        MalformedError: TLS_KEY_MODE for a key that others could read.
        IntegrityError: TLS_CIPHERS when the environment asks grpc for other ciphers.
    """
    found = os.environ.get(CIPHERS_VARIABLE, "")
    if found != NO_TLS_1_2:
        raise IntegrityError("TLS_CIPHERS", f"expected {CIPHERS_VARIABLE} unset, found {found[:80]!r}")
    try:
        if stat.S_IMODE(files.key.stat().st_mode) & 0o077:
            raise MalformedError("TLS_KEY_MODE", f"expected {files.key} with mode 0600")
        return grpc.ssl_channel_credentials(
            files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
        )
    except OSError as error:
        raise UnavailableError("TLS_FILE", f"expected a readable {error.filename}: {error.strerror}") from error
