"""The one door to the terminal: every word passes `plain`, and `-o json` gives one line of JSON, whatever happens.

What a person reads before signing goes to stderr under `-o json`, so that stdout stays one document.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO, TypeAlias

from console.plain import plain
from console.refusal import refuse
from custody.canonical import Json

MAX_WIDTH = 100  # columns; a terminal that is wider helps nobody to read


@dataclass(frozen=True, slots=True)
class Table:
    """Rows for people. columns: their titles."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]


Part: TypeAlias = str | Table


class Output:
    """Where a command's words go. as_json: one JSON document instead of words."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def page(self, lines: Sequence[str]) -> None:
        """Show what a person must read before answering `confirm`."""
        _write(sys.stderr if self.as_json else sys.stdout, lines)

    def say(self, *lines: str) -> None:
        """Tell people how it goes; programs are told at the end."""
        if not self.as_json:
            _write(sys.stdout, lines)

    def warn(self, *lines: str) -> None:
        """Tell people on stderr what must not be missed."""
        _write(sys.stderr, lines)

    def done(self, value: Mapping[str, Json], *parts: Part) -> None:
        """End a command: `value` for programs, `parts` for people."""
        if self.as_json:
            self.line(value)
            return
        for part in parts:
            if isinstance(part, Table):
                _write_table(part)
            else:
                _write(sys.stdout, (part,))

    def rows(self, value: Mapping[str, Json], text: str) -> None:
        """End a command by a file for stdout, line by line and none of them cut; `value` for `-o json`."""
        if self.as_json:
            self.line(value)
            return
        for line in text.removesuffix("\n").split("\n"):
            print(plain(line, len(line)))

    def line(self, value: Mapping[str, Json]) -> None:
        """Write one JSON line; ASCII alone, so that nothing in it can steer a terminal."""
        print(json.dumps(value, sort_keys=True), flush=True)

    def failed(self, code: str, message: str, what: str) -> None:
        """Say why a command did not do what was asked. what: "refused", "failed", ..."""
        if self.as_json:
            self.line({"error": code, "message": message})
        else:
            _write(sys.stderr, (f"{what}: {code}: {message}",))

    def confirm(self, question: str, yes: bool) -> None:
        """Ask, unless `yes`; anything but "yes" refuses with NOT_CONFIRMED."""
        if yes:
            return
        print(f'\n{plain(question)} Type "yes": ', end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline().strip()
        if answer.lower() != "yes":
            refuse("NOT_CONFIRMED", "yes", "another answer; nothing was signed or sent")


def _write(stream: TextIO, lines: Sequence[str]) -> None:
    for line in lines:
        print(plain(line), file=stream)
    stream.flush()


def _write_table(table: Table) -> None:
    if not table.rows:
        print("nothing")
        return
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    console.width = min(console.width, MAX_WIDTH) if console.is_terminal else MAX_WIDTH
    shown = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in table.columns:
        shown.add_column(column, overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(plain(cell)) for cell in row))
    console.print(shown)
