"""BIP-32 public derivation: from an account's extended key to the keys in scripts. Private derivation is not here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from custody import curve
from custody.base58 import decode_check
from custody.errors import MalformedError

_VERSIONS = {bytes.fromhex("0488b21e"): True, bytes.fromhex("043587cf"): False}  # xpub, tpub; no SLIP-132
HARDENED = 2**31
_SHA512_BLOCK_BYTES = 128
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


class Tweaks:
    """What BIP-32 adds to one key for each of its children that is not hardened: HMAC-SHA512, its key hashed once.

    Public: made of nothing that an extended public key does not hold.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, chain_code: bytes, pubkey: bytes) -> None:
        block = chain_code.ljust(_SHA512_BLOCK_BYTES, b"\0")  # RFC 2104; the two blocks are most of what is hashed
        self._inner = hashlib.sha512(block.translate(_INNER) + pubkey)
        self._outer = hashlib.sha512(block.translate(_OUTER))

    def at(self, index: int) -> bytes:
        """Return the tweak (32 bytes) and the chain code (32 bytes) of the child at `index` < 2^31.

        Raises:
            MalformedError: KEY_CHILD for a hardened index.
        """
        if not 0 <= index < HARDENED:
            raise MalformedError("KEY_CHILD", f"expected an index below 2^31, found {index}")
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(index.to_bytes(4, "big"))
        outer.update(inner.digest())
        return outer.digest()


@dataclass(frozen=True, slots=True)
class ExtendedKey:
    """A public key that has children. pubkey: 33 bytes.  chain_code: 32 bytes.  number: its place under its parent."""

    is_mainnet: bool
    depth: int
    number: int
    chain_code: bytes
    pubkey: bytes

    def child(self, index: int) -> ExtendedKey:
        """Return the child at `index` < 2^31 (BIP-32 CKDpub).

        Raises:
            MalformedError: KEY_CHILD for a hardened index, or for the one index in 2^127 that has no child.
        """
        digest = Tweaks(self.chain_code, self.pubkey).at(index)
        try:
            pubkey = curve.add_tweak(self.pubkey, digest[:32])
        except ValueError as error:
            raise MalformedError("KEY_CHILD", f"expected a key at index {index}") from error
        return ExtendedKey(self.is_mainnet, self.depth + 1, index, digest[32:], pubkey)


class Children:
    """The public children of several keys side by side; only their keys, which is what a wallet asks for.

    Args:
        parents: point (64 bytes, of `curve`), public key (33 bytes) and chain code (32 bytes) of each.
    """

    __slots__ = ("_parents", "_tweaks")

    def __init__(self, parents: Iterable[tuple[bytes, bytes, bytes]]) -> None:
        self._parents, self._tweaks = [], []
        for point, pubkey, chain_code in parents:
            self._parents.append(point)
            self._tweaks.append(Tweaks(chain_code, pubkey))

    @classmethod
    def of(cls, keys: Iterable[ExtendedKey]) -> Children:
        """Return the children of `keys`."""
        return cls((curve.parse_point(key.pubkey), key.pubkey, key.chain_code) for key in keys)

    def below(self, index: int) -> Children:
        """Return the children of each parent's child at `index`. Raises as `at`."""
        chain_codes = (tweaks.at(index)[32:] for tweaks in self._tweaks)
        found = zip(self.at(index), chain_codes, strict=True)
        return Children((point, pubkey, chain_code) for (pubkey, point), chain_code in found)

    def at(self, index: int) -> list[tuple[bytes, bytes]]:
        """Return each parent's key at `index` < 2^31: 33 bytes, and 64 bytes as `curve.Verifier` takes it.

        Raises:
            MalformedError: KEY_CHILD as `ExtendedKey.child`.
        """
        try:
            return curve.child_points(self._parents, [tweaks.at(index) for tweaks in self._tweaks])
        except ValueError as error:
            raise MalformedError("KEY_CHILD", f"expected a key at index {index}") from error


def parse_extended_key(text: str) -> ExtendedKey:
    """Return the extended public key in `text` (base58, 111 characters).

    Raises:
        MalformedError: BASE58, BASE58_CHECKSUM or EXTENDED_KEY.
    """
    raw = decode_check(text)
    is_mainnet = _VERSIONS.get(raw[:4])
    if len(raw) != 78 or is_mainnet is None:
        raise MalformedError("EXTENDED_KEY", "expected an xpub or tpub of 78 bytes")
    depth, parent, number = raw[4], raw[5:9], int.from_bytes(raw[9:13], "big")
    if depth == 0 and (parent != bytes(4) or number):
        raise MalformedError("EXTENDED_KEY", "expected no parent above a master key")
    if not curve.is_public_key(raw[45:]):
        raise MalformedError("EXTENDED_KEY", "expected a compressed point of the curve")
    return ExtendedKey(is_mainnet, depth, number, raw[13:45], raw[45:])
