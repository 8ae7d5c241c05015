"""The secret behind a node's seed words: kept in bytes that are wiped, shown by no repr, never kept by this module.

Texts that the libraries make of it on the way (words, a normalised passphrase) cannot be wiped; they live as long as
the one call that needed them. An air-gapped machine that is switched off afterwards is the answer to that.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from custody.canonical import tagged_hash
from custody.errors import IntegrityError, MalformedError
from custody.mnemonic import to_entropy, to_seed, to_words
from custody.wallet import Network
from signer_node.seed import KeyMaterial, key_material, wipe

IDENTITY_TAG = "keyturn/node-identity/v1"
MAX_WORDS_BYTES = 1_024  # 33 words of SLIP-39 are under 400


class Secret:
    """Entropy of 12 or 24 words, and the BIP-39 passphrase beside them. Use it in a `with` block: it wipes both.

    Args:
        entropy: 16 or 32 bytes; wiped at the end.
        passphrase: UTF-8, may be empty; wiped at the end.
    """

    __slots__ = ("_entropy", "_passphrase")

    def __init__(self, entropy: bytearray, passphrase: bytearray) -> None:
        self._entropy, self._passphrase = entropy, passphrase

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wipe()

    def wipe(self) -> None:
        """Overwrite it with zeros."""
        wipe(self._entropy)
        wipe(self._passphrase)

    def __repr__(self) -> str:
        return "Secret(...)"

    @property
    def words(self) -> tuple[str, ...]:
        """The seed words."""
        return to_words(bytes(self._entropy))

    @property
    def entropy(self) -> bytearray:
        """A copy of the entropy, for the caller to wipe."""
        return bytearray(self._entropy)

    @property
    def has_passphrase(self) -> bool:
        """Whether the words alone give another key."""
        return bool(self._passphrase)

    def seed(self) -> bytearray:
        """Return the seed of BIP-39: 64 bytes, for the caller to wipe. Raises MalformedError MNEMONIC_PASSPHRASE."""
        return bytearray(to_seed(self.words, read_text(self._passphrase)))

    def material(self, network: Network) -> KeyMaterial:
        """Return the public half of the key on `network`."""
        seed = self.seed()
        try:
            return key_material(seed, network)
        finally:
            wipe(seed)

    def identity(self) -> bytes:
        """Return the seed of the node's identity key (32 bytes): the same words bring back both keys.

        A tagged hash of the seed: who learns the identity learns nothing of the seed.
        """
        seed = self.seed()
        try:
            return tagged_hash(IDENTITY_TAG, bytes(seed))
        finally:
            wipe(seed)


def secret_of_words(typed: bytearray, passphrase: bytearray) -> Secret:
    """Return the secret that the words in `typed` stand for; `typed` is wiped, `passphrase` goes into the secret.

    Raises:
        MalformedError: as `custody.mnemonic.to_entropy`; no message repeats a word.
    """
    try:
        words = tuple(read_text(typed).lower().split())
        return Secret(bytearray(to_entropy(words)), passphrase)
    finally:
        wipe(typed)


def check_fingerprint(secret: Secret, network: Network, expected: bytes) -> None:
    """Prove that `secret` gives the master key with the fingerprint `expected` (4 bytes); else it is wiped.

    Raises:
        IntegrityError: BACKUP_FINGERPRINT: another node's backup, or a wrong passphrase, which no checksum tells.
    """
    found = secret.material(network).fingerprint
    if found != expected:
        secret.wipe()
        what = "another backup, or a wrong passphrase"
        raise IntegrityError("BACKUP_FINGERPRINT", f"expected the key {expected.hex()}, found {found.hex()}: {what}")


def read_text(typed: bytearray) -> str:
    """Return `typed` as text. Raises MalformedError TEXT_UTF8, which repeats nothing of it."""
    try:
        return typed.decode()
    except UnicodeDecodeError:  # not `from`: the error holds the bytes
        raise MalformedError("TEXT_UTF8", "expected UTF-8") from None
