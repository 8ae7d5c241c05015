"""The entries of the money log: what signers follow whole, and count budgets, payments, rules and freezes from.

An entry is canonical JSON {kind, time, event_size, event_root, body, signed}. Digests in a body name statements that
travel beside the log by digest; an entry whose statement is missing is refused (MISSING_BODY), never skipped. `signed`
binds their signatures: a statement that travels with others than it was logged with is refused too (BODY_OTHER).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from custody.approval import Approval, Decision, read_approval
from custody.canonical import Json, decode, encode, tagged_hash
from custody.errors import MalformedError
from custody.fields import Fields
from custody.statements import Kind, Signed
from custody.transaction import OutPoint, TxOut
from custody.units import Sats
from custody.withdrawal import MAX_PAYMENTS, Relation

MAX_OUTPOINTS = 2_000  # above the inputs that fit a standard transaction
MAX_ENTRY_BYTES = 512 * 1024  # a release of 1,000 payments and 2,000 inputs is about 300 KiB
MAX_NOTE_CHARS = 16_384  # a checkpoint with 63 signature lines


class EntryKind(Enum):
    """The kinds of money-log entry."""

    RELEASE = "RELEASE"
    NOTICE = "NOTICE"
    STOP = "STOP"
    RULE = "RULE"
    FREEZE = "FREEZE"
    UNFREEZE = "UNFREEZE"
    MESSAGE = "MESSAGE"
    WITNESS = "WITNESS"


@dataclass(frozen=True, slots=True)
class Release:
    """Permission in the log to sign exactly one transaction.

    withdrawal_digest, wallet_id, family, approvals: 32 bytes each.  family: digest of the first withdrawal of the
    chain of `supersedes`.  txid: 32 bytes, wire order, of the unsigned transaction.  payments: in output order.
    """

    withdrawal_digest: bytes
    withdrawal_id: str
    wallet_id: bytes
    family: bytes
    approvals: tuple[bytes, ...]
    txid: bytes
    outpoints: tuple[OutPoint, ...]
    payments: tuple[TxOut, ...]
    change: tuple[tuple[int, Sats], ...]
    fee_sats: Sats
    max_fee_sats: Sats
    initiator: str
    relation: Relation
    time: int

    @property
    def total_sats(self) -> Sats:
        """What the release may cost the wallet: its payments and the largest fee."""
        return Sats(sum(p.amount for p in self.payments) + self.max_fee_sats)

    def to_json(self) -> Json:
        """Return the entry's body."""
        return {
            "withdrawal_digest": self.withdrawal_digest.hex(),
            "withdrawal_id": self.withdrawal_id,
            "wallet_id": self.wallet_id.hex(),
            "family": self.family.hex(),
            "approvals": [digest.hex() for digest in self.approvals],
            "txid": self.txid[::-1].hex(),
            "outpoints": [str(outpoint) for outpoint in self.outpoints],
            "payments": [{"script": p.script.hex(), "sats": p.amount} for p in self.payments],
            "change": [{"index": index, "sats": amount} for index, amount in self.change],
            "fee_sats": self.fee_sats,
            "max_fee_sats": self.max_fee_sats,
            "initiator": self.initiator,
            "relation": self.relation.to_json(),
            "time": self.time,
        }

    @staticmethod
    def from_fields(fields: Fields) -> Release:
        """Read the body back."""
        release = Release(
            withdrawal_digest=fields.hex("withdrawal_digest", 32),
            withdrawal_id=fields.name("withdrawal_id"),
            wallet_id=fields.hex("wallet_id", 32),
            family=fields.hex("family", 32),
            approvals=_digests(fields, "approvals"),
            txid=fields.hex("txid", 32)[::-1],
            outpoints=tuple(OutPoint.parse(_text(item)) for item in fields.items("outpoints", MAX_OUTPOINTS)),
            payments=tuple(_payment(item) for item in fields.items("payments", MAX_PAYMENTS)),
            change=tuple(_change(item) for item in fields.items("change", 16)),
            fee_sats=fields.sats("fee_sats"),
            max_fee_sats=fields.sats("max_fee_sats"),
            initiator=fields.name("initiator"),
            relation=Relation.from_fields(fields.fields("relation")),
            time=fields.time("time"),
        )
        fields.done()
        return release


@dataclass(frozen=True, slots=True)
class Notice:
    """A whole withdrawal made known before its release: its delay runs from here. withdrawal_digest: 32 bytes."""

    withdrawal_digest: bytes

    def to_json(self) -> Json:
        """Return the entry's body."""
        return {"withdrawal_digest": self.withdrawal_digest.hex()}


class StopCause(Enum):
    """Why a withdrawal is stopped for ever."""

    REJECT = "reject"
    VETO = "veto"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Stop:
    """An end of one withdrawal. statement: digest (32 bytes) of the signed reject, veto or cancel."""

    withdrawal_digest: bytes
    cause: StopCause
    by: str
    statement: bytes

    def to_json(self) -> Json:
        """Return the entry's body."""
        return {
            "withdrawal_digest": self.withdrawal_digest.hex(),
            "cause": self.cause.value,
            "by": self.by,
            "statement": self.statement.hex(),
        }


@dataclass(frozen=True, slots=True)
class Document:
    """A RULE, FREEZE, UNFREEZE or MESSAGE entry: the digest (32 bytes) of the signed document it carries."""

    statement: bytes

    def to_json(self) -> Json:
        """Return the entry's body."""
        return {"statement": self.statement.hex()}


@dataclass(frozen=True, slots=True)
class Witnessed:
    """The previous checkpoint with its cosignatures: fixes T of what it covers. note: the signed note."""

    note: str

    def to_json(self) -> Json:
        """Return the entry's body."""
        return {"note": self.note}


Body: TypeAlias = Release | Notice | Stop | Document | Witnessed


@dataclass(frozen=True, slots=True)
class MoneyEntry:
    """One entry. event_size, event_root (32 bytes): the event log before this entry's own commit.

    signed: 32 bytes, `seal_of` the statements that it names; empty where it names none.
    """

    kind: EntryKind
    time: int
    event_size: int
    event_root: bytes
    body: Body
    signed: bytes = b""

    def to_json(self) -> Json:
        """Return the entry as JSON."""
        told: dict[str, Json] = {
            "kind": self.kind.value,
            "time": self.time,
            "event_size": self.event_size,
            "event_root": self.event_root.hex(),
            "body": self.body.to_json(),
        }
        return {**told, "signed": self.signed.hex()} if self.signed else told

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: the leaf of the money log."""
        return encode(self.to_json())


def parse_entry(raw: bytes) -> MoneyEntry:
    """Return the entry whose canonical bytes are `raw`.

    Raises:
        MalformedError: ENTRY_TOO_LARGE, ENTRY_KIND, or what its fields say.
    """
    _check_size(len(raw))
    return read_entry(decode(raw), len(raw))


def read_entry(value: Json, size: int) -> MoneyEntry:
    """Return the entry whose canonical bytes, `size` of them, `decode` made `value` of. Raises as `parse_entry`."""
    _check_size(size)
    fields = Fields(value, "entry")
    kind_text = fields.text("kind")
    kind = next((k for k in EntryKind if k.value == kind_text), None)
    if kind is None:
        raise MalformedError("ENTRY_KIND", f"expected a known kind, found {kind_text[:20]!r}")
    entry = MoneyEntry(
        kind=kind,
        time=fields.time("time"),
        event_size=fields.integer("event_size"),
        event_root=fields.hex("event_root", 32),
        body=_read_body(kind, fields.fields("body")),
        signed=b"" if kind is EntryKind.WITNESS else fields.hex("signed", 32),
    )
    fields.done()
    return entry


def _check_size(size: int) -> None:
    if size > MAX_ENTRY_BYTES:
        raise MalformedError("ENTRY_TOO_LARGE", f"expected at most {MAX_ENTRY_BYTES} bytes, found {size}")


def _read_body(kind: EntryKind, fields: Fields) -> Body:
    if kind is EntryKind.RELEASE:
        return Release.from_fields(fields)
    body: Body
    if kind is EntryKind.NOTICE:
        body = Notice(fields.hex("withdrawal_digest", 32))
    elif kind is EntryKind.STOP:
        cause_text = fields.text("cause")
        cause = next((c for c in StopCause if c.value == cause_text), None)
        if cause is None:
            raise MalformedError("STOP_CAUSE", f"expected reject, veto or cancel, found {cause_text[:20]!r}")
        body = Stop(fields.hex("withdrawal_digest", 32), cause, fields.name("by"), fields.hex("statement", 32))
    elif kind is EntryKind.WITNESS:
        body = Witnessed(fields.text("note", MAX_NOTE_CHARS))
    else:
        body = Document(fields.hex("statement", 32))
    fields.done()
    return body


def statements_of(entry: MoneyEntry) -> tuple[bytes, ...]:
    """Return the digests (32 bytes each) of the statements that must travel with `entry`."""
    return named_by(entry.body)


def seal_of(statements: Iterable[Signed]) -> bytes:
    """Return what an entry that names `statements`, in this order, says in `signed`: 32 bytes, empty for none.

    Without it, who writes the log could show witnesses a freeze as signed, and a signer the same freeze unsigned.
    """
    seals = b"".join(signed.seal for signed in statements)
    return tagged_hash("keyturn/entry-signed/v1", seals) if seals else b""


def named_by(body: Body) -> tuple[bytes, ...]:
    """Return the digests (32 bytes each) of the statements that `body` names, in order."""
    if isinstance(body, Release):
        return (body.withdrawal_digest, *body.approvals)
    if isinstance(body, Notice):
        return (body.withdrawal_digest,)
    if isinstance(body, Stop | Document):
        return (body.statement,)
    return ()


@dataclass(frozen=True, slots=True)
class StopStatement:
    """A veto or cancel as its maker signs it; a reject is an `Approval` that says so."""

    genesis: bytes
    withdrawal_digest: bytes
    cause: StopCause
    by: str
    at: int

    def to_json(self) -> Json:
        """Return the statement that is signed."""
        return {
            "genesis": self.genesis.hex(),
            "withdrawal_digest": self.withdrawal_digest.hex(),
            "cause": self.cause.value,
            "by": self.by,
            "at": self.at,
        }


def read_stop(signed: Signed) -> StopStatement:
    """Return who stops which withdrawal and why, from a stop or a reject; the signature is not judged here.

    Raises:
        MalformedError: STATEMENT_KIND, STOP_CAUSE, or a FIELD_ code.
    """
    if signed.kind is Kind.APPROVAL:
        approval: Approval = read_approval(signed)
        if approval.decision is not Decision.REJECT:
            raise MalformedError("STOP_CAUSE", "expected a reject, found an approval")
        return StopStatement(
            approval.genesis, approval.withdrawal_digest, StopCause.REJECT, approval.approver, approval.at
        )
    if signed.kind is not Kind.STOP:
        raise MalformedError("STATEMENT_KIND", f"expected a stop or a reject, found {signed.kind.name}")
    fields = Fields(decode(signed.raw), "stop")
    cause_text = fields.text("cause")
    if cause_text not in (StopCause.VETO.value, StopCause.CANCEL.value):
        raise MalformedError("STOP_CAUSE", f"expected veto or cancel, found {cause_text[:20]!r}")
    stop = StopStatement(
        genesis=fields.hex("genesis", 32),
        withdrawal_digest=fields.hex("withdrawal_digest", 32),
        cause=StopCause(cause_text),
        by=fields.name("by"),
        at=fields.time("at"),
    )
    fields.done()
    return stop


@dataclass(frozen=True, slots=True)
class Freeze:
    """One person's stop to everything. freeze_id: 16 random bytes, made by the signing program."""

    genesis: bytes
    freeze_id: bytes
    by: str
    at: int

    def to_json(self) -> Json:
        """Return the statement that is signed."""
        return {"genesis": self.genesis.hex(), "freeze_id": self.freeze_id.hex(), "by": self.by, "at": self.at}


def read_freeze(signed: Signed) -> Freeze:
    """Return the freeze inside `signed`; the signature is not judged here."""
    if signed.kind is not Kind.FREEZE:
        raise MalformedError("STATEMENT_KIND", f"expected a freeze, found {signed.kind.name}")
    fields = Fields(decode(signed.raw), "freeze")
    freeze = Freeze(fields.hex("genesis", 32), fields.hex("freeze_id", 16), fields.name("by"), fields.time("at"))
    fields.done()
    return freeze


@dataclass(frozen=True, slots=True)
class Unfreeze:
    """A quorum's end of named freezes. freeze_ids: 16 bytes each, sorted; a lifted id is dead for ever."""

    genesis: bytes
    freeze_ids: tuple[bytes, ...]
    at: int

    def to_json(self) -> Json:
        """Return the statement that is signed."""
        return {"genesis": self.genesis.hex(), "freeze_ids": [i.hex() for i in self.freeze_ids], "at": self.at}


def read_unfreeze(signed: Signed) -> Unfreeze:
    """Return the unfreeze inside `signed`; the signatures are not judged here."""
    if signed.kind is not Kind.UNFREEZE:
        raise MalformedError("STATEMENT_KIND", f"expected an unfreeze, found {signed.kind.name}")
    fields = Fields(decode(signed.raw), "unfreeze")
    ids = tuple(Fields({"id": item}, "unfreeze").hex("id", 16) for item in fields.items("freeze_ids", 256))
    unfreeze = Unfreeze(fields.hex("genesis", 32), ids, fields.time("at"))
    fields.done()
    if not ids or list(ids) != sorted(set(ids)):
        raise MalformedError("FREEZE_IDS", "expected at least one freeze id, sorted and distinct")
    return unfreeze


def _digests(fields: Fields, key: str) -> tuple[bytes, ...]:
    return tuple(Fields({"digest": item}, key).hex("digest", 32) for item in fields.items(key, 1_000))


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise MalformedError("FIELD_TYPE", f"expected a string, found {type(value).__name__}")
    return value


def _payment(value: Json) -> TxOut:
    fields = Fields(value, "payment")
    payment = TxOut(fields.sats("sats"), fields.hex("script"))
    fields.done()
    return payment


def _change(value: Json) -> tuple[int, Sats]:
    fields = Fields(value, "change")
    change = (fields.integer("index", 0, 2**31 - 1), fields.sats("sats"))
    fields.done()
    return change
