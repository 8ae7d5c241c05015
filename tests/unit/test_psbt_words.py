"""The codec word for word: each refusal of `parse` and `from_base64`, each bound at both of its sides."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from custody.errors import MalformedError
from custody.psbt import MAGIC, MAX_BASE64_CHARS, convert, from_base64, parse, serialize
from custody.psbt_fields import MAX_PSBT_BYTES, Field, FieldMap
from custody.psbt_v2 import is_modifiable, v0_maps, v2_maps
from custody.reader import compact_size, sized
from custody.transaction import OutPoint, Transaction, TxIn, TxOut
from custody.units import MAX_MONEY_SATS, Sats
from tests.fakes.psbts import BOOK, Pair

PUBKEYS = BOOK.script(0, 0).pubkeys
PREVIOUS = Transaction(2, (TxIn(OutPoint(bytes(32), 0), b"\x51"),), (TxOut(Sats(5), b"a"), TxOut(Sats(6), b"bc")))
SMALL = Transaction(2, (TxIn(OutPoint(PREVIOUS.txid, 1)),), (TxOut(Sats(1), b""),), 258)
GLOBALS: list[Pair] = [(b"\0", SMALL.serialize_stripped())]
GLOBALS_V2: list[Pair] = [
    (b"\x02", b"\x02\0\0\0"),
    (b"\x03", b"\x02\x01\0\0"),
    (b"\x04", b"\x01"),
    (b"\x05", b"\x01"),
    (b"\xfb", b"\x02\0\0\0"),
]
INPUT_V2: list[Pair] = [(b"\x0e", PREVIOUS.txid), (b"\x0f", b"\x01\0\0\0"), (b"\x10", b"\xfd\xff\xff\xff")]
OUTPUT_V2: list[Pair] = [(b"\x03", b"\x01" + bytes(7)), (b"\x04", b"")]


def psbt_of(*maps: list[Pair]) -> bytes:
    """Return the bytes of maps, whatever they say."""
    return MAGIC + b"".join(b"".join(sized(key) + sized(value) for key, value in found) + b"\0" for found in maps)


def with_pair(pairs: list[Pair], key: bytes, value: bytes | None) -> list[Pair]:
    """Return `pairs` with `key` set in its place, added at the end, or left out where `value` is None."""
    kept = [(k, v if k != key else value) for k, v in pairs]
    if all(k != key for k, _ in pairs):
        kept.append((key, value))
    return [(k, v) for k, v in kept if v is not None]


def v2(global_key: bytes = b"", value: bytes | None = None) -> bytes:
    """Return the small PSBT of version 2 with one global field changed or left out."""
    return psbt_of(with_pair(GLOBALS_V2, global_key, value) if global_key else GLOBALS_V2, INPUT_V2, OUTPUT_V2)


def v2_input(*changes: tuple[bytes, bytes | None]) -> bytes:
    """Return the small PSBT of version 2 with fields of its input changed or left out."""
    pairs = INPUT_V2
    for key, value in changes:
        pairs = with_pair(pairs, key, value)
    return psbt_of(GLOBALS_V2, pairs, OUTPUT_V2)


def v2_two(first: list[Pair], second: list[Pair]) -> bytes:
    """Return a PSBT of version 2 with two inputs that have these fields more."""
    return psbt_of(with_pair(GLOBALS_V2, b"\x04", b"\x02"), INPUT_V2 + first, INPUT_V2 + second, OUTPUT_V2)


V0 = psbt_of(GLOBALS, [], [])
TWICE: list[Pair] = [(b"\x77", b"1"), (b"\x77", b"2")]
SCRIPT_SIG = replace(SMALL, inputs=(replace(SMALL.inputs[0], script_sig=b"\x51"),))
SIGNED = replace(SMALL, inputs=(replace(SMALL.inputs[0], witness=(b"a",)),))
OTHER = replace(PREVIOUS, locktime=1)
SHORT = replace(PREVIOUS, outputs=PREVIOUS.outputs[:1])
TO_SHORT = replace(SMALL, inputs=(TxIn(OutPoint(SHORT.txid, 1)),))

REFUSED: dict[str, tuple[bytes, str]] = {
    "one byte above 2 MiB": (
        bytes(MAX_PSBT_BYTES + 1),
        "PSBT_TOO_LARGE: expected at most 2097152 bytes, found 2097153 (at byte 0)",
    ),
    "2 MiB of zeros": (bytes(MAX_PSBT_BYTES), "PSBT_MAGIC: expected the PSBT magic (at byte 0)"),
    "another magic": (b"psbt\xfe" + V0[5:], "PSBT_MAGIC: expected the PSBT magic (at byte 0)"),
    "nothing": (b"", "PSBT_MAGIC: expected the PSBT magic (at byte 0)"),
    "the magic alone": (MAGIC, "TRUNCATED: expected 1 more bytes, found 0 (at byte 5)"),
    "no transaction": (MAGIC + b"\0", "TX_MISSING: expected an unsigned transaction (at byte 5)"),
    "a scriptSig": (
        psbt_of([(b"\0", SCRIPT_SIG.serialize())], [], []),
        "TX_NOT_UNSIGNED: expected no scriptSig and no witness form (at byte 8)",
    ),
    "a witness": (
        psbt_of([(b"\0", SIGNED.serialize())], [], []),
        "TX_NOT_UNSIGNED: expected no scriptSig and no witness form (at byte 8)",
    ),
    "a transaction that is cut": (
        psbt_of([(b"\0", SMALL.serialize()[:-1])], [], []),
        "TRUNCATED: expected 4 more bytes, found 3 (at byte 64)",
    ),
    "version 1": (
        psbt_of([*GLOBALS, (b"\xfb", b"\x01\0\0\0")], [], []),
        "PSBT_VERSION: expected version 0 or 2, found 1 (at byte 71)",
    ),
    "version 3": (
        psbt_of([*GLOBALS, (b"\xfb", b"\x03\0\0\0")], [], []),
        "PSBT_VERSION: expected version 0 or 2, found 3 (at byte 71)",
    ),
    "version 2 in the last byte": (
        psbt_of([*GLOBALS, (b"\xfb", b"\0\0\0\x02")], [], []),
        "PSBT_VERSION: expected version 0 or 2, found 33554432 (at byte 71)",
    ),
    "a global field of version 2": (
        psbt_of([*GLOBALS, (b"\x04", b"\x01")], [], []),
        "V2_FIELD: expected no version 2 global field 0x04 in version 0 (at byte 71)",
    ),
    "an input field of version 2": (
        psbt_of(GLOBALS, [(b"\x10", bytes(4))], []),
        "V2_FIELD: expected no version 2 input field 0x10 in version 0 (at byte 69)",
    ),
    "a global key twice": (
        psbt_of([*GLOBALS, *TWICE], [], []),
        "DUPLICATE_KEY: expected each key once in the global map (at byte 72)",
    ),
    "an input key twice": (
        psbt_of(GLOBALS, TWICE, []),
        "DUPLICATE_KEY: expected each key once in the input map (at byte 73)",
    ),
    "an output key twice": (
        psbt_of(GLOBALS, [], TWICE),
        "DUPLICATE_KEY: expected each key once in the output map (at byte 74)",
    ),
    "a map too few": (V0[:-1], "COUNT_TOO_LARGE: expected counts that fit into 1 bytes (at byte 69)"),
    "a map too many": (V0 + b"\0", "TRAILING_BYTES: expected the end, found 1 more bytes (at byte 71)"),
    "a value that is cut": (
        psbt_of(GLOBALS, [(b"\x77", bytes(9))], [])[:-3],
        "TRUNCATED: expected 9 more bytes, found 8 (at byte 72)",
    ),
    "another previous transaction": (
        psbt_of(GLOBALS, [(b"\0", OTHER.serialize())], []),
        f"PREVIOUS_MISMATCH: expected the transaction of {SMALL.inputs[0].outpoint} (at byte 72)",
    ),
    "a previous transaction without that output": (
        psbt_of([(b"\0", TO_SHORT.serialize())], [(b"\0", SHORT.serialize())], []),
        f"PREVIOUS_MISMATCH: expected the transaction of {TO_SHORT.inputs[0].outpoint} (at byte 72)",
    ),
    "a previous transaction with a tail": (
        psbt_of(GLOBALS, [(b"\0", PREVIOUS.serialize() + b"\0")], []),
        "TRAILING_BYTES: expected the end, found 1 more bytes (at byte 145)",
    ),
    "an unsigned transaction in version 2": (
        psbt_of([*GLOBALS, *GLOBALS_V2], INPUT_V2, OUTPUT_V2),
        "V0_FIELD: expected no unsigned transaction in version 2 (at byte 8)",
    ),
    "no transaction version": (v2(b"\x02"), "FIELD_REQUIRED: expected field 0x02 in version 2 (at byte 28)"),
    "no input count": (v2(b"\x04"), "FIELD_REQUIRED: expected field 0x04 in version 2 (at byte 31)"),
    "no output count": (v2(b"\x05"), "FIELD_REQUIRED: expected field 0x05 in version 2 (at byte 31)"),
    "no txid": (v2_input((b"\x0e", None)), "FIELD_REQUIRED: expected field 0x0e in version 2 (at byte 65)"),
    "no output index": (v2_input((b"\x0f", None)), "FIELD_REQUIRED: expected field 0x0f in version 2 (at byte 93)"),
    "no amount": (
        psbt_of(GLOBALS_V2, INPUT_V2, OUTPUT_V2[1:]),
        "FIELD_REQUIRED: expected field 0x03 in version 2 (at byte 89)",
    ),
    "no script": (
        psbt_of(GLOBALS_V2, INPUT_V2, OUTPUT_V2[:1]),
        "FIELD_REQUIRED: expected field 0x04 in version 2 (at byte 97)",
    ),
    "more than all money": (
        psbt_of(GLOBALS_V2, INPUT_V2, [(b"\x03", (MAX_MONEY_SATS + 1).to_bytes(8, "little")), OUTPUT_V2[1]]),
        "AMOUNT_OUT_OF_RANGE: expected at most 2100000000000000 sats (at byte 88)",
    ),
    "no inputs": (v2(b"\x04", b"\0"), "NO_INPUTS: expected at least one input (at byte 22)"),
    "no outputs": (v2(b"\x05", b"\0"), "NO_OUTPUTS: expected at least one output (at byte 26)"),
    "24,391 inputs": (
        v2(b"\x04", compact_size(24_391)),
        "COUNT_TOO_LARGE: expected at most 24390, found 24391 (at byte 22)",
    ),
    "24,390 inputs": (
        v2(b"\x04", compact_size(24_390)),
        "COUNT_TOO_LARGE: expected counts that fit into 65 bytes (at byte 37)",
    ),
    "111,112 outputs": (
        v2(b"\x05", compact_size(111_112)),
        "COUNT_TOO_LARGE: expected at most 111111, found 111112 (at byte 26)",
    ),
    "111,111 outputs": (
        v2(b"\x05", compact_size(111_111)),
        "COUNT_TOO_LARGE: expected counts that fit into 65 bytes (at byte 39)",
    ),
    "a count with a tail": (
        v2(b"\x04", b"\x01\0"),
        "TRAILING_BYTES: expected the end, found 1 more bytes (at byte 23)",
    ),
    "a height and a time": (
        v2_two([(b"\x12", b"\x07\0\0\0")], [(b"\x11", (500_000_000).to_bytes(4, "little"))]),
        "LOCKTIME_CONFLICT: expected one kind of locktime that every input accepts (at byte 164)",
    ),
}


def said(raw: bytes) -> str:
    """Return the refusal of `raw` as people read it, or OK where it is read and written back."""
    try:
        return "OK" if serialize(parse(raw)) == raw else "OTHER BYTES"
    except MalformedError as error:
        return str(error)


@pytest.mark.parametrize("name", REFUSED)
def test_parse_given_one_lie_says_what_was_expected_and_where(name: str) -> None:
    """One valid PSBT, one change, one refusal word for word."""
    raw, expected = REFUSED[name]
    assert said(V0) == said(v2()) == "OK"
    assert said(raw) == expected


def test_parse_given_counts_that_just_fit_reads_them() -> None:
    """Each map is at least its end mark."""
    assert len(parse(V0).inputs) == len(parse(V0).outputs) == 1
    assert said(psbt_of([*GLOBALS, (b"\xfb", bytes(4))], [], [])) == "OK"


def test_parse_given_version_2_puts_the_transaction_together() -> None:
    """Field by field; an omitted sequence is final, an omitted fallback locktime 0 (BIP-370)."""
    found = parse(v2())
    assert (found.version, found.transaction) == (2, SMALL)
    assert parse(V0).version == 0
    assert parse(v2_input((b"\x10", None))).transaction.inputs[0].sequence == 0xFFFFFFFF
    assert parse(v2(b"\x03")).transaction.locktime == 0
    assert parse(v2(b"\x02", b"\x01\x02\0\0")).transaction.version == 513
    most = [(b"\x03", MAX_MONEY_SATS.to_bytes(8, "little")), (b"\x04", b"ab")]
    assert parse(psbt_of(GLOBALS_V2, INPUT_V2, most)).transaction.outputs == (TxOut(Sats(MAX_MONEY_SATS), b"ab"),)


def height(value: int) -> Pair:
    """Return a required height."""
    return b"\x12", value.to_bytes(4, "little")


def time(value: int) -> Pair:
    """Return a required time."""
    return b"\x11", value.to_bytes(4, "little")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([], [], 258),
        ([height(10)], [], 10),
        ([height(10)], [height(11)], 11),
        ([height(11)], [height(10)], 11),
        ([time(500_000_000)], [], 500_000_000),
        ([time(500_000_000)], [time(500_000_009)], 500_000_009),
        ([height(10), time(500_000_000)], [height(9)], 10),
        ([height(10), time(500_000_000)], [time(500_000_001)], 500_000_001),
        ([height(10), time(500_000_000)], [height(12), time(500_000_001)], 12),
    ],
)
def test_parse_given_required_locktimes_takes_the_one_that_all_accept(
    first: list[Pair], second: list[Pair], expected: int
) -> None:
    """A height where both kinds would do, the highest that is asked for (BIP-370)."""
    other = with_pair(INPUT_V2, b"\x0f", bytes(4))
    globals_ = with_pair(GLOBALS_V2, b"\x04", b"\x02")
    raw = psbt_of(globals_, INPUT_V2 + first, other + second, OUTPUT_V2)

    assert parse(raw).transaction.locktime == expected


BASE64 = base64.b64encode(V0).decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A" * (MAX_BASE64_CHARS + 1), "PSBT_TOO_LARGE: expected at most 2796204 characters, found 2796205"),
        (BASE64 + "!", "PSBT_BASE64: expected strict base64"),
        (BASE64[:-1], "PSBT_BASE64: expected strict base64"),
        ("\xe9" + BASE64[1:], "PSBT_BASE64: expected strict base64"),
        (BASE64[:8] + "\n" + BASE64[8:], "PSBT_BASE64: expected strict base64"),
        ("AB==", "PSBT_BASE64: expected the one base64 spelling of these bytes"),
    ],
)
def test_from_base64_given_another_spelling_says_why(text: str, expected: str) -> None:
    """Size first, then the alphabet, then loose bits."""
    with pytest.raises(MalformedError) as raised:
        from_base64(text)
    assert str(raised.value) == expected


def test_from_base64_given_its_own_spelling_returns_the_bytes_up_to_the_longest() -> None:
    """The longest text is that of 2 MiB."""
    assert from_base64(BASE64) == V0
    assert from_base64("A" * MAX_BASE64_CHARS) == bytes(MAX_BASE64_CHARS // 4 * 3)


def pairs_of(found: FieldMap) -> list[Pair]:
    """Return keys and values, in order."""
    return [(field.key, field.value) for field in found.fields]


WIDE = Transaction(258, (TxIn(OutPoint(PREVIOUS.txid, 1), b"", 0x01020304),), (TxOut(Sats(770), b"xyz"),), 1_000)
KEPT: list[Pair] = [(b"\x77", b"kept")]


def test_convert_to_version_2_writes_each_field() -> None:
    """What other fields there were, then those of BIP-370, then the version."""
    ours = parse(psbt_of([(b"\0", WIDE.serialize()), *KEPT, (b"\xfb", bytes(4))], KEPT, KEPT))

    found = convert(ours, 2)

    assert pairs_of(found.globals) == [
        *KEPT,
        (b"\x02", b"\x02\x01\0\0"),
        (b"\x03", b"\xe8\x03\0\0"),
        (b"\x04", b"\x01"),
        (b"\x05", b"\x01"),
        (b"\xfb", b"\x02\0\0\0"),
    ]
    assert [pairs_of(one) for one in found.inputs] == [
        [*KEPT, (b"\x0e", PREVIOUS.txid), (b"\x0f", b"\x01\0\0\0"), (b"\x10", b"\x04\x03\x02\x01")]
    ]
    assert [pairs_of(one) for one in found.outputs] == [[*KEPT, (b"\x03", b"\x02\x03" + bytes(6)), (b"\x04", b"xyz")]]
    assert (found.version, found.transaction) == (2, WIDE)
    assert found == replace(parse(serialize(found)), globals=found.globals, inputs=found.inputs, outputs=found.outputs)
    assert serialize(convert(found, 0)) == psbt_of([(b"\0", WIDE.serialize()), *KEPT], KEPT, KEPT)
    assert convert(found, 0).version == 0


def test_convert_to_its_own_version_returns_the_same() -> None:
    """Nothing is written anew."""
    for raw in (V0, v2()):
        ours = parse(raw)
        assert convert(ours, ours.version) is ours


@pytest.mark.parametrize(
    "raw",
    [
        psbt_of([*GLOBALS_V2, (b"\x06", b"\x01")], INPUT_V2, OUTPUT_V2),
        v2_input(height(1)),
        v2_input(time(500_000_000)),
        v2_two([], [height(1)]),
    ],
)
def test_convert_given_what_version_0_cannot_say_refuses(raw: bytes) -> None:
    """A flag, a height, a time, on any input."""
    with pytest.raises(MalformedError) as raised:
        convert(parse(raw), 0)
    assert str(raised.value) == "CONVERT_LOSSY: expected no modifiable flag and no required locktime"


def test_v2_maps_given_another_number_of_maps_breaks() -> None:
    """A map for each input and output, or nothing."""
    empty = FieldMap(())
    for inputs, outputs in (([], [empty]), ([empty], []), ([empty, empty], [empty]), ([empty], [empty, empty])):
        with pytest.raises(ValueError, match="zip"):
            v2_maps(SMALL, empty, inputs, outputs)
    assert len(v0_maps(SMALL, empty, [empty], [empty])) == 3


@pytest.mark.parametrize(("flags", "expected"), [(None, False), (b"\0", False), (b"\x01", True), (b"\x80", True)])
def test_is_modifiable_given_flags_says_whether_any_is_set(flags: bytes | None, expected: bool) -> None:
    """Undefined ones too."""
    fields = () if flags is None else (Field(b"\x06", flags),)
    assert is_modifiable(FieldMap(fields)) is expected
