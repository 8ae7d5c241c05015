"""The port to what the coordinator must not lose: sessions, both logs, their trees and the statements they name.

Trusted for liveness only: a rewritten store shows as a broken checkpoint, since every witness remembers the last one it
saw. Every write is durable when it returns and survives power loss; where a write raises, nothing of it was written,
except that UnavailableError may also mean "not known", and then reading tells. Times are UTC seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from coordinator.session import Session, Stage
from custody.audit import Frontier, Log
from custody.canonical import Json
from custody.entries import Body, EntryKind
from custody.statements import Signed
from custody.transaction import OutPoint

T = TypeVar("T")
MAX_PAGE = 1_000  # sessions in one answer: some megabytes with their PSBTs


@dataclass(frozen=True, slots=True)
class Versioned(Generic[T]):
    """A stored value and its version, which grows by one with each write."""

    value: T
    version: int


@dataclass(frozen=True, slots=True)
class MoneyBody:
    """What a money-log entry is to say. WITNESS entries are the store's own and are refused here."""

    kind: EntryKind
    body: Body


@dataclass(frozen=True, slots=True)
class Event:
    """What an event-log entry is to say. kind: "noun.verb".  fields: "bodies" lists hex digests of what it names."""

    kind: str
    actor: str
    fields: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """What is logged in one transaction: at `at`, in this order; and bodies for the content store.

    bodies: statements by their own digest, other bytes by SHA-256; all verified by the caller, endorsements too. One
    that is there stays as it is, with its endorsements: what an entry names never changes for those who follow later.
    cover: write the WITNESS entry of the money log as it is, also where no entry comes behind it.
    """

    at: int
    money: tuple[MoneyBody, ...] = ()
    events: tuple[Event, ...] = ()
    bodies: tuple[Signed | bytes, ...] = ()
    cover: bool = False


@dataclass(frozen=True, slots=True)
class Reservation:
    """Coins held for a withdrawal of `family` (32 bytes) until `expires_at`; members of one family may share them."""

    outpoints: frozenset[OutPoint]
    family: bytes
    expires_at: int


@dataclass(frozen=True, slots=True)
class Committed:
    """Where the entries of a change stand: indices in the order given. is_new: False where a proposal was repeated."""

    money: tuple[int, ...] = ()
    events: tuple[int, ...] = ()
    is_new: bool = True


@dataclass(frozen=True, slots=True)
class CosignedNotes:
    """What witnesses vouched for at one size. first: fixes T of what it covers.  newest: proves freshness."""

    size: int
    first: str
    newest: str


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list. before: digest of the last session of the page before.  wallet_id: only this wallet."""

    limit: int = 100
    before: bytes | None = None
    wallet_id: bytes | None = None


class LogStore(Protocol):
    """The logs, as `coordinator.logs` needs them."""

    def head(self, log: Log) -> Frontier:
        """Return the tree of what is durable in `log`. Never blocks."""
        ...

    async def entries(self, log: Log, first: int, end: int, max_bytes: int) -> tuple[bytes, ...]:
        """Return canonical entries first..end-1; fewer where they would exceed `max_bytes`, but never none of some.

        Raises UnavailableError STORE_UNREADABLE, as every reading method here.
        """
        ...

    async def subtrees(self, log: Log, wanted: Iterable[tuple[int, int]]) -> Mapping[tuple[int, int], bytes]:
        """Return the roots (32 bytes) of complete subtrees by (level, index).

        Raises:
            NotFoundError: SUBTREE where the log is not that long.
        """
        ...

    async def cosigned(self, log: Log, size: int | None = None) -> CosignedNotes | None:
        """Return the notes of the tree of `size`, or of the largest that was vouched for; None where there is none."""
        ...

    async def cosigned_sizes(self, log: Log, above: int, limit: int) -> tuple[int, ...]:
        """Return the sizes above `above` that were vouched for, ascending, at most `limit`."""
        ...

    async def keep_cosigned(self, log: Log, size: int, note: str) -> None:
        """Keep a note that w witnesses cosigned; the caller has verified it. Idempotent; the first per size stays."""
        ...

    async def bodies(self, digests: Sequence[bytes]) -> Mapping[bytes, Signed | bytes]:
        """Return what is stored under `digests`; those that are not there are left out.

        Raises:
            IntegrityError: BODY_DAMAGED where a body is not what its digest says.
        """
        ...


class Store(LogStore, Protocol):
    """Where sessions and log entries live."""

    async def load(self, digest: bytes) -> Versioned[Session] | None:
        """Return the session of a withdrawal digest. Sees every write that returned."""
        ...

    async def by_initiator(self, initiator: str, withdrawal_id: str) -> Versioned[Session] | None:
        """Return the session under an idempotency key."""
        ...

    async def list(self, stages: frozenset[Stage], page: Page) -> tuple[Versioned[Session], ...]:
        """Return sessions in any of `stages`, newest first, at most MAX_PAGE."""
        ...

    async def commit(
        self,
        old: Versioned[Session] | None,
        new: Session,
        change: Change,
        *,
        reserve: Reservation | None = None,
        release: frozenset[OutPoint] = frozenset(),
    ) -> tuple[Versioned[Session], Committed]:
        """Write `new` and its entries in one transaction; return what is stored and where the entries stand.

        Without `old` the session is made: once per (initiator, withdrawal_id). The same withdrawal again returns the
        stored session with `is_new` False and writes nothing. A RELEASE of this session in `change` sets its
        `release_index`. `reserve` takes coins; `release` gives back those that this session holds.

        Raises:
            ConflictError: SESSION_STALE: `old` is not the newest.  WITHDRAWAL_ID_TAKEN: another withdrawal has that
                (initiator, withdrawal_id).  OUTPOINT_RESERVED: another family holds a coin.
            MalformedError: an entry cannot be encoded.
            UnavailableError: STORE_UNWRITABLE.
        """
        ...

    async def record(self, change: Change) -> Committed:
        """Log what changes no session. Raises MalformedError or UnavailableError as `commit` does."""
        ...

    async def reserved(self, at: int) -> Mapping[OutPoint, bytes]:
        """Return the coins that are held at `at`, with the family (32 bytes) of each."""
        ...

    async def next_index(self, wallet_id: bytes, branch: int, at_least: int = 0) -> int:
        """Return an address index that was never returned before, >= `at_least`; a crash may skip some."""
        ...

    async def remember(self, name: str, value: bytes) -> None:
        """Keep one small fact under `name`, replacing what was there."""
        ...

    async def recall(self, name: str) -> bytes | None:
        """Return what was kept under `name`."""
        ...

    async def close(self) -> None:
        """Finish what was handed in, then write nothing more."""
        ...
