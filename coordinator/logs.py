"""Both logs as others must see them: signed checkpoints, the witnesses' word for them, and proofs.

Trusted for liveness only: whoever reads what leaves here checks it against pinned keys. This module writes no entry:
the store does, with the state that the entry records.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from coordinator.clock import Clock
from coordinator.feed import make_feed, sign_head
from coordinator.log_key import LogKey
from coordinator.store.port import CosignedNotes, LogStore
from custody.audit import (
    Checkpoint,
    Cosigned,
    Log,
    Note,
    WitnessKey,
    consistency_proof,
    consistency_ranges,
    inclusion_proof,
    inclusion_ranges,
    open_checkpoint,
    origin_of,
    parse_note,
    read_cosignature,
    subtrees_of,
    with_lines,
)
from custody.audit.note import parse_line
from custody.errors import IntegrityError, MalformedError, NotFoundError, Refused, UnavailableError
from custody.policy import Roots
from custody.units import MAX_TIME_S

WITNESS_TIMEOUT_S = 10  # a witness fsyncs and signs in milliseconds; after this it is as good as away
GRACE_S = 0.2  # once w have answered, the rest may still add their word, but nobody waits for a dead one
FRESH_S = 60  # signers ask for 5 minutes at most: this leaves time to travel and to be asked again
MAX_ROUNDS = 64  # questions to one witness about one checkpoint: each brings it closer, by up to 1 MiB of entries
_STALE_SIZE = "WITNESS_STALE_SIZE"
_BEHIND = "WITNESS_BEHIND"
_SIZE = re.compile(r"[0-9]{1,16}")


class WitnessesMissingError(UnavailableError):
    """Fewer than w witnesses vouch for a checkpoint (WITNESSES_MISSING)."""

    def __init__(self, message: str) -> None:
        super().__init__("WITNESSES_MISSING", message)


class WitnessPort(Protocol):
    """One witness. Not trusted here: each line is verified under its pinned key."""

    async def add_checkpoint(self, origin: str, old_size: int, proof: tuple[bytes, ...], note: str) -> str | Refused:
        """Return a cosignature line (no newline) over `note`, or the witness's refusal.

        WITNESS_STALE_SIZE carries the size it is at in `found`, decimal; WITNESS_BEHIND that to which it follows the
        money log. Asking again is harmless.

        Raises:
            UnavailableError: it cannot be reached.
        """
        ...


@runtime_checkable
class FollowingWitness(Protocol):
    """A witness that replays the money log, and vouches for no more than it has replayed."""

    async def take_delta(self, delta: bytes) -> int | Refused:
        """Give entries as a delta document; return how many it has then, or its refusal. Raises as `WitnessPort`."""
        ...


@dataclass(frozen=True, slots=True)
class LogPins:
    """Whose logs these are. genesis: 32 bytes.  key: signs checkpoints.  log_key: the pinned Ed25519 key, 32 bytes.

    w: how many of `witnesses` must vouch.  since, until: UTC seconds between which the rules have it so.
    """

    genesis: bytes
    key: LogKey
    log_key: bytes
    witnesses: tuple[WitnessKey, ...]
    w: int
    since: int = 0
    until: int = MAX_TIME_S

    def origin(self, log: Log) -> str:
        """Return the origin line of one log."""
        return origin_of(self.genesis, log)


class Logs:
    """What is said about both logs of one store.

    refusals: by (log, witness), why it did not vouch when it was asked last; WITNESS_FORK or WITNESS_ROLLED_BACK there
    means that this store lost or changed history.
    """

    def __init__(
        self,
        store: LogStore,
        pins: LogPins,
        witnesses: Mapping[str, WitnessPort],
        clock: Clock,
        keys: Iterable[LogKey] = (),
    ) -> None:
        if pins.key.public != pins.log_key:
            raise IntegrityError("LOG_KEY", "expected the pinned log key, found another")
        self._keys = {key.public: key for key in (*keys, pins.key)}  # of the rules in force, and of those to come
        self._former: LogPins | None = None
        self.refusals: dict[tuple[Log, str], Refused] = {}
        self._store, self._pins, self._witnesses, self._clock = store, pins, witnesses, clock
        self._sizes: dict[tuple[Log, str], int] = {}  # where each witness is; a wrong guess costs one more question
        self._followed: dict[str, int] = {}  # to where each follows the money log, of those that said so
        self._locks = {log: asyncio.Lock() for log in Log}
        self._opened: dict[Log, Cosigned] = {}

    @property
    def pins(self) -> LogPins:
        """Whose keys count now."""
        return self._pins

    def turn_to(self, roots: Roots, until: int, ports: Mapping[str, WitnessPort]) -> None:
        """Follow the rules in force: from here on the keys of `roots` sign and vouch.

        Args:
            roots: of the rules in force.
            until: when other rules take effect, UTC seconds.
            ports: to witnesses; they are added to those that are known.

        Raises:
            IntegrityError: LOG_KEY_OTHER: the key is not among those that were given.
        """
        pins, witnesses = self._pins, tuple(WitnessKey(witness.name, witness.key) for witness in roots.witnesses)
        since = pins.until if pins.until <= self._clock.now() else pins.since
        self._witnesses = {**ports, **self._witnesses}
        if (pins.log_key, pins.witnesses, pins.w) == (roots.log_key, witnesses, roots.w):
            self._pins = replace(pins, since=since, until=until)
            return
        key = self._keys.get(roots.log_key)
        if key is None:
            raise IntegrityError("LOG_KEY_OTHER", f"expected the log key {roots.log_key.hex()[:16]} of the rules")
        self._former = pins
        self._pins = LogPins(pins.genesis, key, roots.log_key, witnesses, roots.w, since, until)
        self._opened.clear()

    async def signed(self, log: Log) -> str:
        """Return the log's checkpoint as it is now, signed by the log key alone."""
        return await self._signed(self._pins, log)

    async def cosigned(self, log: Log) -> Cosigned | None:
        """Return the largest checkpoint that w witnesses vouched for, with their newest word; None before the first."""
        notes = await self._store.cosigned(log)
        return None if notes is None else self._open(log, notes.newest)

    async def fresh(self, log: Log) -> CosignedNotes | None:
        """Return notes over all that is durable now, vouched for within FRESH_S; None where too few witnesses answer.

        Callers at the same time share one round of questions.
        """
        wanted = self._store.head(log).size
        async with self._locks[log]:
            found = await self._current(log)
            oldest = None if found is None else found.oldest_counted(self._pins.w)
            if found is None or found.checkpoint.size < wanted or (oldest or 0) < self._clock.now() - FRESH_S:
                try:
                    found = await self._collect(log)
                except WitnessesMissingError:
                    return None
            return await self._store.cosigned(log, found.checkpoint.size)

    async def _current(self, log: Log) -> Cosigned | None:
        """Return what `cosigned` does where the keys of the rules in force vouch for it."""
        notes = await self._store.cosigned(log)
        try:
            return None if notes is None else self._open_under(self._pins, log, notes.newest)
        except (MalformedError, IntegrityError):
            if self._former is None:
                raise
            return None

    async def collect(self, log: Log) -> Cosigned:
        """Return the checkpoint of the log as it is now with new cosignatures, kept in the store.

        An unchanged checkpoint is cosigned again, so that it is fresh.

        Raises:
            UnavailableError: WITNESSES_MISSING: fewer than w vouch; `refusals` says why.
        """
        async with self._locks[log]:
            return await self._collect(log)

    async def add_word(self, line: str) -> bool:
        """Take a cosignature of the money log's newest vouched checkpoint that a witness sent unasked.

        Returns whether it was new and is kept; a line over another checkpoint, or by another key, counts nothing.
        """
        async with self._locks[Log.MONEY]:
            pins, found = self._pins, await self._current(Log.MONEY)
            try:
                name = parse_line(line).name
                witness = next((witness for witness in pins.witnesses if witness.name == name), None)
                if found is None or witness is None:
                    return False
                at = read_cosignature(found.note, line, witness)
            except (MalformedError, IntegrityError):
                return False
            if at <= dict(found.counted).get(name, -1):
                return False
            note = parse_note(found.note)
            others = tuple(each for each in note.signatures if each.name != name)
            merged = self._open_under(pins, Log.MONEY, with_lines(str(Note(note.body, others)), [line]))
            oldest = merged.oldest_counted(pins.w)
            if oldest is None or not pins.since <= oldest < pins.until:
                return False
            await self._store.keep_cosigned(Log.MONEY, merged.checkpoint.size, merged.note)
            return True

    async def inclusion(self, log: Log, index: int, size: int) -> tuple[bytes, ...]:
        """Return the proof (32 bytes each) that entry `index` is in the tree of `size`."""
        self._check_size(log, size)
        return inclusion_proof(await self._fetch(log, inclusion_ranges(index, size)), index, size)

    async def consistency(self, log: Log, old_size: int, size: int) -> tuple[bytes, ...]:
        """Return the proof (32 bytes each) that the tree of `old_size` is a prefix of that of `size`."""
        self._check_size(log, size)
        if old_size == 0:
            return ()
        return consistency_proof(await self._fetch(log, consistency_ranges(old_size, size)), old_size, size)

    async def _signed(self, pins: LogPins, log: Log) -> str:
        tree = self._store.head(log)
        return await sign_head(pins.key, Checkpoint(pins.origin(log), tree.size, tree.root))

    async def _collect(self, log: Log) -> Cosigned:
        pins = self._pins  # the rules may change meanwhile: one checkpoint is of one version
        note = await self._signed(pins, log)
        lines = await self._ask_all(pins, log, note)
        if len(lines) < pins.w:
            said = ", ".join(f"{name} {refused.code}" for (of, name), refused in self.refusals.items() if of is log)
            raise WitnessesMissingError(f"expected {pins.w} witnesses, found {len(lines)} ({said})")
        cosigned = self._open_under(pins, log, with_lines(note, [lines[name] for name in sorted(lines)]))
        oldest = cosigned.oldest_counted(pins.w)
        if oldest is None or not pins.since <= oldest < pins.until:  # followers would ask for other keys at that time
            raise WitnessesMissingError(f"expected witnesses between {pins.since} and {pins.until}, found {oldest}")
        await self._store.keep_cosigned(log, cosigned.checkpoint.size, cosigned.note)
        return cosigned

    async def _ask_all(self, pins: LogPins, log: Log, note: str) -> dict[str, str]:
        """Return the lines that verify, by witness: at least w of them, or all there are."""
        running = {asyncio.create_task(self._ask(log, witness, note)): witness.name for witness in pins.witnesses}
        lines: dict[str, str] = {}
        pending = set(running)
        try:
            while pending:
                grace = GRACE_S if len(lines) >= pins.w else None
                done, pending = await asyncio.wait(pending, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                for task in done:
                    if (line := task.result()) is not None:
                        lines[running[task]] = line
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        return lines

    async def _ask(self, log: Log, witness: WitnessKey, note: str) -> str | None:
        """Return the witness's verified line over `note`; None where there is none, and `refusals` says why."""
        place = (log, witness.name)
        try:
            async with asyncio.timeout(WITNESS_TIMEOUT_S):
                answer = await self._ask_from_its_size(log, witness, note)
        except (UnavailableError, TimeoutError) as error:
            answer = Refused("WITNESS_UNREACHABLE", f"an answer in {WITNESS_TIMEOUT_S} s", type(error).__name__)
        if isinstance(answer, str):
            try:
                read_cosignature(note, answer, witness)
            except (MalformedError, IntegrityError) as error:
                answer = Refused(error.code, f"a cosignature by {witness.name}", "another line")
        if isinstance(answer, Refused):
            self.refusals[place] = answer
            return None
        self.refusals.pop(place, None)
        self._sizes[place] = self._size_of(note)
        return answer

    async def _ask_from_its_size(self, log: Log, witness: WitnessKey, note: str) -> str | Refused:
        port = self._witnesses.get(witness.name)
        if port is None:
            return Refused("WITNESS_UNREACHABLE", f"an address of {witness.name}", "none in the configuration")
        size = self._size_of(note)
        for _ in range(MAX_ROUNDS):
            if log is Log.MONEY and (refused := await self._feed(witness, port, size)):
                return refused
            old_size = min(self._sizes.get((log, witness.name), 0), size)
            proof = await self.consistency(log, old_size, size)
            answer = await port.add_checkpoint(self._pins.origin(log), old_size, proof, note)
            known = self._learnt(log, witness, answer)
            if known is None:
                break
            if known > size:
                return Refused("WITNESS_ROLLED_BACK", f"size {known}, which {witness.name} saw", f"size {size}")
        return answer

    def _learnt(self, log: Log, witness: WitnessKey, answer: str | Refused) -> int | None:
        """Note and return the size at which the witness says it is; None where asking again would change nothing."""
        if not isinstance(answer, Refused) or not _SIZE.fullmatch(answer.found):
            return None
        size = int(answer.found)
        if answer.code == _STALE_SIZE and self._sizes.get((log, witness.name)) != size:
            self._sizes[log, witness.name] = size
            return size
        if answer.code == _BEHIND and self._followed.get(witness.name) != size:
            self._followed[witness.name] = size
            return size
        return None

    async def _feed(self, witness: WitnessKey, port: WitnessPort, size: int) -> Refused | None:
        """Bring a witness that follows up to `size`; return its refusal. One that never said so is not fed."""
        while (at := self._followed.get(witness.name, size)) < size and isinstance(port, FollowingWitness):
            delta = await make_feed(self._store, self._pins.genesis, self._pins.key, at, size)
            taken = await port.take_delta(delta)
            if isinstance(taken, Refused):
                del self._followed[witness.name]  # it may have started anew: let it say again where it is
                return taken
            if taken <= at:
                return Refused("WITNESS_FEED", f"more than {at} entries with {witness.name}", str(taken))
            self._followed[witness.name] = taken
        return None

    def _open(self, log: Log, note: str) -> Cosigned:
        """Return `note` opened; one that was vouched for before the keys changed, under the former ones."""
        try:
            return self._open_under(self._pins, log, note)
        except (MalformedError, IntegrityError):
            if self._former is None:
                raise
            return self._open_under(self._former, log, note)

    def _open_under(self, pins: LogPins, log: Log, note: str) -> Cosigned:
        known = self._opened.get(log)
        if known is None or known.note != note or pins is not self._pins:
            known = open_checkpoint(note, pins.log_key, pins.origin(log), pins.witnesses)
            if pins is self._pins:
                self._opened[log] = known
        return known

    def _size_of(self, note: str) -> int:
        return int(note.split("\n", 2)[1])

    def _check_size(self, log: Log, size: int) -> None:
        head = self._store.head(log).size
        if size > head:
            raise NotFoundError("LOG_SIZE", f"expected a size up to {head} of the {log.value} log, found {size}")

    async def _fetch(self, log: Log, ranges: Iterable[tuple[int, int]]) -> _Fetched:
        places = frozenset(place for start, end in ranges for place in subtrees_of(start, end))
        return _Fetched(await self._store.subtrees(log, places) if places else {})


@dataclass(frozen=True, slots=True)
class _Fetched:
    """Subtree hashes that were read before the proof is put together."""

    by_place: Mapping[tuple[int, int], bytes]

    def hashes(self, level: int, index: int) -> bytes:
        return self.by_place[level, index]
