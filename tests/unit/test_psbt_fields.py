"""The shape of each known field at its edges: the shortest and longest that stands, and one byte beyond each."""

from __future__ import annotations

import pytest

from custody.errors import MalformedError
from custody.psbt_fields import GLOBAL, INPUT, MAX_PATH_STEPS, MAX_SCRIPT_BYTES, OUTPUT, Field, check_field, read_path
from custody.reader import compact_size
from tests.fakes.psbts import BOOK

PUBKEY = BOOK.script(0, 0).pubkeys[0]
XONLY = PUBKEY[1:]
OFF_CURVE = b"\x02" + b"\xff" * 32
LONGEST_PATH = bytes(4 + 4 * MAX_PATH_STEPS)
LEAF = b"\x00\xc0\x01\x51"


def code_of(where: str, key: bytes, value: bytes, version: int = 0) -> str:
    """Return the code with which a field is refused, or OK."""
    try:
        check_field(Field(key, value, 50), where, 40, version)
    except MalformedError as error:
        return error.code
    return "OK"


def xpub(depth: int, pubkey: bytes = PUBKEY) -> bytes:
    """Return the key of a global xpub field."""
    return b"\x01\x04\x35\x87\xcf" + bytes([depth]) + bytes(40) + pubkey


def control_block(depth: int) -> bytes:
    """Return the key of a leaf script field whose control block has `depth` hashes."""
    return b"\x15\xc0" + XONLY + bytes(32 * depth)


def output_of(script_bytes: int) -> bytes:
    """Return a witness_utxo with a script of that length."""
    return bytes(8) + compact_size(script_bytes) + bytes(script_bytes)


SCRIPT = (0, MAX_SCRIPT_BYTES)
# where, key, lengths of the value that stand
LENGTHS: list[tuple[str, bytes, tuple[int, int]]] = [
    (GLOBAL, b"\xfb", (4, 4)),
    (INPUT, b"\x02" + PUBKEY, (9, 73)),
    (INPUT, b"\x03", (4, 4)),
    (INPUT, b"\x04", SCRIPT),
    (INPUT, b"\x05", SCRIPT),
    (INPUT, b"\x07", SCRIPT),
    (INPUT, b"\x09", SCRIPT),
    (INPUT, b"\x0a" + bytes(20), SCRIPT),
    (INPUT, b"\x0b" + bytes(32), SCRIPT),
    (INPUT, b"\x0c" + bytes(20), SCRIPT),
    (INPUT, b"\x0d" + bytes(32), SCRIPT),
    (INPUT, b"\x13", (64, 65)),
    (INPUT, b"\x14" + XONLY + bytes(32), (64, 65)),
    (INPUT, b"\x17", (32, 32)),
    (INPUT, b"\x18", (32, 32)),
    (OUTPUT, b"\x00", SCRIPT),
    (OUTPUT, b"\x01", SCRIPT),
    (OUTPUT, b"\x05", (32, 32)),
]


@pytest.mark.parametrize(("where", "key", "lengths"), LENGTHS)
def test_check_field_given_a_value_at_its_edges_takes_it_and_refuses_what_is_beyond(
    where: str, key: bytes, lengths: tuple[int, int]
) -> None:
    """The shortest and the longest stand; one byte less or more does not; nor does one byte more of key."""
    least, most = lengths
    assert code_of(where, key, bytes(least)) == code_of(where, key, bytes(most)) == "OK"
    assert least == 0 or code_of(where, key, bytes(least - 1)) == "VALUE_LENGTH"
    assert code_of(where, key, bytes(most + 1)) == "VALUE_LENGTH"
    assert code_of(where, key + b"\0", bytes(least)) == "KEY_LENGTH"
    assert len(key) == 1 or code_of(where, key[:-1], bytes(least)) == "KEY_LENGTH"


LENGTHS_OF_V2: list[tuple[str, int, tuple[int, int]]] = [
    (GLOBAL, 0x02, (4, 4)),
    (GLOBAL, 0x03, (4, 4)),
    (GLOBAL, 0x04, (1, 9)),
    (GLOBAL, 0x05, (1, 9)),
    (GLOBAL, 0x06, (1, 1)),
    (INPUT, 0x0E, (32, 32)),
    (INPUT, 0x0F, (4, 4)),
    (INPUT, 0x10, (4, 4)),
    (OUTPUT, 0x03, (8, 8)),
    (OUTPUT, 0x04, SCRIPT),
]


@pytest.mark.parametrize(("where", "kind", "lengths"), LENGTHS_OF_V2)
def test_check_field_given_a_version_2_field_takes_it_at_its_edges_in_version_2_alone(
    where: str, kind: int, lengths: tuple[int, int]
) -> None:
    """BIP-370: fixed lengths, no key data, and no place in version 0 (global ones are told apart by `parse`)."""
    least, most = lengths
    assert code_of(where, bytes([kind]), bytes(least), 2) == code_of(where, bytes([kind]), bytes(most), 2) == "OK"
    assert least == 0 or code_of(where, bytes([kind]), bytes(least - 1), 2) == "VALUE_LENGTH"
    assert code_of(where, bytes([kind]), bytes(most + 1), 2) == "VALUE_LENGTH"
    assert code_of(where, bytes([kind, 0]), bytes(least), 2) == "KEY_LENGTH"
    assert where == GLOBAL or code_of(where, bytes([kind]), bytes(least)) == "V2_FIELD"


@pytest.mark.parametrize(
    ("kind", "locktime", "fits"),
    [
        (0x11, 499_999_999, False),
        (0x11, 500_000_000, True),
        (0x11, 2**32 - 1, True),
        (0x12, 0, False),
        (0x12, 1, True),
        (0x12, 499_999_999, True),
        (0x12, 500_000_000, False),
    ],
)
def test_check_field_given_a_required_locktime_takes_times_and_heights_in_their_range(
    kind: int, locktime: int, fits: bool
) -> None:
    """BIP-370: a time from 500,000,000 on, a height below it and above 0."""
    found = code_of(INPUT, bytes([kind]), locktime.to_bytes(4, "little"), 2)

    assert (found == "OK") is fits
    assert code_of(INPUT, bytes([kind]), locktime.to_bytes(5, "little"), 2) != "OK"
    assert code_of(INPUT, bytes([kind]), locktime.to_bytes(4, "little")) == "V2_FIELD"


ONE_CHANGE: dict[str, tuple[str, bytes, bytes, str]] = {
    "a path of the fingerprint alone": (INPUT, b"\x06" + PUBKEY, bytes(4), "OK"),
    "the longest path": (INPUT, b"\x06" + PUBKEY, LONGEST_PATH, "OK"),
    "a path too long": (INPUT, b"\x06" + PUBKEY, LONGEST_PATH + bytes(4), "VALUE_LENGTH"),
    "half a step": (INPUT, b"\x06" + PUBKEY, bytes(6), "VALUE_LENGTH"),
    "no fingerprint": (INPUT, b"\x06" + PUBKEY, b"", "VALUE_LENGTH"),
    "an output's path": (OUTPUT, b"\x02" + PUBKEY, bytes(12), "OK"),
    "an output's key off the curve": (OUTPUT, b"\x02" + OFF_CURVE, bytes(12), "PUBKEY"),
    "an output's short path": (OUTPUT, b"\x02" + PUBKEY, bytes(3), "VALUE_LENGTH"),
    "a key off the curve": (INPUT, b"\x06" + OFF_CURVE, bytes(4), "PUBKEY"),
    "a signature by a key off the curve": (INPUT, b"\x02" + OFF_CURVE, bytes(71), "PUBKEY"),
    "a key of 32 bytes": (INPUT, b"\x06" + XONLY, bytes(4), "KEY_LENGTH"),
    "an uncompressed key": (INPUT, b"\x06\x04" + bytes(64), bytes(4), "KEY_LENGTH"),
    "an xpub": (GLOBAL, xpub(2), bytes(12), "OK"),
    "an xpub of another depth": (GLOBAL, xpub(3), bytes(12), "VALUE_LENGTH"),
    "an xpub off the curve": (GLOBAL, xpub(2, OFF_CURVE), bytes(12), "PUBKEY"),
    "an xpub of 79 bytes": (GLOBAL, xpub(2) + b"\0", bytes(12), "KEY_LENGTH"),
    "a smallest claimed output": (INPUT, b"\x01", output_of(0), "OK"),
    "a largest claimed output": (INPUT, b"\x01", output_of(MAX_SCRIPT_BYTES), "OK"),
    "a claimed output beyond it": (INPUT, b"\x01", output_of(MAX_SCRIPT_BYTES + 2), "VALUE_LENGTH"),
    "a claimed output without a script": (INPUT, b"\x01", bytes(8), "VALUE_LENGTH"),
    "a claimed output with a tail": (INPUT, b"\x01", output_of(5) + b"\0", "TRAILING_BYTES"),
    "a claimed output of all money and one": (
        INPUT,
        b"\x01",
        (21 * 10**14 + 1).to_bytes(8, "little") + b"\0",
        "AMOUNT_OUT_OF_RANGE",
    ),
    "a claimed output of all money": (INPUT, b"\x01", (21 * 10**14).to_bytes(8, "little") + b"\0", "OK"),
    "a final witness": (INPUT, b"\x08", b"\x02\x00\x01\x51", "OK"),
    "an empty final witness": (INPUT, b"\x08", b"", "VALUE_LENGTH"),
    "a final witness with a tail": (INPUT, b"\x08", b"\x01\x00\x00", "TRAILING_BYTES"),
    "a final witness of too many items": (INPUT, b"\x08", b"\x03\x00", "COUNT_TOO_LARGE"),
    "a control block of no hash": (INPUT, control_block(0), b"\xc0", "OK"),
    "a control block of 128 hashes": (INPUT, control_block(128), b"\xc0", "OK"),
    "a control block of 129 hashes": (INPUT, control_block(129), b"\xc0", "KEY_LENGTH"),
    "a control block with a tail": (INPUT, control_block(1) + b"\0", b"\xc0", "KEY_LENGTH"),
    "a control block too short": (INPUT, control_block(0)[:-1], b"\xc0", "KEY_LENGTH"),
    "a leaf script of nothing": (INPUT, control_block(0), b"", "VALUE_LENGTH"),
    "a taproot path": (INPUT, b"\x16" + XONLY, b"\x01" + bytes(32) + bytes(8), "OK"),
    "a taproot path without fingerprint": (INPUT, b"\x16" + XONLY, b"\x01" + bytes(32), "VALUE_LENGTH"),
    "a taproot path of too many leaves": (INPUT, b"\x16" + XONLY, b"\x02" + bytes(40), "COUNT_TOO_LARGE"),
    "an output's taproot path": (OUTPUT, b"\x07" + XONLY, bytes(5), "OK"),
    "an output's taproot path by a long key": (OUTPUT, b"\x07" + PUBKEY, bytes(5), "KEY_LENGTH"),
    "a tree of one leaf": (OUTPUT, b"\x06", LEAF, "OK"),
    "a tree of three leaves": (OUTPUT, b"\x06", b"\x01" + LEAF[1:] + (b"\x02" + LEAF[1:]) * 2, "OK"),
    "a tree of three leaves, deep first": (OUTPUT, b"\x06", (b"\x02" + LEAF[1:]) * 2 + b"\x01" + LEAF[1:], "OK"),
    "a tree with a hole": (OUTPUT, b"\x06", b"\x02" + LEAF[1:] + b"\x01" + LEAF[1:], "TAP_TREE"),
    "a tree with a leaf too many": (OUTPUT, b"\x06", LEAF + LEAF, "TAP_TREE"),
    "a MuSig2 participant": (INPUT, b"\x1a" + PUBKEY, bytes(66), "MUSIG2_FIELD"),
    "a MuSig2 nonce": (INPUT, b"\x1b" + PUBKEY, bytes(66), "MUSIG2_FIELD"),
    "a MuSig2 partial signature": (INPUT, b"\x1c" + PUBKEY, bytes(32), "MUSIG2_FIELD"),
    "an output's MuSig2 participant": (OUTPUT, b"\x08" + PUBKEY, bytes(66), "MUSIG2_FIELD"),
    "a proprietary field": (INPUT, b"\xfc\x03abc\x00data", b"anything", "OK"),
    "a proprietary field without a subtype": (INPUT, b"\xfc\x03abc", b"", "TRUNCATED"),
    "an unknown field": (INPUT, b"\xf0anything", b"anything", "OK"),
    "a long type": (INPUT, b"\xfd\x00\x01", b"", "OK"),
    "a long type of another spelling": (INPUT, b"\xfd\x06\x00", b"", "NOT_MINIMAL"),
    "a long type cut": (INPUT, b"\xfd\x06", b"", "TRUNCATED"),
}


@pytest.mark.parametrize("name", ONE_CHANGE)
def test_check_field_given_one_field_says_its_code(name: str) -> None:
    """One field, one code."""
    where, key, value, code = ONE_CHANGE[name]
    assert code_of(where, key, value) == code


@pytest.mark.parametrize("depth", [1, 2, 127, 128])
def test_check_field_given_a_tree_of_one_long_branch_takes_it_down_to_128(depth: int) -> None:
    """A comb: one leaf at each depth, the last with its sibling."""
    comb = b"".join(bytes([at]) + LEAF[1:] for at in (*range(1, depth + 1), depth))

    assert code_of(OUTPUT, b"\x06", comb) == "OK"
    assert code_of(OUTPUT, b"\x06", comb[:-4]) == "TAP_TREE"


def test_check_field_given_a_tree_deeper_than_128_refuses() -> None:
    """BIP-341: no path is longer."""
    comb = b"".join(bytes([at]) + LEAF[1:] for at in (*range(1, 130), 129))

    assert code_of(OUTPUT, b"\x06", comb) == "TAP_TREE"


def test_read_path_given_a_derivation_returns_its_steps() -> None:
    """Behind the fingerprint, little-endian."""
    assert read_path(b"abcd" + b"\x30\x00\x00\x80" + b"\x07\x00\x00\x00") == (2**31 + 48, 7)
    assert read_path(b"abcd") == ()


def test_check_field_given_a_wrong_value_tells_where_the_key_or_the_value_is() -> None:
    """A key fault points at the key, a value fault at the value."""
    for key, value, offset in ((b"\x03\x00", bytes(4), 40), (b"\x03", bytes(3), 50)):
        with pytest.raises(MalformedError) as raised:
            check_field(Field(key, value, 50), INPUT, 40)
        assert raised.value.offset == offset
