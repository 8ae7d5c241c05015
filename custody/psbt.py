"""Our own strict PSBT codec, versions 0 and 2 (BIP-174, BIP-370): every malformed byte string is refused.

`parse` gives frozen values and keeps every field byte for byte, so `serialize(parse(raw)) == raw`. It proves shape
only: what a PSBT spends and pays is for `custody.facts`. No embit object is made here; every refusal is a
`MalformedError` with a code and an offset. The shape of each field stands in `custody.psbt_fields`.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from custody.errors import MalformedError
from custody.psbt_fields import (
    GLOBAL,
    GLOBAL_TRANSACTION,
    GLOBAL_VERSION,
    IN_DERIVATION,
    IN_FINAL_WITNESS,
    IN_OUTPUT_INDEX,
    IN_PARTIAL_SIGNATURE,
    IN_PREVIOUS,
    IN_PREVIOUS_TXID,
    IN_REDEEM_SCRIPT,
    IN_SEQUENCE,
    IN_SIGHASH,
    IN_TAP_DERIVATION,
    IN_TAP_SIGNATURE,
    IN_WITNESS_SCRIPT,
    IN_WITNESS_UTXO,
    INPUT,
    MAX_PSBT_BYTES,
    MAX_SCRIPT_BYTES,
    OUT_AMOUNT,
    OUT_DERIVATION,
    OUT_REDEEM_SCRIPT,
    OUT_SCRIPT,
    OUT_TAP_DERIVATION,
    OUT_WITNESS_SCRIPT,
    OUTPUT,
    V2_ONLY,
    Field,
    FieldMap,
    check_field,
    read_output,
    read_path,
    read_stack,
    read_tap_path,
    v2_field,
)
from custody.psbt_skim import OWN_KINDS, Earlier, Known, Rules, Tail, skim_map, skim_own, spent_output
from custody.psbt_v2 import read_counts, transaction_of, v0_maps, v2_maps
from custody.reader import Reader, compact_size, sized
from custody.transaction import OutPoint, Transaction, TxOut, parse_transaction

MAGIC = b"psbt\xff"
MAX_BASE64_CHARS = (MAX_PSBT_BYTES + 2) // 3 * 4
_Map = TypeVar("_Map", bound=FieldMap)
NOTHING = Known()
_SCRIPT = (0, MAX_SCRIPT_BYTES)
_USUAL_INPUT = {
    IN_PREVIOUS: (10, MAX_PSBT_BYTES),
    IN_WITNESS_UTXO: (9, MAX_SCRIPT_BYTES + 12),
    IN_SIGHASH: (4, 4),
    IN_REDEEM_SCRIPT: _SCRIPT,
    IN_WITNESS_SCRIPT: _SCRIPT,
}
_USUAL_INPUT_V2 = {**_USUAL_INPUT, IN_PREVIOUS_TXID: (32, 32), IN_OUTPUT_INDEX: (4, 4), IN_SEQUENCE: (4, 4)}
_USUAL_OUTPUT = {OUT_REDEEM_SCRIPT: _SCRIPT, OUT_WITNESS_SCRIPT: _SCRIPT}
_USUAL_OUTPUT_V2 = {**_USUAL_OUTPUT, OUT_AMOUNT: (8, 8), OUT_SCRIPT: _SCRIPT}
_USUAL_GLOBAL = Rules(GLOBAL, 0, {GLOBAL_TRANSACTION: (10, MAX_PSBT_BYTES)}, derivation=-1)
_USUAL = {  # as `custody.psbt_fields` has it, which judges what is left out here
    (INPUT, 0): Rules(INPUT, 0, _USUAL_INPUT, IN_DERIVATION, IN_PARTIAL_SIGNATURE, IN_WITNESS_UTXO),
    (INPUT, 2): Rules(INPUT, 2, _USUAL_INPUT_V2, IN_DERIVATION, IN_PARTIAL_SIGNATURE, IN_WITNESS_UTXO),
    (OUTPUT, 0): Rules(OUTPUT, 0, _USUAL_OUTPUT, OUT_DERIVATION),
    (OUTPUT, 2): Rules(OUTPUT, 2, _USUAL_OUTPUT_V2, OUT_DERIVATION),
}


class PsbtInput(FieldMap):
    """What a PSBT says of one input; nothing in it is proven."""

    _proven: tuple[OutPoint, bytes] | None = None  # by `parse`: an outpoint, and what is there
    _tail: Tail | None = None  # by `parse`: what stands behind that output, where the wallet writes all of the map

    @cached_property
    def previous(self) -> Transaction | None:
        """The whole previous transaction, or None."""
        field = self.one(IN_PREVIOUS)
        return None if field is None else parse_transaction(field.value, max(field.offset, 0))

    @cached_property
    def previous_txid(self) -> bytes | None:
        """What `previous` hashes to (32 bytes, wire order), or None: hashed once, it is asked for more than once."""
        return None if self.previous is None else self.previous.txid

    def spent(self, outpoint: OutPoint) -> bytes | None:
        """Return the serialised output at `outpoint`, if the previous transaction hashes to it and has that output."""
        proven = self._proven
        if proven is not None and (proven[0] is outpoint or proven[0] == outpoint):
            return proven[1]
        previous = self.previous
        if previous is None or self.previous_txid != outpoint.txid or outpoint.vout >= len(previous.outputs):
            return None
        return previous.outputs[outpoint.vout].serialize()

    def spends(self, outpoint: OutPoint) -> TxOut | None:
        """Return the output at `outpoint`, as `spent` does."""
        raw = self.spent(outpoint)
        return None if raw is None else read_output(Field(b"", raw))

    @classmethod
    def skimmed_own(cls, source: bytes, start: int, outpoint: OutPoint, read: tuple[bytes, Tail, int]) -> PsbtInput:
        """Return the map at `start` of the PSBT `source`, as `custody.psbt_skim.skim_own` read it for `outpoint`."""
        output, tail, end = read
        found = cls.skimmed(source, start, (None, OWN_KINDS | tail.kinds, b"", end))
        found._proven, found._tail = (outpoint, output), tail
        return found

    def own_at(self, outpoint: OutPoint) -> tuple[bytes, Tail] | None:
        """Return the serialised output at `outpoint` and its `Tail`, if the map is what a wallet writes to spend it."""
        proven, tail = self._proven, self._tail
        if tail is None or proven is None or (proven[0] is not outpoint and proven[0] != outpoint):
            return None
        return proven[1], tail

    def prove(self, outpoint: OutPoint, earlier: Earlier) -> bool:
        """Return whether it spends `outpoint` as far as it says what it spends; remember the output if so.

        Args:
            outpoint: of the unsigned transaction.
            earlier: previous transactions of the inputs before this one; grows.
        """
        raw = self.value(IN_PREVIOUS)
        if raw is None:
            return True
        output = spent_output(raw, 0, len(raw), outpoint, earlier)
        if output is None:
            return self.spent(outpoint) is not None  # the strict reader judges, and names what is wrong
        if output:
            self._proven = (outpoint, output)
        return bool(output)

    @property
    def witness_utxo(self) -> TxOut | None:
        """The output it claims to spend, or None."""
        field = self.one(IN_WITNESS_UTXO)
        return None if field is None else read_output(field)

    @property
    def witness_script(self) -> bytes | None:
        """The witness script, or None."""
        return self.value(IN_WITNESS_SCRIPT)

    @property
    def sighash_type(self) -> int | None:
        """The sighash type it asks for, or None."""
        value = self.value(IN_SIGHASH)
        return None if value is None else int.from_bytes(value, "little")

    @property
    def final_witness(self) -> tuple[bytes, ...]:
        """The finished witness stack it claims, empty where there is none."""
        field = self.one(IN_FINAL_WITNESS)
        return () if field is None else read_stack(field)

    @property
    def partial_signatures(self) -> tuple[tuple[bytes, bytes], ...]:
        """(public key, DER signature with its sighash byte) pairs."""
        return tuple((field.key[1:], field.value) for field in self.all(IN_PARTIAL_SIGNATURE))

    @cached_property
    def around_signatures(self) -> tuple[bytes, bytes]:
        """The bytes of this map before and behind the place where partial signatures stand in it."""
        size = 0
        for key, value in self.values.items():
            if key[0] > IN_PARTIAL_SIGNATURE:
                break
            size += len(sized(key)) + len(compact_size(len(value))) + len(value)
        raw = self.serialize()
        return raw[:size], raw[size:]

    @property
    def derivations(self) -> tuple[tuple[bytes, tuple[int, ...]], ...]:
        """(public key, path from the master key) pairs: hints, never proof."""
        return tuple((field.key[1:], read_path(field.value)) for field in self.all(IN_DERIVATION))

    @property
    def tap_signatures(self) -> tuple[tuple[bytes, bytes], ...]:
        """(x-only public key, Schnorr signature) pairs of script paths, whatever leaf they name (BIP-371)."""
        return tuple((field.key[1:33], field.value) for field in self.all(IN_TAP_SIGNATURE))

    @property
    def tap_derivations(self) -> tuple[tuple[bytes, tuple[int, ...]], ...]:
        """(x-only public key, path from the master key) pairs: hints, never proof."""
        return tuple((field.key[1:], read_tap_path(field.value)) for field in self.all(IN_TAP_DERIVATION))


class PsbtOutput(FieldMap):
    """What a PSBT says of one output; nothing in it is proven."""

    @property
    def derivations(self) -> tuple[tuple[bytes, tuple[int, ...]], ...]:
        """(public key, path from the master key) pairs: hints, never proof."""
        return tuple((field.key[1:], read_path(field.value)) for field in self.all(OUT_DERIVATION))

    @property
    def tap_derivations(self) -> tuple[tuple[bytes, tuple[int, ...]], ...]:
        """(x-only public key, path from the master key) pairs: hints, never proof."""
        return tuple((field.key[1:], read_tap_path(field.value)) for field in self.all(OUT_TAP_DERIVATION))


@dataclass(frozen=True)
class Psbt:
    """A PSBT. transaction: the unsigned one, of its global map (version 0) or put together from its fields (2)."""

    globals: FieldMap
    transaction: Transaction
    inputs: tuple[PsbtInput, ...]
    outputs: tuple[PsbtOutput, ...]
    version: int = 0


def parse(raw: bytes, known: Known = NOTHING) -> Psbt:
    """Return the PSBT whose bytes are exactly `raw`.

    Args:
        raw: the whole PSBT.
        known: what we derived ourselves (`ScriptBook.known`) and need not prove again.

    Raises:
        MalformedError: PSBT_TOO_LARGE, PSBT_MAGIC, PSBT_VERSION, DUPLICATE_KEY, KEY_LENGTH, VALUE_LENGTH, V2_FIELD,
            MUSIG2_FIELD, PUBKEY, TAP_TREE, PREVIOUS_MISMATCH, TX_NOT_UNSIGNED, TX_MISSING, or a code of
            `custody.reader`, `custody.transaction`.
    """
    # Plan: 1 size, magic · 2 global map, version · 3 one map per input and output · 4 the end · 5 previous ones fit.
    if len(raw) > MAX_PSBT_BYTES:
        raise MalformedError("PSBT_TOO_LARGE", f"expected at most {MAX_PSBT_BYTES} bytes, found {len(raw)}", 0)
    if raw[: len(MAGIC)] != MAGIC:
        raise MalformedError("PSBT_MAGIC", "expected the PSBT magic", 0)
    reader = Reader(raw)
    reader.take(len(MAGIC))
    global_map = _read_global(reader)
    version = _check_version(global_map)
    unsigned = None if version == 2 else _read_unsigned(global_map)
    if unsigned is None:
        counts = read_counts(global_map, reader.offset)
    else:
        counts = len(unsigned.inputs), len(unsigned.outputs)
    if sum(counts) > reader.left:  # each map ends with a byte
        raise reader.malformed("COUNT_TOO_LARGE", f"expected counts that fit into {reader.left} bytes")
    earlier: Earlier = {}
    inputs = _read_inputs(reader, counts[0], unsigned, known, earlier)
    outputs = _read_maps(PsbtOutput, reader, counts[1], _USUAL[OUTPUT, version], known)
    reader.end()
    transaction = unsigned or transaction_of(global_map, inputs, outputs, reader.offset)
    for txin, found in zip(transaction.inputs, inputs, strict=True):
        if not found.own_at(txin.outpoint) and not found.prove(txin.outpoint, earlier):
            at = found.one(IN_PREVIOUS)
            offset = -1 if at is None else at.offset
            raise MalformedError("PREVIOUS_MISMATCH", f"expected the transaction of {txin.outpoint}", offset)
    return Psbt(global_map, transaction, inputs, outputs, version)


def serialize(psbt: Psbt) -> bytes:
    """Return the bytes of `psbt`: those it was parsed from, or the shortest form of what was built."""
    maps = (psbt.globals, *psbt.inputs, *psbt.outputs)
    return MAGIC + b"".join(found.serialize() for found in maps)


def from_base64(text: str) -> bytes:
    """Return the bytes of strict base64 `text`.

    Raises:
        MalformedError: PSBT_TOO_LARGE, or PSBT_BASE64 for any spelling but the one of these bytes.
    """
    if len(text) > MAX_BASE64_CHARS:
        raise MalformedError("PSBT_TOO_LARGE", f"expected at most {MAX_BASE64_CHARS} characters, found {len(text)}")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("PSBT_BASE64", "expected strict base64") from error
    if base64.b64encode(raw).decode() != text:
        raise MalformedError("PSBT_BASE64", "expected the one base64 spelling of these bytes")
    return raw


def convert(psbt: Psbt, version: int) -> Psbt:
    """Return `psbt` in `version` (0 or 2), saying the same. Raises MalformedError CONVERT_LOSSY where it cannot.

    Version 2 has limits of its own (`custody.psbt_v2`): what we would not read back is not written.
    """
    if version == psbt.version:
        return psbt
    make = v2_maps if version == 2 else v0_maps
    global_map, inputs, outputs = make(psbt.transaction, psbt.globals, psbt.inputs, psbt.outputs)
    made = Psbt(global_map, psbt.transaction, tuple(map(PsbtInput, inputs)), tuple(map(PsbtOutput, outputs)), version)
    try:
        parse(serialize(made))
    except MalformedError as error:
        raise MalformedError("CONVERT_LOSSY", f"expected what fits into version {version}: {error.message}") from error
    return made


def _read_global(reader: Reader) -> FieldMap:
    """Return the global map: in one pass where it holds the unsigned transaction alone, as `build` writes it."""
    skimmed = skim_map(reader.raw, reader.at, _USUAL_GLOBAL, NOTHING)
    if skimmed is None or len(skimmed[0]) != 1:
        return FieldMap(_read_map(reader, GLOBAL))
    (field,) = skimmed[0].items()
    reader.at = skimmed[3]
    return FieldMap((Field(*field, reader.at - 1 - len(field[1])),))


def _read_inputs(
    reader: Reader, count: int, unsigned: Transaction | None, known: Known, earlier: Earlier
) -> tuple[PsbtInput, ...]:
    """Return the next maps of the PSBT, read and proven in one step where they are as our wallet writes them."""
    rules = _USUAL[INPUT, 0 if unsigned else 2]
    if unsigned is None or not known.tails:
        return _read_maps(PsbtInput, reader, count, rules, known)
    raw, tails = reader.raw, known.tails
    found: list[PsbtInput] = []
    for txin in unsigned.inputs:
        at, outpoint = reader.at, txin.outpoint
        read = skim_own(raw, at, outpoint, tails, earlier)
        if read is None:
            found.extend(_read_maps(PsbtInput, reader, 1, rules, known))
        else:
            found.append(PsbtInput.skimmed_own(raw, at, outpoint, read))
            reader.at = read[2]
    return tuple(found)


def _read_maps(kind: type[_Map], reader: Reader, count: int, rules: Rules, known: Known) -> tuple[_Map, ...]:
    """Return the next maps of the PSBT, each in one pass where it has the usual form."""
    raw, found, empty = reader.raw, [], kind(())
    for _ in range(count):
        at = reader.at
        if raw.startswith(b"\0", at):  # as outputs to others are
            found.append(empty)
            reader.at = at + 1
            continue
        skimmed = skim_map(raw, at, rules, known)
        if skimmed is None:
            found.append(kind(_read_map(reader, rules.where, rules.version)))
        else:
            found.append(kind.skimmed(raw, at, skimmed))
            reader.at = skimmed[3]
    return tuple(found)


def _read_map(reader: Reader, where: str, version: int = 0) -> tuple[Field, ...]:
    fields: list[Field] = []
    seen: set[bytes] = set()
    while True:
        offset = reader.offset
        key = reader.sized()
        if not key:
            return tuple(fields)
        if key in seen:
            raise MalformedError("DUPLICATE_KEY", f"expected each key once in the {where} map", offset)
        seen.add(key)
        length = reader.compact_size()
        value_offset = reader.offset
        field = Field(key, reader.take(length), value_offset)
        check_field(field, where, offset, version)
        fields.append(field)


def _check_version(global_map: FieldMap) -> int:
    """Return 0 or 2; refuse other versions, and global fields of version 2 in a PSBT of version 0."""
    field = global_map.one(GLOBAL_VERSION)
    version = 0 if field is None else int.from_bytes(field.value, "little")
    if field is not None and version not in (0, 2):
        raise MalformedError("PSBT_VERSION", f"expected version 0 or 2, found {version}", field.offset)
    for found in global_map.fields:
        if version == 0 and found.type in V2_ONLY[GLOBAL]:
            raise v2_field(found.type, GLOBAL, found.offset)
    return version


def _read_unsigned(global_map: FieldMap) -> Transaction:
    field = global_map.one(GLOBAL_TRANSACTION)
    if field is None:
        raise MalformedError("TX_MISSING", "expected an unsigned transaction", len(MAGIC))
    transaction = parse_transaction(field.value, field.offset)
    if transaction.serialize_stripped() != field.value or any(txin.script_sig for txin in transaction.inputs):
        raise MalformedError("TX_NOT_UNSIGNED", "expected no scriptSig and no witness form", field.offset)
    return transaction
