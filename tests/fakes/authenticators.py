"""Keys in hardware, as far as they show outside: a passkey with its browser, and a FIDO key of SSH."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256, sha512
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from custody import ed25519, sshsig, webauthn
from custody.framed import framed
from custody.statements import SSH, Endorsement, Kind
from custody.webauthn import BACKED_UP, MAY_BACK_UP, PRESENT, VERIFIED, Assertion
from tests.fakes.rules import seed_of

ORIGIN, RP_ID = "http://localhost:8420", "localhost"


@dataclass(frozen=True, slots=True)
class Passkey:
    """One person's passkey. alg: webauthn.ES256 or EDDSA.  flags: what its authenticator says of person and key."""

    owner: str
    alg: str = webauthn.ES256
    flags: int = PRESENT | VERIFIED
    rp_id: str = RP_ID
    client: Mapping[str, Any] = field(default_factory=dict)
    extra: bytes = b""

    @property
    def key(self) -> bytes:
        """The public key, as the rules list it."""
        if self.alg == webauthn.EDDSA:
            return ed25519.public_key(self._seed)
        return _secret(self._seed).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    @property
    def _seed(self) -> bytes:
        return seed_of(f"passkey of {self.owner}")

    def credential(self, *, seen: bool = True, **more: Any) -> dict[str, Any]:
        """Return it as a rules document lists it; seen with the key of its owner's desk."""
        desk = {"desk_key": ed25519.public_key(desk_seed(self.owner)).hex()} if seen else {}
        listed = {"alg": self.alg, "key": self.key.hex(), "seen": seen, "rp_id": RP_ID, "origins": [ORIGIN]}
        return {**listed, **desk, **more}

    def endorse(self, digest: bytes) -> Endorsement:
        """Return the assertion over `digest`, as a browser on ORIGIN gives it."""
        told = {
            "type": "webauthn.get",
            "challenge": urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "origin": ORIGIN,
            "crossOrigin": False,
            **self.client,
        }
        client_data = json.dumps(told, separators=(",", ":")).encode()
        authenticator_data = sha256(self.rp_id.encode()).digest() + bytes([self.flags]) + bytes(4) + self.extra
        signed = authenticator_data + sha256(client_data).digest()
        if self.alg == webauthn.EDDSA:
            made = ed25519.sign(self._seed, signed)
        else:
            made = _secret(self._seed).sign(signed, ec.ECDSA(SHA256()))
        return Endorsement(self.alg, self.key, Assertion(client_data, authenticator_data, made).to_bytes())


SYNCED = PRESENT | VERIFIED | MAY_BACK_UP | BACKED_UP


def desk_seed(owner: str) -> bytes:
    """Return the seed of the Ed25519 key of a person's desk: 32 bytes."""
    return seed_of(f"desk of {owner}")


@dataclass(frozen=True, slots=True)
class FidoKey:
    """A `sk-` key of SSH. kind: sshsig.SK_ED25519 or SK_ECDSA.  flags: UP and UV as its device says."""

    owner: str
    kind: bytes = sshsig.SK_ED25519
    flags: int = sshsig.TOUCHED | sshsig.VERIFIED
    application: bytes = b"ssh:"

    @property
    def key(self) -> bytes:
        """The public key in SSH's wire form."""
        if self.kind == sshsig.SK_ED25519:
            return framed(self.kind, ed25519.public_key(self._seed), self.application)
        point = _secret(self._seed).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return framed(self.kind, b"nistp256", point, self.application)

    @property
    def _seed(self) -> bytes:
        return seed_of(f"fido key of {self.owner}")

    def endorse(self, kind: Kind, raw: bytes, namespace: bytes = b"") -> Endorsement:
        """Return what `ssh-keygen -Y sign` makes with it of the statement `raw`."""
        named = namespace or sshsig.namespace_of(kind.value)
        wrapped = b"SSHSIG" + framed(named, b"", b"sha512", sha512(raw).digest())
        counted = bytes([self.flags]) + (7).to_bytes(4, "big")
        signed = sha256(self.application).digest() + counted + sha256(wrapped).digest()
        if self.kind == sshsig.SK_ED25519:
            made = ed25519.sign(self._seed, signed)
        else:
            numbers = decode_dss_signature(_secret(self._seed).sign(signed, ec.ECDSA(SHA256())))
            made = framed(*(_mpint(number) for number in numbers))
        signature = framed(self.kind, made) + counted
        blob = b"SSHSIG" + (1).to_bytes(4, "big") + framed(self.key, named, b"", b"sha512", signature)
        return Endorsement(SSH, self.key, blob)


def _mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _secret(seed: bytes) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(seed, "big") >> 1, ec.SECP256R1())
