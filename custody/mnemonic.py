"""Seed words: a key's entropy as 12 to 24 English words and back, and the seed they make with a passphrase (BIP-39).

Texts are normalised here (NFKD), so that a passphrase typed composed or decomposed is one wallet in every program.
Other word lists are not read: what was written down in one is restored by the program that wrote it.
"""

from __future__ import annotations

import hashlib
import unicodedata

from embit.wordlists.bip39 import WORDLIST

from custody.errors import MalformedError

ENTROPY_BYTES = (16, 20, 24, 28, 32)  # BIP-39 "Generating the mnemonic"
MAX_PASSPHRASE_CHARS = 256  # far beyond what a person types; normalising takes time in proportion
_ROUNDS = 2048  # of PBKDF2-HMAC-SHA512, fixed by BIP-39
_BITS_PER_WORD = 11
_NUMBERS = {word: number for number, word in enumerate(WORDLIST)}


def to_words(entropy: bytes) -> tuple[str, ...]:
    """Return the words of `entropy`: three for each four bytes. Raises MalformedError MNEMONIC_ENTROPY."""
    if len(entropy) not in ENTROPY_BYTES:
        raise MalformedError("MNEMONIC_ENTROPY", f"expected 16, 20, 24, 28 or 32 bytes, found {len(entropy)}")
    checksum_bits = len(entropy) // 4
    number = int.from_bytes(entropy, "big") << checksum_bits | _checksum(entropy)
    count = (len(entropy) * 8 + checksum_bits) // _BITS_PER_WORD
    return tuple(WORDLIST[number >> _BITS_PER_WORD * place & 0x7FF] for place in reversed(range(count)))


def to_entropy(words: tuple[str, ...]) -> bytes:
    """Return the bytes that `words` stand for.

    Raises:
        MalformedError: MNEMONIC_LENGTH, MNEMONIC_WORD or MNEMONIC_CHECKSUM; no message repeats a word.
    """
    if len(words) * 4 not in [3 * size for size in ENTROPY_BYTES]:
        raise MalformedError("MNEMONIC_LENGTH", f"expected 12, 15, 18, 21 or 24 words, found {len(words)}")
    number = 0
    for place, word in enumerate(words, 1):
        if word not in _NUMBERS:
            raise MalformedError("MNEMONIC_WORD", f"expected words of the English list, found another in place {place}")
        number = number << _BITS_PER_WORD | _NUMBERS[word]
    size = len(words) * 4 // 3
    entropy = (number >> size // 4).to_bytes(size, "big")
    if number & (1 << size // 4) - 1 != _checksum(entropy):
        raise MalformedError("MNEMONIC_CHECKSUM", "expected the checksum of these words: one is wrong or misplaced")
    return entropy


def to_seed(words: tuple[str, ...], passphrase: str = "") -> bytes:
    """Return the 64 bytes from which BIP-32 makes the master key.

    Raises:
        MalformedError: MNEMONIC_PASSPHRASE (too long, or no text), or as `to_entropy`.
    """
    to_entropy(words)
    try:
        salt = unicodedata.normalize("NFKD", "mnemonic" + passphrase).encode()
    except UnicodeEncodeError:  # a lone surrogate; not `from`: the error holds the passphrase
        raise MalformedError("MNEMONIC_PASSPHRASE", "expected text") from None
    if len(passphrase) > MAX_PASSPHRASE_CHARS:
        raise MalformedError("MNEMONIC_PASSPHRASE", f"expected at most {MAX_PASSPHRASE_CHARS} characters")
    return hashlib.pbkdf2_hmac("sha512", " ".join(words).encode(), salt, _ROUNDS)


def _checksum(entropy: bytes) -> int:
    return hashlib.sha256(entropy).digest()[0] >> 8 - len(entropy) // 4
