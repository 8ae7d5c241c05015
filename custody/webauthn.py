"""Passkey assertions (Web Authentication Level 3, section 7.2), judged by whoever would act on them.

A passkey shows nothing: what it signs is a challenge, our statement's digest. Where the page came from, which program
asked, whether a person was there and verified: all of that is in the signed bytes, and each of it is checked here. The
counter is not judged: signers that never talk to each other could not (protocol.md "Approval").
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from custody import ed25519, p256
from custody.errors import MalformedError
from custody.framed import framed, take_framed
from custody.reader import Reader

ES256, EDDSA = "webauthn-es256", "webauthn-ed25519"
KEY_BYTES = {ES256: p256.POINT_BYTES, EDDSA: 32}
MAX_ASSERTION_BYTES = 4096  # client data of 200 bytes, authenticator data of 37, a signature of 72; extensions vary
PRESENT, VERIFIED, MAY_BACK_UP, BACKED_UP, HAS_KEY, HAS_EXTENSIONS = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
_FIXED_BYTES = 37  # hash of the RP id, flags, counter


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a browser and an authenticator gave back: as they are, since they are what was signed."""

    client_data: bytes
    authenticator_data: bytes
    signature: bytes

    def to_bytes(self) -> bytes:
        """Return the form in which it travels as one signature."""
        return framed(self.client_data, self.authenticator_data, self.signature)

    @property
    def flags(self) -> int:
        """What the authenticator says of the person and of the key."""
        return self.authenticator_data[32]


def parse_assertion(raw: bytes) -> Assertion:
    """Return the assertion whose form of travel is `raw`. Raises MalformedError (ASSERTION)."""
    if len(raw) > MAX_ASSERTION_BYTES:
        raise MalformedError("ASSERTION", f"expected at most {MAX_ASSERTION_BYTES} bytes, found {len(raw)}")
    try:
        reader = Reader(raw)
        found = Assertion(take_framed(reader), take_framed(reader), take_framed(reader))
    except MalformedError as error:
        raise MalformedError("ASSERTION", f"expected three parts with their lengths: {error.message}") from error
    flags_fit = len(found.authenticator_data) == _FIXED_BYTES or (
        len(found.authenticator_data) > _FIXED_BYTES and bool(found.flags & HAS_EXTENSIONS)
    )
    if reader.left or not flags_fit:
        raise MalformedError("ASSERTION", "expected the authenticator data of an assertion, and nothing behind")
    return found


def holds(alg: str, key: bytes, digest: bytes, raw: bytes) -> bool:
    """Return whether `raw` is an assertion by `key` over the challenge `digest` (32 bytes).

    By whom and where it was asked for is another question: `fits`.

    Args:
        alg: ES256 or EDDSA; fixed per credential.
        key: 65 bytes (P-256, uncompressed) or 32 (Ed25519).
        digest: of the statement.
        raw: `Assertion.to_bytes`.
    """
    try:
        assertion = parse_assertion(raw)
        data = _client_data(assertion.client_data)
    except MalformedError:
        return False
    challenge = urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
    if data.get("type") != "webauthn.get" or data.get("challenge") != challenge:
        return False
    signed = assertion.authenticator_data + sha256(assertion.client_data).digest()
    if alg == EDDSA:
        return ed25519.verify(key, signed, assertion.signature)
    return alg == ES256 and p256.verify(key, signed, assertion.signature)


def fits(raw: bytes, rp_id: str, origins: Sequence[str], device_bound: bool) -> bool:
    """Return whether an assertion was asked for by one of our programs, of a person who was there and verified.

    Args:
        raw: `Assertion.to_bytes`, which `holds`.
        rp_id: of the credential, such as `localhost`.
        origins: of the credential, exact: `http://localhost:8420`.
        device_bound: whether the key may not leave its device.
    """
    # Plan: 1 origin, not inside another page · 2 our RP id · 3 present and verified · 4 backup flags · 5 no key in it.
    assertion = parse_assertion(raw)
    data = _client_data(assertion.client_data)
    if data.get("origin") not in origins or data.get("crossOrigin", False) is not False or "topOrigin" in data:
        return False
    if assertion.authenticator_data[:32] != sha256(rp_id.encode("ascii")).digest():
        return False
    flags = assertion.flags
    if flags & (PRESENT | VERIFIED) != PRESENT | VERIFIED or flags & HAS_KEY:
        return False
    if flags & BACKED_UP and not flags & MAY_BACK_UP:
        return False
    return not (device_bound and flags & MAY_BACK_UP)


def _client_data(raw: bytes) -> dict[str, Any]:  # Any: foreign JSON, of which single values are compared
    """Return the object in `raw`; a name that stands twice, and so could be read in two ways, is refused."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands twice")
        return found

    try:
        data = json.loads(raw.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise MalformedError("ASSERTION", "expected client data in JSON") from error
    if not isinstance(data, dict):
        raise MalformedError("ASSERTION", "expected a JSON object as client data")
    return data
