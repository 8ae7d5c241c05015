"""The coordinator's own view of the money log: the same pure state that every signer follows, over its own store."""

from __future__ import annotations

from coordinator.store.port import LogStore
from custody.audit import Log
from custody.entries import parse_entry, statements_of
from custody.errors import IntegrityError
from custody.follow import State, append, in_force, open_under, settled, start, time_of
from custody.genesis import Genesis
from custody.statements import Signed

_BATCH_BYTES = 8 * 1024 * 1024  # one read of the store while catching up after a start


class Followed:
    """Follows the store's money log; call `state` before each decision.

    Args:
        store: whose log.
        genesis: under which it is read.
    """

    def __init__(self, store: LogStore, genesis: Genesis) -> None:
        self._store = store
        self._state = start(genesis)
        self._covering = ("", 0, 0)  # the newest note opened here, T, and by when w witnesses had vouched

    async def state(self, now: int) -> State:
        """Return the state of everything that is durable.

        T of the uncovered tail is that of the first checkpoint which witnesses gave over it, as every signer will see
        it in the next WITNESS entry; `now` (UTC seconds) while there is none.
        """
        state = await self._catch_up()
        t, vouched_at = await self._tail_time(state, now)
        return in_force(settled(in_force(state, vouched_at), t), now)

    async def unsettled(self) -> State:
        """Return the state of everything that is durable, with its tail: what more entries can be followed onto."""
        return await self._catch_up()

    async def _catch_up(self) -> State:
        while (state := self._state).size < (size := self._store.head(Log.MONEY).size):
            entries = await self._store.entries(Log.MONEY, state.size, size, _BATCH_BYTES)
            statements = await self.statements(entries)
            for raw in entries:  # onto the state they were read for: another task may have moved on meanwhile
                state = append(state, raw, statements)
            if state.size > self._state.size:
                self._state = state
        return state

    async def _tail_time(self, state: State, now: int) -> tuple[int, int]:
        """Return T of the tail, and by when w witnesses had vouched for it."""
        notes = await self._store.cosigned(Log.MONEY, state.size) if state.tail else None
        if notes is None:
            return now, now
        if self._covering[0] != notes.first:
            vouched, cosigned = open_under(state, notes.first)
            oldest = cosigned.oldest_counted(vouched.policy.roots.w)
            self._covering = (notes.first, time_of(cosigned), now if oldest is None else oldest)
        return self._covering[1:]

    async def statements(self, entries: tuple[bytes, ...]) -> dict[bytes, Signed]:
        """Return the statements that `entries` name, by digest. Raises IntegrityError MISSING_BODY."""
        return await statements_in(self._store, entries)


async def statements_in(store: LogStore, entries: tuple[bytes, ...]) -> dict[bytes, Signed]:
    """Return the statements that money-log `entries` name, by digest. Raises IntegrityError MISSING_BODY."""
    wanted = [digest for raw in entries for digest in statements_of(parse_entry(raw))]
    found = await store.bodies(wanted)
    statements = {digest: body for digest, body in found.items() if isinstance(body, Signed)}
    if missing := set(wanted) - set(statements):
        raise IntegrityError("MISSING_BODY", f"expected the statement {min(missing).hex()[:16]} in the store")
    return statements
