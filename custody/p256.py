"""ECDSA over P-256 with SHA-256: passkeys (ES256 of RFC 9053) and FIDO keys of SSH. Verification only."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

POINT_BYTES = 65  # uncompressed, X9.62
_ORDER_BITS = 256


def verify(point: bytes, message: bytes, der: bytes) -> bool:
    """Return whether `der` is a signature of `message` by `point` (65 bytes); False for any other shape."""
    if len(point) != POINT_BYTES:
        return False
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        key.verify(der, message, ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def verify_numbers(point: bytes, message: bytes, r: int, s: int) -> bool:
    """Return whether (r, s) is a signature of `message` by `point` (65 bytes)."""
    if max(r, s).bit_length() > _ORDER_BITS:
        return False
    return verify(point, message, encode_dss_signature(r, s))
