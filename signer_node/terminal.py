"""The terminal that a ceremony is held at: questions, answers that are not shown, and secrets shown once.

Secrets go through the terminal and through nothing else: no argument, no environment, no file. An answer that must not
be seen is read byte by byte into memory that its user wipes.
"""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from custody.errors import MalformedError
from custody.pasted import refuse_pasted
from signer_node.secret import read_text
from signer_node.seed import wipe

MAX_ANSWER_BYTES = 4_096  # a line of a terminal (N_TTY_BUF_SIZE)
CLEAR = "\x1b[2J\x1b[3J\x1b[H"  # the screen, what was scrolled away, and the cursor to the corner


class Terminal(Protocol):
    """How a ceremony talks to who holds it."""

    def say(self, text: str = "") -> None:
        """Show a text that is no secret."""

    def ask(self, question: str) -> str:
        """Return what was typed, without blanks around it; a secret in it is refused and asked for again."""

    def ask_secret(self, question: str) -> bytearray:
        """Return what was typed without showing it, for the caller to wipe."""

    def show_once(self, text: str, question: str) -> None:
        """Show a secret until a key is pressed, then clear the screen and what can be scrolled back to."""


class RealTerminal:
    """Standard input and standard error. Standard output stays free for the result."""

    def say(self, text: str = "") -> None:
        """See the port."""
        print(text, file=sys.stderr, flush=True)

    def ask(self, question: str) -> str:
        """See the port."""
        while True:
            typed = self._read_line(question)
            try:
                text = read_text(typed).strip()
                refuse_pasted(text, "answer")
            except MalformedError as error:
                self.say(f"{error.code}: {error.message}")
                continue
            finally:
                wipe(typed)
            return text

    def ask_secret(self, question: str) -> bytearray:
        """See the port."""
        with _unseen():
            typed = self._read_line(question)
        self.say()
        return typed

    def show_once(self, text: str, question: str) -> None:
        """See the port."""
        self.say(text)
        try:
            wipe(self._read_line(question))
        finally:  # whoever breaks off leaves no words on the screen
            if sys.stderr.isatty():
                print(CLEAR, end="", file=sys.stderr, flush=True)

    def _read_line(self, question: str) -> bytearray:
        """Return one line of standard input without its end.

        Raises:
            MalformedError: ANSWER_ENDED (no more input), ANSWER_TOO_LONG.
        """
        print(question, end="", file=sys.stderr, flush=True)
        line = bytearray()
        while (byte := os.read(sys.stdin.fileno(), 1)) != b"\n":
            if not byte:
                wipe(line)
                raise MalformedError("ANSWER_ENDED", "expected an answer, found the end of the input")
            if len(line) >= MAX_ANSWER_BYTES:
                wipe(line)
                raise MalformedError("ANSWER_TOO_LONG", f"expected at most {MAX_ANSWER_BYTES} bytes in one line")
            line += byte
        return line


@contextmanager
def _unseen() -> Iterator[None]:
    """Turn the terminal's echo off while the block runs; nothing to turn off where input is no terminal."""
    handle = sys.stdin.fileno()
    if not os.isatty(handle):
        yield
        return
    before = termios.tcgetattr(handle)
    silent = [*before]
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(handle, termios.TCSAFLUSH, silent)  # what was typed ahead is dropped: nobody saw it hidden
    try:
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSAFLUSH, before)
