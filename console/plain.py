"""Text of others on a terminal, and secrets in an argument: what is shown cannot steer, what is secret is not repeated.

Labels, names, reasons and error texts come from the coordinator, from requesters and from files. A terminal obeys some
characters, a reader is fooled by others (U+202E turns an address around), so each of them is shown by its number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_TEXT_CHARS = 2_000  # what a person may have to read of one field; a screen full of noise hides the rest
SEED_WORDS = 12  # the shortest BIP-39 mnemonic in use

_BASE58 = "[1-9A-HJ-NP-Za-km-z]"
_SECRETS = (
    re.compile(f"[xtyzuvYZUV]prv{_BASE58}{{16,}}"),  # BIP-32 and SLIP-132 private keys
    re.compile(f"(?<![0-9A-Za-z])(?:[5KL]|[9c]){_BASE58}{{50,51}}(?![0-9A-Za-z])"),  # WIF
    re.compile("(?i)(?<![0-9a-z])ms1[02-9][0-9a-z]{40,}"),  # codex32 (BIP-93)
)
_WORDS = re.compile("[a-z]+")


def plain(text: str, max_chars: int = MAX_TEXT_CHARS) -> str:
    r"""Return `text` with every character that is not plainly visible written as its number: `\x1b`, `\u202e`."""
    cut = text if len(text) <= max_chars else text[:max_chars] + "..."
    return "".join(char if char.isprintable() else _number(char) for char in cut)


def find_secret(arguments: Sequence[str], may_hold_words: bool = False) -> int | None:
    """Return which argument holds a private key or seed words (counted from 1), or None.

    Args:
        arguments: as typed; words that stand in several arguments count together.
        may_hold_words: for `pin`, whose first argument is twelve words of the same list; they are compared with a
            file's and never repeated.
    """
    for number, argument in enumerate(arguments, 1):
        if any(pattern.search(argument) for pattern in _SECRETS):
            return number
    return None if may_hold_words else _seed_words(arguments)


def _seed_words(arguments: Sequence[str]) -> int | None:
    found = [(number, word) for number, text in enumerate(arguments, 1) for word in _WORDS.findall(text.lower())]
    if len(found) < SEED_WORDS:
        return None
    from embit.wordlists.bip39 import WORDLIST  # only a command line this long pays for the list

    known, starts = set(WORDLIST), {word[:4] for word in WORDLIST}  # BIP-39: four letters tell a word
    run = 0
    for number, word in found:
        run = run + 1 if word in known or (len(word) == 4 and word in starts) else 0
        if run >= SEED_WORDS:
            return number
    return None


def _number(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
