"""Each refusal of one field word for word: code, what was expected and found, and at which byte."""

from __future__ import annotations

import pytest

from custody import psbt_fields
from custody.errors import MalformedError
from custody.psbt_fields import GLOBAL, INPUT, OUTPUT, Field, check_field, read_output, read_path, read_stack
from custody.psbt_fields import read_tap_path as tap_path
from tests.fakes.psbts import BOOK

PUBKEY = BOOK.script(0, 0).pubkeys[0]
XONLY = PUBKEY[1:]
OFF_CURVE = b"\x02" + b"\xff" * 32
KEY_AT, VALUE_AT = 40, 50


def xpub(depth: int, pubkey: bytes = PUBKEY) -> bytes:
    """Return the key of a global xpub field."""
    return b"\x01\x04\x35\x87\xcf" + bytes([depth]) + bytes(40) + pubkey


def four(value: int) -> bytes:
    """Return four bytes, little-endian."""
    return value.to_bytes(4, "little")


# where, key, value, refusal, in version 0
REFUSED: list[tuple[str, bytes, bytes, str]] = [
    (INPUT, b"\x0e", bytes(32), "V2_FIELD: expected no version 2 input field 0x0e in version 0 (at byte 40)"),
    (OUTPUT, b"\x08" + PUBKEY, b"", "MUSIG2_FIELD: expected no MuSig2 output field 0x08 (at byte 40)"),
    (INPUT, b"\x1a", b"", "MUSIG2_FIELD: expected no MuSig2 input field 0x1a (at byte 40)"),
    (
        INPUT,
        b"\x02" + XONLY,
        bytes(71),
        "KEY_LENGTH: expected a compressed public key, found 32 bytes (at byte 40)",
    ),
    (INPUT, b"\x06" + OFF_CURVE, bytes(4), "PUBKEY: expected a compressed point of the curve (at byte 40)"),
    (INPUT, b"\x02" + PUBKEY, bytes(8), "VALUE_LENGTH: expected a DER signature, found 8 bytes (at byte 50)"),
    (INPUT, b"\x02" + PUBKEY, bytes(74), "VALUE_LENGTH: expected a DER signature, found 74 bytes (at byte 50)"),
    (
        INPUT,
        b"\x06" + PUBKEY,
        bytes(3),
        "VALUE_LENGTH: expected a fingerprint and path steps, found 3 bytes (at byte 50)",
    ),
    (
        OUTPUT,
        b"\x02" + PUBKEY,
        bytes(1028),
        "VALUE_LENGTH: expected a fingerprint and path steps, found 1028 bytes (at byte 50)",
    ),
    (OUTPUT, b"\x02" + OFF_CURVE, bytes(4), "PUBKEY: expected a compressed point of the curve (at byte 40)"),
    (
        GLOBAL,
        xpub(2)[:-1],
        bytes(12),
        "KEY_LENGTH: expected 78 bytes of extended key, found 77 (at byte 40)",
    ),
    (
        GLOBAL,
        xpub(2, OFF_CURVE),
        bytes(12),
        "PUBKEY: expected a compressed point of the curve in an extended key (at byte 40)",
    ),
    (
        GLOBAL,
        xpub(2),
        bytes(11),
        "VALUE_LENGTH: expected a fingerprint and path steps, found 11 bytes (at byte 50)",
    ),
    (GLOBAL, xpub(2), bytes(16), "VALUE_LENGTH: expected as many path steps as the key's depth (at byte 50)"),
    (
        INPUT,
        b"\x01",
        (21 * 10**14 + 1).to_bytes(8, "little") + b"\0",
        "AMOUNT_OUT_OF_RANGE: expected at most 2100000000000000 sats (at byte 58)",
    ),
    (INPUT, b"\x01", bytes(8), "VALUE_LENGTH: expected 9..10012 bytes, found 8 (at byte 50)"),
    (INPUT, b"\x01\x00", bytes(9), "KEY_LENGTH: expected 0 bytes behind type 0x01, found 1 (at byte 40)"),
    (INPUT, b"\x01", bytes(10), "TRAILING_BYTES: expected the end, found 1 more bytes (at byte 59)"),
    (INPUT, b"\x08", b"", "VALUE_LENGTH: expected 1..2097152 bytes, found 0 (at byte 50)"),
    (INPUT, b"\x08\x00", b"\x00", "KEY_LENGTH: expected 0 bytes behind type 0x08, found 1 (at byte 40)"),
    (INPUT, b"\x08", b"\x01\x00\x00", "TRAILING_BYTES: expected the end, found 1 more bytes (at byte 52)"),
    (
        INPUT,
        b"\x08",
        b"\x03\x00",
        "COUNT_TOO_LARGE: expected a count that fits into 1 bytes, found 3 (at byte 51)",
    ),
    (INPUT, b"\x15\xc0" + XONLY[1:], b"\xc0", "KEY_LENGTH: expected a control block, found 32 bytes (at byte 40)"),
    (INPUT, b"\x15\xc0" + XONLY, b"", "VALUE_LENGTH: expected a script and its leaf version (at byte 50)"),
    (INPUT, b"\x16" + XONLY[1:], bytes(5), "KEY_LENGTH: expected an x-only key, found 31 bytes (at byte 40)"),
    (
        INPUT,
        b"\x16" + XONLY,
        b"\x02" + bytes(40),
        "COUNT_TOO_LARGE: expected a count that fits into 40 bytes, found 2 (at byte 51)",
    ),
    (
        INPUT,
        b"\x16" + XONLY,
        b"\x01" + bytes(35),
        "VALUE_LENGTH: expected a fingerprint and path steps, found 3 bytes (at byte 86)",
    ),
    (OUTPUT, b"\x06\x00", b"\0\xc0\0", "KEY_LENGTH: expected 0 bytes behind type 0x06, found 1 (at byte 40)"),
    (OUTPUT, b"\x06", b"", "VALUE_LENGTH: expected 1..2097152 bytes, found 0 (at byte 50)"),
    (
        OUTPUT,
        b"\x06",
        b"\x02\xc0\0\x01\xc0\0",
        "TAP_TREE: expected leaves in depth-first order with even versions (at byte 56)",
    ),
    (
        OUTPUT,
        b"\x06",
        b"\0\xc1\0",
        "TAP_TREE: expected leaves in depth-first order with even versions (at byte 53)",
    ),
    (
        OUTPUT,
        b"\x06",
        b"\0\xc0\0\0\xc0\0",
        "TAP_TREE: expected leaves in depth-first order with even versions (at byte 56)",
    ),
    (OUTPUT, b"\x06", b"\x01\xc0\0", "TAP_TREE: expected a complete tree (at byte 50)"),
    (OUTPUT, b"\x06", b"\0\xc0\x02\0", "TRUNCATED: expected 2 more bytes, found 1 (at byte 53)"),
    (
        INPUT,
        b"\x14" + b"\xff" * 32 + bytes(32),
        bytes(64),
        "PUBKEY: expected the x of a point of the curve (at byte 40)",
    ),
    (INPUT, b"\x16" + b"\xff" * 32, bytes(5), "PUBKEY: expected the x of a point of the curve (at byte 40)"),
    (INPUT, b"\xfc\x03ab", b"", "TRUNCATED: expected 3 more bytes, found 2 (at byte 42)"),
    (INPUT, b"\xfc\x02ab", b"", "TRUNCATED: expected 1 more bytes, found 0 (at byte 44)"),
    (INPUT, b"\xfd\x06\x00", b"", "NOT_MINIMAL: expected the shortest CompactSize for 6 (at byte 43)"),
]


def words(where: str, key: bytes, value: bytes, version: int = 0) -> str:
    """Return the refusal of a field as people read it, or OK."""
    try:
        check_field(Field(key, value, VALUE_AT), where, KEY_AT, version)
    except MalformedError as error:
        return str(error)
    return "OK"


@pytest.mark.parametrize(("where", "key", "value", "expected"), REFUSED)
def test_check_field_given_one_lie_says_what_was_expected_and_where(
    where: str, key: bytes, value: bytes, expected: str
) -> None:
    """Key faults point at the key, value faults into the value, at the byte that is wrong."""
    assert words(where, key, value) == expected


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (0x11, four(499_999_999), "LOCKTIME_KIND: expected 500000000..4294967295, found 499999999 (at byte 50)"),
        (0x11, bytes(5), "VALUE_LENGTH: expected 4..4 bytes, found 5 (at byte 50)"),
        (0x12, four(500_000_000), "LOCKTIME_KIND: expected 1..499999999, found 500000000 (at byte 50)"),
        (0x12, four(7), "OK"),
    ],
)
def test_check_field_given_a_required_locktime_of_version_2_says_which_kind(
    kind: int, value: bytes, expected: str
) -> None:
    """BIP-370: times and heights have fields of their own."""
    assert words(INPUT, bytes([kind]), value, 2) == expected


def test_check_field_without_a_version_judges_as_version_0() -> None:
    """The stricter reading where nothing is said; global fields of version 2 are for `parse` to judge."""
    with pytest.raises(MalformedError, match="V2_FIELD"):
        check_field(Field(b"\x10", bytes(4)), INPUT, KEY_AT)
    check_field(Field(b"\x02", bytes(4)), GLOBAL, KEY_AT)


def said(check: psbt_fields._Check, key: bytes, value: bytes) -> str:
    """Return what a check says of a field, or OK."""
    try:
        check(Field(key, value, VALUE_AT), KEY_AT)
    except MalformedError as error:
        return str(error)
    return "OK"


def test_keyed_given_lengths_takes_what_is_between_them() -> None:
    """Key data of exactly that length, values from the least to the most."""
    check = psbt_fields._keyed(2, 3, 5)

    assert [said(check, b"\x50ab", bytes(size)) for size in (3, 4, 5)] == ["OK"] * 3
    assert said(check, b"\x50ab", bytes(2)) == "VALUE_LENGTH: expected 3..5 bytes, found 2 (at byte 50)"
    assert said(check, b"\x50ab", bytes(6)) == "VALUE_LENGTH: expected 3..5 bytes, found 6 (at byte 50)"
    assert said(check, b"\x50a", bytes(4)) == "KEY_LENGTH: expected 2 bytes behind type 0x50, found 1 (at byte 40)"
    assert said(check, b"\x50abc", bytes(4)) == "KEY_LENGTH: expected 2 bytes behind type 0x50, found 3 (at byte 40)"


def test_plain_given_lengths_takes_no_key_data() -> None:
    """A type and nothing behind it."""
    check = psbt_fields._plain(3, 5)

    assert [said(check, b"\x50", bytes(size)) for size in (3, 5)] == ["OK"] * 2
    assert said(check, b"\x50", bytes(2)) == "VALUE_LENGTH: expected 3..5 bytes, found 2 (at byte 50)"
    assert said(check, b"\x50", bytes(6)) == "VALUE_LENGTH: expected 3..5 bytes, found 6 (at byte 50)"
    assert said(check, b"\x50a", bytes(4)) == "KEY_LENGTH: expected 0 bytes behind type 0x50, found 1 (at byte 40)"


def test_locktime_given_bounds_takes_them_and_nothing_beyond() -> None:
    """Four bytes, little-endian."""
    check = psbt_fields._locktime(258, 260)

    assert [said(check, b"\x50", four(value)) for value in (258, 259, 260)] == ["OK"] * 3
    assert said(check, b"\x50", four(257)) == "LOCKTIME_KIND: expected 258..260, found 257 (at byte 50)"
    assert said(check, b"\x50", four(261)) == "LOCKTIME_KIND: expected 258..260, found 261 (at byte 50)"
    assert said(check, b"\x50", bytes(3)) == "VALUE_LENGTH: expected 4..4 bytes, found 3 (at byte 50)"
    assert said(check, b"\x50", bytes(5)) == "VALUE_LENGTH: expected 4..4 bytes, found 5 (at byte 50)"
    assert said(check, b"\x50a", four(259)) == "KEY_LENGTH: expected 0 bytes behind type 0x50, found 1 (at byte 40)"


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (b"\0\xc0\0", "OK"),
        (b"\x01\xc0\0" * 2, "OK"),
        (b"\x02\xc0\0" * 4, "OK"),
        (b"\x01\xc0\0" + b"\x02\xc0\0" * 2, "OK"),
        (b"\x02\xc0\0" * 3, "TAP_TREE"),
        (b"\x01\xc0\0" * 3, "TAP_TREE"),
        (b"\x02\xc0\0" * 2, "TAP_TREE"),
        (b"\0\x01\0", "TAP_TREE"),
        (b"\0\0\0", "OK"),
        (b"\0", "TRUNCATED"),
    ],
)
def test_check_field_given_a_tap_tree_takes_complete_ones_in_order(tree: bytes, expected: str) -> None:
    """BIP-371: each branch gets both of its sides."""
    assert words(OUTPUT, b"\x06", tree).partition(":")[0] == expected


def test_read_output_given_a_field_returns_amount_and_script_up_to_all_money() -> None:
    """21 million coins are not too many."""
    found = read_output(Field(b"\x01", (21 * 10**14).to_bytes(8, "little") + b"\x02ab", VALUE_AT))

    assert (found.amount, found.script) == (21 * 10**14, b"ab")


def test_read_stack_given_a_field_returns_its_items() -> None:
    """Empty ones too."""
    assert read_stack(Field(b"\x08", b"\x03\x00\x01a\x02bc", VALUE_AT)) == (b"", b"a", b"bc")


def test_read_paths_given_values_return_little_endian_steps() -> None:
    """Behind the fingerprint; in taproot behind the leaf hashes too."""
    steps = b"abcd" + four(2**31 + 86) + four(258)

    assert read_path(steps) == tap_path(b"\0" + steps) == (2**31 + 86, 258)
    assert tap_path(b"\x02" + bytes(64) + steps) == (2**31 + 86, 258)
    assert tap_path(b"\x01" + bytes(32) + b"abcd") == tap_path(b"\x01" + bytes(32)) == ()
