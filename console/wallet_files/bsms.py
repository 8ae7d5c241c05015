"""Bitcoin Secure Multisig Setup (BIP-129): the descriptor record of a wallet, and the signed record of one key.

Round 1 brings each cosigner's key with a signature by that key, round 2 hands the wallet back with its first address,
which whoever reads it derives again.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from console.wallet_files.named import UNNAMED, NamedWallet, wallet_of_descriptor
from custody import curve
from custody.address import address_of
from custody.bip32 import parse_extended_key
from custody.errors import MalformedError
from custody.reader import sized
from custody.transaction import hash256
from custody.wallet import RECEIVE, KeyOrigin, Network, descriptor_checksum, parse_key

VERSION = "BSMS 1.0"
PATHS = "/0/*,/1/*"
MAX_DESCRIPTION_CHARS = 80  # BIP-129
_TOKEN = re.compile("00|[0-9a-f]{16}|[0-9a-f]{32}")  # none, standard, extended
_MAGIC = b"Bitcoin Signed Message:\n"
_SIGNATURE_BYTES = 65  # a header, r and s


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One cosigner's key with proof that somebody holds it. token: hex, of the session; "00" where there is none."""

    token: str
    key: KeyOrigin
    description: str


def write(named: NamedWallet) -> str:
    """Return the descriptor record."""
    wallet = named.wallet
    body = wallet.descriptor.partition("#")[0].replace("/<0;1>/*", "/**")
    first = address_of(wallet.script(RECEIVE, 0).script, wallet.network)
    return "\n".join([VERSION, f"{body}#{descriptor_checksum(body)}", PATHS, first])


def read(text: str, network: Network) -> NamedWallet:
    """Return the wallet of a descriptor record.

    Raises:
        MalformedError: BSMS_LINES, BSMS_VERSION, BSMS_PATHS, BSMS_ADDRESS, or a code of `parse_wallet`.
    """
    # Plan: 1 four lines · 2 version · 3 both branches and nothing else · 4 the wallet · 5 its first address.
    lines = text.removesuffix("\n").split("\n")
    if len(lines) != 4:
        raise MalformedError("BSMS_LINES", f"expected the 4 lines of a descriptor record, found {len(lines)}")
    version, descriptor, paths, address = lines
    _check_version(version)
    if paths.replace(" ", "") != PATHS:
        raise MalformedError("BSMS_PATHS", f"expected {PATHS}")
    wallet = wallet_of_descriptor(descriptor, network)
    if address != address_of(wallet.script(RECEIVE, 0).script, network):
        raise MalformedError("BSMS_ADDRESS", "expected the first address of this descriptor")
    return NamedWallet(UNNAMED, wallet)


def read_key_record(text: str, network: Network) -> KeyRecord:
    """Return the key of a key record whose signature stands.

    Raises:
        MalformedError: BSMS_LINES, BSMS_VERSION, BSMS_TOKEN, BSMS_DESCRIPTION, BSMS_SIGNATURE, or a code of
            `parse_key`.
    """
    # Plan: 1 five lines · 2 version, token, description · 3 the key · 4 its own signature over the first four lines.
    lines = text.removesuffix("\n").split("\n")
    if len(lines) != 5:
        raise MalformedError("BSMS_LINES", f"expected the 5 lines of a key record, found {len(lines)}")
    version, token, expression, description, signature = lines
    _check_version(version)
    if _TOKEN.fullmatch(token) is None:
        raise MalformedError("BSMS_TOKEN", "expected 00, or 16 or 32 hex digits")
    if len(description) > MAX_DESCRIPTION_CHARS or not description.isprintable():
        raise MalformedError("BSMS_DESCRIPTION", f"expected at most {MAX_DESCRIPTION_CHARS} printable characters")
    key = parse_key(expression, network)
    pubkey = parse_extended_key(key.xpub).pubkey
    if not _is_signed(pubkey, "\n".join(lines[:4]), signature):
        raise MalformedError("BSMS_SIGNATURE", "expected a signature over this record by its own key")
    return KeyRecord(token, key, description)


def message_digest(text: str) -> bytes:
    """Return what a legacy message signature is over: 32 bytes."""
    return hash256(sized(_MAGIC) + sized(text.encode()))


def _is_signed(pubkey: bytes, text: str, signature: str) -> bool:
    """Return whether `signature` (base64 of header, r, s) over `text` is by `pubkey`; its header adds nothing."""
    try:
        raw = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return False
    if len(raw) != _SIGNATURE_BYTES:
        return False
    return curve.ecdsa_verify(pubkey, message_digest(text), _der(raw[1:33], raw[33:]))


def _der(r: bytes, s: bytes) -> bytes:
    """Return (r, s), 32 bytes each, as DER."""
    numbers = b""
    for number in (r, s):
        shortest = number.lstrip(b"\0") or b"\0"
        padded = b"\0" + shortest if shortest[0] & 0x80 else shortest
        numbers += bytes([2, len(padded)]) + padded
    return bytes([0x30, len(numbers)]) + numbers


def _check_version(line: str) -> None:
    if line != VERSION:
        raise MalformedError("BSMS_VERSION", f"expected {VERSION}")
