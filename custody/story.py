"""The story of each withdrawal, put together from a verified export: who asked, who agreed, what was released and paid.

Read an export with `custody.audit.read_export` and verify it first: nothing is believed here, and nothing is judged.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from custody.approval import read_approval
from custody.audit import Export, Log
from custody.canonical import Json, decode
from custody.entries import MoneyEntry, Notice, Release, Stop, parse_entry
from custody.errors import MalformedError
from custody.fields import Fields
from custody.follow import State, append, governed, in_force, open_money_checkpoint, settled, start, time_of
from custody.genesis import Genesis, parse_genesis
from custody.psbt import MAGIC, parse
from custody.statements import Signed
from custody.withdrawal import Withdrawal, read_withdrawal

COLUMNS = (
    "withdrawal",
    "withdrawal_id",
    "wallet",
    "initiator",
    "created_at",
    "payments",
    "paid_sats",
    "fee_sats",
    "max_fee_sats",
    "relation",
    "approvals",
    "released_at",
    "rules_version",
    "stopped_by",
    "txid",
    "finalised_at",
    "broadcast_at",
    "confirmed_at",
    "height",
    "last_event",
)


@dataclass(frozen=True, slots=True)
class Told:
    """One money entry of a withdrawal. t: UTC seconds, None where it counts nothing.  rules: version at its index."""

    index: int
    entry: MoneyEntry
    t: int | None
    rules: int


@dataclass(frozen=True, slots=True)
class Happened:
    """One event of a withdrawal. more: its other fields."""

    index: int
    kind: str
    time: int
    actor: str
    bodies: tuple[bytes, ...]
    more: Mapping[str, Json]


@dataclass(slots=True)
class Story:
    """Everything an export says of one withdrawal. digest: 32 bytes.  asked: None where its body was pruned."""

    digest: bytes
    signed: Signed | None
    asked: Withdrawal | None
    money: list[Told] = field(default_factory=list)
    events: list[Happened] = field(default_factory=list)

    @property
    def released(self) -> Told | None:
        """The last release that counts."""
        told = [t for t in self.money if isinstance(t.entry.body, Release) and t.t is not None]
        return told[-1] if told else None

    @property
    def began(self) -> int:
        """When the logs first speak of it, UTC seconds."""
        return min([event.time for event in self.events] + [told.entry.time for told in self.money])

    def time_of(self, kind: str) -> int | None:
        """Return when the first event of `kind` happened."""
        return next((event.time for event in self.events if event.kind == kind), None)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which withdrawals. wallet: its name.  person: initiator or approver.  since <= begin < until, UTC seconds."""

    wallet: str | None = None
    person: str | None = None
    since: int | None = None
    until: int | None = None

    def takes(self, story: Story, genesis: Genesis, export: Export) -> bool:
        """Return whether `story` is wanted; one whose body was pruned is only left out by its time."""
        if self.since is not None and story.began < self.since:
            return False
        if self.until is not None and story.began >= self.until:
            return False
        if story.asked is None:
            return True
        if self.wallet is not None and self.wallet != wallet_name(genesis, story.asked.wallet_id):
            return False
        people = {story.asked.initiator, *(name for name, _ in approvals_of(story, export))}
        return self.person is None or self.person in people


def stories_of(export: Export, wanted: Wanted = Wanted()) -> tuple[Story, ...]:
    """Return the story of every withdrawal that `wanted` takes, in the order in which the logs first speak of them.

    Raises:
        MalformedError, IntegrityError: the export was not verified, or not at level full.
    """
    genesis = parse_genesis(export.genesis)
    found: dict[bytes, Story] = {}
    for index, raw in enumerate(export.entries[Log.EVENT]):
        if (event := read_event(index, raw)) is not None:
            _story(found, event[0], export).events.append(event[1])
    for digest, told in _read_money(export, genesis):
        _story(found, digest, export).money.append(told)
    return tuple(sorted((s for s in found.values() if wanted.takes(s, genesis, export)), key=lambda s: s.began))


def approvals_of(story: Story, export: Export) -> tuple[tuple[str, int], ...]:
    """Return (approver, UTC seconds) of what its last release rests on; before one, of all that came in."""
    if story.released is not None and isinstance(story.released.entry.body, Release):
        digests: Iterable[bytes] = story.released.entry.body.approvals
    else:
        digests = [d for event in story.events if event.kind == "approval.accepted" for d in event.bodies]
    signed = [export.bodies.get(digest) for digest in digests]
    return tuple((a.approver, a.at) for a in (read_approval(s) for s in signed if isinstance(s, Signed)))


def psbt_of(story: Story, export: Export) -> bytes | None:
    """Return the PSBT of its last release as it was stored, or None where the export does not hold it."""
    if story.released is None or not isinstance(story.released.entry.body, Release):
        return None
    for event in reversed(story.events):
        for body in (export.bodies.get(digest) for digest in event.bodies):
            if isinstance(body, bytes) and body.startswith(MAGIC):
                try:
                    if parse(body).transaction.txid == story.released.entry.body.txid:
                        return body
                except MalformedError:
                    continue
    return None


def transaction_of(story: Story, export: Export) -> bytes | None:
    """Return the complete transaction as it was stored, or None."""
    named = [d for event in story.events if event.kind == "transaction.finalised" for d in event.bodies]
    found = export.bodies.get(named[0]) if named else None
    return found if isinstance(found, bytes) else None


def withdrawals_csv(export: Export, wanted: Wanted = Wanted()) -> str:
    """Return one CSV row per withdrawal; times are UTC seconds, and free text (labels) is left out.

    Names in it are ids of a-z 0-9 . _ -, so that no cell can begin a formula.
    """
    genesis = parse_genesis(export.genesis)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for story in stories_of(export, wanted):
        writer.writerow([_cell(value) for value in _row(story, export, genesis)])
    return text.getvalue()


def wallet_name(genesis: Genesis, wallet_id: bytes) -> str:
    """Return the name of a wallet, or its id in hex where the genesis has none."""
    wallet = genesis.wallet(wallet_id)
    return wallet_id.hex() if wallet is None else wallet.name


def read_event(index: int, raw: bytes) -> tuple[bytes, Happened] | None:
    """Return the withdrawal that an event is about, and the event; None for other events."""
    if b'"withdrawal":' not in raw:
        return None
    event = Fields(decode(raw), "event")
    kind, time, actor, fields = event.text("kind"), event.time("time"), event.text("actor"), event.any("fields")
    rest = Fields(fields, "fields")
    if not rest.has("withdrawal"):
        return None
    digest = rest.hex("withdrawal", 32)
    items = rest.items("bodies") if rest.has("bodies") else ()
    bodies = tuple(Fields({"digest": item}, "bodies").hex("digest", 32) for item in items)
    more = fields if isinstance(fields, Mapping) else {}
    return digest, Happened(index, kind, time, actor, bodies, more)


def _row(story: Story, export: Export, genesis: Genesis) -> tuple[object, ...]:
    asked, told = story.asked, story.released
    release = told.entry.body if told is not None and isinstance(told.entry.body, Release) else None
    stops = [t.entry.body for t in story.money if isinstance(t.entry.body, Stop)]
    final = next((event for event in story.events if event.kind == "transaction.confirmed"), None)
    finished = next((event for event in story.events if event.kind == "transaction.finalised"), None)
    return (
        story.digest.hex(),
        asked and asked.withdrawal_id,
        asked and wallet_name(genesis, asked.wallet_id),
        asked and asked.initiator,
        asked and asked.created_at,
        asked and " ".join(f"{p.address}={p.amount_sats}" for p in asked.payments),
        asked and sum(p.amount_sats for p in asked.payments),
        release and release.fee_sats,
        asked and asked.max_fee_sats,
        asked and asked.relation.kind.value,
        " ".join(f"{name}@{at}" for name, at in approvals_of(story, export)),
        told and told.t,
        told and told.rules,
        " ".join(f"{stop.cause.value}:{stop.by}" for stop in stops),
        finished.more.get("txid") if finished else release and release.txid[::-1].hex(),
        story.time_of("transaction.finalised"),
        story.time_of("transaction.broadcast"),
        story.time_of("transaction.confirmed"),
        final and final.more.get("height"),
        story.events[-1].kind if story.events else None,
    )


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _story(found: dict[bytes, Story], digest: bytes, export: Export) -> Story:
    if digest not in found:
        body = export.bodies.get(digest)
        signed = body if isinstance(body, Signed) else None
        found[digest] = Story(digest, signed, None if signed is None else read_withdrawal(signed))
    return found[digest]


def _read_money(export: Export, genesis: Genesis) -> tuple[tuple[bytes, Told], ...]:
    statements = {digest: body for digest, body in export.bodies.items() if isinstance(body, Signed)}
    state = start(genesis)
    found: list[tuple[int, MoneyEntry, int]] = []
    for index, raw in enumerate(export.entries[Log.MONEY]):
        entry = parse_entry(raw)
        found.append((index, entry, governed(state, entry.time).policy.version))
        state = append(state, raw, statements)
    times = _times(_settled(state, export))
    return tuple(
        (entry.body.withdrawal_digest, Told(index, entry, times.get(index), rules))
        for index, entry, rules in found
        if isinstance(entry.body, Release | Notice | Stop)
    )


def _settled(state: State, export: Export) -> State:
    """Give the tail the newest time that its own entries name, as `custody.replay` does."""
    newest = time_of(open_money_checkpoint(state, export.checkpoints[Log.MONEY]))
    t = min(newest, max((pending.entry.time for pending in state.tail), default=newest))
    return settled(in_force(state, t), t)


def _times(state: State) -> dict[int, int]:
    return {released.index: released.t for released in state.releases}
