"""This desk's own key, which never leaves its file, and the passkeys that were made at it, of which no secret is here.

What the browser says of a passkey is judged here as every signer judges it: by the bytes that were signed.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from webauthn import verify_registration_response
from webauthn.helpers import parse_cbor
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import WebAuthnException

from console.files import read_file, read_seed, replace_file, write_new
from custody import ed25519, statements, webauthn
from custody.canonical import Json, decode, encode
from custody.errors import MalformedError
from custody.fields import Fields
from custody.statements import Endorsement, Kind
from custody.webauthn import Assertion

RP_ID = "localhost"
MAX_PASSKEYS = 16  # of one person at one desk
MAX_FILE_BYTES = 64 * 1024
MAX_ID_BYTES = 1_023  # Web Authentication Level 3, section 4: of a credential id
ALGORITHMS = {"webauthn-es256": -7, "webauthn-ed25519": -8}  # RFC 9053: numbers of ES256 and EdDSA


@dataclass(frozen=True, slots=True)
class Passkey:
    """A passkey made at this desk. id: what the browser calls it by.  alg, key: as the rules list it."""

    id: bytes
    alg: str
    key: bytes


@dataclass(frozen=True, slots=True)
class DeskKeys:
    """The files of one desk. seed: 32 bytes, Ed25519.  path: of the list of passkeys.  origin: "http://localhost:8420"."""

    seed: bytes = field(repr=False)
    path: Path
    origin: str

    @property
    def public_key(self) -> bytes:
        """32 bytes: what the rules list beside a passkey."""
        return ed25519.public_key(self.seed)

    def passkeys(self) -> tuple[Passkey, ...]:
        """Return the passkeys that were made here, oldest first."""
        if not self.path.exists():
            return ()
        fields = Fields(decode(read_file(self.path, MAX_FILE_BYTES)), self.path.name)
        items = [Fields(item, self.path.name) for item in fields.items("passkeys", MAX_PASSKEYS)]
        return tuple(Passkey(item.hex("id"), item.text("alg"), item.hex("key")) for item in items)

    def remember(self, passkey: Passkey) -> None:
        """Keep one more; the oldest goes where there are too many."""
        kept = [found for found in self.passkeys() if found.id != passkey.id][-(MAX_PASSKEYS - 1) :]
        listed: list[Json] = [{"id": f.id.hex(), "alg": f.alg, "key": f.key.hex()} for f in (*kept, passkey)]
        replace_file(self.path, encode({"passkeys": listed}))

    def endorse(self, kind: Kind, raw: bytes) -> Endorsement:
        """Return this desk's signature of the canonical bytes `raw`, which it showed."""
        return statements.endorse(kind, raw, self.seed)


def open_keys(config_path: Path, origin: str) -> DeskKeys:
    """Return the keys of the desk whose settings are in `config_path`; its own key is made where there is none.

    Raises:
        MalformedError: KEY_FILE.
        IntegrityError: KEY_FILE_MODE where others could read it.
    """
    path = config_path.with_name(f"{config_path.stem}.desk.ed25519")
    if not path.exists():
        write_new(path, os.urandom(32).hex().encode())
    return DeskKeys(read_seed(path), config_path.with_name(f"{config_path.stem}.passkeys.json"), origin)


def read_created(answer: Mapping[str, object], challenge: bytes, origin: str) -> Passkey:
    """Return the passkey that a browser says it made.

    Raises:
        MalformedError: PASSKEY: other challenge or origin, no user verification, an unknown algorithm.
    """
    try:
        found = verify_registration_response(
            credential=dict(answer),
            expected_challenge=challenge,
            expected_rp_id=RP_ID,
            expected_origin=origin,
            require_user_verification=True,
            supported_pub_key_algs=[COSEAlgorithmIdentifier.ECDSA_SHA_256, COSEAlgorithmIdentifier.EDDSA],
        )
        key = parse_cbor(found.credential_public_key)
        if key[3] == ALGORITHMS[webauthn.ES256]:
            return Passkey(found.credential_id, webauthn.ES256, b"\x04" + key[-2] + key[-3])
        return Passkey(found.credential_id, webauthn.EDDSA, key[-2])
    except (WebAuthnException, KeyError, TypeError, ValueError) as error:
        raise MalformedError("PASSKEY", f"expected a passkey made for this page: {type(error).__name__}") from error


def read_asserted(answer: Mapping[str, object], passkey: Passkey, digest: bytes, origin: str) -> Endorsement:
    """Return what a browser's answer signs, if it is an assertion by `passkey` over `digest` for this desk.

    Raises:
        MalformedError: ASSERTION: another challenge, another page, no person verified, another key.
    """
    response = answer.get("response")
    if not isinstance(response, Mapping):
        raise MalformedError("ASSERTION", "expected an assertion of a passkey")
    parts = [unb64(response.get(name)) for name in ("clientDataJSON", "authenticatorData", "signature")]
    raw = Assertion(*parts).to_bytes()
    holds = webauthn.holds(passkey.alg, passkey.key, digest, raw)
    if not holds or not webauthn.fits(raw, RP_ID, (origin,), device_bound=False):
        raise MalformedError("ASSERTION", "expected your passkey over this very statement, asked for by this desk")
    return Endorsement(passkey.alg, passkey.key, raw)


def b64(raw: bytes) -> str:
    """Return `raw` in the base64 of web pages."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64(text: object) -> bytes:
    """Return what `b64` made. Raises MalformedError ASSERTION."""
    try:
        if not isinstance(text, str) or len(text) > 16_384:
            raise ValueError("no text")
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, Base64Error) as error:
        raise MalformedError("ASSERTION", "expected base64 of a passkey's answer") from error
