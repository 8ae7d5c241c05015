"""PSBT version 2 beside version 0: the same transaction, the same facts, lossless conversion or a refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from custody.errors import MalformedError, Refused
from custody.facts import Facts, ShapeLimits, read_facts
from custody.psbt import Psbt, convert, parse, serialize
from custody.psbt_fields import GLOBAL_MODIFIABLE, IN_HEIGHT_LOCKTIME, Field, FieldMap
from custody.signatures import accept, from_foreign_psbt, with_signatures
from tests.world import World, make_genesis

WORLD = World(make_genesis())
SPEND = WORLD.spend(WORLD.withdrawal(), [WORLD.coin(0), WORLD.coin(1)])
V0 = parse(SPEND.psbt)
V2 = parse(serialize(convert(V0, 2)))


def test_convert_there_and_back_gives_the_same_bytes() -> None:
    """Version 2 of our PSBT says the same, and version 0 of that is the PSBT we began with, byte for byte."""
    assert V2.version == 2
    assert V2.transaction == V0.transaction
    assert serialize(convert(V2, 0)) == SPEND.psbt
    assert serialize(parse(serialize(V2))) == serialize(V2)


def test_read_facts_given_either_version_finds_the_same() -> None:
    """Facts come from the transaction and the previous ones, whatever the version."""
    facts = read_facts(V2, WORLD.book, ShapeLimits())
    assert isinstance(facts, Facts)
    assert facts == read_facts(V0, WORLD.book, ShapeLimits())


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
    locked = parse(serialize(replace(V2, inputs=(replace(V2.inputs[0], fields=fields), *V2.inputs[1:]))))
    assert locked.transaction.locktime == 700_000
    assert locked.transaction.txid != V0.transaction.txid


@pytest.mark.parametrize(("ours", "version"), [(V0, 2), (V2, 0)])
def test_from_foreign_psbt_given_the_other_version_takes_its_signatures(ours: Psbt, version: int) -> None:
    """A device may answer a version 0 session with version 2 and the reverse."""
    signatures = SPEND.signatures("beta")
    answer = serialize(convert(with_signatures(ours, signatures), version))
    assert from_foreign_psbt(ours, answer) == signatures
    facts = SPEND.facts()
    assert accept(ours, facts, WORLD.book, signatures).signed == {1}


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
