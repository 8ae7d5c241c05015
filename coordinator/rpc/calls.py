"""Which calls become events: who read what, whom the border turned away, and what a service refused.

What the stages of a withdrawal record themselves is not repeated here. A flood of calls must not become a flood of
entries: one peer's same call about the same thing is one event a minute, and a peer has MAX_EVENTS_A_MINUTE of them;
what was left out is counted in its next event.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from coordinator.clock import Clock
from coordinator.rpc.identity import Identity, Role
from coordinator.store.port import Change, Event, Store
from custody.canonical import Json
from custody.errors import UnavailableError

WINDOW_S = 60
MAX_EVENTS_A_MINUTE = 120  # of one peer: a person's clicking stays far below, a flood adds 30 KiB a minute
MAX_PEERS = 1_000  # beyond it all windows begin anew: certificates are few, addresses are not
_SERVICE = "/custody.v1."
_SEEN: Mapping[str, str] = {
    "WithdrawalService/GetWithdrawal": "withdrawal.read",
    "WithdrawalService/ListWithdrawals": "withdrawal.read",
    "WithdrawalService/WatchWithdrawals": "withdrawal.read",
    "ApprovalService/ListApprovals": "withdrawal.read",
    "PolicyService/Explain": "withdrawal.read",
    "MessageService/GetMessage": "message.read",
    "MessageService/ListMessages": "message.read",
    "WalletService/GetBalance": "wallet.read",
    "WalletService/ListCoins": "wallet.read",
    "WalletService/NextAddress": "address.issued",
    "AuditService/ListEntries": "log.read",
    "SignerService/Connect": "signer.connected",
    "ChainService/Mine": "chain.mined",
}
_SUBJECTS = ("withdrawal_digest", "digest")
_FOLLOWS = frozenset({Role.SIGNER, Role.WITNESS})  # they follow the log by machine; their answers are events


class Calls(Protocol):
    """What the border tells of each call."""

    async def begun(self, method: str, identity: Identity, request: object, peer: str) -> None:
        """Record an admitted call before it is answered. Raises UnavailableError: then it is not answered."""
        ...

    async def failed(self, method: str, identity: Identity | None, reason: str, peer: str) -> None:
        """Record a call that was turned away or refused. reason: its stable code.  peer: address, free text."""
        ...


class NoCalls:
    """Records nothing: for a server without logs, such as the ceremony's."""

    async def begun(self, method: str, identity: Identity, request: object, peer: str) -> None:
        """Do nothing."""

    async def failed(self, method: str, identity: Identity | None, reason: str, peer: str) -> None:
        """Do nothing."""


@dataclass(slots=True)
class _Window:
    """One peer's last minute. told: what was recorded.  left_out: how many events were not."""

    since: int
    told: set[tuple[str, ...]] = field(default_factory=set)
    left_out: int = 0


class RecordedCalls:
    """Writes events into the log of `store`.

    Args:
        store: whose event log.
        clock: UTC seconds.
        key: 32 bytes, secret: free text (an address) is logged as its HMAC-SHA256 alone, so that an auditor sees that
            two are the same and not which.
    """

    def __init__(self, store: Store, clock: Clock, key: bytes) -> None:
        self._store, self._clock, self._key = store, clock, key
        self._windows: dict[str, _Window] = {}
        self.left_out: Counter[str] = Counter()

    async def begun(self, method: str, identity: Identity, request: object, peer: str) -> None:
        """Record who reads or asks what."""
        kind = _SEEN.get(method.removeprefix(_SERVICE))
        if kind is None or (kind == "log.read" and identity.role in _FOLLOWS):
            return
        subject = _subject(request)
        fields: dict[str, Json] = {"method": method.rpartition("/")[2], "address": self.keyed(_host(peer))}
        if subject:
            fields["message" if kind == "message.read" else "withdrawal"] = subject
        await self._write(str(identity), Event(kind, str(identity), fields), (kind, method, subject))

    async def failed(self, method: str, identity: Identity | None, reason: str, peer: str) -> None:
        """Record that a call was denied (nobody was admitted) or refused (the service said no)."""
        actor, address = str(identity) if identity else "unadmitted", self.keyed(_host(peer))
        kind = "call.denied" if identity is None or reason == "ROLE_DENIED" else "call.refused"
        fields: dict[str, Json] = {"method": method[-128:], "code": reason, "address": address}
        try:
            await self._write(actor if identity else address, Event(kind, actor, fields), (kind, method, reason))
        except UnavailableError:  # the store is away: nothing was done, and the caller hears his refusal all the same
            self.left_out[actor] += 1

    def keyed(self, text: str) -> str:
        """Return how free text is logged: HMAC-SHA256 in hex."""
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    async def _write(self, peer: str, event: Event, what: tuple[str, ...]) -> None:
        now = self._clock.now()
        window = self._window(peer, now)
        if what in window.told or len(window.told) >= MAX_EVENTS_A_MINUTE:
            window.left_out += 1
            return
        fields = {**event.fields, "left_out": window.left_out} if window.left_out else event.fields
        window.told.add(what)
        window.left_out = 0
        try:
            await self._store.record(Change(now, events=(Event(event.kind, event.actor, fields),)))
        except UnavailableError:
            window.told.discard(what)
            raise

    def _window(self, peer: str, now: int) -> _Window:
        found = self._windows.get(peer)
        if found is None or now >= found.since + WINDOW_S:
            if len(self._windows) >= MAX_PEERS:
                self._windows.clear()
            found = _Window(now, left_out=0 if found is None else found.left_out)
            self._windows[peer] = found
        return found


def free_text_key(log_seed: bytes) -> bytes:
    """Return the key of free text (32 bytes), derived from the log's seed (32 bytes), which the coordinator keeps."""
    return hmac.new(log_seed, b"keyturn/free-text/v1", hashlib.sha256).digest()


def _subject(request: object) -> str:
    """Return the digest of the withdrawal that a request names, in hex, or ""."""
    for name in _SUBJECTS:
        value = getattr(request, name, b"")
        if isinstance(value, bytes) and len(value) == 32:
            return value.hex()
    return ""


def _host(peer: str) -> str:
    """Return a peer's address without its port, which changes with each connection."""
    return peer.rpartition(":")[0] or peer
