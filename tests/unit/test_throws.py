"""Dice and coins: what counts as a throw, how many are enough, and how they are mixed in."""

from __future__ import annotations

from hashlib import sha256

import pytest

from custody.errors import CustodyError, MalformedError
from custody.throws import LEAST, Source, mix, read_throws

SYSTEM = bytes(range(32))
DICE_99 = b"162534" * 16 + b"123"


def code_of(typed: bytes, source: Source, words: int) -> str:
    """Return the code with which throws are refused, or OK."""
    try:
        read_throws(bytearray(typed), source, words)
    except MalformedError as error:
        return error.code
    return "OK"


@pytest.mark.parametrize(
    ("typed", "source", "words", "code"),
    [
        (DICE_99, Source.DICE, 24, "OK"),
        (b"1 6-2,5;3\t4 " * 9, Source.DICE, 12, "OK"),
        (DICE_99[:98], Source.DICE, 24, "THROWS_FEW"),
        (b"162537" * 17, Source.DICE, 24, "THROWS_FACE"),
        (b"16253x" * 17, Source.DICE, 24, "THROWS_FACE"),
        (b"1" * 99, Source.DICE, 24, "THROWS_ONE_SIDED"),
        (b"ht" * 64, Source.COINS, 12, "OK"),
        (b"1T" * 128, Source.COINS, 24, "OK"),
        (b"ht" * 63, Source.COINS, 12, "THROWS_FEW"),
        (b"hhhhht" * 30, Source.COINS, 12, "THROWS_ONE_SIDED"),
        (b"", Source.NONE, 24, "OK"),
        (b"1", Source.NONE, 24, "THROWS_FACE"),
    ],
)
def test_read_throws_given_one_change_refuses_with_its_code(
    typed: bytes, source: Source, words: int, code: str
) -> None:
    """Faces, blanks between them, their number, and a die that is none."""
    assert code_of(typed, source, words) == code


def test_throws_that_are_enough_are_worth_the_whole_secret() -> None:
    """2.58 bits a die and one a coin make up 128 and 256 bits without the machine's part."""
    for (source, words), least in LEAST.items():
        bits = {Source.DICE: 2.585, Source.COINS: 1.0}.get(source)
        assert bits is None or round(least * bits) >= {12: 128, 24: 256}[words]


@pytest.mark.parametrize(("words", "size"), [(12, 16), (24, 32)])
def test_mix_is_sha256_over_both_as_documented(words: int, size: int) -> None:
    """Anyone with `sha256sum` can make it again."""
    assert mix(SYSTEM, bytearray(DICE_99), words) == sha256(SYSTEM + DICE_99).digest()[:size]


def test_mix_changes_whole_when_either_source_changes() -> None:
    """Neither source alone fixes the secret: not foreseen bytes of the system, not throws that somebody saw."""
    both = mix(SYSTEM, bytearray(DICE_99), 24)
    for other in (
        mix(SYSTEM[:-1] + b"\xff", bytearray(DICE_99), 24),
        mix(SYSTEM, bytearray(DICE_99[:-1] + b"4"), 24),
        mix(SYSTEM, bytearray(), 24),
    ):
        differing = sum((a ^ b).bit_count() for a, b in zip(both, other, strict=True))
        assert differing > 80


@pytest.mark.parametrize("system", [b"", bytes(31) + b"", bytes(32), b"\x07" * 32, SYSTEM + b"\0"])
def test_mix_given_a_source_that_is_stuck_or_short_refuses_whatever_was_thrown(system: bytes) -> None:
    """The machine's part must be there: throws do not excuse it."""
    with pytest.raises(CustodyError) as refused:
        mix(system, bytearray(DICE_99), 24)
    assert refused.value.code == "ENTROPY"
