"""The embedded CA: who a peer is stands in its certificate, and TLS 1.3 with it works in both directions."""

from __future__ import annotations

import ssl
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography import x509

from custody.errors import MalformedError
from deploy.ca import Ca, make_ca


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> Mapping[str, object]:
    """Run a TLS handshake in memory and return the client certificate that the server saw."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[1].getpeercert() or {}


def _contexts(ca: Ca, directory: Path, client_lifetime_s: int = 600) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    server.load_cert_chain(*ca.issue("coordinator-1", "coordinator", directory, server=True))
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(ca.certificate_path)
    client = ssl.create_default_context(cafile=str(ca.certificate_path))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_cert_chain(*ca.issue("node-1", "signer", directory, server=False, lifetime_s=client_lifetime_s))
    return server, client


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_ca_when_both_sides_trust_it_names_the_client_by_uri(tmp_path: Path, name: str) -> None:
    """Mutual TLS 1.3 succeeds, and the server reads role and name from the URI SAN."""
    server, client = _contexts(make_ca(tmp_path), tmp_path)

    assert ("URI", "keyturn://signer/node-1") in _handshake(server, client, name)["subjectAltName"]  # type: ignore[operator]


def test_ca_when_the_client_certificate_is_expired_is_refused(tmp_path: Path) -> None:
    """A certificate past its end opens nothing."""
    server, client = _contexts(make_ca(tmp_path), tmp_path, client_lifetime_s=-1)

    with pytest.raises(ssl.SSLError, match="expired"):
        _handshake(server, client, "localhost")


def test_ca_when_the_root_is_another_is_refused(tmp_path: Path) -> None:
    """A leaf of another CA of the same name is not believed."""
    server, _ = _contexts(make_ca(tmp_path / "a"), tmp_path / "a")
    _, client = _contexts(make_ca(tmp_path / "b"), tmp_path / "b")

    with pytest.raises(ssl.SSLError):
        _handshake(server, client, "localhost")


def test_ca_when_it_issues_writes_private_files_once(tmp_path: Path) -> None:
    """Every file is 0600, a second issue of the name overwrites nothing, and the root key is not on disk."""
    ca = make_ca(tmp_path)
    cert, key = ca.issue("node-1", "signer", tmp_path, server=False)
    before = key.read_bytes()

    with pytest.raises(FileExistsError):
        ca.issue("node-1", "signer", tmp_path, server=False)

    assert key.read_bytes() == before
    assert {stat.S_IMODE(path.stat().st_mode) for path in (cert, key, ca.certificate_path)} == {0o600}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.pem", "node-1.key", "node-1.pem"]
    assert x509.load_pem_x509_certificate(cert.read_bytes()).serial_number != ca.certificate.serial_number


def test_ca_when_a_name_could_forge_a_role_is_refused(tmp_path: Path) -> None:
    """A slash in a name would let it spell another role."""
    with pytest.raises(MalformedError, match="FIELD_NAME"):
        make_ca(tmp_path).issue("signer/x", "reader", tmp_path, server=False)
