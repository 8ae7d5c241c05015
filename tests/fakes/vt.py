"""A terminal of a fixed size, as far as our programs use one: what is on its screen, as text."""

from __future__ import annotations

import re

_SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\x1b[()].|\x1b[=>]")


class Vt:
    """Feed it what a program wrote; read `lines`. is_alternate: whether the program's own screen is up."""

    def __init__(self, columns: int, rows: int) -> None:
        self._columns, self._rows = columns, rows
        self._row, self._column = 0, 0
        self._cells = self._blank()
        self.is_alternate = False
        self._held = ""

    @property
    def lines(self) -> list[str]:
        """The screen, trailing blanks cut."""
        return ["".join(row).rstrip() for row in self._cells]

    @property
    def text(self) -> str:
        """The screen as one text."""
        return "\n".join(self.lines).rstrip()

    def feed(self, text: str) -> None:
        """Take what was written; a sequence may be cut anywhere."""
        text, at = self._held + text, 0
        self._held = ""
        while at < len(text):
            if text[at] != "\x1b":
                self._put(text[at])
                at += 1
                continue
            found = _SEQUENCE.match(text, at)
            if found is None:
                self._held = text[at:]
                return
            self._obey(found[1] or "", found[2] or "")
            at = found.end()

    def _put(self, char: str) -> None:
        if char == "\r":
            self._column = 0
        elif char == "\n":
            self._row += 1
            if self._row == self._rows:
                self._cells = [*self._cells[1:], [" "] * self._columns]
                self._row -= 1
        elif char >= " ":
            if self._column == self._columns:
                self._put("\r")
                self._put("\n")
            self._cells[self._row][self._column] = char
            self._column += 1

    def _obey(self, numbers: str, letter: str) -> None:
        if letter == "H":
            row, _, column = numbers.partition(";")
            self._row, self._column = int(row or 1) - 1, int(column or 1) - 1
        elif letter == "J":
            self._cells = self._blank()
        elif (numbers, letter) in (("?1049", "h"), ("?1049", "l")):
            self.is_alternate = letter == "h"
            self._cells, self._row, self._column = self._blank(), 0, 0

    def _blank(self) -> list[list[str]]:
        return [[" "] * self._columns for _ in range(self._rows)]
