"""Private keys and seed words in a text that is no place for them: found, and never repeated.

A label, a reason or a note is signed, carried to every signer and kept in a log for ever. What was pasted there by
mistake cannot be taken back, so each program refuses it before anything is signed, sent or written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from custody.canonical import Json
from custody.errors import MalformedError

SEED_WORDS = 12  # the shortest BIP-39 mnemonic in use
SHARE_WORDS = 20  # the shortest share of SLIP-39
_SHORTEST_SECRET = SEED_WORDS * 4 - 1  # twelve words of three letters; every private key is longer

_BASE58 = "[1-9A-HJ-NP-Za-km-z]"
_SECRETS = (
    re.compile(f"[xtyzuvYZUV]prv{_BASE58}{{16,}}"),  # BIP-32 and SLIP-132 private keys
    re.compile(f"(?<![0-9A-Za-z])(?:[5KL]|[9c]){_BASE58}{{50,51}}(?![0-9A-Za-z])"),  # WIF
    re.compile("(?i)AGE-SECRET-KEY-1[02-9a-z]{20,}"),  # age, which opens sealed backups
    re.compile("(?i)(?<![0-9a-z])ms1[02-9][0-9a-z]{40,}"),  # codex32 (BIP-93)
)
_WORDS = re.compile("[a-z]+")


def find_secret(texts: Sequence[str], may_hold_words: bool = False) -> int | None:
    """Return which of `texts` holds a private key or seed words (counted from 1), or None.

    Args:
        texts: as typed; words that stand in several texts count together.
        may_hold_words: where twelve words of the same list are compared, as in `pin`.
    """
    for number, text in enumerate(texts, 1):
        if any(pattern.search(text) for pattern in _SECRETS):
            return number
    return None if may_hold_words else _seed_words(texts)


def refuse_pasted(value: Json, where: str) -> None:
    """Pass if no text in `value` holds a secret.

    Args:
        value: a text, or JSON that holds texts; keys of objects count as texts.
        where: names the place, for the message.

    Raises:
        MalformedError: SECRET_PASTED; the message repeats nothing of the text.
    """
    for text in texts_in(value):
        if len(text) >= _SHORTEST_SECRET and find_secret([text]) is not None:
            raise MalformedError("SECRET_PASTED", f"{where}: expected no private key and no seed words in a text")


def texts_in(value: Json) -> Iterator[str]:
    """Yield every text that stands in `value`."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from texts_in(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from texts_in(item)


def _seed_words(texts: Sequence[str]) -> int | None:
    """Return which text ends the first run of seed words, or of the words of one share."""
    found = [(number, word) for number, text in enumerate(texts, 1) for word in _WORDS.findall(text.lower())]
    if len(found) < SEED_WORDS:
        return None
    from embit.wordlists.bip39 import WORDLIST  # only a text this long pays for the lists

    if (number := _run(found, WORDLIST, SEED_WORDS)) is not None or len(found) < SHARE_WORDS:
        return number
    from shamir_mnemonic.wordlist import WORDLIST as SHARES

    return _run(found, SHARES, SHARE_WORDS)


def _run(found: Sequence[tuple[int, str]], wordlist: Sequence[str], length: int) -> int | None:
    """Return the text in which `length` words of `wordlist` in a row end; four letters tell a word of either list."""
    known, starts = set(wordlist), {word[:4] for word in wordlist}
    run = 0
    for number, word in found:
        run = run + 1 if word in known or (len(word) == 4 and word in starts) else 0
        if run >= length:
            return number
    return None
