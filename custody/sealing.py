"""A small secret sealed under a passphrase, as one canonical document.

Argon2id (RFC 9106) turns the passphrase into a key, ChaCha20-Poly1305 (RFC 8439) seals the secret under it with the
whole header as associated data: no field can be changed, swapped or weakened without the seal failing. A wrong
passphrase and a tampered document look the same, on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass

from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from custody.canonical import Json, decode, encode
from custody.errors import IntegrityError, MalformedError
from custody.fields import Fields

MIN_PASSPHRASE_BYTES = 12  # below that, no key derivation helps
MIN_MEMORY_KIB, MAX_MEMORY_KIB = 8 * 1024, 1024 * 1024  # 8 MiB..1 GiB: a forged file must not exhaust the machine
MAX_PASSES, MAX_LANES = 16, 16
SECRET_BYTES, SALT_BYTES, NONCE_BYTES, TAG_BYTES = 32, 16, 12, 16
SEALED_SIZES = (16, SECRET_BYTES, 64)  # entropy of 12 words; a key, or entropy of 24; a seed of words


@dataclass(frozen=True, slots=True)
class Hardness:
    """Argon2id cost. The default is RFC 9106's second recommended option."""

    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 4


USUAL = Hardness()


@dataclass(frozen=True, slots=True)
class Header:
    """What a sealed document says in clear. schema: what kind of secret it is.  salt: 16 bytes.  nonce: 12 bytes."""

    schema: str
    hardness: Hardness
    salt: bytes
    nonce: bytes

    def to_json(self) -> dict[str, Json]:
        """Return the fields that the seal binds."""
        return {
            "schema": self.schema,
            "kdf": "argon2id",
            "memory_kib": self.hardness.memory_kib,
            "passes": self.hardness.passes,
            "lanes": self.hardness.lanes,
            "salt": self.salt.hex(),
            "aead": "chacha20-poly1305",
            "nonce": self.nonce.hex(),
        }


def seal_secret(secret: bytearray, passphrase: bytearray, header: Header) -> bytes:
    """Return the document that seals `secret` under `passphrase`, which is wiped.

    Args:
        secret: 16, 32 or 64 bytes; stays the caller's.
        passphrase: at least 12 bytes.
        header: with a salt and a nonce that were never used before.

    Raises:
        MalformedError: PASSPHRASE_SHORT.
    """
    if len(passphrase) < MIN_PASSPHRASE_BYTES:
        _wipe(passphrase)
        raise MalformedError("PASSPHRASE_SHORT", f"expected at least {MIN_PASSPHRASE_BYTES} bytes")
    fields = header.to_json()
    sealed = _cipher(passphrase, header).encrypt(header.nonce, bytes(secret), encode(fields))
    return encode({**fields, "sealed": sealed.hex()})


def unseal_secret(raw: bytes | bytearray, passphrase: bytearray, schema: str) -> bytearray:
    """Return the secret (16, 32 or 64 bytes) sealed in `raw`; `passphrase` is wiped.

    Raises:
        MalformedError: a FIELD_, NOT_ or SEAL_SCHEMA code: not a document of this schema.
        IntegrityError: SEAL_BROKEN: wrong passphrase, or not the bytes that were sealed.
    """
    try:
        header, sealed = read_sealed(raw, schema)
        plain = _cipher(passphrase, header).decrypt(header.nonce, sealed, encode(header.to_json()))
    except InvalidTag:
        raise IntegrityError("SEAL_BROKEN", "expected the right passphrase and an untouched file") from None
    finally:
        _wipe(passphrase)
    return bytearray(plain)


def read_sealed(raw: bytes | bytearray, schema: str) -> tuple[Header, bytes]:
    """Return header and sealed bytes of a document; every cost is bounded before it is paid.

    Raises:
        MalformedError: as `unseal_secret`.
    """
    fields = Fields(decode(bytes(raw)), "sealed secret")
    made_by = (fields.text("schema"), fields.text("kdf"), fields.text("aead"))
    if made_by != (schema, "argon2id", "chacha20-poly1305"):
        raise MalformedError("SEAL_SCHEMA", f"expected {schema} with argon2id and chacha20-poly1305")
    hardness = Hardness(
        fields.integer("memory_kib", MIN_MEMORY_KIB, MAX_MEMORY_KIB),
        fields.integer("passes", 1, MAX_PASSES),
        fields.integer("lanes", 1, MAX_LANES),
    )
    header = Header(schema, hardness, fields.hex("salt", SALT_BYTES), fields.hex("nonce", NONCE_BYTES))
    sealed = fields.hex("sealed")
    fields.done()
    if len(sealed) - TAG_BYTES not in SEALED_SIZES:
        raise MalformedError("FIELD_HEX", f"sealed secret: expected {SEALED_SIZES} bytes and a tag of {TAG_BYTES}")
    return header, sealed


def _cipher(passphrase: bytearray, header: Header) -> ChaCha20Poly1305:
    """Return the cipher keyed by `passphrase`, which is wiped."""
    cost = header.hardness
    key = hash_secret_raw(
        bytes(passphrase), header.salt, cost.passes, cost.memory_kib, cost.lanes, hash_len=32, type=Type.ID
    )
    _wipe(passphrase)
    return ChaCha20Poly1305(key)


def _wipe(secret: bytearray) -> None:
    secret[:] = bytes(len(secret))
