"""Attacks that play the two PSBT versions against each other (ATK-005 to ATK-008, and counts of ATK-013)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from custody.errors import MalformedError, Refused
from custody.facts import ShapeLimits, read_facts
from custody.psbt import Psbt, PsbtInput, PsbtOutput, convert, parse, serialize
from custody.psbt_fields import GLOBAL_MODIFIABLE, IN_HEIGHT_LOCKTIME, Field, FieldMap
from custody.signatures import sighashes
from tests.world import World, make_genesis

WORLD = World(make_genesis())
SPEND = WORLD.spend(WORLD.withdrawal(), [WORLD.coin(0), WORLD.coin(1)])
V0 = parse(SPEND.psbt)
V2 = parse(serialize(convert(V0, 2)))


def test_atk_005_another_version_between_approval_and_signing_changes_nothing_that_is_signed() -> None:
    """Version up or down: the same transaction and the same digests."""
    facts = SPEND.facts()
    again = parse(serialize(convert(V2, 0)))
    assert again.transaction.txid == V2.transaction.txid == V0.transaction.txid
    assert sighashes(V2, facts, WORLD.book) == sighashes(V0, facts, WORLD.book)


@pytest.mark.parametrize("flags", [1, 2, 4, 8, 0xFF])
def test_atk_006_modifiable_flags_are_refused_at_judging_and_not_lost_in_conversion(flags: int) -> None:
    """What may still be added to is not signed, and version 0 cannot carry that promise."""
    loose = _with_global(V2, Field(bytes([GLOBAL_MODIFIABLE]), bytes([flags])))
    refused = read_facts(parse(serialize(loose)), WORLD.book, ShapeLimits())
    assert isinstance(refused, Refused)
    assert refused.code == "TX_MODIFIABLE"
    with pytest.raises(MalformedError) as caught:
        convert(loose, 0)
    assert caught.value.code == "CONVERT_LOSSY"


def test_atk_007_required_locktime_enters_the_transaction() -> None:
    """A locktime that an input demands is in the transaction that we judge: it is not signed as 0."""
    fields = (*V2.inputs[0].fields, Field(bytes([IN_HEIGHT_LOCKTIME]), (700_000).to_bytes(4, "little")))
    locked = parse(serialize(replace(V2, inputs=(PsbtInput(fields), *V2.inputs[1:]))))
    assert locked.transaction.locktime == 700_000
    assert locked.transaction.txid != V0.transaction.txid


@pytest.mark.parametrize("kind", [0x02, 0x04, 0x05])
def test_atk_008_missing_global_field_of_version_2_is_refused(kind: int) -> None:
    """Without transaction version or counts there is no transaction."""
    fields = tuple(f for f in V2.globals.fields if f.key != bytes([kind]))
    assert _code(replace(V2, globals=FieldMap(fields))) == "FIELD_REQUIRED"


@pytest.mark.parametrize("kind", [0x0E, 0x0F])
def test_atk_008_missing_input_field_of_version_2_is_refused(kind: int) -> None:
    """Without txid or output index an input spends nothing."""
    fields = tuple(f for f in V2.inputs[0].fields if f.key != bytes([kind]))
    assert _code(replace(V2, inputs=(PsbtInput(fields), *V2.inputs[1:]))) == "FIELD_REQUIRED"


@pytest.mark.parametrize("kind", [0x03, 0x04])
def test_atk_008_missing_output_field_of_version_2_is_refused(kind: int) -> None:
    """Without amount or script an output pays nothing."""
    fields = tuple(f for f in V2.outputs[0].fields if f.key != bytes([kind]))
    assert _code(replace(V2, outputs=(PsbtOutput(fields), *V2.outputs[1:]))) == "FIELD_REQUIRED"


@pytest.mark.parametrize(("kind", "count"), [(0x04, 0xFFFFFFFF), (0x05, 0xFFFFFFFF), (0x04, 30_000)])
def test_atk_013_false_counts_are_refused_before_anything_is_made(kind: int, count: int) -> None:
    """A count of 2^32 - 1, above what fits a transaction, or above what is there, is refused at once."""
    value = count.to_bytes(1, "little") if count < 0xFD else b"\xfe" + count.to_bytes(4, "little")
    fields = tuple(Field(f.key, value) if f.key == bytes([kind]) else f for f in V2.globals.fields)
    with pytest.raises(MalformedError) as caught:
        parse(serialize(replace(V2, globals=FieldMap(fields))))
    assert caught.value.code in {"COUNT_TOO_LARGE", "FIELD_REQUIRED", "TRUNCATED", "NOT_MINIMAL"}


def _with_global(psbt: Psbt, field: Field) -> Psbt:
    return replace(psbt, globals=FieldMap((*psbt.globals.fields, field)))


def _code(psbt: Psbt) -> str:
    with pytest.raises(MalformedError) as caught:
        parse(serialize(psbt))
    return caught.value.code
