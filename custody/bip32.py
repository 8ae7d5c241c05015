"""BIP-32 public derivation: from an account's extended key to the keys in scripts. Private derivation is not here."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from custody import curve
from custody.base58 import decode_check
from custody.errors import MalformedError

_VERSIONS = {bytes.fromhex("0488b21e"): True, bytes.fromhex("043587cf"): False}  # xpub, tpub; no SLIP-132
HARDENED = 2**31


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
        if not 0 <= index < HARDENED:
            raise MalformedError("KEY_CHILD", f"expected an index below 2^31, found {index}")
        digest = hmac.digest(self.chain_code, self.pubkey + index.to_bytes(4, "big"), hashlib.sha512)
        try:
            pubkey = curve.add_tweak(self.pubkey, digest[:32])
        except ValueError as error:
            raise MalformedError("KEY_CHILD", f"expected a key at index {index}") from error
        return ExtendedKey(self.is_mainnet, self.depth + 1, index, digest[32:], pubkey)


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
