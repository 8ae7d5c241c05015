"""Dice and coins beside the machine's own entropy, mixed so that neither of the two can weaken a key alone.

The secret is the SHA-256 of 32 bytes of the operating system followed by the throws as ASCII ("6" for a six, "0" or "1"
for a coin), cut to the size that the words need. Who knows all throws still knows nothing of the 32 bytes; who foresaw
the 32 bytes still has to guess throws that are worth as many bits as the words.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from hashlib import sha256

from custody.errors import IntegrityError, MalformedError

SYSTEM_BYTES = 32
SECRET_BYTES = {12: 16, 24: 32}  # words -> bytes of entropy (BIP-39); what most programs and devices read
_WORST_SHARE = 0.5  # of one face among fifty dice or more: a fair die shows it once in far more lives than there are
_WORST_COIN_SHARE = 0.75


class Source(Enum):
    """What is thrown. The value is what people type."""

    DICE = "dice"
    COINS = "coins"
    NONE = "none"


LEAST = {  # throws that are worth the whole secret by themselves: 2.58 bits a die, one a coin
    (Source.DICE, 12): 50,
    (Source.DICE, 24): 99,
    (Source.COINS, 12): 128,
    (Source.COINS, 24): 256,
    (Source.NONE, 12): 0,
    (Source.NONE, 24): 0,
}


def read_throws(typed: bytearray, source: Source, words: int) -> bytearray:
    """Return the throws in `typed` as they enter the hash; blanks and line ends are left out, h and t are 1 and 0.

    Raises:
        MalformedError: THROWS_FACE (something that the source cannot show), THROWS_FEW, THROWS_ONE_SIDED. No message
            repeats a throw.
    """
    thrown = bytearray(_FACES.get(byte, byte) for byte in typed if not chr(byte).isspace() and byte not in b",;-")
    faces = {Source.DICE: b"123456", Source.COINS: b"01", Source.NONE: b""}[source]
    if any(byte not in faces for byte in thrown):
        raise MalformedError("THROWS_FACE", f"expected only {', '.join(map(chr, faces)) or 'nothing'}")
    least = LEAST[source, words]
    if len(thrown) < least:
        raise MalformedError("THROWS_FEW", f"expected at least {least} throws, found {len(thrown)}")
    worst = _WORST_SHARE if source is Source.DICE else _WORST_COIN_SHARE
    if thrown and max(Counter(thrown).values()) > worst * len(thrown):
        raise MalformedError("THROWS_ONE_SIDED", "expected fair throws, found one face far too often")
    return thrown


_FACES = {ord("h"): ord("1"), ord("H"): ord("1"), ord("t"): ord("0"), ord("T"): ord("0")}


def mix(system: bytes, thrown: bytearray, words: int) -> bytearray:
    """Return the entropy of `words` (12 or 24) words: 16 or 32 bytes.

    Args:
        system: 32 bytes of the operating system.
        thrown: from `read_throws`; may be empty.
        words: 12 or 24.

    Raises:
        IntegrityError: ENTROPY where the system gave too little or one byte over and over.
    """
    if len(system) != SYSTEM_BYTES or len(set(system)) < 2:
        raise IntegrityError("ENTROPY", f"expected {SYSTEM_BYTES} random bytes, found a constant or short answer")
    return bytearray(sha256(system + thrown).digest()[: SECRET_BYTES[words]])
