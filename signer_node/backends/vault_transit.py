"""`vault-transit://HOST:PORT/KEY?blob=/PATH`: the seed sealed by a key of Vault's transit engine, the blob kept here.

Both are needed: the blob on this machine and a live token at the server. The key is derived with a context that names
the node, and policy pins that context, so one node's blob opens under no other node's token.
"""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import unquote

from custody.errors import IntegrityError, MalformedError, NotFoundError
from custody.fields import check_name
from signer_node.backends.port import Access
from signer_node.backends.private_file import read_private, write_private_once
from signer_node.backends.vault_backend import VaultBackend
from signer_node.backends.vault_client import VaultSession, vault_parts
from signer_node.seed import Entropy, KeyMaterial, key_material, new_seed, wipe

MOUNT = "transit"


class TransitSeed:
    """The seed in `blob`, sealed by `key` under the context of `node`."""

    def __init__(self, session: VaultSession, key: str, node: str, blob: Path) -> None:
        self._session, self._key, self._blob = session, key, blob
        self._context = context_of(node)

    def fetch(self) -> bytearray:
        """Return the seed.

        Raises:
            NotFoundError: SEED_MISSING where there is no blob.
            IntegrityError: SEED_BROKEN: not the blob that was sealed, or not for us.
        """
        answer = self._ask("decrypt", {"ciphertext": self._read(), "context": self._context})
        try:
            return bytearray(base64.b64decode(str(answer.get("plaintext", "")), validate=True))
        except ValueError:  # binascii.Error is one; a letter that is not ASCII raises the plain one
            raise IntegrityError("SEED_SHAPE", "expected base64 from decrypt") from None

    def probe(self) -> None:
        """Pass if the blob opens: the server re-wraps it and shows nothing; the result is dropped."""
        self._ask("rewrap", {"ciphertext": self._read(), "context": self._context})

    def store(self, seed: bytearray) -> None:
        """Seal `seed` and keep the blob, durable when this returns.

        Raises:
            ConflictError: SEED_EXISTS.
        """
        plaintext = base64.b64encode(bytes(seed)).decode()
        answer = self._ask("encrypt", {"plaintext": plaintext, "context": self._context})
        write_private_once(self._blob, str(answer.get("ciphertext", "")).encode())

    def _read(self) -> str:
        try:
            return read_private(self._blob).decode("ascii")
        except NotFoundError:
            raise NotFoundError("SEED_MISSING", "expected a sealed seed; only a ceremony makes one") from None
        except UnicodeDecodeError:
            raise IntegrityError("SEED_BROKEN", "expected the blob that transit sealed") from None

    def _ask(self, verb: str, body: dict[str, str]) -> dict[str, object]:
        try:
            return dict(self._session.request("POST", f"{MOUNT}/{verb}/{self._key}", body))
        except IntegrityError as error:
            if error.code != "VAULT_INTEGRITY":
                raise
            raise IntegrityError("SEED_BROKEN", f"{verb}: expected the blob that transit sealed for us") from None


def context_of(node: str) -> str:
    """Return the base64 context of `node`, as its policy pins it."""
    return base64.b64encode(f"keyturn/v1|{check_name(node, 'node')}".encode()).decode()


def open_backend(uri: str, access: Access) -> VaultBackend:
    """See the port."""
    session, seed = _open(uri, access)
    return VaultBackend(session, seed, access.network)


def make_key(uri: str, access: Access, entropy: Entropy) -> KeyMaterial:
    """See the port. Generated in this process; the keysmith's token can seal it and not open it."""
    seed = new_seed(entropy)
    try:
        return keep_seed(uri, access, seed)
    finally:
        wipe(seed)


def keep_seed(uri: str, access: Access, seed: bytearray) -> KeyMaterial:
    """Keep a seed that was made outside, once, and return its public half; `seed` stays the caller's."""
    session, place = _open(uri, access)
    try:
        place.store(seed)
        return key_material(seed, access.network)
    finally:
        session.close()


def _open(uri: str, access: Access) -> tuple[VaultSession, TransitSeed]:
    addresses, segments, query = vault_parts(uri)
    blob = unquote(query.removeprefix("blob="))
    if len(segments) != 1 or not query.startswith("blob=/") or "&" in query:
        raise MalformedError("BACKEND_URI", "expected vault-transit://HOST:PORT/KEY?blob=/ABSOLUTE/PATH")
    if access.vault is None:
        raise MalformedError("BACKEND_ACCESS", "expected a Vault login for vault-transit")
    session = VaultSession(addresses, access.vault)
    return session, TransitSeed(session, segments[0], access.node, Path(blob))
