"""How a plugin meets the server that started it: go-plugin's handshake, protocol 5 with AutoMTLS.

The server hands over its certificate in the environment, we print ours in one line on stdout, and from then on each
side takes only the other's. Both are made for one life of the process, and our key is on no disk.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import os
import shutil
import signal
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from custody.errors import MalformedError

COOKIE = ("VAULT_BACKEND_PLUGIN", "6669da05-b1c8-4f49-97d9-c8e5bed98e20")  # the same in Vault and OpenBao
PROTOCOL = "5"  # of secrets engines: gRPC
CORE_PROTOCOL = "1"
SOCKET_PREFIX = "vp"  # then our pid, so that a later life can tell which directories nobody uses any more
UNPACKED_PREFIX = "_MEI"  # where PyInstaller's loader unpacks a one-file program; a killed one leaves it behind
PID_FILE = "keyturn-engine.pid"
PR_SET_PDEATHSIG = 1  # prctl(2)
HOST_NAME = "localhost"  # whom both certificates name


@dataclass(frozen=True, slots=True)
class Handshake:
    """What both sides know of each other.

    certificate: ours, DER.  server_side: how we take the server's connection, by its certificate alone.
    client_side: how we dial what it offers us, its storage.  directory: of our socket; removed at the end.
    """

    certificate: bytes
    server_side: ssl.SSLContext
    client_side: ssl.SSLContext
    directory: Path

    @property
    def socket(self) -> Path:
        """Where we listen; only our own user can enter its directory."""
        return self.directory / "s"

    @property
    def line(self) -> str:
        """What the server reads from our stdout. The certificate: standard base64 of its DER, without padding."""
        certificate = base64.b64encode(self.certificate).decode().rstrip("=")
        return "|".join((CORE_PROTOCOL, PROTOCOL, "unix", str(self.socket), "grpc", certificate))


def shake(environment: Mapping[str, str], now: datetime) -> Handshake:
    """Return the handshake that `environment` asks for, with a socket directory of its own.

    Raises:
        MalformedError: NOT_A_PLUGIN: nobody that speaks this protocol started us.
    """
    name, value = COOKIE
    if environment.get(name) != value:
        raise MalformedError("NOT_A_PLUGIN", "expected to be started by OpenBao or Vault, as a plugin")
    if PROTOCOL not in environment.get("PLUGIN_PROTOCOL_VERSIONS", "").split(","):
        raise MalformedError("NOT_A_PLUGIN", f"expected a server that speaks plugin protocol {PROTOCOL}")
    server_pem = environment.get("PLUGIN_CLIENT_CERT", "")
    if not server_pem:
        raise MalformedError("NOT_A_PLUGIN", "expected the server's certificate (AutoMTLS)")
    parent = Path(environment.get("PLUGIN_UNIX_SOCKET_DIR") or tempfile.gettempdir())
    clean_stale(parent)
    directory = Path(tempfile.mkdtemp(prefix=f"{SOCKET_PREFIX}{os.getpid()}-", dir=parent))
    pem, der = _own_certificate(now)
    sides = (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)
    server_side, client_side = (_context(side, server_pem, pem) for side in sides)
    return Handshake(der, server_side, client_side, directory)


def clean_stale(parent: Path) -> None:
    """Remove what killed plugins left in `parent`: socket directories and unpacked files of ours whose pid is gone."""
    for found in parent.glob(f"{SOCKET_PREFIX}[0-9]*-*"):
        _remove_if_dead(found, found.name.removeprefix(SOCKET_PREFIX).partition("-")[0])
    for found in parent.glob(f"{UNPACKED_PREFIX}*"):
        with contextlib.suppress(OSError):
            _remove_if_dead(found, (found / PID_FILE).read_text())


def mark_unpacked(directory: str | None) -> None:
    """Note our pid where a one-file program was unpacked, for `clean_stale`. directory: None where it was not."""
    if directory is not None:
        (Path(directory) / PID_FILE).write_text(str(os.getpid()))


def end_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends. parent: its pid as it was at the start."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended in between
        raise SystemExit(1)


def _remove_if_dead(found: Path, pid: str) -> None:
    try:
        ours = found.lstat().st_uid == os.geteuid() and not found.is_symlink()
        if ours and pid.isdigit() and not _runs(pid):
            shutil.rmtree(found, ignore_errors=True)
    except FileNotFoundError:
        return  # another plugin that starts now was quicker


def _runs(pid: str) -> bool:
    """Return whether a process runs; one that ended and whose parent has not asked for it yet does not."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _own_certificate(now: datetime) -> tuple[bytes, bytes]:
    """Return a certificate made for this life, as PEM with its key and as DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST_NAME)])
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]  # we listen, and we dial storage
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=30))
        .not_valid_after(now + timedelta(days=262_980 // 24))  # 30 years, as go-plugin's own: a process may live long
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST_NAME)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.KeyUsage(True, False, False, False, True, True, False, False, False), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret + certificate.public_bytes(serialization.Encoding.PEM), certificate.public_bytes(
        serialization.Encoding.DER
    )


def _context(side: int, server_pem: str, own_pem: bytes) -> ssl.SSLContext:
    """Return TLS that takes nothing but the server's certificate and shows ours.

    The ssl module reads a certificate and key from a path only: one in memory, so that the key is on no disk.
    """
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # TLS 1.3 wherever both can
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=server_pem)
    context.verify_mode = ssl.CERT_REQUIRED
    handle = os.memfd_create("keyturn-engine-tls")
    try:
        os.write(handle, own_pem)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
    return context


def utc_now() -> datetime:
    """Return the time that certificates are made at."""
    return datetime.now(UTC)
