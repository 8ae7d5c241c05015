"""Ed25519 (RFC 8032): the keys of people, services, nodes, witnesses and the log.

Keys and signatures are raw bytes. Verification returns a truth value; nothing here stores a key.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def public_key(seed: bytes) -> bytes:
    """Return the public key of `seed` (32 bytes): 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign(seed: bytes, message: bytes) -> bytes:
    """Return the signature of `message` by `seed` (32 bytes): 64 bytes, deterministic."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether `signature` (64 bytes) over `message` is by `public` (32 bytes); False for any other shape."""
    if len(public) != 32 or len(signature) != 64:
        return False
    return _holds(public, message, signature)


# The same statement is judged at several places: by people, by rules, by the log's followers. 18 MB at most: a
# verifier, which reads a log twice, finds the signatures of 6,000 withdrawals again.
@lru_cache(maxsize=32_768)
def _holds(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    except ValueError:  # not a point
        return False
    return True
