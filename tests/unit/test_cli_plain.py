"""Text of others on a terminal."""

import pytest

from console.plain import MAX_TEXT_CHARS, plain


def test_plain_of_printable_text_changes_nothing() -> None:
    """Letters of any script stay as they are."""
    assert plain("Überweisung 付款 [red]x[/red]") == "Überweisung 付款 [red]x[/red]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        ("\u202eevil", "\\u202eevil"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\x9b31m", "\\x9b31m"),
        ("\U000e0041", "\\U000e0041"),
        ("a\u00a0b", "a\\xa0b"),
    ],
)
def test_plain_of_what_steers_or_hides_is_its_number(text: str, shown: str) -> None:
    """Escapes, line ends, bidi marks, invisible letters and tags are shown by number."""
    assert plain(text) == shown


def test_plain_of_a_flood_is_cut() -> None:
    """One field cannot push the rest off the screen."""
    assert len(plain("x" * 10 * MAX_TEXT_CHARS)) < MAX_TEXT_CHARS + 10
