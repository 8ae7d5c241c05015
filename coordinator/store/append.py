"""What a change adds to the two logs: entries, tree hashes and their places. Pure; adapters only store the result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from coordinator.store.port import Change, Committed, Event, MoneyBody
from custody.audit import Frontier, Log, StoredNode, leaf_hash
from custody.canonical import Json, encode
from custody.entries import MAX_ENTRY_BYTES, EntryKind, MoneyEntry, Witnessed
from custody.errors import MalformedError

EMPTY = Frontier()
MAX_TEXT_CHARS = 512  # codes, names, digests and one refusal in words; an address has 62


@dataclass(frozen=True, slots=True)
class Heads:
    """Both trees, and the first note that witnesses gave for the largest money tree they know: (size, note)."""

    money: Frontier = EMPTY
    event: Frontier = EMPTY
    cosigned: tuple[int, str] | None = None

    def of(self, log: Log) -> Frontier:
        """Return one tree."""
        return self.money if log is Log.MONEY else self.event


@dataclass(frozen=True, slots=True)
class NewEntry:
    """One entry at its place, and the subtrees that it completes, its leaf included."""

    log: Log
    index: int
    raw: bytes
    nodes: tuple[StoredNode, ...]


def append(heads: Heads, change: Change) -> tuple[Heads, tuple[NewEntry, ...], Committed]:
    """Return the trees after `change`, its entries, and where those that it asked for stand.

    A WITNESS entry goes in front of the first money entry when witnesses vouched for exactly the money log so far: a
    follower accepts no other (protocol.md "WITNESS").
    """
    event_size, event_root = heads.event.size, heads.event.root if change.money else b""
    added: list[NewEntry] = []
    money: list[int] = []
    for wanted in _money_bodies(heads, change):
        raw = MoneyEntry(wanted.kind, change.at, event_size, event_root, wanted.body).to_bytes()
        heads, entry = _grow(heads, Log.MONEY, raw)
        added.append(entry)
        if wanted.kind is not EntryKind.WITNESS:
            money.append(entry.index)
    events: list[int] = []
    for event in change.events:
        heads, entry = _grow(heads, Log.EVENT, event_bytes(event, change.at))
        added.append(entry)
        events.append(entry.index)
    return heads, tuple(added), Committed(tuple(money), tuple(events))


def graft(heads: Heads, log: Log, entries: Iterable[bytes]) -> tuple[Heads, tuple[NewEntry, ...]]:
    """Return the trees after `entries` that were in `log` before, and their places: for a store that lost them."""
    added: list[NewEntry] = []
    for raw in entries:
        heads, entry = _grow(heads, log, raw)
        added.append(entry)
    return heads, tuple(added)


def event_bytes(event: Event, at: int) -> bytes:
    """Return the canonical bytes of an event at `at` (UTC seconds): the leaf of the event log.

    Texts are cut at MAX_TEXT_CHARS: what somebody sends us must not fill the log.
    """
    fields = {key: _bounded(value) for key, value in event.fields.items()}
    return encode({"kind": event.kind, "time": at, "actor": event.actor[:MAX_TEXT_CHARS], "fields": fields})


def _bounded(value: Json) -> Json:
    return value[:MAX_TEXT_CHARS] if isinstance(value, str) else value


def _money_bodies(heads: Heads, change: Change) -> tuple[MoneyBody, ...]:
    if any(wanted.kind is EntryKind.WITNESS for wanted in change.money):
        raise MalformedError("WITNESS_ENTRY", "expected the store alone to write WITNESS entries")
    vouched = heads.cosigned
    if not change.money or vouched is None or heads.money.size == 0 or vouched[0] != heads.money.size:
        return change.money  # nothing in front of it to cover, or its checkpoint does not end here
    return (MoneyBody(EntryKind.WITNESS, Witnessed(vouched[1])), *change.money)


def _grow(heads: Heads, log: Log, raw: bytes) -> tuple[Heads, NewEntry]:
    if len(raw) > MAX_ENTRY_BYTES:
        raise MalformedError("ENTRY_TOO_LARGE", f"expected at most {MAX_ENTRY_BYTES} bytes, found {len(raw)}")
    tree, nodes = heads.of(log).grow(leaf_hash(raw))
    grown = replace(heads, money=tree) if log is Log.MONEY else replace(heads, event=tree)
    return grown, NewEntry(log, tree.size - 1, raw, nodes)
