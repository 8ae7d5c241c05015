"""An append-only, fsynced file of what the embedded chain acknowledged: its blocks and the transactions it took.

The kernel flushes only on a clean exit, so a SIGKILL would lose every block since it was opened; this file does not.
An incomplete last record was never acknowledged: it is cut, and how much is told. Anything else that does not check
refuses to open, since going on would silently drop what was acknowledged. Whole records missing from the end cannot
be told from records never written.

Layout: magic 8 bytes, then per record: body length u32, kind u8, crc32 of the body u32, crc32 u32 of (record number
u64, the nine bytes before), body; all little-endian. The head has its own checksum because a damaged length would
otherwise look like an incomplete last record.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType

from custody.errors import IntegrityError, UnavailableError

_MAGIC = b"KTCHAIN1"
_HEAD_BYTES = 13
_READ_BYTES = 1 << 24


class RecordKind(Enum):
    """What a record's body is."""

    BLOCK = 1
    TRANSACTION = 2


@dataclass(frozen=True, slots=True)
class Record:
    """One record. body: raw block or raw transaction."""

    kind: RecordKind
    body: bytes


class BlockLog:
    """The open file, held by an exclusive lock.

    Args:
        path: created when missing; its directory must exist.

    Attributes:
        records: what was in it when it was opened, oldest first; emptied by `take_records`.
        cut_bytes: length of the incomplete last record that was cut, 0 for none.

    Raises:
        IntegrityError: BLOCKLOG_DAMAGED.
        UnavailableError: BLOCKLOG_IN_USE or BLOCKLOG_IO.
    """

    def __init__(self, path: Path) -> None:
        self._file = _open_locked(path)
        try:
            raw = _read_all(self._file)
            self.records, end = _read_records(raw)
            self.cut_bytes = len(raw) - end
            self._count = len(self.records)
            if end < len(_MAGIC):  # killed while the file was made
                os.ftruncate(self._file, 0)
                os.write(self._file, _MAGIC)
            elif self.cut_bytes:
                os.ftruncate(self._file, end)
            os.fsync(self._file)
            _fsync_directory(path.parent)
        except BaseException:
            os.close(self._file)
            raise
        self._pending: list[bytes] = []
        self._is_broken = False

    def take_records(self) -> Iterator[Record]:
        """Yield the records found at opening, oldest first, and let go of each."""
        records, self.records = self.records[::-1], []
        while records:
            yield records.pop()

    def append(self, record: Record) -> None:
        """Queue `record`; it is durable once `flush` returns."""
        head = len(record.body).to_bytes(4, "little") + bytes([record.kind.value])
        head += zlib.crc32(record.body).to_bytes(4, "little")
        self._pending.append(head + _head_checksum(self._count, head) + record.body)
        self._count += 1

    def flush(self) -> None:
        """Write what is queued; durable when it returns: survives SIGKILL and power loss.

        Raises:
            UnavailableError: BLOCKLOG_IO; what was queued may or may not be there, so the log takes nothing more
                until it is opened anew.
        """
        if self._is_broken:
            raise UnavailableError("BLOCKLOG_IO", "expected a log that can be written, found an earlier failure")
        data = memoryview(b"".join(self._pending))
        self._pending.clear()
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError as error:
            self._is_broken = True
            raise UnavailableError("BLOCKLOG_IO", f"expected to write the block log, found {error.strerror}") from error

    def close(self) -> None:
        """Let go of file and lock; what was not flushed is lost."""
        os.close(self._file)

    def __enter__(self) -> BlockLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _open_locked(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnavailableError("BLOCKLOG_IO", f"expected to open {path.name}, found {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise UnavailableError("BLOCKLOG_IN_USE", f"expected {path.name} to be free, found it locked") from error
    return file


def _read_all(file: int) -> bytes:
    raw = bytearray()
    while part := os.pread(file, _READ_BYTES, len(raw)):
        raw += part
    return bytes(raw)


def _read_records(raw: bytes) -> tuple[list[Record], int]:
    """Return the records of `raw` and where the last complete one ends."""
    if raw[:8] != _MAGIC[: len(raw)]:
        raise IntegrityError("BLOCKLOG_DAMAGED", f"expected {_MAGIC.decode()} at byte 0, found other bytes")
    records: list[Record] = []
    at = min(len(_MAGIC), len(raw))
    while at < len(raw):
        body_at = at + _HEAD_BYTES
        # A file grown by a write whose data never reached the disk reads as zeros.
        if body_at > len(raw) or (raw[at] == 0 and not raw[at:].strip(b"\0")):
            break
        head = raw[at : at + 9]
        if _head_checksum(len(records), head) != raw[at + 9 : body_at]:
            raise IntegrityError("BLOCKLOG_DAMAGED", f"expected record {len(records)} at byte {at}, found damage")
        body_end = body_at + int.from_bytes(head[:4], "little")
        if body_end > len(raw):
            break
        body = raw[body_at:body_end]
        kind = next((kind for kind in RecordKind if kind.value == head[4]), None)
        if kind is None or zlib.crc32(body).to_bytes(4, "little") != head[5:9]:
            raise IntegrityError("BLOCKLOG_DAMAGED", f"expected the body of record {len(records)}, found damage")
        records.append(Record(kind, body))
        at = body_end
    return records, at


def _head_checksum(number: int, head: bytes) -> bytes:
    return zlib.crc32(number.to_bytes(8, "little") + head).to_bytes(4, "little")


def _fsync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
