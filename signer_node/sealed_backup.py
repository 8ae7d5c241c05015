"""A node's words in a file that only its holders open: by age to their keys, or by argon2id under a passphrase.

`age -d` opens the first kind without this program, and shows the words. The BIP-39 passphrase is in neither.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import pyrage

from custody.canonical import decode, encode
from custody.errors import IntegrityError, MalformedError
from custody.fields import Fields
from custody.mnemonic import to_entropy, to_words
from custody.sealing import NONCE_BYTES, SALT_BYTES, USUAL, Hardness, Header, seal_secret, unseal_secret
from custody.wallet import Network
from signer_node.secret import Secret, read_text
from signer_node.seed import wipe

AGE_SCHEMA = "keyturn-backup/1"
SEALED_SCHEMA = "keyturn-sealed-backup/1"
MAX_IDENTITIES = 64


def seal_age(secret: Secret, node: str, network: Network, recipients: Sequence[str]) -> bytes:
    """Return the age file that any of `recipients` (age1...) opens.

    Raises:
        MalformedError: AGE_RECIPIENT.
    """
    try:
        keys = [pyrage.x25519.Recipient.from_str(text) for text in recipients]
    except pyrage.RecipientError:
        raise MalformedError("AGE_RECIPIENT", "expected recipients of the form age1...") from None
    if not keys:
        raise MalformedError("AGE_RECIPIENT", "expected at least one recipient")
    content = {
        "schema": AGE_SCHEMA,
        "node": node,
        "network": network.value,
        "fingerprint": secret.material(network).fingerprint.hex(),
        "words": " ".join(secret.words),
    }
    return bytes(pyrage.encrypt(encode(content), keys, armored=True))


def open_age(raw: bytes, identities: bytearray) -> bytearray:
    """Return the entropy (16 or 32 bytes) in the age file `raw`.

    Args:
        raw: the file, armoured or not.
        identities: an identity file of age (AGE-SECRET-KEY-1...); wiped.

    Raises:
        MalformedError: AGE_IDENTITY, or a FIELD_ code.
        IntegrityError: AGE_OTHER_KEY: sealed to others, or damaged.
    """
    try:
        lines = [line.strip() for line in read_text(identities).splitlines()]
        keys = [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except pyrage.IdentityError:
        raise MalformedError("AGE_IDENTITY", "expected an identity file of age") from None
    finally:
        wipe(identities)
    if not 0 < len(keys) <= MAX_IDENTITIES:
        raise MalformedError("AGE_IDENTITY", f"expected 1..{MAX_IDENTITIES} identities, found {len(keys)}")
    try:
        content = pyrage.decrypt(raw, keys)
    except pyrage.DecryptError:
        raise IntegrityError("AGE_OTHER_KEY", "expected a file sealed to this identity, and undamaged") from None
    fields = Fields(decode(bytes(content)), "backup")
    if fields.text("schema") != AGE_SCHEMA:
        raise MalformedError("BACKUP_SCHEMA", f"expected {AGE_SCHEMA}")
    return bytearray(to_entropy(tuple(fields.text("words").split())))


def seal_passphrase(secret: Secret, passphrase: bytearray, hardness: Hardness = USUAL) -> bytes:
    """Return the document that seals the entropy under `passphrase`, which is wiped.

    Raises:
        MalformedError: PASSPHRASE_SHORT.
    """
    header = Header(SEALED_SCHEMA, hardness, os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES))
    entropy = secret.entropy
    try:
        return seal_secret(entropy, passphrase, header)
    finally:
        wipe(entropy)


def open_passphrase(raw: bytes, passphrase: bytearray) -> bytearray:
    """Return the entropy sealed in `raw`; `passphrase` is wiped. Raises as `custody.sealing.unseal_secret`."""
    entropy = unseal_secret(raw, passphrase, SEALED_SCHEMA)
    to_words(bytes(entropy))  # a size that words have
    return entropy
