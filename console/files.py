"""The files of one person: read whole and bounded, written new and owner-only, never over another.

What a program of ours wrote is either all there or not there; nothing here overwrites a key, a genesis or a bundle.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from custody.errors import ConflictError, IntegrityError, MalformedError

MAX_SEED_BYTES = 256  # 64 hex digits and a line end


def read_file(path: Path, max_bytes: int) -> bytes:
    """Return what `path` holds.

    Raises:
        MalformedError: FILE_UNREADABLE, FILE_TOO_LARGE.
    """
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise MalformedError("FILE_UNREADABLE", f"expected a readable file {path}: {error.strerror}") from error
    if len(content) > max_bytes:
        raise MalformedError("FILE_TOO_LARGE", f"expected at most {max_bytes} bytes in {path}")
    return content


def write_new(path: Path, content: bytes) -> None:
    """Write `content` to the new file `path` (0600), durable when this returns.

    Raises:
        ConflictError: FILE_EXISTS; it was neither read nor changed.
        MalformedError: FILE_UNWRITABLE.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _write(part, content)
        os.link(part, path)  # unlike a rename, fails where the name is taken
    except FileExistsError as error:
        raise ConflictError("FILE_EXISTS", f"expected no file {path} yet") from error
    except OSError as error:
        raise MalformedError("FILE_UNWRITABLE", f"expected to write {path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` (0600) in the place of `path`: a reader sees the old or the new, never half of it.

    Raises:
        MalformedError: FILE_UNWRITABLE.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _write(part, content)
        part.replace(path)
    except OSError as error:
        raise MalformedError("FILE_UNWRITABLE", f"expected to write {path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def read_seed(path: Path) -> bytes:
    """Return the Ed25519 seed in the hex file `path`: 32 bytes.

    Raises:
        MalformedError: KEY_FILE, never with what the file holds.
        IntegrityError: KEY_FILE_MODE where others could read it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise MalformedError("KEY_FILE", f"expected a key file {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise IntegrityError("KEY_FILE_MODE", f"expected {path} to be a file of mode 0600 that belongs to you")
        text = file.read(MAX_SEED_BYTES).strip()
    try:
        seed = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        seed = b""
    if len(seed) != 32:
        raise MalformedError("KEY_FILE", f"expected 64 hex digits in {path}")
    return seed


def _write(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
