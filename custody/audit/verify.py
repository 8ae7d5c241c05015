"""Verify an export offline: from its bytes, the pinned keys, and something known from outside it.

Level log (this module) proves that the entries are those which the log key signed and w witnesses vouched for, whole
and in order. What the entries mean is for `replay`, which the caller supplies; nothing here reads policy. A verdict
without something known from outside says only how the log looked at its last checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from custody.audit.checkpoint import Cosigned, Log, PinnedWitness, open_checkpoint, origin_of
from custody.audit.export import Export, ExportError, Place, read_export
from custody.audit.note import COSIGNATURE_TYPE, ED25519_TYPE, key_id, parse_note
from custody.audit.receipts import RECEIPTS, check_logged_receipt
from custody.audit.tree import Frontier, leaf_hash
from custody.canonical import decode
from custody.entries import EntryKind, MoneyEntry, Witnessed, seal_of, statements_of
from custody.errors import IntegrityError, MalformedError
from custody.fields import Fields
from custody.statements import Kind, Signed
from custody.units import MAX_TIME_S

# A canonical event whose first field is "bodies", the usual form; any other is decoded. Inside a text no quote stands
# without a backslash, so these bytes are those keys.
_USUAL_BODIES = re.compile(
    rb'\{"actor":"[^"\\]*","fields":\{"bodies":\[("[0-9a-f]{64}"(?:,"[0-9a-f]{64}"){,9999})\][,}]'
)


class VerdictKind(Enum):
    """What an export is; the console maps each to its exit code."""

    OK = "OK"
    TRUNCATED = "TRUNCATED"
    MODIFIED = "MODIFIED"
    FORK = "FORK"
    ROLLED_BACK = "ROLLED_BACK"
    UNSIGNED = "UNSIGNED"
    POLICY_VIOLATION = "POLICY_VIOLATION"


@dataclass(frozen=True, slots=True)
class ExportKeys:
    """What the verifier pinned. genesis: 32 bytes.  log_key: 32 bytes.  w: how many witnesses must vouch.

    since: from when on the rules have it so, UTC seconds.
    """

    genesis: bytes
    log_key: bytes
    witnesses: Sequence[PinnedWitness]
    w: int
    since: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome.

    index: the entry that is blamed, or -1.  log: whose entry.  line: of the file, from 1, or -1.  detail: for people.
    size, event_size: entries of the money and event log.  time: UTC seconds by which w witnesses vouched for the money
    log, or -1.  pruned: event bodies that the export no longer holds.  anchored: compared with something known.
    withdrawal: digest in hex, for POLICY_VIOLATION.
    """

    kind: VerdictKind
    detail: str = ""
    log: Log | None = None
    index: int = -1
    line: int = -1
    size: int = -1
    event_size: int = -1
    time: int = -1
    pruned: int = 0
    anchored: bool = False
    withdrawal: str = ""

    def __str__(self) -> str:
        """The short form: "MODIFIED(3)", "TRUNCATED", "OK"."""
        name = self.withdrawal or (str(self.index) if self.index >= 0 else "")
        return f"{self.kind.value}({name})" if name else self.kind.value


class _Found(Exception):
    def __init__(self, kind: VerdictKind, place: Place, detail: str) -> None:
        super().__init__(detail)
        index = -1 if place.index is None else place.index
        self.verdict = Verdict(kind, detail, place.log, index, place.line)


@dataclass(frozen=True, slots=True)
class _Tree:
    """One log of the export, recomputed. roots: by size, where a checkpoint or an entry speaks of one.

    vouched: UTC seconds by which w witnesses vouched for `final`.
    """

    log: Log
    size: int
    roots: Mapping[int, bytes]
    final: Cosigned
    vouched: int


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of every version of the rules, the first one first."""

    versions: tuple[ExportKeys, ...]

    @property
    def genesis(self) -> bytes:
        """32 bytes."""
        return self.versions[0].genesis

    @property
    def witnesses(self) -> tuple[PinnedWitness, ...]:
        """Every witness that some version pinned."""
        return tuple(witness for keys in self.versions for witness in keys.witnesses)

    def until(self, at: int) -> int:
        """Return when the version at place `at` ends, UTC seconds."""
        return self.versions[at + 1].since if at + 1 < len(self.versions) else MAX_TIME_S


def verify_export(
    raw: bytes,
    keys: ExportKeys,
    known: str | None = None,
    replay: Callable[[Export], Verdict | None] | None = None,
    later: Callable[[Export], Sequence[ExportKeys]] | None = None,
) -> Verdict:
    """Return what the export `raw` is: OK, or the first thing that is wrong with it and where.

    Args:
        raw: the export file.
        keys: what the verifier pinned, read from the genesis that he knows by its hash.
        known: a checkpoint note of either log that the verifier holds from elsewhere (signed by the log is enough).
        replay: level full: judges what the verified entries mean; None where all is well.
        later: reads the keys that later rules in the export pin; without it those of `keys` alone count.

    Raises:
        MalformedError, IntegrityError: `known` is no checkpoint of this log: nothing was compared.
    """
    # Plan: 1 lines · 2 genesis · 3 leaves · 4 final checkpoints · 5 roots · 6 WITNESS entries · 7 event roots ·
    # 8 bodies · 9 receipts · 10 what is known from outside · 11 replay.
    if known is not None and later is None:
        _open_known(known, _Keys((keys,)))
    try:
        export = _read(raw)
        _check_genesis(export, keys)
        entries = _check_leaves(export)
        pinned = _Keys((keys, *(later(export) if later is not None else ())))
        reference = None if known is None else _open_known(known, pinned)
        trees = {log: _recompute(export, log, entries, pinned, reference) for log in Log}
        for tree in trees.values():
            _check_root(export, tree, entries, pinned)
        _check_witnessed(export, trees[Log.MONEY], entries, pinned)
        _check_events(export, trees, entries)
        pruned = _check_bodies(export, entries)
        _check_receipts(export, entries, pinned)
        if reference is not None:
            _check_known(export, trees, reference[0], reference[1])
    except _Found as found:
        return found.verdict
    if replay is not None and (verdict := replay(export)) is not None:
        return verdict
    money = trees[Log.MONEY]
    return Verdict(
        VerdictKind.OK,
        f"{pruned} bodies pruned" if pruned else "",
        size=money.size,
        event_size=trees[Log.EVENT].size,
        time=money.vouched,
        pruned=pruned,
        anchored=known is not None,
    )


def _read(raw: bytes) -> Export:
    try:
        return read_export(raw)
    except ExportError as error:
        kind = VerdictKind.TRUNCATED if error.cut else VerdictKind.MODIFIED
        raise _Found(kind, error.place, error.message) from error


def _check_genesis(export: Export, keys: ExportKeys) -> None:
    if export.genesis.kind is not Kind.GENESIS or export.genesis.digest != keys.genesis:
        raise _Found(VerdictKind.MODIFIED, Place(1), f"expected the genesis {keys.genesis.hex()}")
    _check_endorsed(export.genesis, Place(1))


def _check_endorsed(signed: Signed, place: Place) -> None:
    """A statement's digest leaves its signatures free, so each must hold under the key it names."""
    for endorsement in signed.endorsements:
        if not endorsement.holds(signed.kind, signed.raw):
            raise _Found(VerdictKind.MODIFIED, place, f"expected a valid signature by {endorsement.key.hex()}")
    keys = [endorsement.key for endorsement in signed.endorsements]
    if len(set(keys)) != len(keys):
        raise _Found(VerdictKind.MODIFIED, place, "expected each key to sign once")


def _check_leaves(export: Export) -> tuple[MoneyEntry, ...]:
    """Compare every entry with the leaf beside it, and return the money log's entries."""
    for log in Log:
        for index, (entry, leaf) in enumerate(zip(export.entries[log], export.leaves[log], strict=True)):
            if leaf_hash(entry) != leaf:
                raise _Found(VerdictKind.MODIFIED, export.place(log, index), "expected the leaf of this entry")
    return export.money


def _recompute(
    export: Export,
    log: Log,
    entries: tuple[MoneyEntry, ...],
    keys: _Keys,
    reference: tuple[Log, Cosigned] | None,
) -> _Tree:
    """Open the log's last checkpoint and compute its root wherever something speaks of one."""
    line = 2 + sum(len(found) for found in export.entries.values()) + len(export.bodies) + list(Log).index(log)
    final, vouched = _open(export.checkpoints[log], log, keys, Place(line, log))
    size = len(export.entries[log])
    if final.checkpoint.size > size:
        place = Place(export.place(log, size).line, log, size)
        raise _Found(VerdictKind.TRUNCATED, place, f"expected {final.checkpoint.size} entries, found {size}")
    if final.checkpoint.size < size:
        place = export.place(log, final.checkpoint.size)
        raise _Found(VerdictKind.UNSIGNED, place, f"expected the checkpoint to cover all {size} entries")
    wanted = {0, size}
    if log is Log.MONEY:
        wanted |= {index for index, entry in enumerate(entries) if entry.kind is EntryKind.WITNESS}
    else:
        wanted |= {entry.event_size for entry in entries}
    if reference is not None and reference[0] is log:
        wanted.add(reference[1].checkpoint.size)
    return _Tree(log, size, _roots(export.leaves[log], wanted), final, vouched)


def _roots(leaves: Sequence[bytes], wanted: set[int]) -> dict[int, bytes]:
    tree = Frontier()
    roots = {0: tree.root}
    for leaf in leaves:
        tree = tree.append(leaf)
        if tree.size in wanted:
            roots[tree.size] = tree.root
    return roots


def _open(note: str, log: Log, keys: _Keys, place: Place) -> tuple[Cosigned, int]:
    """Return the note opened under the keys of its time, and when w witnesses had vouched for it."""
    failures: list[_Found] = []
    for at, version in enumerate(keys.versions):
        try:
            cosigned, vouched = _open_under(note, log, version, place)
        except _Found as found:
            failures.append(found)
            continue
        if version.since <= vouched < keys.until(at):
            return cosigned, vouched
    if len(failures) < len(keys.versions):
        raise _Found(VerdictKind.UNSIGNED, place, "expected a checkpoint under the log key and witnesses of its time")
    raise next((found for found in failures if found.verdict.kind is not VerdictKind.UNSIGNED), failures[-1])


def _open_under(note: str, log: Log, keys: ExportKeys, place: Place) -> tuple[Cosigned, int]:
    """Return the note opened: by the log, w witnesses and nobody else (an unknown line could be a changed one)."""
    origin = origin_of(keys.genesis, log)
    try:
        cosigned = open_checkpoint(note, keys.log_key, origin, keys.witnesses)
        lines = parse_note(note).signatures
    except MalformedError as error:
        raise _Found(VerdictKind.MODIFIED, place, str(error)) from error
    except IntegrityError as error:
        raise _Found(VerdictKind.UNSIGNED, place, str(error)) from error
    known = {(w.name, key_id(w.name, COSIGNATURE_TYPE, w.key)) for w in keys.witnesses}
    known.add((origin, key_id(origin, ED25519_TYPE, keys.log_key)))
    if any((line.name, line.key_id) not in known for line in lines):
        raise _Found(VerdictKind.MODIFIED, place, "expected signature lines by the log and its witnesses only")
    vouched = cosigned.oldest_counted(keys.w)
    if vouched is None:
        detail = f"expected the cosignatures of {keys.w} witnesses, found {len(cosigned.counted)}"
        raise _Found(VerdictKind.UNSIGNED, place, detail)
    return cosigned, vouched


def _check_root(export: Export, tree: _Tree, entries: tuple[MoneyEntry, ...], keys: _Keys) -> None:
    """Prove the log's root; where it differs, earlier checkpoints in the log narrow down where."""
    if tree.roots[tree.size] == tree.final.checkpoint.root:
        return
    good, bad = 0, tree.size
    for index, entry in enumerate(entries if tree.log is Log.MONEY else ()):
        if isinstance(entry.body, Witnessed):
            seen = _open(entry.body.note, Log.MONEY, keys, export.place(Log.MONEY, index))[0].checkpoint
            if (seen.size, seen.root) != (index, tree.roots[index]):
                bad = index
                break
            good = index
    detail = f"expected the entries that the checkpoint covers, found another among {good}..{bad - 1}"
    raise _Found(VerdictKind.MODIFIED, export.place(tree.log, good), detail)


def _check_witnessed(export: Export, money: _Tree, entries: tuple[MoneyEntry, ...], keys: _Keys) -> None:
    """Each WITNESS entry holds the cosigned checkpoint of exactly the entries in front of it."""
    for index, entry in enumerate(entries):
        if not isinstance(entry.body, Witnessed):
            continue
        place = export.place(Log.MONEY, index)
        seen = _open(entry.body.note, Log.MONEY, keys, place)[0].checkpoint
        if seen.size < index:
            raise _Found(VerdictKind.ROLLED_BACK, place, f"expected a checkpoint of size {index}, found {seen.size}")
        if (seen.size, seen.root) != (index, money.roots[index]):
            raise _Found(VerdictKind.FORK, place, f"expected the root of the {index} entries in front, found another")


def _check_events(export: Export, trees: Mapping[Log, _Tree], entries: tuple[MoneyEntry, ...]) -> None:
    """Each money entry names the event log as it was: a prefix of the one exported, never shorter than before."""
    events, least = trees[Log.EVENT], 0
    for index, entry in enumerate(entries):
        place = export.place(Log.MONEY, index)
        if entry.event_size < least:
            detail = f"expected an event log of {least} or more, found {entry.event_size}"
            raise _Found(VerdictKind.ROLLED_BACK, place, detail)
        least = entry.event_size
        if least > events.size:
            cut = Place(export.place(Log.EVENT, events.size).line, Log.EVENT, events.size)
            raise _Found(VerdictKind.TRUNCATED, cut, f"expected {least} events, as money entry {index} says")
        if entry.event_root != events.roots[least]:
            raise _Found(VerdictKind.FORK, place, f"expected the root of {least} events, found another")


def _check_bodies(export: Export, entries: tuple[MoneyEntry, ...]) -> int:
    """Prove every body, and that none is missing or superfluous; return how many event bodies were pruned."""
    first = 2 + sum(len(found) for found in export.entries.values())
    named: set[bytes] = set()
    for index, entry in enumerate(entries):
        for digest in statements_of(entry):
            named.add(digest)
            if not isinstance(export.bodies.get(digest), Signed):
                detail = f"MISSING_BODY: expected the statement {digest.hex()}"
                raise _Found(VerdictKind.MODIFIED, export.place(Log.MONEY, index), detail)
        told = [body for digest in statements_of(entry) if isinstance(body := export.bodies[digest], Signed)]
        if seal_of(told) != entry.signed:
            detail = "BODY_OTHER: expected its statements as signed when they were logged"
            raise _Found(VerdictKind.MODIFIED, export.place(Log.MONEY, index), detail)
    pruned = set()
    for index, raw in enumerate(export.entries[Log.EVENT]):
        named_here = _event_bodies(raw, export.place(Log.EVENT, index))
        named |= named_here
        pruned |= named_here - export.bodies.keys()
    for number, (digest, body) in enumerate(export.bodies.items()):
        place = Place(first + number)
        if digest not in named:
            raise _Found(VerdictKind.MODIFIED, place, f"expected an entry that names the body {digest.hex()}")
        if isinstance(body, Signed):
            _check_endorsed(body, place)
    return len(pruned)


def _event_bodies(raw: bytes, place: Place) -> set[bytes]:
    """Return the digests that an event lists in its field "bodies": bodies that may be pruned, never changed."""
    if b'"bodies":' not in raw:
        return set()
    if usual := _USUAL_BODIES.match(raw):
        return {bytes.fromhex(item[1:65].decode()) for item in usual[1].split(b",")}
    try:
        event = Fields(decode(raw), "event").fields("fields")
        items = event.items("bodies") if event.has("bodies") else ()
        return {Fields({"digest": item}, "bodies").hex("digest", 32) for item in items}
    except MalformedError as error:
        raise _Found(VerdictKind.MODIFIED, place, str(error)) from error


def _check_receipts(export: Export, entries: tuple[MoneyEntry, ...], keys: _Keys) -> None:
    """Compare receipts of nodes and witnesses with the event that names each, and with the money log."""
    receipts = {d: body for d, body in export.bodies.items() if isinstance(body, Signed) and body.kind in RECEIPTS}
    if not receipts:
        return
    statements = frozenset(digest for entry in entries for digest in statements_of(entry))
    for index, raw in enumerate(export.entries[Log.EVENT]):
        place = export.place(Log.EVENT, index)
        named = _event_bodies(raw, place)
        for digest in named & receipts.keys():
            try:
                fields = Fields(decode(raw), "event").fields("fields")
                event = {"genesis": keys.genesis}
                for asked in ("withdrawal", "message"):
                    if fields.has(asked):
                        event["asked"] = fields.hex(asked, 32)
                check_logged_receipt(receipts[digest], event, entries, statements | named, keys.witnesses)
            except MalformedError as error:
                raise _Found(VerdictKind.MODIFIED, place, str(error)) from error


def _open_known(known: str, keys: _Keys) -> tuple[Log, Cosigned]:
    """Return the log and the tree that the verifier knows; the log's signature of any version is enough."""
    origin = parse_note(known).body.partition("\n")[0]
    log = next((log for log in Log if origin_of(keys.genesis, log) == origin), Log.MONEY)
    *others, last = keys.versions
    for version in others:
        try:
            return log, open_checkpoint(known, version.log_key, origin_of(keys.genesis, log), version.witnesses)
        except (MalformedError, IntegrityError):
            continue
    return log, open_checkpoint(known, last.log_key, origin_of(keys.genesis, log), last.witnesses)


def _check_known(export: Export, trees: Mapping[Log, _Tree], log: Log, known: Cosigned) -> None:
    """Compare with what the verifier knows: the export must hold that very tree, and more."""
    tree, size = trees[log], known.checkpoint.size
    if size > tree.size:
        place = Place(export.place(log, tree.size).line, log, tree.size)
        detail = f"expected at least the {size} entries known, found {tree.size}"
        if known.counted and tree.vouched > known.newest:  # vouched for as the whole log, later
            raise _Found(VerdictKind.ROLLED_BACK, place, detail)
        raise _Found(VerdictKind.TRUNCATED, place, detail)
    if tree.roots[size] != known.checkpoint.root:
        raise _Found(VerdictKind.FORK, Place(-1, log), f"expected the known root of {size} entries, found another")
