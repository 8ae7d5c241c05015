"""The fast reader at its edges: what it takes, byte for byte, and where it leaves the judging to the strict one."""

from __future__ import annotations

import pytest

from custody.errors import MalformedError
from custody.psbt import NOTHING
from custody.psbt_skim import Known, Rules, Tail, skim_map, skim_transaction
from custody.reader import compact_size, sized
from custody.transaction import OutPoint, Transaction, TxIn, TxOut, hash256, parse_transaction
from custody.units import MAX_MONEY_SATS, Sats
from tests.fakes.psbts import BOOK

PUBKEYS = BOOK.script(0, 0).pubkeys
POINT, OTHER = PUBKEYS[0], PUBKEYS[1]
OFF_CURVE = b"\x02" + b"\xff" * 32
PATH = b"abcd" + bytes(8)
RULES = Rules("input", 0, {3: (4, 4), 5: (0, 300), 1: (9, 400)}, derivation=6, signature=2, output=1)
BEFORE = b"\x09\x09"  # another map's bytes in front


def pair(key: bytes, value: bytes) -> bytes:
    """Return a field as it stands in a map."""
    return sized(key) + sized(value)


def skim(
    *fields: bytes, end: bytes = b"\0", known: Known = NOTHING
) -> tuple[dict[bytes, bytes], int, bytes, int] | None:
    """Return what the fast reader reads of a map behind two other bytes."""
    return skim_map(BEFORE + b"".join(fields) + end, len(BEFORE), RULES, known)


def is_taken(*fields: bytes) -> bool:
    """Return whether the fast reader takes a map of `fields`."""
    return skim(*fields) is not None


def test_skim_map_given_a_usual_map_returns_values_kinds_hint_and_end() -> None:
    """Everything a map object is made of; the hint is the first derivation's value."""
    later = b"efgh" + bytes(4)
    fields = (
        pair(b"\x05", b"x" * 253),
        pair(b"\x03", bytes(4)),
        pair(b"\x02" + OTHER, b"s" * 71),
        pair(b"\x06" + POINT, PATH),
        pair(b"\x06" + OTHER, later),
    )
    size = sum(map(len, fields))

    assert skim(*fields, end=b"\0rest") == (
        {
            b"\x05": b"x" * 253,
            b"\x03": bytes(4),
            b"\x02" + OTHER: b"s" * 71,
            b"\x06" + POINT: PATH,
            b"\x06" + OTHER: later,
        },
        1 << 5 | 1 << 3 | 1 << 2 | 1 << 6,
        PATH,
        len(BEFORE) + size + 1,
    )
    assert skim() == ({}, 0, b"", len(BEFORE) + 1)


@pytest.mark.parametrize(
    ("kind", "size", "taken"),
    [
        (3, 3, False),
        (3, 4, True),
        (3, 5, False),
        (5, 0, True),
        (5, 252, True),
        (5, 253, True),
        (5, 256, True),
        (5, 300, True),
        (5, 301, False),
        (7, 0, False),
        (7, 1, False),
    ],
)
def test_skim_map_given_a_length_takes_what_its_rules_say(kind: int, size: int, taken: bool) -> None:
    """From least to most; a type without a rule is for the strict reader."""
    assert is_taken(pair(bytes([kind]), bytes(size))) is taken


@pytest.mark.parametrize(
    ("path_bytes", "taken"),
    [(0, False), (3, False), (4, True), (5, False), (6, False), (8, True), (1024, True), (1028, False)],
)
def test_skim_map_given_a_derivation_takes_whole_steps(path_bytes: int, taken: bool) -> None:
    """A fingerprint and up to 255 steps."""
    assert is_taken(pair(b"\x06" + POINT, bytes(path_bytes))) is taken


@pytest.mark.parametrize(("size", "taken"), [(8, False), (9, True), (10, True), (73, True), (74, False)])
def test_skim_map_given_a_signature_takes_der_lengths(size: int, taken: bool) -> None:
    """The strict reader's bounds."""
    assert is_taken(pair(b"\x02" + POINT, bytes(size))) is taken


@pytest.mark.parametrize("kind", [2, 6])
def test_skim_map_given_a_key_asks_the_curve_unless_it_is_known(kind: int) -> None:
    """Known points are not proven again; anything else that is no point is for the strict reader."""
    field = pair(bytes([kind]) + OFF_CURVE, bytes(12))

    assert is_taken(pair(bytes([kind]) + POINT, bytes(12)))
    assert not is_taken(field)
    assert skim(field, known=Known({OFF_CURVE})) is not None
    assert skim(field, known=Known({POINT, bytes([kind]) + OFF_CURVE})) is None


@pytest.mark.parametrize(
    "field",
    [
        pair(b"\x07" + POINT, PATH),
        pair(b"\x03" + POINT, bytes(4)),
        pair(b"\x06" + POINT + b"\0", PATH),
        pair(b"\x06" + POINT[1:], PATH),
        pair(b"\x03\x00", bytes(4)),
        b"\x01\x03\xfd\x04\x00" + bytes(4),  # longer spellings of a length
        b"\x01\x05\xfd\xfc\x00" + bytes(252),
        b"\x01\x05\xfe\xfd\x00\x00\x00" + bytes(253),
        b"\x01\x05\xff\xfd\x00\x00\x00\x00\x00\x00\x00" + bytes(253),
        b"\x01\x05\xfe\xfd\x00" + bytes(253),
    ],
)
def test_skim_map_given_another_form_leaves_it_to_the_strict_reader(field: bytes) -> None:
    """Other types, key lengths, and spellings."""
    assert is_taken(pair(b"\x05", b""))
    assert not is_taken(field)


def test_skim_map_given_a_key_twice_leaves_it_to_the_strict_reader() -> None:
    """With and without key data; another key of the type is no second one."""
    assert not is_taken(pair(b"\x03", bytes(4)), pair(b"\x03", bytes(4)))
    assert not is_taken(pair(b"\x06" + POINT, PATH), pair(b"\x06" + POINT, PATH))
    assert is_taken(pair(b"\x06" + POINT, PATH), pair(b"\x06" + OTHER, PATH))


@pytest.mark.parametrize(
    "cut",
    [b"", b"\x01", b"\x01\x03", b"\x01\x03\x04", b"\x01\x03\x04\0\0\0", b"\x01\x05\xfd\xfd", b"\x01\x05\xfd\xfd\0"],
)
def test_skim_map_given_a_map_that_is_cut_leaves_it_to_the_strict_reader(cut: bytes) -> None:
    """Nowhere is a byte read that is not there."""
    assert skim(cut, end=b"") is None


def output(amount: int, script_bytes: int, claimed: int | None = None) -> bytes:
    """Return a serialised output."""
    return (
        amount.to_bytes(8, "little") + compact_size(script_bytes if claimed is None else claimed) + bytes(script_bytes)
    )


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (output(0, 0), True),
        (output(MAX_MONEY_SATS, 34), True),
        (output(MAX_MONEY_SATS + 1, 34), False),
        (output(5, 252), True),
        (output(5, 253), False),
        (output(5, 3, claimed=4), False),
        (bytes(8) + b"\xfd" + bytes(253), False),  # 0xfd is no length of one byte
        (output(5, 4, claimed=3), False),
    ],
)
def test_skim_map_given_a_claimed_output_takes_exact_ones_of_short_scripts(value: bytes, taken: bool) -> None:
    """Amount within all money, a script of one length byte, nothing behind it."""
    assert is_taken(pair(b"\x01", value)) is taken


SCRIPT = b"our script"
SPENT = TxOut(Sats(7), SCRIPT).serialize()
TAIL = Tail(
    pair(b"\x05", b"witness") + pair(b"\x06" + POINT, PATH) + pair(b"\x06" + OTHER, bytes(12)) + b"\0",
    {b"\x05": b"witness", b"\x06" + POINT: PATH, b"\x06" + OTHER: bytes(12)},
    1 << 5 | 1 << 6,
    PATH,
)
TAILS = Known((), {SCRIPT: TAIL})


def test_skim_map_given_our_output_takes_the_tail_we_wrote_in_one_step() -> None:
    """All that stands behind it and the end of the map, without a look at each field."""
    head = pair(b"\x03", bytes(4)) + pair(b"\x01", SPENT)

    assert skim(head, end=TAIL.raw + b"rest", known=TAILS) == (
        {b"\x03": bytes(4), b"\x01": SPENT, **TAIL.values},
        1 << 1 | 1 << 3 | 1 << 5 | 1 << 6,
        PATH,
        len(BEFORE) + len(head) + len(TAIL.raw),
    )


def test_skim_map_given_our_output_and_another_tail_reads_it_field_by_field() -> None:
    """One byte that differs, another script, another field with these bytes, or the tail somewhere else."""
    other = TAIL.raw.replace(PATH, b"efgh" + bytes(8))
    found = skim(pair(b"\x01", SPENT), end=other, known=TAILS)
    assert found is not None
    assert found[0][b"\x06" + POINT] == found[2] == b"efgh" + bytes(8)
    assert found[1] == 1 << 1 | 1 << 5 | 1 << 6
    theirs = pair(b"\x01", TxOut(Sats(7), b"another").serialize())
    assert skim(theirs, end=TAIL.raw, known=TAILS) == skim(theirs, end=TAIL.raw)
    short = Known((), {SCRIPT: Tail(b"\0", {b"never": b""}, 1 << 9, b"never")})
    claimed = pair(b"\x05", SPENT)
    assert skim(claimed, known=short) == ({b"\x05": SPENT}, 1 << 5, b"", len(BEFORE) + len(claimed) + 1)
    nowhere = Known((), {SCRIPT: Tail(BEFORE, {b"never": b""}, 1 << 9, b"never")})
    ours = pair(b"\x01", SPENT)
    assert skim(ours, known=nowhere) == ({b"\x01": SPENT}, 1 << 1, b"", len(BEFORE) + len(ours) + 1)


@pytest.mark.parametrize("earlier", [pair(b"\x05", b""), pair(b"\x06" + POINT, PATH)])
def test_skim_map_given_a_type_of_the_tail_before_our_output_reads_field_by_field(earlier: bytes) -> None:
    """The tail might say a key for the second time: then the strict reader judges."""
    assert skim(earlier, pair(b"\x01", SPENT), end=TAIL.raw, known=TAILS) is None
    unlike = pair(b"\x01", SPENT) + pair(b"\x06" + OTHER, PATH)
    assert skim(pair(b"\x06" + POINT, PATH), unlike, known=TAILS) is not None


INPUT = TxIn(OutPoint(bytes(range(32)), 7), b"\x51" * 5)
OUTPUT = TxOut(Sats(1_000), b"\x00\x14" + bytes(20))


def transaction(
    inputs: int = 1, outputs: int = 1, script_sig: bytes = b"", script: bytes = b"ab", amount: int = 9, *stack: bytes
) -> bytes:
    """Return a transaction; with witnesses where `stack` has items."""
    made = Transaction(
        2,
        tuple(TxIn(OutPoint(bytes(32), at), script_sig, witness=stack) for at in range(inputs)),
        tuple(TxOut(Sats(amount), script) for _ in range(outputs)),
        77,
    )
    return made.serialize()


@pytest.mark.parametrize(
    "raw",
    [
        transaction(),
        transaction(script=b""),
        transaction(inputs=2, outputs=3),
        transaction(inputs=252),
        transaction(outputs=252),
        transaction(script_sig=bytes(252)),
        transaction(script=bytes(252)),
        transaction(amount=MAX_MONEY_SATS),
        transaction(2, 2, b"", b"ab", 9, b"", b"sig"),
        transaction(1, 1, b"abc", b"ab", 9, *[b""] * 252),
        transaction(1, 1, b"", b"ab", 9, bytes(252)),
        Transaction(2, (INPUT, TxIn(INPUT.outpoint, witness=(b"a",))), (OUTPUT,), 5).serialize(),
        Transaction(2, (TxIn(INPUT.outpoint, witness=(b"a",)), INPUT), (OUTPUT,), 5).serialize(),
        Transaction(1, (TxIn(INPUT.outpoint, witness=(b"a", b"bc")), INPUT, INPUT), (OUTPUT, OUTPUT)).serialize(),
    ],
)
def test_skim_transaction_given_the_usual_form_says_what_the_strict_reader_says(raw: bytes) -> None:
    """Txid and outputs, up to the longest of one length byte."""
    strict = parse_transaction(raw)

    assert skim_transaction(raw) == (
        hash256(strict.serialize_stripped()),
        [found.serialize() for found in strict.outputs],
    )


SEGWIT = transaction(1, 1, b"", b"ab", 9, b"sig")
PLAIN = transaction()


@pytest.mark.parametrize(
    "raw",
    [
        transaction(inputs=253),
        transaction(outputs=253),
        transaction(script_sig=bytes(253)),
        transaction(script=bytes(253)),
        transaction(amount=MAX_MONEY_SATS + 1),
        transaction(1, 1, b"", b"ab", 9, *[b""] * 253),
        transaction(1, 1, b"", b"ab", 9, bytes(253)),
        PLAIN[:-1],
        PLAIN + b"\0",
        PLAIN[:4],
        PLAIN[:20],
        SEGWIT[:-1],
        SEGWIT + b"\0",
        SEGWIT[:5] + b"\x02" + SEGWIT[6:],
        SEGWIT[:5] + b"\x00" + SEGWIT[6:],
        PLAIN[:4] + b"\x00\x01" + PLAIN[4:-4] + b"\x00" + PLAIN[-4:],  # a witness form without a witness
        PLAIN[:4] + b"\x00\x01\x00" + PLAIN[46:],
        PLAIN[:4] + b"\x01" + PLAIN[5:46] + b"\x00" + PLAIN[-4:],
        bytes(4) + b"\0\x01\0\x01" + bytes(9) + bytes(4),
        b"",
    ],
)
def test_skim_transaction_given_another_form_leaves_it_to_the_strict_reader(raw: bytes) -> None:
    """Longer counts and lengths, cuts, tails, empty lists, other flags."""
    assert skim_transaction(PLAIN) is not None
    assert skim_transaction(SEGWIT) is not None
    assert skim_transaction(raw) is None


def test_skim_transaction_given_no_inputs_or_outputs_agrees_with_the_strict_reader() -> None:
    """Both refuse them: the fast one by abstaining."""
    for raw in (PLAIN[:4] + b"\x00\x01\x00\x01" + bytes(9) + bytes(5), PLAIN[:46] + b"\x00" + PLAIN[-4:]):
        with pytest.raises(MalformedError):
            parse_transaction(raw)
        assert skim_transaction(raw) is None


ONE_INPUT, ONE_OUTPUT = PLAIN[5:46], PLAIN[47:-4]


@pytest.mark.parametrize(
    "raw",
    [
        bytes(4) + b"\xfd" + ONE_INPUT * 253 + b"\x01" + ONE_OUTPUT + bytes(4),
        bytes(4) + b"\x01" + ONE_INPUT + b"\xfd" + ONE_OUTPUT * 253 + bytes(4),
        bytes(4) + b"\x01" + ONE_INPUT[:36] + b"\xfd" + bytes(253 + 4) + b"\x01" + ONE_OUTPUT + bytes(4),
        bytes(4) + b"\x01" + ONE_INPUT + b"\x01" + bytes(8) + b"\xfd" + bytes(253) + bytes(4),
        PLAIN[:4] + b"\x00\x01" + PLAIN[4:-4] + b"\xfd" + b"\x01a" * 253 + bytes(4),
        PLAIN[:4] + b"\x00\x01" + PLAIN[4:-4] + b"\x01\xfd" + bytes(253) + bytes(4),
    ],
)
def test_skim_transaction_given_fd_as_a_count_of_one_byte_leaves_it_to_the_strict_reader(raw: bytes) -> None:
    """What follows would fit: but 0xfd says that two bytes of count come first."""
    assert skim_transaction(raw) is None
