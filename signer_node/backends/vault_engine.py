"""`vault-engine://HOST:PORT/MOUNT`: the seed inside the vault's own process, behind a judge of its own.

This side holds no key and no say: it hands over the bundle that the node cleared, the engine judges it again and
answers with signatures or a refusal. Where the engine has followed less of the log than the node, after a restored
snapshot or while other bundles were refused, it is told the cosigned history first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from custody import curve
from custody.bundle import signatures_from_items
from custody.canonical import Json
from custody.errors import IntegrityError, MalformedError, Refused, UnavailableError
from custody.fields import Fields
from custody.signatures import InputSignature
from custody.statements import Kind, Signed
from signer_node.backends.port import Access, BackendRefused, BackendState, Cleared, probed
from signer_node.backends.signing import SIGHASH_ALL, XONLY_BYTES, check_shape
from signer_node.backends.vault_client import PROBE, Manner, VaultSession, vault_parts
from signer_node.breath import ClearedBreath
from signer_node.seed import Entropy, KeyMaterial

SIGNING = Manner(read_s=15.0)  # the engine judges and signs a hundred inputs in it on a busy machine
_MAX_SIGNATURES = 100_000  # inputs of the largest PSBT are far fewer


class VaultEngine:
    """The backend over one mount; keeps a login and nothing else."""

    def __init__(self, session: VaultSession, mount: str, access: Access) -> None:
        self._session, self._mount, self._access = session, mount, access
        self._fresh: asyncio.Task[None] | None = None

    async def sign(self, cleared: Cleared) -> tuple[InputSignature, ...]:
        """See the port. Raises BackendRefused where the engine's judge says no to what ours cleared."""
        return await asyncio.to_thread(self._sign, cleared)

    async def public(self) -> KeyMaterial:
        """See the port."""
        return await asyncio.to_thread(lambda: _read_public(self._session.request("GET", f"{self._mount}/key")))

    async def health(self) -> BackendState:
        """See the port."""
        return await probed(self._probe)

    async def __aenter__(self) -> Self:
        self._fresh = asyncio.create_task(self._session.keep_fresh())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fresh:
            self._fresh.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._fresh
        await asyncio.to_thread(self._session.close)

    def _sign(self, cleared: Cleared) -> tuple[InputSignature, ...]:
        check_shape(cleared)
        answer = self._ask(cleared)
        if answer.has("behind"):
            self._tell_history(answer.integer("behind"))
            answer = self._ask(cleared)
        if answer.has("behind"):
            raise UnavailableError("ENGINE_BEHIND", "expected the engine to have followed all that this node has")
        if answer.has("refused"):
            told = answer.fields("refused")
            raise BackendRefused(Refused(told.text("code", 64), told.text("expected", 2048), told.text("found", 2048)))
        signatures = signatures_from_items(answer.items("signatures", _MAX_SIGNATURES))
        answer.done()
        _check(cleared, signatures)
        return signatures

    def _ask(self, cleared: Cleared) -> Fields:
        """Hand over what was cleared. What the node cleared had its code typed there, where the rules want one."""
        if isinstance(cleared, ClearedBreath):
            life = {"life": cleared.raw_bundle.decode()}
            return Fields(self._session.request("POST", f"{self._mount}/life", life), "engine")
        body: dict[str, Json] = {
            "bundle": cleared.raw_bundle.decode(),
            "confirmed": [cleared.withdrawal_digest.hex()],
        }
        return Fields(self._session.request("POST", f"{self._mount}/sign", body, SIGNING), "engine")

    def _tell_history(self, size: int) -> None:
        if self._access.history is None:
            raise UnavailableError("ENGINE_BEHIND", f"expected history from entry {size} on for the engine")
        for delta in self._access.history(size):
            self._session.request("POST", f"{self._mount}/follow", {"delta": delta.decode()}, SIGNING)

    def _probe(self) -> None:
        self._session.check()
        try:  # the server is well: what fails from here on is the engine
            status = Fields(self._session.request("GET", f"{self._mount}/status", manner=PROBE), "status")
        except UnavailableError as error:
            if error.code != "VAULT_UNREACHABLE":
                raise
            raise UnavailableError("VAULT_ENGINE_DOWN", "expected an answer from the engine") from None
        mine = (self._access.node, self._access.network.value)
        if (found := (status.text("node"), status.text("network"))) != mine:
            raise IntegrityError(
                "ENGINE_OTHER", f"expected the engine of {' on '.join(mine)}, found {' on '.join(found)}"
            )
        if not status.has("genesis"):
            raise IntegrityError("ENGINE_UNPINNED", "expected an engine that a genesis is pinned on")


def open_backend(uri: str, access: Access) -> VaultEngine:
    """See the port."""
    session, mount = _open(uri, access)
    return VaultEngine(session, mount, access)


def make_key(uri: str, access: Access, entropy: Entropy) -> KeyMaterial:
    """See the port. The seed is made inside, of the server's own entropy; `entropy` is not asked."""
    session, mount = _open(uri, access)
    body: dict[str, Json] = {
        "node": access.node,
        "network": access.network.value,
        "request": os.urandom(16).hex(),  # so that the engine can tell this call, run again, from a second ceremony
    }
    try:
        return _read_public(session.request("POST", f"{mount}/key", body))
    finally:
        session.close()


def pin_document(uri: str, access: Access, signed: Signed) -> None:
    """See `Judging`. What the engine finds wrong with the document is an IntegrityError with its code."""
    session, mount = _open(uri, access)
    name = "genesis" if signed.kind is Kind.GENESIS else "wallet"
    body: dict[str, Json] = {name: signed.to_bytes().decode(), "hash": signed.digest.hex()}
    try:
        session.request("POST", f"{mount}/{name}", body)
    finally:
        session.close()


def _open(uri: str, access: Access) -> tuple[VaultSession, str]:
    addresses, segments, query = vault_parts(uri)
    if len(segments) != 1 or query:
        raise MalformedError("BACKEND_URI", "expected vault-engine://HOST:PORT/MOUNT")
    if access.vault is None:
        raise MalformedError("BACKEND_ACCESS", "expected a Vault login for vault-engine")
    return VaultSession(addresses, access.vault), segments[0]


def _check(cleared: Cleared, signatures: tuple[InputSignature, ...]) -> None:
    """Prove that the engine signed what was cleared, by the keys that were cleared, by a second library."""
    if [(s.input_index, s.pubkey) for s in signatures] != list(enumerate(cleared.pubkeys)):
        raise IntegrityError("KEY_NOT_MINE", "expected one signature per input by the cleared keys, found others")
    verifier = curve.SecondVerifier()
    for signed, digest in zip(signatures, cleared.digests, strict=True):
        if len(signed.pubkey) == XONLY_BYTES:
            is_valid = curve.schnorr_verify_second(signed.pubkey, digest, signed.signature)
        else:
            der, sighash = signed.signature[:-1], signed.signature[-1:]
            is_valid = sighash == SIGHASH_ALL and verifier.verify(signed.pubkey, digest, der)
        if not is_valid:
            at = signed.input_index
            raise IntegrityError("SIGNATURE_WRONG", f"input {at}: the second library refuses the engine's signature")


def _read_public(answer: Mapping[str, Json]) -> KeyMaterial:
    fields = Fields(answer, "key")
    path = tuple(int(str(step)) for step in fields.items("path", 10))
    material = KeyMaterial(fields.hex("fingerprint", 4), path, fields.text("xpub"))
    fields.done()
    return material
