"""What came back from a signer: whose signatures are in it, which are bad, who is missing; nothing else is read."""

from __future__ import annotations

from dataclasses import dataclass

from custody.errors import MalformedError
from custody.facts import Facts
from custody.psbt import MAGIC, Psbt, PsbtInput, PsbtOutput, from_base64, serialize
from custody.psbt_fields import IN_FINAL_WITNESS, Field, FieldMap
from custody.reader import compact_size, sized
from custody.signatures import Rejected, accept, from_foreign_psbt, without_signatures
from custody.transaction import Transaction, parse_transaction
from custody.wallet import ScriptBook

_GLOBAL_TRANSACTION = b"\x00"


@dataclass(frozen=True, slots=True)
class Returned:
    """What one file brought; cosigners by their place in the wallet.

    new, known, missing: who signed every input with this file, before it, not yet.  partly: who signed some inputs.
    bad: what does not verify.
    """

    new: frozenset[int]
    known: frozenset[int]
    partly: frozenset[int]
    missing: frozenset[int]
    bad: tuple[Rejected, ...]
    threshold: int


def read_returned(content: bytes) -> bytes:
    """Return the binary PSBT in `content`: binary, base64, or a finished transaction as hex, as some signers answer.

    Raises:
        MalformedError: PSBT_MAGIC, or a code of `from_base64` or `parse_transaction`.
    """
    if content.startswith(MAGIC):
        return content
    try:
        text = content.decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise MalformedError("PSBT_MAGIC", "expected a PSBT, binary or base64, or a transaction in hex") from error
    if text and not set(text) - set("0123456789abcdefABCDEF"):
        return _as_psbt(parse_transaction(bytes.fromhex(text) if len(text) % 2 == 0 else b""))
    return from_base64(text)


def judge_returned(ours: Psbt, facts: Facts, book: ScriptBook, raw: bytes) -> Returned:
    """Return whose signatures `raw` brings to our PSBT, which may hold some already.

    Raises:
        MalformedError: FOREIGN_TRANSACTION, or a code of `custody.psbt.parse`.
    """
    bare = without_signatures(ours)
    before, after = (accept(bare, facts, book, from_foreign_psbt(bare, found)) for found in (serialize(ours), raw))
    everyone = frozenset(range(len(book.wallet.keys)))
    touched = frozenset(owner for filed in after.by_input for owner in filed)
    signed = before.signed | after.signed
    return Returned(
        new=after.signed - before.signed,
        known=before.signed,
        partly=touched - signed,
        missing=everyone - signed,
        bad=after.rejected,
        threshold=book.wallet.threshold,
    )


def _as_psbt(transaction: Transaction) -> bytes:
    """Return a finished transaction as a PSBT with nothing but its witnesses."""
    unsigned = Field(_GLOBAL_TRANSACTION, transaction.unsigned().serialize_stripped())
    inputs = tuple(
        PsbtInput((Field(bytes([IN_FINAL_WITNESS]), _stack(txin.witness)),) if txin.witness else ())
        for txin in transaction.inputs
    )
    outputs = tuple(PsbtOutput(()) for _ in transaction.outputs)
    return serialize(Psbt(FieldMap((unsigned,)), transaction.unsigned(), inputs, outputs, 0))


def _stack(items: tuple[bytes, ...]) -> bytes:
    return compact_size(len(items)) + b"".join(map(sized, items))
