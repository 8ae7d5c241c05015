"""What the Vault backends that hold a seed share: fetch, sign, drop, off the event loop, under one login."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Protocol, Self

from custody.signatures import InputSignature
from custody.wallet import Network
from signer_node.backends.port import BackendState, Cleared, probed
from signer_node.backends.signing import public_and_drop, sign_and_drop
from signer_node.backends.vault_client import VaultSession
from signer_node.seed import KeyMaterial


class SeedPlace(Protocol):
    """Where the seed is; both calls block."""

    def fetch(self) -> bytearray:
        """Return the seed in a new bytearray."""

    def probe(self) -> None:
        """Pass if `fetch` would, without the seed leaving the server; raises CustodyError."""


class VaultBackend:
    """The backend over a seed that Vault stores or unseals; keeps a login, never a seed."""

    def __init__(self, session: VaultSession, place: SeedPlace, network: Network) -> None:
        self._session, self._place, self._network = session, place, network
        self._fresh: asyncio.Task[None] | None = None

    async def sign(self, cleared: Cleared) -> tuple[InputSignature, ...]:
        """See the port."""
        return await asyncio.to_thread(sign_and_drop, self._place.fetch, self._network, cleared)

    async def public(self) -> KeyMaterial:
        """See the port."""
        return await asyncio.to_thread(public_and_drop, self._place.fetch, self._network)

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

    def _probe(self) -> None:
        self._session.check()
        self._place.probe()
