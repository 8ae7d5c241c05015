"""PSBT version 2 (BIP-370): the transaction lies in fields of the maps; here it is put together, or taken apart again.

A PSBT of either version becomes the same frozen value with the same unsigned transaction, so what stands behind
`parse` need not know which one it was. Conversion is lossless or refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from custody.errors import MalformedError
from custody.psbt_fields import (
    GLOBAL_FALLBACK_LOCKTIME,
    GLOBAL_INPUT_COUNT,
    GLOBAL_MODIFIABLE,
    GLOBAL_OUTPUT_COUNT,
    GLOBAL_TRANSACTION,
    GLOBAL_TX_VERSION,
    GLOBAL_VERSION,
    IN_HEIGHT_LOCKTIME,
    IN_OUTPUT_INDEX,
    IN_PREVIOUS_TXID,
    IN_SEQUENCE,
    IN_TIME_LOCKTIME,
    OUT_AMOUNT,
    OUT_SCRIPT,
    V2_ONLY,
    Field,
    FieldMap,
)
from custody.reader import Reader, compact_size
from custody.transaction import OutPoint, Transaction, TxIn, TxOut
from custody.units import MAX_MONEY_SATS, Sats

MAX_INPUTS, MAX_OUTPUTS = 24_390, 111_111  # what fits 1 MB without witnesses at 41 and 9 bytes each
FINAL_SEQUENCE = 0xFFFFFFFF  # BIP-370: where the field is omitted


def read_counts(global_map: FieldMap, end: int) -> tuple[int, int]:
    """Return how many inputs and outputs the PSBT says it has; not yet that they are there.

    Args:
        global_map: of a PSBT version 2.
        end: where the map ends: the place of what it lacks.

    Raises:
        MalformedError: V0_FIELD, FIELD_REQUIRED, COUNT_TOO_LARGE, NO_INPUTS or NO_OUTPUTS.
    """
    if (unsigned := global_map.one(GLOBAL_TRANSACTION)) is not None:
        raise MalformedError("V0_FIELD", "expected no unsigned transaction in version 2", unsigned.offset)
    counted_in, counted_out = (_required(global_map, kind, end) for kind in (GLOBAL_INPUT_COUNT, GLOBAL_OUTPUT_COUNT))
    inputs, outputs = _count(counted_in, MAX_INPUTS), _count(counted_out, MAX_OUTPUTS)
    _required(global_map, GLOBAL_TX_VERSION, end)
    if not inputs:
        raise MalformedError("NO_INPUTS", "expected at least one input", counted_in.offset)
    if not outputs:
        raise MalformedError("NO_OUTPUTS", "expected at least one output", counted_out.offset)
    return inputs, outputs


def transaction_of(
    global_map: FieldMap, inputs: Sequence[FieldMap], outputs: Sequence[FieldMap], end: int
) -> Transaction:
    """Return the unsigned transaction that the fields describe.

    Args:
        global_map: of a PSBT version 2.
        inputs: one map each.
        outputs: one map each.
        end: where the last map ends: the place of what one of them lacks, or of what they contradict.

    Raises:
        MalformedError: FIELD_REQUIRED, AMOUNT_OUT_OF_RANGE or LOCKTIME_CONFLICT.
    """
    return Transaction(
        version=_number(_required(global_map, GLOBAL_TX_VERSION, end)),
        inputs=tuple(_read_input(found, end) for found in inputs),
        outputs=tuple(_read_output(found, end) for found in outputs),
        locktime=_locktime(global_map, inputs, end),
    )


def v2_maps(
    transaction: Transaction, global_map: FieldMap, inputs: Sequence[FieldMap], outputs: Sequence[FieldMap]
) -> tuple[FieldMap, list[tuple[Field, ...]], list[tuple[Field, ...]]]:
    """Return the maps of version 2 that say what version 0 says with `transaction`."""
    kept = tuple(f for f in global_map.fields if f.type not in (GLOBAL_TRANSACTION, GLOBAL_VERSION))
    globals_v2 = (
        _field(GLOBAL_TX_VERSION, transaction.version.to_bytes(4, "little")),
        _field(GLOBAL_FALLBACK_LOCKTIME, transaction.locktime.to_bytes(4, "little")),
        _field(GLOBAL_INPUT_COUNT, compact_size(len(inputs))),
        _field(GLOBAL_OUTPUT_COUNT, compact_size(len(outputs))),
        _field(GLOBAL_VERSION, (2).to_bytes(4, "little")),
    )
    inputs_v2 = [
        (
            *found.fields,
            _field(IN_PREVIOUS_TXID, txin.outpoint.txid),
            _field(IN_OUTPUT_INDEX, txin.outpoint.vout.to_bytes(4, "little")),
            _field(IN_SEQUENCE, txin.sequence.to_bytes(4, "little")),
        )
        for txin, found in zip(transaction.inputs, inputs, strict=True)
    ]
    outputs_v2 = [
        (*found.fields, _field(OUT_AMOUNT, txout.amount.to_bytes(8, "little")), _field(OUT_SCRIPT, txout.script))
        for txout, found in zip(transaction.outputs, outputs, strict=True)
    ]
    return FieldMap((*kept, *globals_v2)), inputs_v2, outputs_v2


def v0_maps(
    transaction: Transaction, global_map: FieldMap, inputs: Sequence[FieldMap], outputs: Sequence[FieldMap]
) -> tuple[FieldMap, list[tuple[Field, ...]], list[tuple[Field, ...]]]:
    """Return the maps of version 0 that say what version 2 says.

    Raises:
        MalformedError: CONVERT_LOSSY for what version 0 cannot say: modifiable flags, required locktimes.
    """
    if is_modifiable(global_map) or any(
        _lock(f, kind) for f in inputs for kind in (IN_TIME_LOCKTIME, IN_HEIGHT_LOCKTIME)
    ):
        raise MalformedError("CONVERT_LOSSY", "expected no modifiable flag and no required locktime")
    dropped = V2_ONLY["global"] | {GLOBAL_VERSION}
    kept = tuple(f for f in global_map.fields if f.type not in dropped)
    unsigned = _field(GLOBAL_TRANSACTION, transaction.serialize_stripped())
    inputs_v0 = [tuple(f for f in found.fields if f.type not in V2_ONLY["input"]) for found in inputs]
    outputs_v0 = [tuple(f for f in found.fields if f.type not in V2_ONLY["output"]) for found in outputs]
    return FieldMap((unsigned, *kept)), inputs_v0, outputs_v0


def is_modifiable(global_map: FieldMap) -> bool:
    """Return whether inputs, outputs or signatures may still be added: nothing that is signed may be (ATK-006)."""
    field = global_map.one(GLOBAL_MODIFIABLE)
    return field is not None and any(field.value)


def _read_input(found: FieldMap, end: int) -> TxIn:
    outpoint = OutPoint(_required(found, IN_PREVIOUS_TXID, end).value, _number(_required(found, IN_OUTPUT_INDEX, end)))
    sequence = found.one(IN_SEQUENCE)
    return TxIn(outpoint, b"", FINAL_SEQUENCE if sequence is None else _number(sequence))


def _read_output(found: FieldMap, end: int) -> TxOut:
    amount = _required(found, OUT_AMOUNT, end)
    if (sats := _number(amount)) > MAX_MONEY_SATS:
        raise MalformedError("AMOUNT_OUT_OF_RANGE", f"expected at most {MAX_MONEY_SATS} sats", amount.offset)
    return TxOut(Sats(sats), _required(found, OUT_SCRIPT, end).value)


def _locktime(global_map: FieldMap, inputs: Sequence[FieldMap], end: int) -> int:
    """Return the locktime that every input accepts, a height where both kinds would do (BIP-370)."""
    locks = [(_lock(found, IN_HEIGHT_LOCKTIME), _lock(found, IN_TIME_LOCKTIME)) for found in inputs]
    demanding = [(height, time) for height, time in locks if height or time]
    if not demanding:
        fallback = global_map.one(GLOBAL_FALLBACK_LOCKTIME)
        return 0 if fallback is None else _number(fallback)
    if all(height for height, _ in demanding):
        return max(height for height, _ in demanding)
    if all(time for _, time in demanding):
        return max(time for _, time in demanding)
    raise MalformedError("LOCKTIME_CONFLICT", "expected one kind of locktime that every input accepts", end)


def _lock(found: FieldMap, kind: int) -> int:
    field = found.one(kind)
    return 0 if field is None else _number(field)


def _required(found: FieldMap, kind: int, end: int) -> Field:
    field = found.one(kind)
    if field is None:
        raise MalformedError("FIELD_REQUIRED", f"expected field {kind:#04x} in version 2", end)
    return field


def _count(field: Field, most: int) -> int:
    reader = Reader(field.value, field.offset)
    value = reader.compact_size()
    reader.end()
    if value > most:
        raise MalformedError("COUNT_TOO_LARGE", f"expected at most {most}, found {value}", field.offset)
    return value


def _number(field: Field) -> int:
    return int.from_bytes(field.value, "little")


def _field(kind: int, value: bytes) -> Field:
    return Field(bytes([kind]), value)
