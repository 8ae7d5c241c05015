"""BSMS files sealed with the session's token (BIP-129, "Encryption"): AES-256-CTR under a MAC, as hex.

The token is 64 bits in standard mode: it keeps a record private on its way, it does not replace comparing.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from custody.errors import MalformedError

_PASSWORD = b"No SPOF"  # fixed by BIP-129
_ROUNDS = 2048
_MAC_BYTES, _IV_BYTES = 32, 16
_TOKEN_BYTES = (8, 16)  # standard, extended


def seal(text: str, token: bytes) -> str:
    """Return the `.dat` file of a record: hex of MAC and ciphertext. Raises MalformedError BSMS_TOKEN."""
    key = _key(token)
    mac = _mac(key, token, text.encode())
    return (mac + _crypt(key, mac, text.encode())).hex()


def unseal(sealed: str, token: bytes) -> str:
    """Return the record in a `.dat` file.

    Raises:
        MalformedError: BSMS_TOKEN, BSMS_SEALED (not hex, too short), BSMS_MAC (another token, or changed bytes).
    """
    key = _key(token)
    try:
        raw = bytes.fromhex(sealed.strip())
    except ValueError as error:
        raise MalformedError("BSMS_SEALED", "expected hex digits") from error
    if len(raw) <= _MAC_BYTES:
        raise MalformedError("BSMS_SEALED", f"expected more than {_MAC_BYTES} bytes")
    mac = raw[:_MAC_BYTES]
    content = _crypt(key, mac, raw[_MAC_BYTES:])
    if not hmac.compare_digest(mac, _mac(key, token, content)):
        raise MalformedError("BSMS_MAC", "expected a file sealed with this token, unchanged")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError("BSMS_SEALED", "expected UTF-8 text inside") from error


def _key(token: bytes) -> bytes:
    if len(token) not in _TOKEN_BYTES:
        raise MalformedError("BSMS_TOKEN", "expected a token of 8 or 16 bytes")
    return hashlib.pbkdf2_hmac("sha512", _PASSWORD, token, _ROUNDS, 32)


def _mac(key: bytes, token: bytes, content: bytes) -> bytes:
    return hmac.digest(hashlib.sha256(key).digest(), token.hex().encode() + content, "sha256")


def _crypt(key: bytes, mac: bytes, content: bytes) -> bytes:
    """Return `content` encrypted or decrypted: counter mode is its own inverse."""
    cipher = Cipher(algorithms.AES(key), modes.CTR(mac[:_IV_BYTES])).encryptor()
    return cipher.update(content) + cipher.finalize()
