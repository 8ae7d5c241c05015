"""A store in memory: the same promises but durability, and it can deny, fail before a write, and fail after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from coordinator.session import Session, Stage
from coordinator.store import (
    Change,
    Committed,
    CosignedNotes,
    Page,
    Reservation,
    Versioned,
)
from coordinator.store.append import Heads, append
from coordinator.store.codec import Body, bodies_of, body_digest
from coordinator.store.jobs import with_release
from coordinator.store.port import MAX_PAGE
from custody.audit import Frontier, Log, Subtrees, leaf_hash
from custody.errors import ConflictError, CustodyError, NotFoundError, UnavailableError
from custody.statements import Signed
from custody.transaction import OutPoint
from custody.withdrawal import read_withdrawal

UNWRITABLE = UnavailableError("STORE_UNWRITABLE", "expected to write: the test says no")


class FakeStore:
    """Implements `coordinator.store.port.Store`.

    deny: method name -> error raised before anything is written.  fail_after: method names whose write happens, and
    which raise STORE_UNWRITABLE all the same (the caller does not know).  writes: names of the writes that happened.
    """

    def __init__(self) -> None:
        self.deny: dict[str, CustodyError] = {}
        self.fail_after: set[str] = set()
        self.writes: list[str] = []
        self._heads = Heads()
        self._sessions: dict[bytes, Versioned[Session]] = {}
        self._coins: dict[OutPoint, tuple[Reservation, bytes]] = {}
        self._bodies: dict[bytes, Body] = {}
        self._entries: dict[Log, list[bytes]] = {log: [] for log in Log}
        self._notes: dict[Log, dict[int, CosignedNotes]] = {log: {} for log in Log}
        self._indices: dict[tuple[bytes, int], int] = {}
        self._memory: dict[str, bytes] = {}

    def head(self, log: Log) -> Frontier:
        """Return one tree."""
        return self._heads.of(log)

    async def load(self, digest: bytes) -> Versioned[Session] | None:
        """Return the session of a withdrawal digest."""
        self._before("load")
        return self._sessions.get(digest)

    async def by_initiator(self, initiator: str, withdrawal_id: str) -> Versioned[Session] | None:
        """Return the session under an idempotency key."""
        self._before("by_initiator")
        return next((s for s in self._sessions.values() if _name(s.value) == (initiator, withdrawal_id)), None)

    async def list(self, stages: frozenset[Stage], page: Page) -> tuple[Versioned[Session], ...]:
        """Return sessions in any of `stages`, newest first."""
        self._before("list")
        ordered = sorted(self._sessions.values(), key=lambda s: (s.value.created_at, s.value.digest), reverse=True)
        if page.before is not None:
            digests = [s.value.digest for s in ordered]
            if page.before not in digests:
                raise NotFoundError("PAGE", "expected a known session")
            ordered = ordered[digests.index(page.before) + 1 :]
        found = [s for s in ordered if s.value.stage in stages and page.wallet_id in (None, _wallet(s.value))]
        return tuple(found[: min(page.limit, MAX_PAGE)])

    async def commit(
        self,
        old: Versioned[Session] | None,
        new: Session,
        change: Change,
        *,
        reserve: Reservation | None = None,
        release: frozenset[OutPoint] = frozenset(),
    ) -> tuple[Versioned[Session], Committed]:
        """Write `new` and its entries."""
        self._before("commit")
        if old is None:
            for known in self._sessions.values():
                if _name(known.value) == _name(new) and known.value.digest == new.digest:
                    return known, Committed(is_new=False)
                if _name(known.value) == _name(new):
                    raise ConflictError("WITHDRAWAL_ID_TAKEN", "expected an unused name")
        elif self._sessions.get(new.digest) is None or self._sessions[new.digest].version != old.version:
            raise ConflictError("SESSION_STALE", f"expected version {old.version}")
        for outpoint in reserve.outpoints if reserve else ():
            held = self._coins.get(outpoint)
            if held and reserve and held[0].family != reserve.family and held[0].expires_at > change.at:
                raise ConflictError("OUTPOINT_RESERVED", f"expected {outpoint} to be free")
        committed = self._log(change, bodies_of(new))
        for outpoint in release:
            if outpoint in self._coins and self._coins[outpoint][1] == new.digest:
                del self._coins[outpoint]
        for outpoint in reserve.outpoints if reserve else ():
            assert reserve
            self._coins[outpoint] = (reserve, new.digest)
        stored = Versioned(with_release(new, change, committed), 1 if old is None else old.version + 1)
        self._sessions[new.digest] = stored
        self._after("commit")
        return stored, committed

    async def record(self, change: Change) -> Committed:
        """Log what changes no session."""
        self._before("record")
        committed = self._log(change, ())
        self._after("record")
        return committed

    async def reserved(self, at: int) -> Mapping[OutPoint, bytes]:
        """Return the coins that are held at `at`."""
        self._before("reserved")
        return {outpoint: held.family for outpoint, (held, _) in self._coins.items() if held.expires_at > at}

    async def next_index(self, wallet_id: bytes, branch: int, at_least: int = 0) -> int:
        """Return an address index that was never returned before."""
        self._before("next_index")
        index = max(self._indices.get((wallet_id, branch), 0), at_least)
        self._indices[(wallet_id, branch)] = index + 1
        self._after("next_index")
        return index

    async def remember(self, name: str, value: bytes) -> None:
        """Keep one small fact."""
        self._before("remember")
        self._memory[name] = value
        self._after("remember")

    async def recall(self, name: str) -> bytes | None:
        """Return what was kept under `name`."""
        self._before("recall")
        return self._memory.get(name)

    async def entries(self, log: Log, first: int, end: int, max_bytes: int) -> tuple[bytes, ...]:
        """Return canonical entries first..end-1, at most `max_bytes` of them."""
        self._before("entries")
        found = self._entries[log][first:end]
        while len(found) > 1 and sum(map(len, found)) > max_bytes:
            found.pop()
        return tuple(found)

    async def subtrees(self, log: Log, wanted: Iterable[tuple[int, int]]) -> Mapping[tuple[int, int], bytes]:
        """Return the roots of complete subtrees by (level, index)."""
        self._before("subtrees")
        tree = Subtrees(map(leaf_hash, self._entries[log]))
        try:
            return {(level, index): tree.hashes(level, index) for level, index in wanted}
        except IndexError as error:
            raise NotFoundError("SUBTREE", "expected a longer log") from error

    async def cosigned(self, log: Log, size: int | None = None) -> CosignedNotes | None:
        """Return the notes of the tree of `size`, or of the largest that was vouched for."""
        self._before("cosigned")
        return self._notes[log].get(max(self._notes[log], default=0) if size is None else size)

    async def cosigned_sizes(self, log: Log, above: int, limit: int) -> tuple[int, ...]:
        """Return the sizes above `above` that were vouched for."""
        self._before("cosigned_sizes")
        return tuple(sorted(size for size in self._notes[log] if size > above)[:limit])

    async def keep_cosigned(self, log: Log, size: int, note: str) -> None:
        """Keep a note that w witnesses cosigned."""
        self._before("keep_cosigned")
        known = self._notes[log].get(size)
        self._notes[log][size] = replace(known, newest=note) if known else CosignedNotes(size, note, note)
        newest = self._heads.cosigned
        if not known and log is Log.MONEY and (newest is None or newest[0] < size):
            self._heads = replace(self._heads, cosigned=(size, note))
        self._after("keep_cosigned")

    async def bodies(self, digests: Sequence[bytes]) -> Mapping[bytes, Body]:
        """Return what is stored under `digests`."""
        self._before("bodies")
        return {digest: self._bodies[digest] for digest in digests if digest in self._bodies}

    async def close(self) -> None:
        """Forget nothing; a fake has nothing to finish."""

    def _log(self, change: Change, bodies: Iterable[Body]) -> Committed:
        given = {body_digest(body): body for body in (*change.bodies, *bodies)}
        known = {digest: body for digest, body in (given | self._bodies).items() if isinstance(body, Signed)}
        heads, added, committed = append(self._heads, change, known)
        self._heads = heads
        for digest, body in given.items():
            self._bodies.setdefault(digest, body)
        for new in added:
            self._entries[new.log].append(new.raw)
        return committed

    def _before(self, name: str) -> None:
        if name in self.deny:
            raise self.deny[name]

    def _after(self, name: str) -> None:
        self.writes.append(name)
        if name in self.fail_after:
            raise UNWRITABLE


def _name(session: Session) -> tuple[str, str]:
    withdrawal = read_withdrawal(session.withdrawal)
    return withdrawal.initiator, withdrawal.withdrawal_id


def _wallet(session: Session) -> bytes:
    return read_withdrawal(session.withdrawal).wallet_id
