"""Transactions: strict parsing, one form, txid and weight as libwally has them; outpoints as text."""

from __future__ import annotations

from dataclasses import replace

import pytest
import wallycore as wally
from hypothesis import given
from hypothesis import strategies as st

from custody.errors import MalformedError
from custody.reader import Reader, compact_size
from custody.transaction import MAX_TRANSACTION_BYTES, OutPoint, Transaction, TxIn, TxOut, parse_transaction
from custody.units import MAX_MONEY_SATS, Sats

OUTPOINT = OutPoint(bytes(range(32)), 7)
PLAIN = Transaction(2, (TxIn(OUTPOINT, b"\x51"),), (TxOut(Sats(1_000), b"\x00\x14" + bytes(20)),), 500)
SIGNED = replace(PLAIN, inputs=(replace(PLAIN.inputs[0], witness=(b"", b"\x01" * 71)), TxIn(OutPoint(bytes(32), 1))))

BYTES = st.binary(max_size=40)
INPUTS = st.builds(
    TxIn,
    st.builds(OutPoint, st.binary(min_size=32, max_size=32), st.integers(0, 2**32 - 1)),
    BYTES,
    st.integers(0, 2**32 - 1),
    st.lists(BYTES, max_size=3).map(tuple),
)
OUTPUTS = st.builds(TxOut, st.integers(0, MAX_MONEY_SATS).map(Sats), BYTES)
TRANSACTIONS = st.builds(
    Transaction,
    st.integers(0, 2**32 - 1),
    st.lists(INPUTS, min_size=1, max_size=4).map(tuple),
    st.lists(OUTPUTS, min_size=1, max_size=4).map(tuple),
    st.integers(0, 2**32 - 1),
)


def code_of(raw: bytes) -> str:
    """Return the code with which `raw` is refused, or OK."""
    try:
        parse_transaction(raw)
    except MalformedError as error:
        return error.code
    return "OK"


@given(TRANSACTIONS)
def test_parse_transaction_given_what_was_serialised_returns_it(transaction: Transaction) -> None:
    """With and without witnesses; the txid is of the form without them."""
    assert parse_transaction(transaction.serialize()) == transaction
    assert parse_transaction(transaction.serialize_stripped()).txid == transaction.txid
    assert transaction.unsigned() == replace(
        transaction, inputs=tuple(replace(txin, script_sig=b"", witness=()) for txin in transaction.inputs)
    )


@pytest.mark.parametrize("transaction", [PLAIN, SIGNED])
def test_transaction_is_what_libwally_says(transaction: Transaction) -> None:
    """Txid, weight and virtual size by another implementation."""
    theirs = wally.tx_from_bytes(transaction.serialize(), wally.WALLY_TX_FLAG_USE_WITNESS)

    assert bytes(wally.tx_get_txid(theirs)) == transaction.txid
    assert transaction.txid_hex == transaction.txid[::-1].hex()
    assert wally.tx_get_weight(theirs) == transaction.weight
    assert wally.tx_get_vsize(theirs) == transaction.vsize_vb


@given(st.binary(max_size=200))
def test_parse_transaction_given_any_bytes_raises_nothing_foreign(raw: bytes) -> None:
    """Any bytes are a transaction in its one form, or are refused."""
    try:
        found = parse_transaction(raw)
    except MalformedError:
        return
    assert found.serialize() == raw


def test_parse_transaction_given_every_truncation_and_a_tail_refuses() -> None:
    """The whole and nothing else."""
    raw = SIGNED.serialize()
    assert all(code_of(raw[:size]) != "OK" for size in range(len(raw)))
    assert code_of(raw + b"\0") == "TRAILING_BYTES"


HEAD, TAIL = PLAIN.serialize()[:4], PLAIN.serialize()[-4:]
INPUT, OUTPUT = PLAIN.serialize()[5:-36], PLAIN.serialize()[-35:-4]
REFUSED = {
    "no inputs": (HEAD + b"\x00\x01\x00\x01" + OUTPUT + TAIL, "NO_INPUTS"),
    "no outputs": (HEAD + b"\x01" + INPUT + b"\x00" + TAIL, "NO_OUTPUTS"),
    "marker without flag": (HEAD + b"\x00\x00" + bytes(60), "WITNESS_FLAG"),
    "another flag": (HEAD + b"\x00\x02\x01" + INPUT + b"\x01" + OUTPUT + TAIL, "WITNESS_FLAG"),
    "flag without witness": (HEAD + b"\x00\x01\x01" + INPUT + b"\x01" + OUTPUT + b"\x00" + TAIL, "WITNESS_EMPTY"),
    "a count too long": (HEAD + b"\xfd\x01\x00" + INPUT + b"\x01" + OUTPUT + TAIL, "NOT_MINIMAL"),
    "2^32 inputs": (HEAD + b"\xff" + (2**32).to_bytes(8, "little") + INPUT, "COUNT_TOO_LARGE"),
    "2^31 outputs": (HEAD + b"\x01" + INPUT + b"\xfe" + (2**31).to_bytes(4, "little") + OUTPUT, "COUNT_TOO_LARGE"),
    "all money and one": (
        HEAD + b"\x01" + INPUT + b"\x01" + (MAX_MONEY_SATS + 1).to_bytes(8, "little") + b"\x00" + TAIL,
        "AMOUNT_OUT_OF_RANGE",
    ),
    "a script beyond the end": (HEAD + b"\x01" + bytes(36) + b"\xfe\xff\xff\xff\x7f" + bytes(20), "TRUNCATED"),
    "too large": (bytes(MAX_TRANSACTION_BYTES + 1), "TX_TOO_LARGE"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_parse_transaction_given_one_wrong_thing_refuses(name: str) -> None:
    """One wrong thing, one code."""
    raw, code = REFUSED[name]
    assert code_of(raw) == code


def test_parse_transaction_given_a_base_tells_the_offset_in_the_outer_input() -> None:
    """Who reads a refusal finds the place in the file he has."""
    with pytest.raises(MalformedError) as raised:
        parse_transaction(PLAIN.serialize() + b"\0", 100)
    assert raised.value.offset == 100 + len(PLAIN.serialize())


@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**32 - 1))
def test_outpoint_given_its_text_is_read_back(txid: bytes, vout: int) -> None:
    """As people and nodes print it."""
    assert OutPoint.parse(str(OutPoint(txid, vout))) == OutPoint(txid, vout)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "00" * 32,
        "00" * 32 + ":",
        "00" * 32 + ":-1",
        "00" * 32 + ":01",
        "00" * 32 + ":1 ",
        "00" * 32 + ":\u0661",
        "00" * 32 + ":\u00b2",
        "00" * 32 + ":4294967296",
        "00" * 32 + ":" + "9" * 5_000,
        "00" * 31 + ":0",
        "FF" * 32 + ":0",
        " " + "00" * 32 + ":0",
        "0 " * 32 + ":0",
    ],
)
def test_outpoint_given_another_spelling_refuses(text: str) -> None:
    """One outpoint has one text."""
    with pytest.raises(MalformedError, match="OUTPOINT"):
        OutPoint.parse(text)


@given(st.integers(0, 2**64 - 1))
def test_compact_size_given_any_number_is_read_back(value: int) -> None:
    """In its shortest form, and in no other."""
    assert Reader(compact_size(value)).compact_size() == value


@pytest.mark.parametrize("raw", [b"\xfd\xfc\x00", b"\xfe\xff\xff\x00\x00", b"\xff" + b"\xff" * 4 + bytes(4)])
def test_compact_size_given_a_longer_form_refuses(raw: bytes) -> None:
    """Two spellings of one length would make two encodings of one PSBT."""
    with pytest.raises(MalformedError, match="NOT_MINIMAL"):
        Reader(raw).compact_size()
