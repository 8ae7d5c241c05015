"""What a key does while an operator reads a page to its end and types the confirmation. Pure: no terminal here."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum

MAX_WRONG = 3  # then it is a no: whoever types at random does not read
_MAX_TYPED = 16  # the longest word of the list has eight letters


class Key(Enum):
    """A key that is no letter."""

    UP = "up"
    DOWN = "down"
    PAGE_UP = "page up"
    PAGE_DOWN = "page down"
    HOME = "home"
    END = "end"
    ENTER = "enter"
    ERASE = "erase"
    ESCAPE = "escape"


_SEQUENCES = {
    b"\x1b[A": Key.UP, b"\x1bOA": Key.UP, b"\x1b[B": Key.DOWN, b"\x1bOB": Key.DOWN,
    b"\x1b[5~": Key.PAGE_UP, b"\x1b[6~": Key.PAGE_DOWN,
    b"\x1b[H": Key.HOME, b"\x1b[1~": Key.HOME, b"\x1b[F": Key.END, b"\x1b[4~": Key.END,
    b"\x1b": Key.ESCAPE, b"\r": Key.ENTER, b"\n": Key.ENTER, b"\x7f": Key.ERASE, b"\x08": Key.ERASE,
}  # fmt: skip

_ONE_KEY = re.compile(rb"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Za-z]|.", re.DOTALL)  # ECMA-48 control sequences, or one byte


def keys_of(raw: bytes) -> tuple[Key | str, ...]:
    """Return the keys in what one read of a terminal gave, in order; what is none of ours is dropped."""
    found: list[Key | str] = []
    for one in _ONE_KEY.findall(raw):
        if one in _SEQUENCES:
            found.append(_SEQUENCES[one])
        elif len(one) == 1 and 0x20 <= one[0] < 0x7F:
            found.append(one.decode())
    return tuple(found)


class Verdict(Enum):
    """What the operator decided."""

    SIGN = "sign"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Reading:
    """Where the operator is.

    top: first line that is shown.  read: lines that were shown so far.  typed: letters.  wrong: how often Enter came
    behind other letters.
    """

    top: int = 0
    read: int = 0
    typed: str = ""
    wrong: int = 0


def shown(reading: Reading, lines: int, height: int) -> Reading:
    """Return `reading` once `height` of `lines` lines are on the screen; a resized window keeps its place."""
    top = max(0, min(reading.top, lines - height))
    return replace(reading, top=top, read=max(reading.read, min(lines, top + height)))


def pressed(reading: Reading, key: Key | str, height: int, word: str) -> Reading | Verdict:
    """Return where `key` leads.

    Args:
        reading: from `shown`.
        key: one key.
        height: lines that fit the screen.
        word: what has to be typed.
    """
    steps = {Key.UP: -1, Key.DOWN: 1, Key.PAGE_UP: 1 - height, Key.PAGE_DOWN: height - 1, Key.HOME: -(10**6)}
    if key is Key.ESCAPE:
        return Verdict.REFUSE
    if key is Key.ERASE:
        return replace(reading, typed=reading.typed[:-1])
    if key is Key.ENTER:
        return _entered(reading, word)
    if key is Key.END:
        return replace(reading, top=10**6)
    if isinstance(key, Key):
        return replace(reading, top=reading.top + steps[key])
    if key == " " and not reading.typed:
        return replace(reading, top=reading.top + height - 1)
    return replace(reading, typed=(reading.typed + key)[:_MAX_TYPED])


def _entered(reading: Reading, word: str) -> Reading | Verdict:
    typed = reading.typed.strip().lower()
    if not typed:
        return reading
    if typed == word:
        return Verdict.SIGN
    if reading.wrong + 1 >= MAX_WRONG:
        return Verdict.REFUSE
    return replace(reading, typed="", wrong=reading.wrong + 1)
