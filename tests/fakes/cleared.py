"""What the judge would clear, and the keys that a third implementation (libwally) says a seed has."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import wallycore as wally

HARDENED = 2**31
ACCOUNT = [HARDENED + step for step in (48, 1, 0, 2)]


@dataclass(frozen=True, slots=True)
class ClearedInputs:
    """Stands in for the judge's `Cleared`."""

    digests: tuple[bytes, ...]
    paths: tuple[tuple[int, int], ...]
    pubkeys: tuple[bytes, ...]
    withdrawal_digest: bytes = bytes(32)
    raw_bundle: bytes = b""


def cleared(seed: bytes, count: int = 3) -> ClearedInputs:
    """Return `count` cleared inputs of the wallet key made from `seed`, on both branches."""
    paths = tuple((at % 2, 7 * at) for at in range(count))
    digests = tuple(hashlib.sha256(b"digest %d" % at).digest() for at in range(count))
    return ClearedInputs(digests, paths, tuple(pubkey(seed, path) for path in paths))


def pubkey(seed: bytes, path: tuple[int, int]) -> bytes:
    """Return the public key (33 bytes) at m/48h/1h/0h/2h/branch/index, by libwally."""
    return bytes(wally.bip32_key_get_pub_key(_derive(seed, [*ACCOUNT, *path])))


def taproot(found: ClearedInputs) -> ClearedInputs:
    """Return the same inputs of a taproot wallet: with x-only keys, 32 bytes each."""
    return replace(found, pubkeys=tuple(key[1:] for key in found.pubkeys))


def schnorr_by_wally(seed: bytes, path: tuple[int, int], digest: bytes) -> bytes:
    """Return the BIP-340 signature with zero aux at m/48h/1h/0h/2h/branch/index, by libwally."""
    secret = wally.bip32_key_get_priv_key(_derive(seed, [*ACCOUNT, *path]))
    return bytes(wally.ec_sig_from_bytes(secret, digest, wally.EC_FLAG_SCHNORR))


def descriptor_key(seed: bytes) -> str:
    """Return `[fingerprint/48h/1h/0h/2h]tpub` by libwally."""
    fingerprint = bytes(wally.bip32_key_get_fingerprint(_derive(seed, []))).hex()
    xpub = wally.bip32_key_to_base58(_derive(seed, ACCOUNT), wally.BIP32_FLAG_KEY_PUBLIC)
    return f"[{fingerprint}/48h/1h/0h/2h]{xpub}"


def _derive(seed: bytes, path: list[int]) -> object:
    master = wally.bip32_key_from_seed(seed, wally.BIP32_VER_TEST_PRIVATE, 0)
    return wally.bip32_key_from_parent_path(master, path, wally.BIP32_FLAG_KEY_PRIVATE) if path else master
