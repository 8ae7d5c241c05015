"""The plugin's outside: who may start it, what it leaves behind, which paths there are, what an error becomes."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from custody.errors import ConflictError, CustodyError, MalformedError, NotFoundError, UnavailableError
from signer_node.engine.backend import status_of
from signer_node.engine.engine import Engine
from signer_node.engine.handshake import COOKIE, PID_FILE, clean_stale, shake
from signer_node.engine.paths import PATHS, UnsupportedOperation, UnsupportedPath, answer
from signer_node.engine.version import VERSION
from tests.fakes.clock import FakeClock
from tests.fakes.engine_storage import MemoryStorage
from tests.fakes.rules import NOW

TODAY = datetime(2027, 1, 15, tzinfo=UTC)
DEAD_PID = 2**22 + 1  # above what Linux gives


def server_certificate() -> str:
    """Return a certificate as go-plugin's hosts make it: P-521, self-signed, for localhost."""
    key = ec.generate_private_key(ec.SECP521R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(TODAY)
        .not_valid_after(TODAY + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA512())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def environment(directory: Path) -> dict[str, str]:
    """Return what a server gives the plugin it starts."""
    return {
        COOKIE[0]: COOKIE[1],
        "PLUGIN_PROTOCOL_VERSIONS": "5",
        "PLUGIN_CLIENT_CERT": server_certificate(),
        "PLUGIN_UNIX_SOCKET_DIR": str(directory),
    }


def engine() -> Engine:
    """Return an engine that holds nothing."""
    return Engine(MemoryStorage(), FakeClock(NOW), lambda size: bytes(range(size)))


def test_shake_when_a_server_asks_gives_the_line_that_go_plugin_reads(tmp_path: Path) -> None:
    """Six fields; the certificate is DER in base64 without padding, and good for localhost only."""
    found = shake(environment(tmp_path), TODAY)

    core, protocol, network, address, kind, certificate = found.line.split("|")
    der = base64.b64decode(certificate + "=" * (-len(certificate) % 4))
    names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert (core, protocol, network, kind) == ("1", "5", "unix", "grpc")
    assert "=" not in certificate
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost"]
    assert Path(address).parent == found.directory
    assert found.directory.stat().st_mode & 0o777 == 0o700
    assert {found.server_side.verify_mode, found.client_side.verify_mode} == {ssl.CERT_REQUIRED}


@pytest.mark.parametrize("missing", [COOKIE[0], "PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_CLIENT_CERT"])
def test_shake_when_something_is_missing_is_no_plugin(missing: str, tmp_path: Path) -> None:
    """Without a server's certificate anybody could dial: then it does not start, and makes no directory."""
    asked = environment(tmp_path)
    del asked[missing]

    with pytest.raises(MalformedError, match="NOT_A_PLUGIN"):
        shake(asked, TODAY)

    assert list(tmp_path.iterdir()) == []


def test_program_when_a_person_starts_it_says_what_it_is() -> None:
    """One line, exit code 1, nothing on stdout."""
    ran = subprocess.run(
        [sys.executable, "-m", "signer_node.engine"], capture_output=True, text=True, timeout=60, check=False
    )

    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("NOT_A_PLUGIN")


def test_clean_stale_when_plugins_were_killed_removes_what_nobody_uses(tmp_path: Path) -> None:
    """Only directories of our name whose process is gone: not a living one's, not another program's, no link."""
    dead, alive, other = tmp_path / f"vp{DEAD_PID}-x", tmp_path / f"vp{os.getpid()}-x", tmp_path / "vpn-config"
    unpacked, unpacked_alive, unpacked_other = (tmp_path / f"_MEI{name}" for name in "abc")
    for directory in (dead, alive, other, unpacked, unpacked_alive, unpacked_other):
        directory.mkdir()
        (directory / "s").touch()
    (unpacked / PID_FILE).write_text(str(DEAD_PID))
    (unpacked_alive / PID_FILE).write_text(str(os.getpid()))
    link = tmp_path / f"vp{DEAD_PID}-link"
    link.symlink_to(other)

    clean_stale(tmp_path)

    assert set(tmp_path.iterdir()) == {alive, other, unpacked_alive, unpacked_other, link}
    assert (other / "s").exists()


def test_paths_when_listed_hold_no_way_to_a_seed_or_a_bare_digest() -> None:
    """Eight operations; whoever adds one has to change this list too."""
    updates = {("update", path) for path in ("key", "genesis", "wallet", "follow", "sign", "life")}

    assert set(PATHS) == {("read", "status"), ("read", "key"), *updates}


@pytest.mark.parametrize("path", ["seed", "sign/digest", "sighash", "export", "log/00000000", "keys", ""])
async def test_answer_when_there_is_no_such_path_is_unsupported(path: str) -> None:
    """Storage keys are no paths."""
    for operation in ("read", "update"):
        with pytest.raises(UnsupportedPath):
            await answer(engine(), operation, path, "{}")


@pytest.mark.parametrize(
    ("operation", "path"), [("resolve-path", "sign"), ("delete", "key"), ("read", "sign"), ("rollback", "")]
)
async def test_answer_when_the_operation_is_another_is_unsupported(operation: str, path: str) -> None:
    """The server tries several on each path, and must be told which are none."""
    with pytest.raises(UnsupportedOperation):
        await answer(engine(), operation, path, "{}")


WRONG_REQUESTS = {
    "a_digest": ("sign", {"digest": "00" * 32}, "FIELD_MISSING"),
    "a_digest_beside_a_bundle": ("sign", {"bundle": "{}", "digests": ["00" * 32]}, "FIELD_UNKNOWN"),
    "a_seed": (
        "key",
        {"node": "alpha", "network": "regtest", "request": "00" * 16, "seed": "00" * 32},
        "FIELD_UNKNOWN",
    ),
    "no_network": ("key", {"node": "alpha", "network": "moonnet", "request": "00" * 16}, "NETWORK"),
    "half_a_letter": ("sign", {"bundle": "\ud800"}, "FIELD_TYPE"),
    "a_list": ("sign", [], "FIELD_TYPE"),
}


@pytest.mark.parametrize("wrong", WRONG_REQUESTS)
async def test_answer_when_a_field_is_wrong_is_malformed(wrong: str) -> None:
    """What is not known is refused, never skipped."""
    path, body, code = WRONG_REQUESTS[wrong]

    with pytest.raises(CustodyError) as refused:
        await answer(engine(), "update", path, json.dumps(body))

    assert refused.value.code == code


async def test_answer_when_asked_for_its_key_gives_the_public_half() -> None:
    """Made by one call, read by another."""
    one = engine()
    born = await answer(one, "update", "key", json.dumps({"node": "alpha", "network": "regtest", "request": "00" * 16}))

    assert await answer(one, "read", "key", "") == born
    assert isinstance(born, dict)
    assert set(born) == {"fingerprint", "path", "xpub"}
    assert await answer(one, "read", "status", "") == {"node": "alpha", "network": "regtest", "version": VERSION}


@pytest.mark.parametrize(
    ("error", "status"),
    [(ConflictError, 409), (NotFoundError, 422), (MalformedError, 422), (UnavailableError, 500)],
)
def test_status_of_an_error_then_is_never_404(error: type[CustodyError], status: int) -> None:
    """404 is what the server says of a mount whose plugin is down: a missing key must not look like that."""
    assert status_of(error("CODE", "words")) == status
