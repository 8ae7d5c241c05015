"""The one door to secp256k1.

Signs and verifies with coincurve's libsecp256k1; embit's own copy of the library gives the second opinion after each
signature. ECDSA is plain RFC 6979 without grinding and BIP-340 uses 32 zero bytes of aux, so the same key and digest
give the same bytes in every implementation, and a signer has no freedom to leak a key through nonces.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable, Sequence

from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT
from embit.util import secp256k1 as second

from custody.errors import IntegrityError

# Bare calls instead of coincurve's and embit's objects: those take as long again as the curve does. Buffers are made
# anew in each call, because the calls release the GIL: two threads with one buffer would sign each other's digests.
_CONTEXT = GLOBAL_CONTEXT.ctx
_ZERO_AUX = bytes(32)
_COMPRESSED = lib.SECP256K1_EC_COMPRESSED
_COPY, _PARSE_DER, _VERIFY = ffi.memmove, lib.secp256k1_ecdsa_signature_parse_der, lib.secp256k1_ecdsa_verify
_SECOND = getattr(sys.modules[second.ecdsa_sign.__module__], "_secp", None)  # None where embit fell back to Python
_Buffer = ctypes.c_char * 64  # a parsed key or signature
MAX_DER_BYTES = 72  # 33-byte r and 33-byte s are impossible with low S; 72 bounds every strict encoding


def require_native() -> None:
    """Refuse to run on a secp256k1 that is not the native library.

    Raises:
        IntegrityError: CURVE_NOT_NATIVE where embit fell back to pure Python (slow and not constant time).
    """
    if second.ecdsa_sign.__module__ != "embit.util.ctypes_secp256k1":
        raise IntegrityError("CURVE_NOT_NATIVE", f"expected a native secp256k1, found {second.ecdsa_sign.__module__}")


def is_secret(secret: bytes) -> bool:
    """Return whether `secret` is 32 bytes inside 1..n-1."""
    return len(secret) == 32 and bool(lib.secp256k1_ec_seckey_verify(_CONTEXT, bytes(secret)))


def is_public_key(pubkey: bytes) -> bool:
    """Return whether `pubkey` is 33 bytes, compressed, and a point of the curve."""
    if len(pubkey) != 33 or pubkey[0] not in (2, 3):
        return False
    return bool(lib.secp256k1_ec_pubkey_parse(_CONTEXT, ffi.new("secp256k1_pubkey *"), pubkey, 33))


def public_key(secret: bytes) -> bytes:
    """Return the public key of `secret` (32 bytes): 33 bytes, compressed."""
    point = ffi.new("secp256k1_pubkey *")
    if len(secret) != 32 or not lib.secp256k1_ec_pubkey_create(_CONTEXT, point, bytes(secret)):
        raise ValueError("expected a secret of 32 bytes inside 1..n-1")
    return _compressed(point)


def parse_point(pubkey: bytes) -> bytes:
    """Return `pubkey` (33 bytes) as the library keeps it in memory: 64 bytes, for `child_points` and `Verifier`.

    Raises:
        ValueError: no compressed point of the curve.
    """
    point = ffi.new("secp256k1_pubkey *")
    if len(pubkey) != 33 or not lib.secp256k1_ec_pubkey_parse(_CONTEXT, point, pubkey, 33):
        raise ValueError("expected a compressed point of the curve")
    return bytes(ffi.buffer(point))


def child_points(parents: Sequence[bytes], tweaks: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """Return each point `parent + tweak * G` twice: 33 bytes, compressed, and 64 bytes as `parse_point` gives.

    Creating `tweak * G` and adding it is faster than the library's tweak_add, which multiplies without its tables.

    Args:
        parents: 64 bytes each, of `parse_point`.
        tweaks: one per parent; the first 32 bytes count.

    Raises:
        ValueError: there is no such point (one tweak in 2^127).
    """
    keys = ffi.new("secp256k1_pubkey[3]")
    parent, added, child = keys, keys + 1, keys + 2
    pair, in_memory = ffi.new("secp256k1_pubkey *[2]", [parent, added]), ffi.buffer(child, 64)
    compressed, size = ffi.new("unsigned char[33]"), ffi.new("size_t *", 33)
    compressed_bytes, copy = ffi.buffer(compressed), ffi.memmove
    create, combine, serialize = (
        lib.secp256k1_ec_pubkey_create,
        lib.secp256k1_ec_pubkey_combine,
        lib.secp256k1_ec_pubkey_serialize,
    )
    found = []
    for point, tweak in zip(parents, tweaks, strict=True):
        if len(point) != 64 or len(tweak) < 32:
            raise ValueError("expected a point of 64 bytes and a tweak of 32")
        copy(parent, point, 64)
        if not create(_CONTEXT, added, tweak) or not combine(_CONTEXT, child, pair, 2):
            raise ValueError("expected a tweak that gives a point")
        serialize(_CONTEXT, compressed, size, child, _COMPRESSED)
        found.append((compressed_bytes[:], in_memory[:]))
    return found


def _compressed(point: object) -> bytes:
    compressed, size = ffi.new("unsigned char[33]"), ffi.new("size_t *", 33)
    lib.secp256k1_ec_pubkey_serialize(_CONTEXT, compressed, size, point, _COMPRESSED)
    return bytes(ffi.buffer(compressed))


def uncompressed(point: bytes) -> bytes:
    """Return `point` (64 bytes, of `parse_point` or `child_points`) with both coordinates: 65 bytes (SEC 1)."""
    key, full, size = ffi.new("secp256k1_pubkey *"), ffi.new("unsigned char[65]"), ffi.new("size_t *", 65)
    ffi.memmove(key, point, 64)
    lib.secp256k1_ec_pubkey_serialize(_CONTEXT, full, size, key, lib.SECP256K1_EC_UNCOMPRESSED)
    return bytes(ffi.buffer(full))


def add_tweak(pubkey: bytes, tweak: bytes) -> bytes:
    """Return the point `pubkey + tweak * G`: 33 bytes, compressed (BIP-32 public child). Raises ValueError."""
    return child_points([parse_point(pubkey)], [tweak])[0][0]


def child_secret(parent: bytes, tweak: bytes) -> bytes:
    """Return `parent + tweak` modulo the curve's order: 32 bytes (BIP-32 private child).

    Raises:
        ValueError: there is no such secret (one tweak in 2^127).
    """
    secret = ffi.new("unsigned char[32]", parent)
    try:
        if not lib.secp256k1_ec_seckey_tweak_add(_CONTEXT, secret, tweak):
            raise ValueError("expected a tweak that gives a secret")
        return bytes(ffi.buffer(secret))
    finally:
        ffi.memmove(secret, _ZERO_AUX, 32)


def ecdsa_sign(secret: bytes, digest: bytes) -> bytes:
    """Return the DER signature of `digest` (32 bytes): low S, RFC 6979, no grinding; at most 71 bytes."""
    return ecdsa_sign_children([(secret, _ZERO_AUX, digest)])[0]


def ecdsa_sign_children(jobs: Iterable[tuple[bytes, bytes, bytes]]) -> list[bytes]:
    """Return one DER signature per job, as `ecdsa_sign` with `child_secret` would give; or none at all.

    The children's secrets stand in one buffer that no one else sees, overwritten by the next one and at the end.

    Args:
        jobs: (secret of the parent, 32 bytes; tweak, whose first 32 bytes count; digest, 32 bytes) each.

    Raises:
        ValueError: a wrong length, or no such secret (one tweak in 2^127).
    """
    secret, made = ffi.new("unsigned char[32]"), ffi.new("secp256k1_ecdsa_signature *")
    der, size, null = ffi.new("unsigned char[72]"), ffi.new("size_t *"), ffi.NULL
    der_bytes, copy, add, sign = (
        ffi.buffer(der),
        ffi.memmove,
        lib.secp256k1_ec_seckey_tweak_add,
        lib.secp256k1_ecdsa_sign,
    )
    found = []
    try:
        for parent, tweak, digest in jobs:
            if len(parent) != 32 or len(digest) != 32 or len(tweak) < 32:
                raise ValueError("expected a secret, a tweak and a digest of 32 bytes")
            copy(secret, parent, 32)
            if not add(_CONTEXT, secret, tweak) or not sign(_CONTEXT, made, digest, secret, null, null):
                raise ValueError("expected a secret and a tweak that give a secret")
            size[0] = MAX_DER_BYTES
            lib.secp256k1_ecdsa_signature_serialize_der(_CONTEXT, der, size, made)
            found.append(der_bytes[: size[0]])
    finally:
        copy(secret, _ZERO_AUX, 32)
    return found


class Verifier:
    """Verifies many signatures through buffers that are allocated once. For one thread: buffers are not shared."""

    __slots__ = ("_even", "_key", "_parsed")

    def __init__(self) -> None:
        self._even = ffi.new("secp256k1_xonly_pubkey *")
        self._key, self._parsed = ffi.new("secp256k1_pubkey *"), ffi.new("secp256k1_ecdsa_signature *")

    def verify(self, point: bytes, digest: bytes, der: bytes) -> bool:
        """Return whether `der` is a strict, low-S DER signature over `digest` by `point`; BIP-66, BIP-146.

        Args:
            point: 64 bytes, of `parse_point` or `child_points`.
            digest: 32 bytes.
            der: whatever came in.
        """
        if len(digest) != 32 or len(der) > MAX_DER_BYTES or len(point) != 64:
            return False
        parsed, key = self._parsed, self._key
        if not _PARSE_DER(_CONTEXT, parsed, der, len(der)):  # DER alone, of which each number has one spelling
            return False
        _COPY(key, point, 64)
        return bool(_VERIFY(_CONTEXT, parsed, digest, key))  # refuses high S itself

    def verify_schnorr(self, point: bytes, digest: bytes, signature: bytes) -> bool:
        """Return whether `signature` over `digest` is by `point`; BIP-340.

        Args:
            point: 64 bytes, of `even_point`.
            digest: 32 bytes.
            signature: whatever came in; 64 bytes or false.
        """
        if len(digest) != 32 or len(signature) != 64 or len(point) != 64:
            return False
        ffi.memmove(self._even, point, 64)
        return bool(lib.secp256k1_schnorrsig_verify(_CONTEXT, signature, digest, 32, self._even))


def ecdsa_verify(pubkey: bytes, digest: bytes, der: bytes) -> bool:
    """Return whether `der` is a strict, low-S DER signature over `digest` by `pubkey` (33 bytes); BIP-66, BIP-146."""
    try:
        return Verifier().verify(parse_point(pubkey), digest, der)
    except ValueError:
        return False


class SecondVerifier:
    """The second library's opinion on signatures: verify-after-sign must not trust the code that signed.

    Its buffers are allocated once. For one thread: buffers are not shared.
    """

    __slots__ = ("_context", "_key", "_library", "_parsed")

    def __init__(self) -> None:
        if _SECOND is None:
            raise IntegrityError("CURVE_NOT_NATIVE", "expected a native second secp256k1")
        self._library, self._context, self._key, self._parsed = _SECOND, _SECOND.ctx, _Buffer(), _Buffer()

    def verify(self, pubkey: bytes, digest: bytes, der: bytes) -> bool:
        """Return whether `der` is a signature over `digest` (32 bytes) by `pubkey`.

        pubkey: 33 bytes, or 65 of `uncompressed`, which spares a square root; either is proven to be on the curve.
        """
        if len(pubkey) not in (33, 65) or len(digest) != 32 or len(der) > MAX_DER_BYTES:
            return False
        library, context, key, parsed = self._library, self._context, self._key, self._parsed
        return bool(
            library.secp256k1_ec_pubkey_parse(context, key, pubkey, len(pubkey))
            and library.secp256k1_ecdsa_signature_parse_der(context, parsed, der, len(der))
            and library.secp256k1_ecdsa_verify(context, parsed, digest, key)
        )


def ecdsa_verify_second(pubkey: bytes, digest: bytes, der: bytes) -> bool:
    """Return what `SecondVerifier.verify` says."""
    return SecondVerifier().verify(pubkey, digest, der)


def even_point(point: bytes) -> bytes:
    """Return the point with the x of `point` (64 bytes, of `parse_point`) and an even y: what an x-only key means."""
    key, even = ffi.new("secp256k1_pubkey *"), ffi.new("secp256k1_xonly_pubkey *")
    ffi.memmove(key, point, 64)
    lib.secp256k1_xonly_pubkey_from_pubkey(_CONTEXT, even, ffi.NULL, key)
    return bytes(ffi.buffer(even))


def schnorr_sign(secret: bytes, digest: bytes, aux: bytes = _ZERO_AUX) -> bytes:
    """Return the BIP-340 signature of `digest` (32 bytes): 64 bytes. aux: 32 bytes; only test vectors give others."""
    if len(secret) != 32 or len(digest) != 32 or len(aux) != 32:
        raise ValueError("expected a secret, a digest and aux of 32 bytes")
    pair, made = ffi.new("secp256k1_keypair *"), ffi.new("unsigned char[64]")
    try:
        if not lib.secp256k1_keypair_create(_CONTEXT, pair, secret):
            raise ValueError("expected a secret inside 1..n-1")
        lib.secp256k1_schnorrsig_sign32(_CONTEXT, made, digest, pair, aux)
        return bytes(ffi.buffer(made))
    finally:
        ffi.memmove(pair, bytes(96), 96)


def schnorr_verify(xonly: bytes, digest: bytes, signature: bytes) -> bool:
    """Return whether `signature` (64 bytes) over `digest` is by `xonly` (32 bytes), BIP-340."""
    try:
        return Verifier().verify_schnorr(parse_point(b"\x02" + xonly), digest, signature)
    except ValueError:
        return False


def schnorr_verify_second(xonly: bytes, digest: bytes, signature: bytes) -> bool:
    """Return the second library's opinion on `signature` (64 bytes) over `digest` by `xonly` (32 bytes)."""
    if _SECOND is None:
        raise IntegrityError("CURVE_NOT_NATIVE", "expected a native second secp256k1")
    if len(xonly) != 32 or len(digest) != 32 or len(signature) != 64:
        return False
    key, context = _Buffer(), _SECOND.ctx
    return bool(  # its x-only keys are, in memory, the points with an even y
        _SECOND.secp256k1_ec_pubkey_parse(context, key, b"\x02" + xonly, 33)
        and _SECOND.secp256k1_schnorrsig_verify(context, signature, digest, key)
    )
