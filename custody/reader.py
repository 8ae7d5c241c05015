"""Read foreign bytes with every bound checked before anything is allocated.

Every refusal is a `MalformedError` with a code and the offset where it happened.
"""

from __future__ import annotations

from custody.errors import MalformedError


class Reader:
    """A cursor over `raw` that cannot run past its end.

    Args:
        raw: the bytes; never copied as a whole.
        base: offset of `raw` in the outer input, for messages.
    """

    __slots__ = ("_base", "_end", "at", "raw")

    def __init__(self, raw: bytes, base: int = 0) -> None:
        self.raw = raw
        self.at = 0
        self._end = len(raw)
        self._base = base

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return self._end - self.at

    @property
    def offset(self) -> int:
        """Where the cursor stands in the outer input."""
        return self._base + self.at

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes, or refuse with TRUNCATED."""
        if size > self._end - self.at:
            raise self.malformed("TRUNCATED", f"expected {size} more bytes, found {self.left}")
        start = self.at
        self.at = start + size
        return self.raw[start : self.at]

    def number(self, size: int) -> int:
        """Return the next `size` bytes as a little-endian whole number."""
        return int.from_bytes(self.take(size), "little")

    def compact_size(self) -> int:
        """Return a CompactSize, refusing a longer spelling than needed (NOT_MINIMAL; Core's ReadCompactSize)."""
        first = self.take(1)[0]
        if first < 0xFD:
            return first
        size, least = {0xFD: (2, 0xFD), 0xFE: (4, 0x1_0000), 0xFF: (8, 0x1_0000_0000)}[first]
        value = self.number(size)
        if value < least:
            raise self.malformed("NOT_MINIMAL", f"expected the shortest CompactSize for {value}")
        return value

    def count(self, least_item_bytes: int) -> int:
        """Return a CompactSize count of items that can fit into what is left, or refuse with COUNT_TOO_LARGE."""
        value = self.compact_size()
        if value * least_item_bytes > self.left:
            raise self.malformed("COUNT_TOO_LARGE", f"expected a count that fits into {self.left} bytes, found {value}")
        return value

    def sized(self) -> bytes:
        """Return the next byte string that is preceded by its CompactSize length."""
        return self.take(self.compact_size())

    def end(self) -> None:
        """Refuse bytes after the end with TRAILING_BYTES."""
        if self.left:
            raise self.malformed("TRAILING_BYTES", f"expected the end, found {self.left} more bytes")

    def malformed(self, code: str, message: str) -> MalformedError:
        """Return the refusal for the place where the cursor stands."""
        return MalformedError(code, message, self.offset)


_ONE_BYTE = tuple(bytes([value]) for value in range(0xFD))


def compact_size(value: int) -> bytes:
    """Return the shortest CompactSize of `value`: 1, 3, 5 or 9 bytes."""
    if value < 0xFD:
        return value.to_bytes(1, "little")
    if value < 0x1_0000:
        return b"\xfd" + value.to_bytes(2, "little")
    if value < 0x1_0000_0000:
        return b"\xfe" + value.to_bytes(4, "little")
    return b"\xff" + value.to_bytes(8, "little")


def sized(data: bytes) -> bytes:
    """Return `data` behind its CompactSize length."""
    size = len(data)
    return (_ONE_BYTE[size] if size < 0xFD else compact_size(size)) + data
