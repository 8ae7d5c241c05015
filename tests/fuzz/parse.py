"""Target: the PSBT CODEC. What it accepts it keeps byte for byte, both readers agree, conversion loses nothing."""

from __future__ import annotations

import base64
import importlib
from collections.abc import Iterator
from random import Random
from typing import Any

from custody.errors import MalformedError
from custody.psbt import MAGIC, Psbt, convert, from_base64, parse, serialize
from custody.psbt_fields import GLOBAL, GLOBAL_TRANSACTION, GLOBAL_VERSION, INPUT, OUTPUT, V2_ONLY, FieldMap
from tests.fakes.psbts import BOOK, facts_of, valid
from tests.fuzz import psbts
from tests.fuzz.psbts import own, vectors
from tests.fuzz.refusal import attempt, listed
from tests.fuzz.target import ByteMutator

CODES = listed(
    """
    AMOUNT_OUT_OF_RANGE COUNT_TOO_LARGE DUPLICATE_KEY FIELD_REQUIRED KEY_LENGTH LOCKTIME_CONFLICT LOCKTIME_KIND
    MUSIG2_FIELD NOT_MINIMAL NO_INPUTS NO_OUTPUTS PREVIOUS_MISMATCH PSBT_MAGIC PSBT_TOO_LARGE PSBT_VERSION PUBKEY
    TAP_TREE TRAILING_BYTES TRUNCATED TX_MISSING TX_NOT_UNSIGNED TX_TOO_LARGE V0_FIELD V2_FIELD VALUE_LENGTH
    WITNESS_EMPTY WITNESS_FLAG
    """
)
TEXT_CODES = frozenset({"PSBT_BASE64", "PSBT_TOO_LARGE"})
LOSSY = frozenset({"CONVERT_LOSSY"})
VERSIONED = {**V2_ONLY, GLOBAL: V2_ONLY[GLOBAL] | {GLOBAL_TRANSACTION, GLOBAL_VERSION}}
FACTS = facts_of(valid())  # after this the book knows what stands behind each witness script of ours
KNOWN = BOOK.known
CODEC: Any = importlib.import_module("custody.psbt")  # whose fast readers are switched off for a second opinion


def seeds() -> Iterator[bytes]:
    """Yield official vectors and PSBTs of our builder, and some of each as base64 text."""
    yield from vectors()
    yield from own()
    yield from map(base64.b64encode, (*vectors()[::20], *own()[:2]))


def mutate(raw: bytes, random: Random, mutate_bytes: ByteMutator) -> bytes:
    """Return `raw` with its maps changed."""
    return psbts.mutate(raw, random, mutate_bytes)


def check(raw: bytes) -> None:
    """Read `raw` as a PSBT, and as base64 where it is none."""
    found = attempt(lambda: parse(raw, KNOWN), CODES, len(raw))
    if isinstance(found, MalformedError):
        if len(raw) % 4 == 0:  # most refusals are by the strict reader anyway: some suffice to find where they are not
            strict = attempt(lambda: _strict(raw), CODES, len(raw))
            assert str(strict) == str(found), f"strictly: {strict}, fast: {found}"
        if found.code == "PSBT_MAGIC":
            _check_text(raw.decode("latin-1"))
        return
    assert found == _strict(raw), "the fast reader sees another PSBT"
    assert serialize(found) == raw, "other bytes come back"
    _look_at(found)
    _check_conversion(found)


def _strict(raw: bytes) -> Psbt:
    """Return what the reader without its fast paths sees."""
    skims = CODEC.skim_map, CODEC.skim_own, CODEC.spent_output
    CODEC.skim_map = CODEC.skim_own = CODEC.spent_output = lambda *_: None
    try:
        return parse(raw)
    finally:
        CODEC.skim_map, CODEC.skim_own, CODEC.spent_output = skims


def _check_text(text: str) -> None:
    raw = attempt(lambda: from_base64(text), TEXT_CODES, -1)
    if isinstance(raw, MalformedError):
        return
    assert base64.b64encode(raw).decode() == text, "a second spelling"
    if raw.startswith(MAGIC):
        check(raw)


def _look_at(psbt: Psbt) -> None:
    """Read all that is read late: after `parse` nothing is refused any more."""
    for said, txin in zip(psbt.inputs, psbt.transaction.inputs, strict=True):
        if (previous := said.previous) is not None:
            assert said.previous_txid == txin.outpoint.txid
            assert said.spends(txin.outpoint) == previous.outputs[txin.outpoint.vout]
        assert (said.witness_utxo, said.sighash_type, said.final_witness) is not None
        before, behind = said.around_signatures
        assert before + behind == said.serialize()
        assert all(len(pubkey) == 32 for pubkey, _ in (*said.tap_signatures, *said.tap_derivations))
        assert all(len(pubkey) == 33 for pubkey, _ in (*said.partial_signatures, *said.derivations))
    for output in psbt.outputs:
        assert all(len(pubkey) == 33 for pubkey, _ in output.derivations)
        assert all(len(pubkey) == 32 for pubkey, _ in output.tap_derivations)


def _check_conversion(psbt: Psbt) -> None:
    """There and back: the same transaction, the same fields; what cannot be said is refused by code."""
    other = attempt(lambda: convert(psbt, 2 - psbt.version), LOSSY, -1)
    if isinstance(other, MalformedError):
        return
    again = parse(serialize(other))  # our own bytes: nothing in them may be refused
    assert again.transaction == psbt.transaction, "conversion changes the transaction"
    assert _content(again) == _content(psbt), "conversion loses a field"
    back = convert(again, psbt.version)
    assert (back.transaction, _content(back)) == (psbt.transaction, _content(psbt))


def _content(psbt: Psbt) -> list[dict[bytes, bytes]]:
    """Return the fields of each map, but for those that say what the version says in its own way."""
    maps: list[tuple[str, FieldMap]] = [(GLOBAL, psbt.globals)]
    maps += [(INPUT, found) for found in psbt.inputs]
    maps += [(OUTPUT, found) for found in psbt.outputs]
    return [{f.key: f.value for f in found.fields if f.type not in VERSIONED[where]} for where, found in maps]
