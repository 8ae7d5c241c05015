"""What the stages of a withdrawal work with: ports, caches and locks of one coordinator, made by `coordinator.app`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from coordinator.chain.port import Chain
from coordinator.clock import Clock
from coordinator.effects import Hook, no_hook
from coordinator.followed import Followed
from coordinator.logs import Logs
from coordinator.outbox import Outbox
from coordinator.store.port import Store
from coordinator.verifying import Verifying
from custody.genesis import Genesis, GenesisWallet
from custody.wallet import ScriptBook


class Turns:
    """One lock per key, for as long as somebody holds or awaits it: unknown keys leave nothing behind."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    def __getitem__(self, key: bytes) -> asyncio.Lock:
        """Return the lock of `key`."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock


@dataclass(frozen=True)
class Parts:
    """One coordinator.

    books: script cache by wallet_id.  confirmations: depth in blocks at which a payment is done.
    later: wallets that the log added, by wallet_id.
    coarse_for: roles of certificates whose callers are told that a withdrawal is denied, and not why.
    releasing: held while a decision counts the log and its RELEASE is written, so that no two count the same room.
    taking: held while a posted statement is compared with the log and written, so that none is logged twice.
    governing: held while a rules document gets its signatures together.
    turns: one lock per withdrawal; its stages run one after the other.
    verifying: verifies signatures, those of large PSBTs in a process of their own.
    """

    genesis: Genesis
    store: Store
    logs: Logs
    chain: Chain
    clock: Clock
    followed: Followed
    outbox: Outbox
    books: dict[bytes, ScriptBook]
    confirmations: int
    hook: Hook = no_hook
    releasing: asyncio.Lock = field(default_factory=asyncio.Lock)
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)
    governing: asyncio.Lock = field(default_factory=asyncio.Lock)
    turns: Turns = field(default_factory=Turns)
    verifying: Verifying = field(default_factory=Verifying)
    later: dict[bytes, GenesisWallet] = field(default_factory=dict)
    coarse_for: frozenset[str] = frozenset()

    @property
    def wallets(self) -> tuple[GenesisWallet, ...]:
        """The wallets of the genesis, and those that came later."""
        return (*self.genesis.wallets, *self.later.values())

    def wallet(self, wallet_id: bytes) -> GenesisWallet | None:
        """Return the wallet with `wallet_id` (32 bytes), or None."""
        return self.genesis.wallet(wallet_id) or self.later.get(wallet_id)

    def admit(self, wallets: Iterable[GenesisWallet]) -> None:
        """Take in the wallets that the log added."""
        for wallet in wallets:
            if self.wallet(wallet.wallet.wallet_id) is None:
                self.books[wallet.wallet.wallet_id] = ScriptBook(wallet.wallet)
                self.later[wallet.wallet.wallet_id] = wallet

    def book(self, wallet_id: bytes) -> ScriptBook | None:
        """Return the script cache of the wallet (32 bytes), or None where it is not ours."""
        return self.books.get(wallet_id)
