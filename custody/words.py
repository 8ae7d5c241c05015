"""Twelve words that people compare by voice between machines: 132 bits of a digest in the BIP-39 word list."""

from __future__ import annotations

from embit.wordlists.bip39 import WORDLIST

WORD_COUNT = 12  # 132 bits: finding two documents with the same words costs 2^66, with a given document's words 2^132
_BITS_PER_WORD = 11


def words(digest: bytes) -> tuple[str, ...]:
    """Return the 12 words of the first 132 bits of `digest` (32 bytes). They carry no checksum and are no backup."""
    number = int.from_bytes(digest, "big") >> (len(digest) * 8 - WORD_COUNT * _BITS_PER_WORD)
    shifts = range((WORD_COUNT - 1) * _BITS_PER_WORD, -1, -_BITS_PER_WORD)
    return tuple(WORDLIST[number >> shift & 0x7FF] for shift in shifts)


def word_rows(digest: bytes) -> str:
    """Return the words as people read them: three rows of four."""
    found = words(digest)
    return "\n".join(" ".join(found[row : row + 4]) for row in range(0, WORD_COUNT, 4))
