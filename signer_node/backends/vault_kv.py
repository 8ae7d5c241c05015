"""`vault-kv://HOST:PORT/MOUNT/PATH`: the seed in a KV v2 secret, written once by a keysmith, read only to sign.

The simplest backend and the weakest of the Vault ones: whoever holds the signer's token for a second has the seed.
"""

from __future__ import annotations

from custody.errors import ConflictError, DeniedError, IntegrityError, MalformedError, NotFoundError
from custody.fields import Fields
from signer_node.backends.port import Access
from signer_node.backends.vault_backend import VaultBackend
from signer_node.backends.vault_client import ONCE, Body, VaultSession, vault_parts
from signer_node.seed import Entropy, KeyMaterial, key_material, new_seed, wipe


class KvSeed:
    """The seed at `mount/path`, as `VaultBackend` wants it."""

    def __init__(self, session: VaultSession, mount: str, path: str) -> None:
        self._session, self._mount, self._path = session, mount, path

    def fetch(self) -> bytearray:
        """Return the seed: version 1 of the secret, which is the only one there may be.

        Raises:
            NotFoundError: SEED_MISSING.
            IntegrityError: SEED_REWRITTEN where there is a second version, SEED_SHAPE.
        """
        try:
            answer = self._session.request("GET", f"{self._mount}/data/{self._path}")
        except NotFoundError:
            raise NotFoundError("SEED_MISSING", "expected a seed; only a ceremony makes one") from None
        _check_version(answer.get("metadata"))
        try:
            fields = Fields(answer.get("data", {}), "seed")
            seed = bytearray(fields.hex("seed"))
            fields.done()
        except MalformedError as error:
            raise IntegrityError("SEED_SHAPE", error.message) from None
        return seed

    def probe(self) -> None:
        """Pass if the seed is there, once written; only the names of its fields travel."""
        try:
            answer = self._session.request("GET", f"{self._mount}/subkeys/{self._path}")
        except NotFoundError:
            raise NotFoundError("SEED_MISSING", "expected a seed; only a ceremony makes one") from None
        _check_version(answer.get("metadata"))

    def store(self, seed: bytearray) -> None:
        """Write `seed` once.

        Raises:
            ConflictError: SEED_EXISTS.
        """
        body: Body = {"options": {"cas": 0}, "data": {"seed": bytes(seed).hex()}}
        try:
            self._session.request("POST", f"{self._mount}/data/{self._path}", body, ONCE)
        except (ConflictError, DeniedError):  # policy lets a keysmith create, not update: both can mean "there is one"
            self.probe()
            raise ConflictError("SEED_EXISTS", "expected no seed yet") from None


def open_backend(uri: str, access: Access) -> VaultBackend:
    """See the port."""
    session, seed = _open(uri, access)
    return VaultBackend(session, seed, access.network)


def make_key(uri: str, access: Access, entropy: Entropy) -> KeyMaterial:
    """See the port. Generated in this process, which never holds a token that could read it back."""
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


def _open(uri: str, access: Access) -> tuple[VaultSession, KvSeed]:
    addresses, segments, query = vault_parts(uri)
    if len(segments) < 2 or query:
        raise MalformedError("BACKEND_URI", "expected vault-kv://HOST:PORT/MOUNT/PATH")
    if access.vault is None:
        raise MalformedError("BACKEND_ACCESS", "expected a Vault login for vault-kv")
    session = VaultSession(addresses, access.vault)
    return session, KvSeed(session, segments[0], "/".join(segments[1:]))


def _check_version(metadata: object) -> None:
    version = metadata.get("version") if isinstance(metadata, dict) else None
    if version != 1:
        raise IntegrityError("SEED_REWRITTEN", f"expected version 1 of the seed, found {version}")
