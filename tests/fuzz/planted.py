"""Not a target: a reader with a bug on purpose, which shows that the fuzzer finds one and says so.

The bug lies behind four comparisons, one after the other: chance alone would need about four thousand million runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from tests.fuzz.target import ByteMutator


def seeds() -> Iterator[bytes]:
    """Yield one harmless input."""
    yield b"harmless"


def mutate(raw: bytes, random: Random, mutate_bytes: ByteMutator) -> bytes:
    """Return `raw` with its bytes changed."""
    del random
    return mutate_bytes(raw)


def check(raw: bytes) -> None:
    """Fail where `raw` begins with one word, letter by letter as a parser would read it."""
    if raw[:1] == b"k" and raw[1:2] == b"e" and raw[2:3] == b"y" and raw[3:4] == b"s":
        raise IndexError("the planted bug")
