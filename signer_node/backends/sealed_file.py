"""`sealed-file:///path`: the seed in one file, sealed under a passphrase; for air-gapped nodes.

Argon2id (RFC 9106) turns the passphrase into a key, ChaCha20-Poly1305 (RFC 8439) seals the seed under it with the whole
header as associated data: no field can be changed, swapped or weakened without the seal failing. A wrong passphrase
and a tampered file look the same, on purpose.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from custody.canonical import Json, decode, encode
from custody.errors import IntegrityError, MalformedError
from custody.fields import Fields
from custody.signatures import InputSignature
from signer_node.backends.port import Access, BackendState, Cleared, probed
from signer_node.backends.private_file import read_private, write_private_once
from signer_node.backends.signing import public_and_drop, sign_and_drop
from signer_node.seed import SEED_BYTES, Entropy, KeyMaterial, key_material, new_seed, wipe

SCHEMA = "keyturn-sealed-seed/1"
MIN_PASSPHRASE_BYTES = 12  # below that, no key derivation helps
MIN_MEMORY_KIB, MAX_MEMORY_KIB = 8 * 1024, 1024 * 1024  # 8 MiB..1 GiB: a forged file must not exhaust the machine
MAX_PASSES, MAX_LANES = 16, 16
SALT_BYTES, NONCE_BYTES, TAG_BYTES = 16, 12, 16


@dataclass(frozen=True, slots=True)
class Hardness:
    """Argon2id cost. The default is RFC 9106's second recommended option."""

    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 4


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
        return await probed(lambda: _parse(read_private(self._path)) and None)

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


def make_key(uri: str, access: Access, entropy: Entropy, hardness: Hardness = Hardness()) -> KeyMaterial:
    """See the port. hardness: cheaper ones only in tests."""
    seed = new_seed(entropy)
    try:
        write_private_once(_path_of(uri), seal(seed, _passphrase(access), os.urandom, hardness))
        return key_material(seed, access.network)
    finally:
        wipe(seed)


def seal(seed: bytearray, passphrase: bytearray, entropy: Entropy, hardness: Hardness) -> bytes:
    """Return the file that seals `seed` under `passphrase`, which is wiped.

    Args:
        seed: 32 bytes; stays the caller's.
        passphrase: at least 12 bytes.
        entropy: for salt and nonce.
        hardness: written into the file.

    Raises:
        MalformedError: PASSPHRASE_SHORT.
    """
    if len(passphrase) < MIN_PASSPHRASE_BYTES:
        wipe(passphrase)
        raise MalformedError("PASSPHRASE_SHORT", f"expected at least {MIN_PASSPHRASE_BYTES} bytes")
    salt, nonce = entropy(SALT_BYTES), entropy(NONCE_BYTES)
    header = _header(hardness, salt, nonce)
    sealed = _cipher(passphrase, hardness, salt).encrypt(nonce, bytes(seed), encode(header))
    return encode({**header, "sealed": sealed.hex()})


def unseal(raw: bytearray, passphrase: bytearray) -> bytearray:
    """Return the seed (32 bytes) sealed in `raw`; `passphrase` is wiped.

    Raises:
        MalformedError: a FIELD_, NOT_ or SEAL_SCHEMA code: not such a file.
        IntegrityError: SEAL_BROKEN: wrong passphrase, or not the bytes that were sealed.
    """
    try:
        hardness, salt, nonce, sealed = _parse(raw)
        plain = _cipher(passphrase, hardness, salt).decrypt(nonce, sealed, encode(_header(hardness, salt, nonce)))
    except InvalidTag:
        raise IntegrityError("SEAL_BROKEN", "expected the right passphrase and an untouched file") from None
    finally:
        wipe(passphrase)
    return bytearray(plain)


def _cipher(passphrase: bytearray, hardness: Hardness, salt: bytes) -> ChaCha20Poly1305:
    """Return the cipher keyed by `passphrase`, which is wiped."""
    key = hash_secret_raw(
        bytes(passphrase), salt, hardness.passes, hardness.memory_kib, hardness.lanes, hash_len=32, type=Type.ID
    )
    wipe(passphrase)
    return ChaCha20Poly1305(key)


def _header(hardness: Hardness, salt: bytes, nonce: bytes) -> dict[str, Json]:
    return {
        "schema": SCHEMA,
        "kdf": "argon2id",
        "memory_kib": hardness.memory_kib,
        "passes": hardness.passes,
        "lanes": hardness.lanes,
        "salt": salt.hex(),
        "aead": "chacha20-poly1305",
        "nonce": nonce.hex(),
    }


def _parse(raw: bytearray) -> tuple[Hardness, bytes, bytes, bytes]:
    """Return cost, salt, nonce and sealed bytes of a sealed file; every cost is bounded before it is paid."""
    fields = Fields(decode(bytes(raw)), "sealed seed")
    made_by = (fields.text("schema"), fields.text("kdf"), fields.text("aead"))
    if made_by != (SCHEMA, "argon2id", "chacha20-poly1305"):
        raise MalformedError("SEAL_SCHEMA", f"expected {SCHEMA} with argon2id and chacha20-poly1305")
    hardness = Hardness(
        fields.integer("memory_kib", MIN_MEMORY_KIB, MAX_MEMORY_KIB),
        fields.integer("passes", 1, MAX_PASSES),
        fields.integer("lanes", 1, MAX_LANES),
    )
    salt, nonce = fields.hex("salt", SALT_BYTES), fields.hex("nonce", NONCE_BYTES)
    sealed = fields.hex("sealed", SEED_BYTES + TAG_BYTES)
    fields.done()
    return hardness, salt, nonce, sealed


def _passphrase(access: Access) -> bytearray:
    if access.passphrase is None:
        raise MalformedError("BACKEND_ACCESS", "expected a source of the passphrase for sealed-file")
    return access.passphrase()


def _path_of(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.netloc or parts.query or parts.fragment or not parts.path.startswith("/"):
        raise MalformedError("BACKEND_URI", "expected sealed-file:///ABSOLUTE/PATH")
    return Path(unquote(parts.path))
