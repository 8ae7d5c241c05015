"""The operator's full screen: the page of `review`, read to its end, then a typed word; and frames for a camera."""

from __future__ import annotations

import contextlib
import os
import sys
import termios
import tty
from collections.abc import Iterator
from dataclasses import replace

from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from custody.frames import FrameKind, Parcel, ParcelKind, frames_of, sizes
from signer_node.medium import is_readable
from signer_node.reading import MAX_WRONG, Key, Reading, Verdict, keys_of, pressed, shown
from signer_node.review import Page

REDRAW_SECONDS = 1.0  # a window may have been resized
_BOX = box.SQUARE  # a text console has no round corners
_AROUND_LINES = 6  # two frames' borders and two lines below
_INTERRUPT, _LOCAL_FLAGS = b"\x03", 3  # Control-C; where tcgetattr has the flags of keys
_ENTER, _LEAVE, _HOME, _ERASE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l", "\x1b[H", "\x1b[2J"


class Screen:
    """Standard input and standard error of this process, which must both be a terminal; stdout stays for the result."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        self._drawn_on = self._console.size

    @staticmethod
    def is_there() -> bool:
        """Return whether somebody sits at a terminal."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def confirm(self, page: Page) -> bool:
        """Show `page`; return whether its last word was typed. Until the end was shown nothing can be typed."""
        reading, size = Reading(), self._console.size
        with self._full():
            while True:
                if self._console.size != size:  # other lines now: what was read of the old ones says nothing
                    reading, size = replace(reading, read=0), self._console.size
                lines, height = self._lines(page), max(1, self._console.height - _AROUND_LINES)
                reading = shown(reading, len(lines), height)
                is_read = reading.read == len(lines)
                self._draw(page.title, lines[reading.top : reading.top + height], _below(reading, len(lines), is_read))
                for key in self._keys(REDRAW_SECONDS):
                    if not is_read and ((isinstance(key, str) and key != " ") or key is Key.ENTER):
                        continue
                    after = pressed(reading, key, height, page.words[-1])
                    if isinstance(after, Verdict):
                        return after is Verdict.SIGN
                    reading = shown(after, len(lines), height)

    def ask_code(self, title: str, question: str) -> str:
        """Return the code that was typed; "" where Escape was pressed."""
        typed = ""
        with self._full():
            while True:
                self._draw(title, [Text(question)], [f"Code: {typed}_", "Enter: done · Esc: leave it"])
                for key in self._keys(REDRAW_SECONDS):
                    if key in (Key.ENTER, Key.ESCAPE):
                        return typed if key is Key.ENTER else ""
                    if key is Key.ERASE:
                        typed = typed[:-1]
                    elif isinstance(key, str):
                        typed = (typed + key)[:16]

    def show_frames(self, answer: bytes, kind: FrameKind) -> None:
        """Show `answer` as QR frames, four a second, until a key is pressed."""
        from custody.frames import pictures

        version = sizes.version_for(self._console.width, self._console.height - 1)
        frames = frames_of(Parcel(ParcelKind.DOCUMENT, answer), kind, sizes.frame_chars(version))
        with self._full(), contextlib.suppress(KeyboardInterrupt):  # the answer was given: Control-C is any key
            for number, text in enumerate(frames.endless, 1):
                self._write(f"{_HOME}{chr(10).join(pictures.terminal(text, version))}\n")
                self._write(f"frame {number}, {frames.count} are needed; any key ends")
                if self._keys(sizes.FRAME_MILLISECONDS / 1000):
                    return

    def _lines(self, page: Page) -> list[Text]:
        """Return the page wrapped to the screen; a wrapped line goes on at its own indentation."""
        width = max(20, self._console.width - 4)
        lines: list[Text] = []
        for section in page.sections:
            lines += [Text(section.heading, style="bold"), *_wrapped(self._console, section.lines, width), Text()]
        return lines[:-1]

    def _draw(self, title: str, lines: list[Text], below: list[str]) -> None:
        height = max(1, self._console.height - _AROUND_LINES)
        body = [*lines, *[Text()] * (height - len(lines))]
        foot = Text("\n".join(below), no_wrap=True, overflow="ellipsis")
        drawn = Group(Panel(Group(*body), _BOX, title=Text(title)), Panel(foot, _BOX, height=4))
        with self._console.capture() as captured:
            self._console.print(drawn, end="")
        size, self._drawn_on = self._drawn_on, self._console.size
        self._write((_HOME if size == self._drawn_on else _HOME + _ERASE) + captured.get().rstrip("\n"))

    def _keys(self, seconds: float) -> tuple[Key | str, ...]:
        handle = sys.stdin.fileno()
        if not is_readable(handle, seconds):
            return ()
        raw = os.read(handle, 64)
        if _INTERRUPT in raw:
            raise KeyboardInterrupt
        return keys_of(raw) if raw else (Key.ESCAPE,)  # a terminal that is gone says no

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

    @contextlib.contextmanager
    def _full(self) -> Iterator[None]:
        """Keep the alternate screen and unbuffered keys while the block runs."""
        handle = sys.stdin.fileno()
        before = termios.tcgetattr(handle)
        self._write(_ENTER + _ERASE)
        try:
            tty.setcbreak(handle, termios.TCSAFLUSH)  # what was typed ahead was typed without reading
            keys = termios.tcgetattr(handle)
            keys[_LOCAL_FLAGS] &= ~termios.ISIG  # Control-C is a key here: asyncio would hold the signal back
            termios.tcsetattr(handle, termios.TCSANOW, keys)
            yield
        finally:
            self._write(_LEAVE)
            termios.tcsetattr(handle, termios.TCSAFLUSH, before)


def _wrapped(console: Console, lines: tuple[str, ...], width: int) -> Iterator[Text]:
    for line in lines:
        bare = line.lstrip(" ")
        indent = " " * (2 + len(line) - len(bare))
        for part in Text(bare).wrap(console, width - len(indent)):
            yield Text(indent) + part


def _below(reading: Reading, lines: int, is_read: bool) -> list[str]:
    if not is_read:
        return [f"{reading.read} of {lines} lines read", "Space or Down: read on · Esc: refuse"]
    left = MAX_WRONG - reading.wrong
    first = f"To sign, type the last word and press Enter: {reading.typed}_"
    return [first, f"Up: read again · Esc: refuse{f' · not that word, {left} left' if reading.wrong else ''}"]
