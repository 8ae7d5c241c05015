"""Base58Check, strict: the encoding of extended keys and of addresses older than segwit."""

from __future__ import annotations

from custody.errors import MalformedError
from custody.transaction import hash256

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUES = {char: value for value, char in enumerate(_ALPHABET)}
MAX_CHARS = 128  # an extended key has 111; the decoding loop is quadratic
_CHECKSUM_BYTES = 4


def decode_check(text: str) -> bytes:
    """Return the payload of `text` without its checksum; it may be empty.

    Raises:
        MalformedError: BASE58 (length or character) or BASE58_CHECKSUM.
    """
    if not 6 <= len(text) <= MAX_CHARS or any(char not in _VALUES for char in text):
        raise MalformedError("BASE58", f"expected 6..{MAX_CHARS} base58 characters")
    number = 0
    for char in text:
        number = number * 58 + _VALUES[char]
    zeros = len(text) - len(text.lstrip("1"))
    raw = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    payload, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
    if hash256(payload)[:_CHECKSUM_BYTES] != checksum:
        raise MalformedError("BASE58_CHECKSUM", "expected the checksum of these characters")
    return payload


def encode_check(payload: bytes) -> str:
    """Return `payload` with its checksum in base58."""
    raw = payload + hash256(payload)[:_CHECKSUM_BYTES]
    number = int.from_bytes(raw, "big")
    digits = ""
    while number:
        number, value = divmod(number, 58)
        digits = _ALPHABET[value] + digits
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + digits
