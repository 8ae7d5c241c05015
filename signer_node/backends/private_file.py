"""Read and write the small private files of a node: owner-only, never through a link, never half-written."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from custody.errors import ConflictError, DeniedError, IntegrityError, NotFoundError, UnavailableError

MAX_PRIVATE_BYTES = 4096  # seeds, blobs, passphrases and tokens are all far smaller


def read_private(path: Path) -> bytearray:
    """Return what `path` holds: at most 4 KiB; the caller wipes it where it is secret.

    Raises:
        NotFoundError: FILE_MISSING.
        IntegrityError: FILE_NOT_PRIVATE (a link, not a regular file, not ours, or open to others), FILE_TOO_LARGE.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # non-blocking: a planted FIFO must not hang us
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise NotFoundError("FILE_MISSING", f"expected a file {path.name}") from None
    except OSError as error:
        raise IntegrityError("FILE_NOT_PRIVATE", f"{path.name}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise IntegrityError("FILE_NOT_PRIVATE", f"{path.name}: expected a regular file of mode 0600 owned by us")
        content = bytearray(MAX_PRIVATE_BYTES + 1)
        size = os.readv(descriptor, [content])
    finally:
        os.close(descriptor)
    if size > MAX_PRIVATE_BYTES:
        raise IntegrityError("FILE_TOO_LARGE", f"{path.name}: expected at most {MAX_PRIVATE_BYTES} bytes")
    del content[size:]
    return content


def write_private_once(path: Path, content: bytes) -> None:
    """Write `content` to the new file `path` (0600): all of it durable when this returns, or no such file.

    Raises:
        ConflictError: SEED_EXISTS: `path` is taken; it was neither read nor changed.
        UnavailableError: SEED_UNWRITABLE.
    """
    try:
        _write_once(path, content)
    except FileExistsError:
        raise ConflictError("SEED_EXISTS", f"expected no file {path.name} yet") from None
    except OSError as error:
        raise UnavailableError("SEED_UNWRITABLE", f"{path.name}: {error.strerror}") from error


def _write_once(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)  # left by a crash: never linked, so never used
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)  # unlike a rename, fails where the name is taken
    finally:
        part.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def passphrase_from_file(path: Path) -> Callable[[], bytearray]:
    """Return a source that reads `path` (0600) anew each time; one line end at its end is not part of it."""

    def read() -> bytearray:
        content = read_private(path)
        if content.endswith(b"\n"):
            del content[-1]
        return content

    return read


def wrapped_from_file(path: Path) -> Callable[[], str]:
    """Return a source that takes the wrapping token out of `path` (0600): a token read once is no longer there.

    The source raises DeniedError VAULT_NO_CREDENTIAL while there is none: somebody must put a fresh one.
    """

    def take() -> str:
        try:
            content = read_private(path)
        except NotFoundError:
            raise DeniedError("VAULT_NO_CREDENTIAL", f"expected a fresh wrapping token in {path.name}") from None
        path.unlink()
        return content.decode("ascii", errors="replace").strip()

    return take
