"""`sealed-file:///path`: the seed in one file, sealed under a passphrase; for air-gapped nodes.

How it is sealed stands in `custody.sealing`.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

from custody.errors import MalformedError
from custody.sealing import NONCE_BYTES, SALT_BYTES, USUAL, Hardness, Header, read_sealed, seal_secret, unseal_secret
from custody.signatures import InputSignature
from signer_node.backends.port import Access, BackendState, Cleared, probed
from signer_node.backends.private_file import read_private, write_private_once
from signer_node.backends.signing import public_and_drop, sign_and_drop
from signer_node.seed import Entropy, KeyMaterial, key_material, new_seed, wipe

__all__ = ["SCHEMA", "Hardness", "SealedFile", "make_key", "open_backend", "seal", "unseal"]

SCHEMA = "keyturn-sealed-seed/1"


class SealedFile:
    """The backend over one sealed file; every call asks for the passphrase anew and keeps nothing."""

    def __init__(self, path: Path, access: Access) -> None:
        self._path, self._access = path, access

    async def sign(self, cleared: Cleared) -> tuple[InputSignature, ...]:
        """See the port."""
        return await asyncio.to_thread(sign_and_drop, self._fetch, self._access.network, cleared)

    async def public(self) -> KeyMaterial:
        """See the port."""
        return await asyncio.to_thread(public_and_drop, self._fetch, self._access.network)

    async def health(self) -> BackendState:
        """See the port. Checks that the file is there, private and well-formed; does not ask for the passphrase."""
        return await probed(lambda: read_sealed(read_private(self._path), SCHEMA) and None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def _fetch(self) -> bytearray:
        return unseal(read_private(self._path), _passphrase(self._access))


def open_backend(uri: str, access: Access) -> SealedFile:
    """See the port."""
    return SealedFile(_path_of(uri), access)


def make_key(uri: str, access: Access, entropy: Entropy, hardness: Hardness = USUAL) -> KeyMaterial:
    """See the port. hardness: cheaper ones only in tests."""
    seed = new_seed(entropy)
    try:
        return keep_seed(uri, access, seed, hardness)
    finally:
        wipe(seed)


def keep_seed(uri: str, access: Access, seed: bytearray, hardness: Hardness = USUAL) -> KeyMaterial:
    """Keep a seed that was made outside, once, and return its public half; `seed` stays the caller's."""
    write_private_once(_path_of(uri), seal(seed, _passphrase(access), os.urandom, hardness))
    return key_material(seed, access.network)


def seal(seed: bytearray, passphrase: bytearray, entropy: Entropy, hardness: Hardness) -> bytes:
    """Return the file that seals `seed` under `passphrase`, which is wiped.

    Args:
        seed: 32 or 64 bytes; stays the caller's.
        passphrase: at least 12 bytes.
        entropy: for salt and nonce.
        hardness: written into the file.

    Raises:
        MalformedError: PASSPHRASE_SHORT.
    """
    return seal_secret(seed, passphrase, Header(SCHEMA, hardness, entropy(SALT_BYTES), entropy(NONCE_BYTES)))


def unseal(raw: bytearray, passphrase: bytearray) -> bytearray:
    """Return the seed (32 or 64 bytes) sealed in `raw`; `passphrase` is wiped.

    Raises:
        MalformedError, IntegrityError: as `custody.sealing.unseal_secret`.
    """
    return unseal_secret(raw, passphrase, SCHEMA)


def _passphrase(access: Access) -> bytearray:
    if access.passphrase is None:
        raise MalformedError("BACKEND_ACCESS", "expected a source of the passphrase for sealed-file")
    return access.passphrase()


def _path_of(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.netloc or parts.query or parts.fragment or not parts.path.startswith("/"):
        raise MalformedError("BACKEND_URI", "expected sealed-file:///ABSOLUTE/PATH")
    return Path(unquote(parts.path))
