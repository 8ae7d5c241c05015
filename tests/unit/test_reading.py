"""What keys do while an operator reads: nothing signs but the word, behind the end of the page."""

from __future__ import annotations

import pytest

from signer_node.reading import MAX_WRONG, Key, Reading, Verdict, keys_of, pressed, shown

LINES, HEIGHT, WORD = 50, 20, "zebra"


def typed(text: str, reading: Reading | None = None) -> Reading | Verdict:
    """Return where letters and an Enter lead."""
    found: Reading | Verdict = reading or Reading()
    for key in (*text, Key.ENTER):
        assert isinstance(found, Reading)
        found = pressed(found, key, HEIGHT, WORD)
    return found


@pytest.mark.parametrize(
    ("raw", "keys"),
    [
        (b"\x1b", (Key.ESCAPE,)), (b"\x1b[B", (Key.DOWN,)), (b"\x1bOA", (Key.UP,)), (b"\x1b[6~", (Key.PAGE_DOWN,)),
        (b"\r", (Key.ENTER,)), (b"ab\x7f\r", ("a", "b", Key.ERASE, Key.ENTER)),
        (b"a\x1b[B\x1b[B\r", ("a", Key.DOWN, Key.DOWN, Key.ENTER)), (b"\x1b[15~b", ("b",)),
        (b"b\x1b", ("b", Key.ESCAPE)),
        (b"\x1b[5", (Key.ESCAPE, "[", "5")), (b"\x00\x01\xff\x9b", ()), (b"", ()),
    ],
)  # fmt: skip
def test_keys_of_what_a_terminal_gave_then_are_ours_alone(raw: bytes, keys: tuple[Key | str, ...]) -> None:
    """Arrows, letters, Enter, however many at once; other keys and control bytes are dropped."""
    assert keys_of(raw) == keys


def test_page_when_scrolled_then_counts_what_was_shown_and_never_leaves_the_page() -> None:
    """Down to the end and back; jumping to the end counts the lines as shown, since they are."""
    reading = shown(Reading(), LINES, HEIGHT)
    assert (reading.top, reading.read) == (0, 20)
    for key in (Key.PAGE_DOWN, " ", Key.PAGE_DOWN, Key.DOWN):
        after = pressed(reading, key, HEIGHT, WORD)
        assert isinstance(after, Reading)
        reading = shown(after, LINES, HEIGHT)
    assert (reading.top, reading.read) == (30, 50)
    for key, top in ((Key.UP, 29), (Key.PAGE_UP, 10), (Key.HOME, 0), (Key.END, 30)):
        after = pressed(reading, key, HEIGHT, WORD)
        assert isinstance(after, Reading)
        reading = shown(after, LINES, HEIGHT)
        assert (reading.top, reading.read) == (top, 50)


def test_window_that_grows_or_shrinks_then_keeps_its_place() -> None:
    """A larger window shows more, a smaller one begins where it was."""
    reading = shown(Reading(top=30), LINES, HEIGHT)
    assert shown(reading, LINES, 60).top == 0
    assert shown(reading, LINES, 10).top == 30


@pytest.mark.parametrize("text", ["zebra", "ZEBRA", "zebra "])
def test_word_when_typed_then_signs(text: str) -> None:
    """Capitals and a blank behind do not matter."""
    assert typed(text) is Verdict.SIGN


def test_word_corrected_then_signs() -> None:
    """Erase takes the last letter away."""
    found: Reading | Verdict = Reading()
    for key in ("z", "x", Key.ERASE, "e", "b", "r", "a", Key.ENTER):
        assert isinstance(found, Reading)
        found = pressed(found, key, HEIGHT, WORD)
    assert found is Verdict.SIGN


@pytest.mark.parametrize("text", ["sign", "zebr", "zebraa", "yes"])
def test_other_words_then_are_counted_and_the_third_refuses(text: str) -> None:
    """A habit does not sign, and guessing ends."""
    found: Reading | Verdict = Reading()
    for at in range(1, MAX_WRONG):
        assert isinstance(found, Reading)
        found = typed(text, found)
        assert isinstance(found, Reading)
        assert (found.wrong, found.typed) == (at, "")
    assert isinstance(found, Reading)
    assert typed(text, found) is Verdict.REFUSE


def test_enter_alone_then_does_nothing_and_escape_refuses() -> None:
    """Enter is no yes."""
    assert typed("") == Reading()
    assert pressed(Reading(typed=WORD), Key.ESCAPE, HEIGHT, WORD) is Verdict.REFUSE
