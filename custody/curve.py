"""The one door to secp256k1.

Signs and verifies with coincurve's libsecp256k1; embit's own copy of the library gives the second opinion after each
signature. ECDSA is plain RFC 6979 without grinding and BIP-340 uses 32 zero bytes of aux, so the same key and digest
give the same bytes in every implementation, and a signer has no freedom to leak a key through nonces.
"""

from __future__ import annotations

from coincurve import PrivateKey, PublicKey, PublicKeyXOnly
from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT
from embit.util import secp256k1 as second

from custody.errors import IntegrityError

_CONTEXT = GLOBAL_CONTEXT.ctx
_ZERO_AUX = bytes(32)
_EVEN_PREFIX = b"\x02"
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
    return PrivateKey(bytes(secret)).public_key.format()


def add_tweak(pubkey: bytes, tweak: bytes) -> bytes:
    """Return the point `pubkey + tweak * G`: 33 bytes, compressed (BIP-32 public child)."""
    return PublicKey(pubkey).add(tweak).format()


def ecdsa_sign(secret: bytes, digest: bytes) -> bytes:
    """Return the DER signature of `digest` (32 bytes): low S, RFC 6979, no grinding; at most 71 bytes."""
    return PrivateKey(bytes(secret)).sign(digest, hasher=None)


def ecdsa_verify(pubkey: bytes, digest: bytes, der: bytes) -> bool:
    """Return whether `der` is a strict, low-S DER signature over `digest` by `pubkey` (33 bytes); BIP-66, BIP-146."""
    if len(digest) != 32 or len(der) > MAX_DER_BYTES or len(pubkey) != 33 or pubkey[0] not in (2, 3):
        return False
    key, parsed = ffi.new("secp256k1_pubkey *"), ffi.new("secp256k1_ecdsa_signature *")
    if not lib.secp256k1_ec_pubkey_parse(_CONTEXT, key, pubkey, 33):
        return False
    if not lib.secp256k1_ecdsa_signature_parse_der(_CONTEXT, parsed, der, len(der)):
        return False
    again, size = ffi.new("unsigned char[72]"), ffi.new("size_t *", 72)
    lib.secp256k1_ecdsa_signature_serialize_der(_CONTEXT, again, size, parsed)
    if bytes(ffi.buffer(again, size[0])) != der:
        return False  # another spelling of the same numbers
    return bool(lib.secp256k1_ecdsa_verify(_CONTEXT, parsed, digest, key))  # refuses high S itself


def ecdsa_verify_second(pubkey: bytes, digest: bytes, der: bytes) -> bool:
    """Return the second library's opinion on `der`: verify-after-sign must not trust the code that signed."""
    try:
        return bool(second.ecdsa_verify(second.ecdsa_signature_parse_der(der), digest, second.ec_pubkey_parse(pubkey)))
    except ValueError:
        return False


def schnorr_sign(secret: bytes, digest: bytes) -> bytes:
    """Return the BIP-340 signature of `digest` (32 bytes) with zero aux: 64 bytes."""
    return PrivateKey(bytes(secret)).sign_schnorr(digest, _ZERO_AUX)


def schnorr_verify(xonly: bytes, digest: bytes, signature: bytes) -> bool:
    """Return whether `signature` (64 bytes) over `digest` is by `xonly` (32 bytes), BIP-340."""
    if len(xonly) != 32 or len(signature) != 64 or not is_public_key(_EVEN_PREFIX + xonly):
        return False
    return PublicKeyXOnly(xonly).verify(signature, digest)
