"""The embedded certificate authority of the demo and the tests; production uses the PKI of Vault or OpenBao.

One P-256 root that signs leaves directly (path length 0). Who a peer is stands in the URI SAN of its certificate,
`keyturn://ROLE/NAME`, and nowhere else. Keys are written once, mode 0600, and never overwritten.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from custody.fields import check_name

CA_LIFETIME_S = 7 * 24 * 3600  # a demo kept running over a week makes a new one
LEAF_LIFETIME_S = 24 * 3600  # shorter than anybody needs to steal one profitably; longer than any demo or test
BACKDATE_S = 60  # clocks of two machines differ a little


@dataclass(frozen=True, slots=True)
class Ca:
    """A certificate authority: the root certificate on disk and its key, which stays in memory.

    certificate_path: PEM of the root, what every peer is given to verify with.
    """

    certificate_path: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    def issue(
        self, name: str, role: str, directory: Path, server: bool, lifetime_s: int = LEAF_LIFETIME_S
    ) -> tuple[Path, Path]:
        """Write a certificate for `keyturn://ROLE/NAME` and its key into `directory`.

        Args:
            name: an id (a-z 0-9 . _ -), also the file name and CN.
            role: an id.
            directory: made (0700) where missing; gets `NAME.pem` and `NAME.key`, both 0600.
            server: for listeners: adds IP:127.0.0.1 and DNS:localhost. Every leaf may also dial out (clientAuth).
            lifetime_s: seconds from now; may be negative, for tests of an expired one.

        Returns:
            The paths of the certificate and of the key, PEM.

        Raises:
            MalformedError: FIELD_NAME.
            FileExistsError: `directory` already has a certificate or key of that name.
        """
        uri = f"keyturn://{check_name(role, 'role')}/{check_name(name, 'name')}"
        sans: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if server:
            sans += [x509.IPAddress(ipaddress.IPv4Address("127.0.0.1")), x509.DNSName("localhost")]
            usages += [ExtendedKeyUsageOID.SERVER_AUTH]
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(name, key.public_key(), self.certificate.subject, lifetime_s)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(certificate_sign=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(sans), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        cert_path, key_path = directory / f"{name}.pem", directory / f"{name}.key"
        write_new(key_path, _key_pem(key))
        write_new(cert_path, certificate.public_bytes(serialization.Encoding.PEM))
        return cert_path, key_path


def make_ca(directory: Path, lifetime_s: int = CA_LIFETIME_S) -> Ca:
    """Return a new authority whose root certificate is `directory/ca.pem`; its key is kept nowhere on disk.

    Raises:
        FileExistsError: `directory` already has one.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Keyturn embedded CA")])
    certificate = (
        _builder("Keyturn embedded CA", key.public_key(), subject, lifetime_s)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificate_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / "ca.pem"
    write_new(path, certificate.public_bytes(serialization.Encoding.PEM))
    return Ca(path, certificate, key)


def write_new(path: Path, content: bytes) -> None:
    """Write `content` to a new file of mode 0600; FileExistsError where the name is taken."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _builder(
    name: str, public: ec.EllipticCurvePublicKey, issuer: x509.Name, lifetime_s: int
) -> x509.CertificateBuilder:
    end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=lifetime_s)
    start = min(dt.datetime.now(dt.UTC), end) - dt.timedelta(seconds=BACKDATE_S)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(certificate_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificate_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificate_sign,
        crl_sign=certificate_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
