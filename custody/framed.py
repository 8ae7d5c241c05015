"""Strings with a length of four big-endian bytes in front, as SSH writes them (RFC 4251 section 5)."""

from __future__ import annotations

from custody.reader import Reader


def framed(*parts: bytes) -> bytes:
    """Return each of `parts` behind its length."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def take_framed(reader: Reader) -> bytes:
    """Return the next string. Raises MalformedError (TRUNCATED) where `reader` ends before it does."""
    return reader.take(int.from_bytes(reader.take(4), "big"))
