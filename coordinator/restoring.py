"""After the database came back from a backup: notice it before anything is written, and put back what is missing.

Witnesses remember more than the backup holds, so they say where the logs were. Nodes keep the whole money log with its
statements; the events are in the stream off this host (`coordinator.streaming`) or in any export. What is put back is
proven first: money entries by w witnesses' cosignatures, events by the roots that money entries name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from coordinator.exporting import named_in
from coordinator.followed import Followed
from coordinator.logs import Logs, WitnessesMissingError
from coordinator.store.port import LogStore
from custody.audit import Body, Frontier, Log, body_digest, leaf_hash
from custody.audit.export import read_body_line, read_entry_line
from custody.bundle import parse_delta
from custody.canonical import decode
from custody.entries import parse_entry, statements_of
from custody.errors import IntegrityError, MalformedError
from custody.fields import Fields
from custody.follow import advance
from custody.genesis import Genesis
from custody.statements import Signed

_DELTA_START = b'{"format":"keyturn-delta"'
_AHEAD = frozenset({"WITNESS_ROLLED_BACK", "WITNESS_FORK"})
_BATCH_BYTES = 8 * 1024 * 1024


class GraftStore(LogStore, Protocol):
    """A store that takes back what it lost."""

    async def graft(self, log: Log, size: int, entries: Sequence[bytes], bodies: Sequence[Body]) -> None:
        """Put back proven entries behind the first `size` of `log`, all or none."""
        ...


@dataclass(slots=True)
class Found:
    """What a file holds. entries: by log and index.  notes: of the money log."""

    entries: dict[Log, dict[int, bytes]] = field(default_factory=lambda: {log: {} for log in Log})
    bodies: dict[bytes, Body] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many entries were put back, and the sizes then."""

    money: int
    events: int
    money_size: int
    event_size: int


async def refuse_rolled_back(logs: Logs, store: LogStore, genesis: Genesis) -> None:
    """Raise where witnesses saw more of a log than this store holds: nothing may be written in front of that.

    Witnesses that are away are not waited for; without w of them nothing is handed out anyway.

    Raises:
        IntegrityError: ROLLED_BACK, or EVENTS_MISSING where the money log names events that are not here.
    """
    for log in Log:
        with suppress(WitnessesMissingError):  # why is in `refusals`
            await logs.collect(log)
        refused = [(name, r) for (of, name), r in logs.refusals.items() if of is log and r.code in _AHEAD]
        if said := [f"{name} {r.code}: {r.expected}" for name, r in refused]:
            found = f"expected all that witnesses saw of the {log.value} log; {'; '.join(said)}; put it back: --replay"
            raise IntegrityError("ROLLED_BACK", found)
    needed = (await Followed(store, genesis).unsettled()).event_size
    if needed > store.head(Log.EVENT).size:
        here = store.head(Log.EVENT).size
        raise IntegrityError("EVENTS_MISSING", f"expected {needed} events, found {here}; put them back: --replay")


def read_file(raw: bytes) -> Found:
    """Return what deltas of a node (one a line), a stream of events or an export hold.

    A line that a crash cut is skipped; what it held stands behind it, or is missed later.
    """
    found = Found()
    for line in raw.split(b"\n"):
        try:
            _read_line(line, found)
        except MalformedError:
            continue
    return found


async def replay(store: GraftStore, genesis: Genesis, found: Found) -> Replayed:
    """Put back the entries of `found` that `store` lacks; one log at a time, each proven as a whole.

    Raises:
        IntegrityError: LOG_FORK, CHECKPOINT_UNDERSIGNED, ...: `found` does not continue this store; nothing changed.
    """
    for log in Log:
        await _check_same(store, log, found.entries[log])
    state = await Followed(store, genesis).unsettled()
    money = _after(found.entries[Log.MONEY], state.size)
    if money:
        size = state.size
        statements = {digest: body for digest, body in found.bodies.items() if isinstance(body, Signed)}
        state = advance(state, money, statements, found.note)
        named = {digest for raw in money for digest in statements_of(parse_entry(raw))}
        await store.graft(Log.MONEY, size, money, [found.bodies[digest] for digest in sorted(named)])
    events = _after(found.entries[Log.EVENT], store.head(Log.EVENT).size)
    if events:
        await _check_events(store, events, state.size)
        named = {digest for raw in events for digest in named_in(raw) if digest in found.bodies}
        await store.graft(
            Log.EVENT, store.head(Log.EVENT).size, events, [found.bodies[digest] for digest in sorted(named)]
        )
    return Replayed(len(money), len(events), store.head(Log.MONEY).size, store.head(Log.EVENT).size)


def _read_line(line: bytes, found: Found) -> None:
    if line.startswith(_DELTA_START):
        log = parse_delta(line).log
        found.entries[Log.MONEY].update({log.first + at: entry for at, entry in enumerate(log.entries)})
        found.bodies.update(log.by_digest())
        found.note = log.note
    elif (entry := read_entry_line(line)) is not None:
        found.entries[entry[0]][entry[1]] = entry[2]
    elif (body := read_body_line(line)) is not None:
        found.bodies[body_digest(body)] = body
    elif line.startswith(b'{"checkpoint":') and line.endswith(b'"log":"money"}'):
        found.note = Fields(decode(line), "line").text("checkpoint", 16_384)


async def _check_same(store: LogStore, log: Log, entries: Mapping[int, bytes]) -> None:
    """What stands in both must be the same: a store that went on alone after its restore has to be restored again."""
    at, size = 0, store.head(log).size
    while at < size:
        for raw in await store.entries(log, at, size, _BATCH_BYTES):
            if entries.get(at, raw) != raw:
                raise IntegrityError("LOG_FORK", f"expected entry {at} of the {log.value} log as it was, found another")
            at += 1


def _after(entries: Mapping[int, bytes], size: int) -> list[bytes]:
    """Return the entries from index `size` on, up to the first gap."""
    found: list[bytes] = []
    while size + len(found) in entries:
        found.append(entries[size + len(found)])
    return found


async def _check_events(store: LogStore, events: Sequence[bytes], money_size: int) -> None:
    """Every root that a money entry names of these events must come out again."""
    head = store.head(Log.EVENT)
    wanted: dict[int, bytes] = {}
    at = 0
    while at < money_size:
        part = await store.entries(Log.MONEY, at, money_size, _BATCH_BYTES)
        wanted.update({entry.event_size: entry.event_root for entry in map(parse_entry, part)})
        at += len(part)
    tree = Frontier(head.size, head.nodes)
    for raw in events:
        tree = tree.append(leaf_hash(raw))
        if wanted.get(tree.size, tree.root) != tree.root:
            raise IntegrityError("LOG_FORK", f"expected the {tree.size} events that the money log names, found others")
