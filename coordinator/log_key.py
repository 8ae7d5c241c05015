"""The key that signs checkpoints: sealed in a file under a passphrase, or in the transit engine of Vault or OpenBao.

Whoever has it can sign a false log, which no signer follows without w witnesses; so it is guarded, and not trusted.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from custody import ed25519
from custody.errors import ConflictError, IntegrityError, NotFoundError, UnavailableError
from custody.sealing import NONCE_BYTES, SALT_BYTES, SECRET_BYTES, USUAL, Hardness, Header, seal_secret, unseal_secret

SCHEMA = "keyturn-sealed-log-key/1"
MAX_PRIVATE_BYTES = 4096  # sealed keys, passphrases and tokens are all far smaller
_FREE_TEXT = b"keyturn/free-text/v1"  # no checkpoint begins so: they begin with "keyturn/", 64 hex digits, "/"


class LogKey(Protocol):
    """Signs what the log says."""

    @property
    def public(self) -> bytes:
        """32 bytes, Ed25519."""
        ...

    async def sign(self, message: bytes) -> bytes:
        """Return the signature (64 bytes) of `message`: the same for the same message.

        Raises:
            CustodyError: the key cannot be reached or refuses; nothing was signed.
        """
        ...


@dataclass(frozen=True, slots=True)
class SeedKey:
    """The key in this process. seed: 32 bytes."""

    seed: bytes = field(repr=False)

    @property
    def public(self) -> bytes:
        """32 bytes, Ed25519."""
        return ed25519.public_key(self.seed)

    async def sign(self, message: bytes) -> bytes:
        """See the port."""
        return ed25519.sign(self.seed, message)


async def free_text_secret(key: LogKey) -> bytes:
    """Return 32 secret bytes that only the holder of the log key can make, the same each time: for free text."""
    return hashlib.sha256(await key.sign(_FREE_TEXT)).digest()


def open_sealed(path: Path, passphrase: Path) -> SeedKey:
    """Return the key sealed in `path`. Takes some 0.2 s.

    Raises:
        NotFoundError, IntegrityError: FILE_MISSING, FILE_NOT_PRIVATE, FILE_TOO_LARGE or SEAL_BROKEN.
        MalformedError: not such a file.
    """
    return SeedKey(bytes(unseal_secret(read_private(path), _read_passphrase(passphrase), SCHEMA)))


def make_sealed(path: Path, passphrase: Path, hardness: Hardness = USUAL) -> bytes:
    """Make a log key, seal it in the new file `path` (0600) and return its public half: 32 bytes.

    Raises:
        ConflictError: LOG_KEY_EXISTS: `path` is taken; it was not changed.
        MalformedError, NotFoundError, IntegrityError: no good passphrase in its file.
    """
    seed = bytearray(os.urandom(SECRET_BYTES))
    header = Header(SCHEMA, hardness, os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES))
    document = seal_secret(seed, _read_passphrase(passphrase), header)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(document)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise ConflictError("LOG_KEY_EXISTS", f"expected no file {path.name} yet") from None
    except OSError as error:
        raise UnavailableError("LOG_KEY_UNWRITABLE", f"{path.name}: {error.strerror}") from error
    return ed25519.public_key(bytes(seed))


def read_private(path: Path) -> bytearray:
    """Return what `path` holds: at most 4 KiB, of a regular file that only we may read.

    Raises:
        NotFoundError: FILE_MISSING.
        IntegrityError: FILE_NOT_PRIVATE or FILE_TOO_LARGE.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a planted FIFO must not hang us
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        raise NotFoundError("FILE_MISSING", f"expected a file {path.name}") from None
    except OSError as error:
        raise IntegrityError("FILE_NOT_PRIVATE", f"{path.name}: {error.strerror}") from None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise IntegrityError("FILE_NOT_PRIVATE", f"{path.name}: expected a regular file of mode 0600 owned by us")
        content = bytearray(file.read(MAX_PRIVATE_BYTES + 1))
    if len(content) > MAX_PRIVATE_BYTES:
        raise IntegrityError("FILE_TOO_LARGE", f"{path.name}: expected at most {MAX_PRIVATE_BYTES} bytes")
    return content


def _read_passphrase(path: Path) -> bytearray:
    content = read_private(path)
    if content.endswith(b"\n"):  # editors add one; it is not part of the passphrase
        del content[-1]
    return content
