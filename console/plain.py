"""Text of others on a terminal: what is shown cannot steer.

Labels, names, reasons and error texts come from the coordinator, from requesters and from files. A terminal obeys some
characters, a reader is fooled by others (U+202E turns an address around), so each of them is shown by its number.
"""

from __future__ import annotations

MAX_TEXT_CHARS = 2_000  # what a person may have to read of one field; a screen full of noise hides the rest


def plain(text: str, max_chars: int = MAX_TEXT_CHARS) -> str:
    r"""Return `text` with every character that is not plainly visible written as its number: `\x1b`, `\u202e`."""
    cut = text if len(text) <= max_chars else text[:max_chars] + "..."
    return "".join(char if char.isprintable() else _number(char) for char in cut)


def _number(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
