"""Read a decoded JSON object into a typed value, once, at the edge.

`Fields` takes each expected key with its type and then refuses what is left: an unknown field is never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from custody.canonical import Json
from custody.errors import MalformedError
from custody.units import Sats, sats, utc_seconds

MAX_NAME_CHARS = 64  # names are ids that people read aloud and compare
N = TypeVar("N")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")  # ASCII only: no look-alike letters in an id


class Fields:
    """The keys of one JSON object, each to be taken exactly once.

    Args:
        value: what was decoded; anything but an object is refused.
        where: the name of the object, for messages.
    """

    def __init__(self, value: Json, where: str) -> None:
        if not isinstance(value, Mapping):
            raise MalformedError("FIELD_TYPE", f"{where}: expected an object, found {type(value).__name__}")
        self._left = dict(value)
        self._where = where

    @property
    def where(self) -> str:
        """The name of the object, for messages: "policy.rules[3].match"."""
        return self._where

    def has(self, key: str) -> bool:
        """Return whether `key` is there and not yet taken."""
        return key in self._left

    def any(self, key: str) -> Json:
        """Take `key`, whatever its type."""
        if key not in self._left:
            raise MalformedError("FIELD_MISSING", f"{self._where}: expected field {key}")
        return self._left.pop(key)

    def text(self, key: str, max_chars: int = 256) -> str:
        """Take a string of at most `max_chars`."""
        value = self.any(key)
        if not isinstance(value, str):
            raise self._bad(key, "a string", value)
        if len(value) > max_chars:
            raise MalformedError("FIELD_TOO_LONG", f"{self._where}.{key}: expected at most {max_chars} characters")
        return value

    def name(self, key: str) -> str:
        """Take an id: lower-case ASCII letters, digits, dot, dash and underscore."""
        return check_name(self.text(key, MAX_NAME_CHARS), f"{self._where}.{key}")

    def names(self, key: str) -> tuple[str, ...]:
        """Take a list of distinct ids."""
        found = tuple(check_name(item, f"{self._where}.{key}") for item in self.items(key))
        if len(set(found)) != len(found):
            raise MalformedError("FIELD_DUPLICATE", f"{self._where}.{key}: expected distinct names")
        return found

    def integer(self, key: str, low: int = 0, high: int = 2**53 - 1) -> int:
        """Take a whole number inside low..high."""
        value = self.any(key)
        if type(value) is not int:
            raise self._bad(key, "a whole number", value)
        if not low <= value <= high:
            raise MalformedError("FIELD_RANGE", f"{self._where}.{key}: expected {low}..{high}, found {value}")
        return value

    def boolean(self, key: str) -> bool:
        """Take true or false."""
        value = self.any(key)
        if not isinstance(value, bool):
            raise self._bad(key, "true or false", value)
        return value

    def sats(self, key: str) -> Sats:
        """Take an amount in sats."""
        return self._told(key, sats)

    def time(self, key: str) -> int:
        """Take UTC seconds."""
        return self._told(key, utc_seconds)

    def hex(self, key: str, size: int | None = None) -> bytes:
        """Take lower-case hex; `size` in bytes where it is fixed."""
        return parse_hex(self.text(key, 2**24), f"{self._where}.{key}", size)

    def items(self, key: str, max_items: int = 10_000) -> tuple[Json, ...]:
        """Take a list."""
        value = self.any(key)
        if not isinstance(value, list | tuple):
            raise self._bad(key, "a list", value)
        if len(value) > max_items:
            raise MalformedError("FIELD_TOO_LONG", f"{self._where}.{key}: expected at most {max_items} items")
        return tuple(value)

    def fields(self, key: str) -> Fields:
        """Take an object."""
        return Fields(self.any(key), f"{self._where}.{key}")

    def done(self) -> None:
        """Refuse what was not taken."""
        if self._left:
            raise MalformedError("FIELD_UNKNOWN", f"{self._where}: found unknown field {min(self._left)[:40]!r}")

    def _told(self, key: str, read: Callable[[Json], N]) -> N:
        """Take a number by its own reader, and say where it stands when that refuses it."""
        try:
            return read(self.any(key))
        except MalformedError as error:
            if error.message.startswith(self._where):
                raise
            raise MalformedError(error.code, f"{self._where}.{key}: {error.message}") from error

    def _bad(self, key: str, wanted: str, found: Json) -> MalformedError:
        return MalformedError("FIELD_TYPE", f"{self._where}.{key}: expected {wanted}, found {type(found).__name__}")


def check_name(value: Json, where: str) -> str:
    """Return `value` as an id, or refuse it with FIELD_NAME."""
    if not isinstance(value, str) or len(value) > MAX_NAME_CHARS or not _NAME.fullmatch(value):
        raise MalformedError("FIELD_NAME", f"{where}: expected a name of a-z 0-9 . _ - (at most {MAX_NAME_CHARS})")
    return value


def parse_hex(text: str, where: str, size: int | None = None) -> bytes:
    """Return the bytes of lower-case hex `text`, or refuse it with FIELD_HEX."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if found.hex() != text or (size is not None and len(found) != size):  # one spelling: no capitals, no spaces
        wanted = "lower-case hex" if size is None else f"{size} bytes of lower-case hex"
        raise MalformedError("FIELD_HEX", f"{where}: expected {wanted}")
    return found
