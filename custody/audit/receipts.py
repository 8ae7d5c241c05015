"""Receipts in an export: of a node for its signatures or its no, of a witness for what it held; each must fit the log.

That a node's receipt is by its identity key is for `custody.replay`: which key that is, the rules say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from custody.audit.checkpoint import PinnedWitness
from custody.canonical import decode
from custody.entries import Document, EntryKind, MoneyEntry, Release
from custody.errors import MalformedError
from custody.fields import Fields
from custody.statements import Kind, Signed

RECEIPTS = frozenset({Kind.RECEIPT, Kind.HELD})
_MAX_SIGNATURES = 30_000  # 15 keys on 2,000 inputs
_MAX_REASON_CHARS = 1024  # as `custody.bundle` reads a refusal


def check_logged_receipt(
    receipt: Signed,
    event: Mapping[str, bytes],
    entries: Sequence[MoneyEntry],
    statements: frozenset[bytes],
    witnesses: Sequence[PinnedWitness],
) -> None:
    """Prove that `receipt` fits the event that names it and the money log; its endorsements were verified before.

    Args:
        receipt: of a kind in RECEIPTS.
        event: "genesis" and, where the event names one, "asked": the withdrawal or message; 32 bytes each.
        entries: the money log.
        statements: digests of all statements that the money log or this event names.
        witnesses: as pinned.

    Raises:
        MalformedError: RECEIPT_OTHER, RECEIPT_RELEASE, RECEIPT_STATEMENT, RECEIPT_SIGNATURE or a FIELD_ code.
    """
    fields = Fields(decode(receipt.raw), "receipt")
    if fields.hex("genesis", 32) != event["genesis"]:
        raise MalformedError("RECEIPT_OTHER", "expected a receipt under this genesis")
    if receipt.kind is Kind.HELD:
        _check_held(receipt, fields, statements, witnesses)
    else:
        _check_answered(fields, event.get("asked", b""), entries)
    fields.done()


def _check_held(
    receipt: Signed, fields: Fields, statements: frozenset[bytes], witnesses: Sequence[PinnedWitness]
) -> None:
    name, _ = fields.text("witness"), fields.time("received_at")
    key = next((witness.key for witness in witnesses if witness.name == name), b"")
    if [endorsement.key for endorsement in receipt.endorsements] != [key]:
        raise MalformedError("RECEIPT_SIGNATURE", f"expected a receipt by the pinned key of {name[:64]!r} alone")
    if fields.hex("digest", 32) not in statements:
        raise MalformedError("RECEIPT_STATEMENT", "expected the money log or this event to name what a witness held")


def _check_answered(fields: Fields, asked: bytes, entries: Sequence[MoneyEntry]) -> None:
    digest, txid = fields.hex("withdrawal_digest", 32), fields.hex("txid", 32)[::-1]
    index = fields.integer("release_index")
    fields.name("node")
    fields.time("at")
    is_no = fields.has("refused")
    if is_no:
        refused = fields.fields("refused")
        for name in ("code", "expected", "found"):
            refused.text(name, _MAX_REASON_CHARS)
        refused.done()
    else:
        fields.items("signatures", _MAX_SIGNATURES)
    if digest != asked:
        raise MalformedError("RECEIPT_OTHER", f"expected a receipt for {asked.hex()}, found {digest.hex()}")
    entry = entries[index] if index < len(entries) else None
    if not _is_release(entry, digest, None if is_no else txid) and not _is_message(entry, digest):
        raise MalformedError("RECEIPT_RELEASE", f"expected money entry {index} to release what the node answered")


def _is_release(entry: MoneyEntry | None, digest: bytes, txid: bytes | None) -> bool:
    """Return whether `entry` releases `digest`, and that transaction where a signature names one."""
    body = None if entry is None else entry.body
    return isinstance(body, Release) and body.withdrawal_digest == digest and txid in (None, body.txid)


def _is_message(entry: MoneyEntry | None, digest: bytes) -> bool:
    """Return whether `entry` is of the message `digest`; its transactions are made from it and stand in no log."""
    return (
        entry is not None
        and entry.kind is EntryKind.MESSAGE
        and isinstance(entry.body, Document)
        and entry.body.statement == digest
    )
