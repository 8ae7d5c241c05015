"""Maps of a PSBT as values: built or read, fast or strict, they say the same; and what an input proves of its coin."""

from __future__ import annotations

import pytest

from custody import psbt_skim
from custody.errors import MalformedError
from custody.psbt import MAGIC, PsbtInput, PsbtOutput, parse
from custody.psbt_fields import Field, FieldMap
from custody.psbt_skim import Known, skim_transaction
from custody.reader import sized
from custody.transaction import OutPoint, Transaction, TxIn, TxOut
from custody.units import Sats
from tests.fakes.psbts import BOOK, Pair, RawPsbt, coin, valid

PUBKEYS = BOOK.script(0, 0).pubkeys
FIELDS = (Field(b"\x03", bytes(4)), Field(b"\x77a", b"x" * 253), Field(b"\x77b", b""))
RAW = b"\x01\x03\x04" + bytes(4) + b"\x02\x77a\xfd\xfd\x00" + b"x" * 253 + b"\x02\x77b\x00\x00"


def skimmed(before: bytes = b"", behind: bytes = b"") -> FieldMap:
    """Return the map of FIELDS as the fast reader hands it over, with other bytes around it."""
    values = {field.key: field.value for field in FIELDS}
    source = before + RAW + behind
    return FieldMap.skimmed(source, len(before), (values, 1 << 3 | 1 << 0x77, b"hint", len(before) + len(RAW)))


def test_field_map_given_fields_knows_values_kinds_and_bytes() -> None:
    """Built by us: no hint, no offsets."""
    found = FieldMap(FIELDS)

    assert (found.fields, found.hint, found.kinds) == (FIELDS, b"", 1 << 3 | 1 << 0x77)
    assert found.values == {b"\x03": bytes(4), b"\x77a": b"x" * 253, b"\x77b": b""}
    assert found.serialize() == RAW
    assert FieldMap(()).serialize() == b"\0"
    assert FieldMap(()).kinds == 0


def test_field_map_given_what_the_fast_reader_read_makes_its_fields_when_asked() -> None:
    """With the offset of each value in the PSBT; bytes around it are not its own."""
    found = skimmed(b"1234567", b"more")

    assert found.serialize() == RAW
    assert found.hint == b"hint"
    assert found.kinds == 1 << 3 | 1 << 0x77
    assert [(field.key, field.value, field.offset) for field in found.fields] == [
        (b"\x03", bytes(4), 10),
        (b"\x77a", b"x" * 253, 20),
        (b"\x77b", b"", 277),
    ]
    assert found.fields is found.fields


def test_field_map_given_types_returns_one_all_or_none() -> None:
    """`one` and `value` are for types without key data; `all` for every field of a type."""
    for found in (FieldMap(FIELDS), skimmed()):
        one = found.one(3)
        assert one is not None
        assert (one.key, one.value) == (b"\x03", bytes(4))
        assert found.one(0x77) is found.one(4) is None
        assert found.value(3) == bytes(4)
        assert found.value(0x77) is found.value(4) is None
        assert [field.key for field in found.all(0x77)] == [b"\x77a", b"\x77b"]
        assert [field.key for field in found.all(3)] == [b"\x03"]
        assert found.all(4) == found.all(2) == found.all(0x76) == ()


def test_field_maps_are_equal_where_kind_and_fields_are() -> None:
    """An input's map is no output's; offsets count, so a map that was read is not one that was built."""
    found, same, other = FieldMap(FIELDS), FieldMap(list(FIELDS)), FieldMap(FIELDS[1:])

    assert found == same
    assert hash(found) == hash(same) == hash(FIELDS)
    assert hash(found) != hash(other)
    assert found != other
    assert found != PsbtInput(FIELDS)
    assert PsbtInput(FIELDS) != PsbtOutput(FIELDS)
    assert PsbtInput(FIELDS) != found
    assert found != FIELDS
    assert found != skimmed()
    assert skimmed(b"12") == skimmed(b"12", b"3")


def test_parse_given_unusual_fields_among_usual_ones_reads_all_of_them() -> None:
    """The fast reader leaves a map to the strict one and goes on behind it: the same fields and offsets."""
    raw = RawPsbt.of(valid())
    raw.inputs[0].insert(0, (b"\xfc\x01a\x00", b"strict"))
    bytes_ = raw.to_bytes()
    found = parse(bytes_, BOOK.known)

    assert [[(f.key, f.value) for f in one.fields] for one in found.inputs] == raw.inputs
    assert [[(f.key, f.value) for f in one.fields] for one in found.outputs] == raw.outputs
    assert all(bytes_[f.offset :].startswith(f.value) for one in (*found.inputs, *found.outputs) for f in one.fields)
    assert found.inputs[0].hint == b""
    assert parse(bytes_).inputs[1].hint == next(value for key, value in raw.inputs[1] if key[0] == 6)
    assert [type(one) for one in (*found.inputs, *found.outputs)] == [PsbtInput] * 2 + [PsbtOutput] * 2


def test_parse_given_known_points_does_not_ask_the_curve() -> None:
    """What we derived needs no proof; without it, what is no point is refused."""
    off_curve = b"\x02" + b"\xff" * 32
    raw = RawPsbt.of(valid())
    raw.inputs[1].append((b"\x06" + off_curve, bytes(12)))
    raw.outputs[0].append((b"\x02" + off_curve, bytes(12)))

    points = {off_curve, *(key[1:] for one in (*raw.inputs, *raw.outputs) for key, _ in one if len(key) == 34)}
    assert len(parse(raw.to_bytes(), Known(points)).inputs) == 2
    with pytest.raises(MalformedError, match="PUBKEY"):
        parse(raw.to_bytes())


FIRST, SECOND = coin(1), coin(2)
ONE_OUTPUT = TxOut(Sats(1), b"")


def proven(*inputs: tuple[OutPoint, bytes | None]) -> list[TxOut | None] | str:
    """Return what each input of a PSBT is proven to spend, or the code of the refusal."""
    unsigned = Transaction(2, tuple(TxIn(outpoint) for outpoint, _ in inputs), (ONE_OUTPUT,))
    maps: list[list[Pair]] = [[(b"\0", unsigned.serialize())]]
    maps += [[] if raw is None else [(b"\0", raw)] for _, raw in inputs] + [[]]
    raw = MAGIC + b"".join(b"".join(sized(key) + sized(value) for key, value in found) + b"\0" for found in maps)
    try:
        found = parse(raw)
    except MalformedError as error:
        return error.code
    return [said.spends(outpoint) for said, (outpoint, _) in zip(found.inputs, inputs, strict=True)]


FIRST_RAW, SECOND_RAW = FIRST.previous.serialize(), SECOND.previous.serialize()
FIRST_OUTPUTS, SECOND_OUTPUTS = FIRST.previous.outputs, SECOND.previous.outputs


def place(txid: bytes, vout: int) -> OutPoint:
    """Return an outpoint."""
    return OutPoint(txid, vout)


A, B = FIRST.outpoint.txid, SECOND.outpoint.txid


def test_parse_given_previous_transactions_proves_what_each_input_spends() -> None:
    """Amount and script of the output that it names; nothing where no previous transaction is there."""
    assert proven((place(A, 1), FIRST_RAW)) == [FIRST_OUTPUTS[1]]
    assert proven((place(A, 0), FIRST_RAW), (place(A, 1), FIRST_RAW)) == list(FIRST_OUTPUTS)
    assert proven((place(A, 1), FIRST_RAW), (place(B, 0), SECOND_RAW)) == [FIRST_OUTPUTS[1], SECOND_OUTPUTS[0]]
    assert proven((place(A, 1), None), (place(B, 0), SECOND_RAW)) == [None, SECOND_OUTPUTS[0]]
    assert proven((place(A, 1), FIRST_RAW), (place(A, 0), None)) == [FIRST_OUTPUTS[1], None]


def test_parse_given_a_previous_transaction_of_another_outpoint_refuses() -> None:
    """Another txid, another transaction under a txid that was proven before, an output that it has not."""
    assert proven((place(B, 1), FIRST_RAW)) == "PREVIOUS_MISMATCH"
    assert proven((place(A, 2), FIRST_RAW)) == "PREVIOUS_MISMATCH"
    assert proven((place(A, 1), FIRST_RAW), (place(A, 2), FIRST_RAW)) == "PREVIOUS_MISMATCH"
    assert proven((place(A, 1), FIRST_RAW), (place(A, 0), SECOND_RAW)) == "PREVIOUS_MISMATCH"
    assert proven((place(A, 1), FIRST_RAW), (place(B, 1), FIRST_RAW)) == "PREVIOUS_MISMATCH"


def test_parse_given_a_previous_transaction_that_the_fast_reader_leaves_is_judged_strictly() -> None:
    """A script of 253 bytes has a longer length; it is proven all the same."""
    wide = Transaction(2, (TxIn(OutPoint(bytes(32), 0), b"\x51"),), (ONE_OUTPUT, TxOut(Sats(9), bytes(253))))
    raw = wide.serialize()

    assert proven((place(wide.txid, 1), raw)) == [wide.outputs[1]]
    assert proven((place(wide.txid, 0), raw), (place(wide.txid, 1), raw)) == list(wide.outputs)
    assert proven((place(wide.txid, 2), raw)) == "PREVIOUS_MISMATCH"
    assert proven((place(A, 1), raw)) == "PREVIOUS_MISMATCH"


def test_prove_given_inputs_of_one_transaction_hashes_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second input finds it among the earlier ones; other bytes under the txid are hashed."""
    read: list[bytes] = []

    def spy(raw: bytes, at: int, end: int) -> tuple[bytes, list[int]] | None:
        read.append(raw)
        return skim_transaction(raw, at, end)

    monkeypatch.setattr(psbt_skim, "skim_transaction", spy)

    assert proven((place(A, 1), FIRST_RAW), (place(A, 0), FIRST_RAW)) == [FIRST_OUTPUTS[1], FIRST_OUTPUTS[0]]
    assert read == [FIRST_RAW]
    assert proven((place(A, 1), FIRST_RAW), (place(A, 0), SECOND_RAW)) == "PREVIOUS_MISMATCH"
    assert read == [FIRST_RAW, FIRST_RAW, SECOND_RAW]


def test_spent_given_an_outpoint_answers_for_that_one_alone() -> None:
    """Proven by `parse` or not: another outpoint of the same transaction is looked up, a foreign one is nothing."""
    built = PsbtInput((Field(b"\0", FIRST_RAW),))
    read = PsbtInput((Field(b"\0", FIRST_RAW),))
    assert read.prove(place(A, 1), {})

    for found in (built, read):
        assert found.spent(place(A, 1)) == FIRST_OUTPUTS[1].serialize()
        assert found.spent(place(A, 0)) == FIRST_OUTPUTS[0].serialize()
        assert found.spent(place(A, 2)) is None
        assert found.spent(place(B, 1)) is None
        assert found.spends(place(A, 1)) == FIRST_OUTPUTS[1]
        assert found.spends(place(B, 1)) is None
    assert PsbtInput(()).spent(place(A, 1)) is None
    assert PsbtInput(()).prove(place(A, 1), {})
