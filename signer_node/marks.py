"""Marks beside a witness key: numbers that only rise, kept apart from the state that they guard.

A state directory restored from a backup is older than its mark, and is refused. A mark is overwritten in place within
one sector, so that power loss leaves the old number or the new one.
"""

from __future__ import annotations

import os
from pathlib import Path

from custody.canonical import decode, encode
from custody.errors import IntegrityError, MalformedError
from custody.fields import Fields
from signer_node.records import replace_durably

_CHARS = 16  # fixed width: 2^53 - 1 has as many


def mark_bytes(number: int) -> bytes:
    """Return what a mark's file holds."""
    return f"{number:0{_CHARS}d}\n".encode()


def read_mark(path: Path, what: str) -> int:
    """Return the number in a mark. what: whose it is, for the message.

    Raises:
        IntegrityError: WITNESS_STATE_LOST or WITNESS_STATE_CORRUPT.
    """
    try:
        mark = path.read_bytes()[: _CHARS + 2]
    except OSError as error:
        raise IntegrityError("WITNESS_STATE_LOST", f"expected the mark of {what}") from error
    if len(mark) != _CHARS + 1 or not mark[:-1].isdigit() or mark[-1:] != b"\n":
        raise IntegrityError("WITNESS_STATE_CORRUPT", f"expected a number in the mark of {what}")
    return int(mark)


def write_mark(path: Path, number: int) -> None:
    """Overwrite a mark, durably. Raises OSError."""
    handle = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(handle, mark_bytes(number), 0)
        os.fsync(handle)
    finally:
        os.close(handle)


def held_mark_path(key: Path) -> Path:
    """Return where the mark of what is held stands: beside the witness key."""
    return key.with_name(f"{key.name}.held.mark")


class HeldMark:
    """How often what a witness holds outside the log changed: a record beside the statements, a mark beside the key.

    Args:
        record: in the state directory; lists what is held.
        mark: beside the witness key, made with it.
        held: digests of what was found in the state directory.

    Raises:
        IntegrityError: WITNESS_HELD_REWOUND: what was held when a receipt left may be gone, as after a restore of the
            state directory; HELD_DAMAGED: a statement of the record is gone; or what `read_mark` says.
    """

    def __init__(self, record: Path, mark: Path, held: frozenset[bytes]) -> None:
        self._record, self._mark = record, mark
        marked = read_mark(mark, "what is held")
        self._count, listed = _read(record)
        if self._count < marked:
            raise IntegrityError("WITNESS_HELD_REWOUND", f"expected change {marked} or later, found {self._count}")
        if listed - held:
            raise IntegrityError("HELD_DAMAGED", f"expected {len(listed)} statements that are held, some are gone")
        if self._count > marked:  # the process died in between; no receipt had left
            write_mark(mark, self._count)

    def changed(self, held: frozenset[bytes]) -> None:
        """Record what is held now; durable when this returns, the record first. Raises OSError."""
        listed = sorted(digest.hex() for digest in held)
        replace_durably(self._record, encode({"count": self._count + 1, "held": listed}))
        write_mark(self._mark, self._count + 1)
        self._count += 1


def _read(record: Path) -> tuple[int, frozenset[bytes]]:
    try:
        fields = Fields(decode(record.read_bytes()), "held")
        count, items = fields.integer("count"), fields.items("held", 100_000)
        digests = frozenset(Fields({"digest": item}, "held").hex("digest", 32) for item in items)
        fields.done()
    except FileNotFoundError:
        return 0, frozenset()
    except (OSError, MalformedError) as error:
        raise IntegrityError("HELD_DAMAGED", "expected the record of what is held") from error
    return count, digests
