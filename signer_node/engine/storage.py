"""What the engine keeps, and where: a port over the server's storage for this mount, behind its seal.

Values there are at most 1 MiB on raft. Larger ones are cut into parts, and what names them is written last: a value is
there whole or not at all.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

from custody.canonical import Json
from custody.errors import IntegrityError
from custody.fields import Fields

MAX_ENTRY_BYTES = 512 * 1024  # half of raft's limit: the barrier and the envelope add their own


class Storage(Protocol):
    """The entries of one mount. Only this mount reaches them; all of them are under the server's seal."""

    async def get(self, key: str) -> bytes | None:
        """Return the value at `key`, or None where there is none.

        Raises:
            UnavailableError: STORAGE_UNREACHABLE; nothing is known.
        """

    async def put(self, key: str, value: bytes) -> None:
        """Write `value` (at most `MAX_ENTRY_BYTES`) at `key`: durable when this returns.

        Raises:
            ReadOnlyError: this server does not lead its cluster; the leader has to be asked.
            UnavailableError: STORAGE_UNWRITABLE; it is not known whether it was written.
        """


class ReadOnlyError(Exception):
    """A standby cannot write. Its words go back to the server unchanged: they make it ask the leader instead."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Where a value larger than one entry stands: `count` entries named after its digest."""

    sha256: bytes
    count: int

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"sha256": self.sha256.hex(), "count": self.count}

    @staticmethod
    def from_fields(fields: Fields) -> Parts:
        """Read the JSON form."""
        parts = Parts(fields.hex("sha256", 32), fields.integer("count", 1, 1_000))
        fields.done()
        return parts


async def put_parts(storage: Storage, value: bytes) -> Parts:
    """Write `value` of any size; it counts once the caller has written what is returned here at a place of its own."""
    parts = Parts(hashlib.sha256(value).digest(), max(1, -(-len(value) // MAX_ENTRY_BYTES)))
    for at in range(parts.count):
        chunk = value[at * MAX_ENTRY_BYTES : (at + 1) * MAX_ENTRY_BYTES]
        await storage.put(_part_key(parts, at), chunk)
    return parts


async def get_parts(storage: Storage, parts: Parts) -> bytes:
    """Return what `put_parts` wrote.

    Raises:
        IntegrityError: STORAGE_DAMAGED: a part is missing or another one.
    """
    found = [await storage.get(_part_key(parts, at)) for at in range(parts.count)]
    value = b"".join(part for part in found if part is not None)
    if hashlib.sha256(value).digest() != parts.sha256:
        raise IntegrityError("STORAGE_DAMAGED", f"expected {parts.count} parts as they were written")
    return value


def _part_key(parts: Parts, at: int) -> str:
    return f"parts/{parts.sha256.hex()}/{at}"
