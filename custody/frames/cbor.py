"""The little of CBOR (RFC 8949) that UR needs: whole numbers, byte strings and one list. Everything else is refused."""

from __future__ import annotations

from custody.errors import MalformedError

_UINT, _BYTES, _ARRAY = 0, 2, 4
_WIDTHS = {24: 1, 25: 2, 26: 4, 27: 8}  # RFC 8949 section 3: bytes that hold the argument


def encode_uint(value: int) -> bytes:
    """Return the whole number `value` in its shortest form."""
    return _head(_UINT, value)


def encode_bytes(content: bytes) -> bytes:
    """Return `content` as a byte string."""
    return _head(_BYTES, len(content)) + content


def encode_array(*items: bytes) -> bytes:
    """Return a list of encoded `items`."""
    return _head(_ARRAY, len(items)) + b"".join(items)


def read_bytes(raw: bytes) -> bytes:
    """Return the byte string that is all of `raw`. Raises MalformedError CBOR."""
    found, end = _bytes_at(raw, 0)
    _check(end == len(raw), "nothing behind the byte string", end)
    return found


def read_part(raw: bytes) -> tuple[tuple[int, int, int, int], bytes]:
    """Return the four numbers and the byte string of the list that is all of `raw` (BCR-2024-001, "part").

    Raises:
        MalformedError: CBOR.
    """
    items, at = _argument(raw, 0, _ARRAY)
    _check(items == 5, "a list of five", 0)
    first, at = _argument(raw, at, _UINT)
    second, at = _argument(raw, at, _UINT)
    third, at = _argument(raw, at, _UINT)
    fourth, at = _argument(raw, at, _UINT)
    data, at = _bytes_at(raw, at)
    _check(at == len(raw), "nothing behind the list", at)
    return (first, second, third, fourth), data


def _head(major: int, value: int) -> bytes:
    if value < 24:
        return bytes([major << 5 | value])
    code, width = next((code, width) for code, width in _WIDTHS.items() if value < 1 << 8 * width)
    return bytes([major << 5 | code]) + value.to_bytes(width, "big")


def _bytes_at(raw: bytes, at: int) -> tuple[bytes, int]:
    size, at = _argument(raw, at, _BYTES)
    _check(size <= len(raw) - at, f"{size} bytes", at)
    return raw[at : at + size], at + size


def _argument(raw: bytes, at: int, major: int) -> tuple[int, int]:
    """Return the argument of the item of kind `major` at `at`, and where it ends. Indefinite lengths are refused."""
    _check(at < len(raw) and raw[at] >> 5 == major, f"an item of major type {major}", at)
    code = raw[at] & 31
    if code < 24:
        return code, at + 1
    end = at + 1 + _WIDTHS.get(code, len(raw))
    _check(end <= len(raw), "a definite length", at)
    return int.from_bytes(raw[at + 1 : end], "big"), end


def _check(holds: bool, expected: str, at: int) -> None:
    if not holds:
        raise MalformedError("CBOR", f"expected {expected} at byte {at} of a frame's body")
