"""The ceremony's terminal: what is read, what is refused, and that nothing hangs or repeats."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable

import pytest

from custody.errors import MalformedError
from signer_node.terminal import CLEAR, MAX_ANSWER_BYTES, RealTerminal

Typed = Callable[[bytes], io.StringIO]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Return a way to type: what is given comes from standard input, which then ends."""

    def give(raw: bytes) -> io.StringIO:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        os.write(writing, raw)
        os.close(writing)
        shown = io.StringIO()
        monkeypatch.setattr(sys, "stdin", os.fdopen(reading))
        monkeypatch.setattr(sys, "stderr", shown)
        return shown

    return give


def test_ask_returns_the_line_without_blanks_and_shows_the_question(typed: Typed) -> None:
    """Letters of any script; the next line stays for the next question."""
    shown = typed("  änna \nbert\n".encode())
    assert (RealTerminal().ask("Who? "), RealTerminal().ask("And? ")) == ("änna", "bert")
    assert shown.getvalue() == "Who? And? "


def test_ask_given_bytes_that_are_no_text_asks_again(typed: Typed) -> None:
    """A broken paste is no answer."""
    shown = typed(b"\xff\xfe\nanna\n")
    assert RealTerminal().ask("Who? ") == "anna"
    assert "TEXT_UTF8" in shown.getvalue()


def test_ask_secret_returns_every_byte_and_shows_none(typed: Typed) -> None:
    """Blanks are part of a passphrase; where input is no terminal there is no echo to turn off."""
    shown = typed(b" pass word \n")
    assert RealTerminal().ask_secret("Passphrase: ") == bytearray(b" pass word ")
    assert "pass word" not in shown.getvalue()


def test_show_once_where_nothing_can_be_cleared_writes_no_escapes(typed: Typed) -> None:
    """A file or a pipe is no screen."""
    shown = typed(b"\n")
    RealTerminal().show_once("the words", "Written down? ")
    assert "the words" in shown.getvalue()
    assert CLEAR not in shown.getvalue()


class Screen(io.StringIO):
    """Standard error on a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@pytest.mark.parametrize("raw", [b"\n", b""])
def test_show_once_clears_the_screen_also_when_it_is_broken_off(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, raw: bytes
) -> None:
    """A key, or an end: the words go either way."""
    typed(raw)
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with contextlib.suppress(MalformedError):
        RealTerminal().show_once("the words", "Written down? ")
    assert screen.getvalue().endswith(CLEAR)


@pytest.mark.parametrize(
    ("raw", "code"),
    [(b"", "ANSWER_ENDED"), (b"half a line", "ANSWER_ENDED"), (b"x" * (MAX_ANSWER_BYTES + 1), "ANSWER_TOO_LONG")],
)
def test_ask_given_an_end_or_a_flood_refuses(typed: Typed, raw: bytes, code: str) -> None:
    """No more input is not an answer, and a line has an end."""
    typed(raw)
    with pytest.raises(MalformedError) as refused:
        RealTerminal().ask("Who? ")
    assert refused.value.code == code
