"""What a change adds to the two logs: entries, tree hashes and their places. Pure; adapters only store the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from coordinator.store.port import Change, Committed, Event, MoneyBody
from custody.audit import Frontier, Log, StoredNode, leaf_hash
from custody.canonical import Json, encode
from custody.entries import (
    MAX_ENTRY_BYTES,
    Body,
    EntryKind,
    MoneyEntry,
    Witnessed,
    named_by,
    parse_entry,
    seal_of,
    statements_of,
)
from custody.errors import MalformedError
from custody.statements import Signed

EMPTY = Frontier()
NONE: Mapping[bytes, Signed] = {}
MAX_TEXT_CHARS = 512  # codes, names, digests and one refusal in words; an address has 62


@dataclass(frozen=True, slots=True)
class Heads:
    """Both trees, and the first note that witnesses gave for the largest money tree they know: (size, note).

    is_covered: the last money entry is a WITNESS entry, so that none may follow it.
    """

    money: Frontier = EMPTY
    event: Frontier = EMPTY
    cosigned: tuple[int, str] | None = None
    is_covered: bool = False

    def of(self, log: Log) -> Frontier:
        """Return one tree."""
        return self.money if log is Log.MONEY else self.event


@dataclass(frozen=True, slots=True)
class NewEntry:
    """One entry at its place, the subtrees that it completes (its leaf first), and the statements that it names."""

    log: Log
    index: int
    raw: bytes
    nodes: tuple[StoredNode, ...]
    names: tuple[bytes, ...] = ()


def append(
    heads: Heads, change: Change, statements: Mapping[bytes, Signed] = NONE
) -> tuple[Heads, tuple[NewEntry, ...], Committed]:
    """Return the trees after `change`, its entries, and where those that it asked for stand.

    Args:
        heads: the trees before it.
        change: what to add.
        statements: by digest, what its money entries name, as they are stored: entries bind their signatures.

    Raises:
        MalformedError: MISSING_BODY, or an entry that cannot be.

    A WITNESS entry goes in front of the first money entry when witnesses vouched for exactly the money log so far: a
    follower accepts no other (protocol.md "WITNESS").
    """
    bodies = _money_bodies(heads, change)
    event_size, event_root = heads.event.size, heads.event.root if bodies else b""
    added: list[NewEntry] = []
    money_at: list[int] = []
    money, is_covered = heads.money, heads.is_covered
    for wanted in bodies:
        is_covered = wanted.kind is EntryKind.WITNESS
        signed = _seal(wanted.body, statements)
        raw = MoneyEntry(wanted.kind, change.at, event_size, event_root, wanted.body, signed).to_bytes()
        money, entry = _grow(money, Log.MONEY, raw)
        added.append(entry)
        if not is_covered:
            money_at.append(entry.index)
    events_at: list[int] = []
    event = heads.event
    for told in change.events:
        event, entry = _grow(event, Log.EVENT, event_bytes(told, change.at))
        added.append(entry)
        events_at.append(entry.index)
    grown = Heads(money, event, heads.cosigned, is_covered)
    return grown, tuple(added), Committed(tuple(money_at), tuple(events_at))


def _seal(body: Body, statements: Mapping[bytes, Signed]) -> bytes:
    if missing := [digest for digest in named_by(body) if digest not in statements]:
        raise MalformedError("MISSING_BODY", f"expected the statement {missing[0].hex()}")
    return seal_of(statements[digest] for digest in named_by(body))


def graft(heads: Heads, log: Log, entries: Iterable[bytes]) -> tuple[Heads, tuple[NewEntry, ...]]:
    """Return the trees after `entries` that were in `log` before, and their places: for a store that lost them."""
    added: list[NewEntry] = []
    tree, is_covered = heads.of(log), heads.is_covered
    for raw in entries:
        tree, entry = _grow(tree, log, raw)
        added.append(entry)
        is_covered = is_witness_entry(raw) if log is Log.MONEY else is_covered
    money, event = (tree, heads.event) if log is Log.MONEY else (heads.money, tree)
    return Heads(money, event, heads.cosigned, is_covered), tuple(added)


def is_witness_entry(raw: bytes) -> bool:
    """Return whether the money entry `raw` is a WITNESS entry."""
    return parse_entry(raw).kind is EntryKind.WITNESS


def event_bytes(event: Event, at: int) -> bytes:
    """Return the canonical bytes of an event at `at` (UTC seconds): the leaf of the event log.

    Texts are cut at MAX_TEXT_CHARS: what somebody sends us must not fill the log.
    """
    fields = {key: _bounded(value) for key, value in event.fields.items()}
    return encode({"kind": event.kind, "time": at, "actor": event.actor[:MAX_TEXT_CHARS], "fields": fields})


def _bounded(value: Json) -> Json:
    return value[:MAX_TEXT_CHARS] if isinstance(value, str) else value


def _money_bodies(heads: Heads, change: Change) -> tuple[MoneyBody, ...]:
    if not change.money and not change.cover:
        return ()
    if any(wanted.kind is EntryKind.WITNESS for wanted in change.money):
        raise MalformedError("WITNESS_ENTRY", "expected the store alone to write WITNESS entries")
    vouched = heads.cosigned
    if vouched is None or heads.money.size == 0 or vouched[0] != heads.money.size or heads.is_covered:
        return change.money  # nothing in front of it to cover, or its checkpoint does not end here
    return (MoneyBody(EntryKind.WITNESS, Witnessed(vouched[1])), *change.money)


def _grow(tree: Frontier, log: Log, raw: bytes) -> tuple[Frontier, NewEntry]:
    if len(raw) > MAX_ENTRY_BYTES:
        raise MalformedError("ENTRY_TOO_LARGE", f"expected at most {MAX_ENTRY_BYTES} bytes, found {len(raw)}")
    grown, nodes = tree.grow(leaf_hash(raw))
    # Read back as every follower will: one entry that cannot be read would end the log for all of them.
    names = statements_of(parse_entry(raw)) if log is Log.MONEY else ()
    return grown, NewEntry(log, tree.size, raw, nodes, names)
