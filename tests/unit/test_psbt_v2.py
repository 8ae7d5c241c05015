"""PSBT version 2 beside version 0: the same transaction, the same facts, lossless conversion or a refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from custody.errors import MalformedError
from custody.facts import Facts, ShapeLimits, read_facts
from custody.psbt import Psbt, convert, parse, serialize
from custody.psbt_fields import MAX_SCRIPT_BYTES
from custody.psbt_v2 import MAX_OUTPUTS
from custody.signatures import accept, from_foreign_psbt, with_signatures
from custody.transaction import TxOut
from custody.units import Sats
from tests.fakes.psbts import RawPsbt, put
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


@pytest.mark.parametrize(("ours", "version"), [(V0, 2), (V2, 0)])
def test_from_foreign_psbt_given_the_other_version_takes_its_signatures(ours: Psbt, version: int) -> None:
    """A device may answer a version 0 session with version 2 and the reverse."""
    signatures = SPEND.signatures("beta")
    answer = serialize(convert(with_signatures(ours, signatures), version))
    assert from_foreign_psbt(ours, answer) == signatures
    facts = SPEND.facts()
    assert accept(ours, facts, WORLD.book, signatures).signed == {1}


@pytest.mark.parametrize(
    "outputs", [(TxOut(Sats(1), b"\x51" * (MAX_SCRIPT_BYTES + 1)),), (TxOut(Sats(1), b""),) * (MAX_OUTPUTS + 1)]
)
def test_convert_given_what_version_2_has_no_room_for_refuses(outputs: tuple[TxOut, ...]) -> None:
    """A script or a number of outputs that a transaction may have and our reader of version 2 refuses."""
    raw = RawPsbt.of(V0)
    put(raw.globals, b"\0", replace(V0.transaction, outputs=outputs).serialize_stripped())
    raw.outputs = [[] for _ in outputs]
    psbt = parse(raw.to_bytes())

    with pytest.raises(MalformedError) as caught:
        convert(psbt, 2)

    assert caught.value.code == "CONVERT_LOSSY"
