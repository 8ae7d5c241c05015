"""An append-only file of records that survives power loss: each append is on the disk when it returns.

A last record that was only half written is cut when the file is opened; damage anywhere else refuses to start, because
a record that was acknowledged is missing then.
"""

from __future__ import annotations

import contextlib
import os
import struct
import weakref
import zlib
from pathlib import Path

from custody.errors import IntegrityError, UnavailableError

_HEADER = struct.Struct(">II")  # length, CRC-32 of the payload
MAX_RECORD_BYTES = 16 * 1024 * 1024  # the largest record is one delta of 6 MiB; more is damage


class RecordFile:
    """Records in order. One process owns a file; the caller serialises calls.

    Args:
        path: created with mode 0600 where it does not exist; a symbolic link is refused.

    Raises:
        IntegrityError: RECORDS_DAMAGED where an acknowledged record cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._let_go = weakref.finalize(self, os.close, self._file)  # of one that nobody closed, too
        _sync_directory(path.parent)
        self.records, whole = _read_all(path.read_bytes(), path)
        os.ftruncate(self._file, whole)
        os.fsync(self._file)
        self._size = whole

    def append(self, payload: bytes) -> None:
        """Write one record: durable when this returns; UnavailableError RECORDS_UNWRITABLE: it is not there."""
        frame = _HEADER.pack(len(payload), zlib.crc32(payload)) + payload
        try:
            written = os.write(self._file, frame)
            if written != len(frame):
                raise OSError("short write")
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):  # what cannot be cut now is cut, or told as damage, at the next start
                os.ftruncate(self._file, self._size)
            raise UnavailableError("RECORDS_UNWRITABLE", f"{self._path.name}: {error.strerror or error}") from error
        self._size += len(frame)
        self.records = (*self.records, payload)

    def close(self) -> None:
        """Give the file back. Idempotent."""
        self._let_go()


def read_records(path: Path) -> tuple[bytes, ...]:
    """Return the whole records in `path`, which another part of this process may have open; none where it is missing.

    Raises:
        IntegrityError: RECORDS_DAMAGED.
    """
    return _read_all(path.read_bytes(), path)[0] if path.exists() else ()


def _read_all(raw: bytes, path: Path) -> tuple[tuple[bytes, ...], int]:
    """Return the whole records and where they end; an incomplete last one is left out."""
    records, at = [], 0
    while at + _HEADER.size <= len(raw):
        length, crc = _HEADER.unpack_from(raw, at)
        end = at + _HEADER.size + length
        if not any(raw[at:]):
            break  # the file had grown, but none of the bytes reached the disk
        if not 0 < length <= MAX_RECORD_BYTES:
            raise IntegrityError("RECORDS_DAMAGED", f"{path.name}: expected a record at byte {at}")
        if end > len(raw):
            break
        payload = raw[at + _HEADER.size : end]
        if zlib.crc32(payload) != crc:
            if end == len(raw):
                break  # the last frame's length reached the disk before its bytes
            raise IntegrityError("RECORDS_DAMAGED", f"{path.name}: expected an intact record at byte {at}")
        records.append(payload)
        at = end
    return tuple(records), at


def write_once(path: Path, content: bytes) -> None:
    """Write a new file durably, mode 0600; an existing one is refused (IntegrityError FILE_EXISTS)."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise IntegrityError("FILE_EXISTS", f"expected no {path.name}, found one") from error
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _sync_directory(path.parent)


def replace_durably(path: Path, content: bytes) -> None:
    """Write `content`, mode 0600, so that after power loss the file is either the old one or the new one, whole."""
    fresh = path.with_name(path.name + ".new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(path)
    _sync_directory(path.parent)  # the rename itself


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
