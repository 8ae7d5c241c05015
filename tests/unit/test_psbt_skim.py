"""The fast reader at its edges: what it takes, byte for byte, and where it leaves the judging to the strict one."""

from __future__ import annotations

from itertools import pairwise

import pytest

from custody import psbt_skim
from custody.errors import MalformedError
from custody.psbt import NOTHING
from custody.psbt_skim import Earlier, Known, Rules, Tail, skim_map, skim_own, skim_transaction, spent_output
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
SPENT = TxOut(Sats(7), SCRIPT)
PREVIOUS = Transaction(2, (TxIn(OutPoint(bytes(32), 0)),), (TxOut(Sats(5), b"other"), SPENT))
COIN = OutPoint(PREVIOUS.txid, 1)
TAIL = Tail(
    b"\x01\x01\x13", pair(b"\x05", b"witness") + pair(b"\x06" + POINT, PATH) + b"\0", 1 << 5 | 1 << 6, SCRIPT, 0, 9
)
OWN = pair(b"\0", PREVIOUS.serialize()) + pair(b"\x01", SPENT.serialize()) + TAIL.raw


def own(raw: bytes, coin: OutPoint = COIN, earlier: Earlier | None = None) -> tuple[bytes, Tail, int] | None:
    """Return what is read of a map of ours behind two other bytes."""
    return skim_own(BEFORE + raw, len(BEFORE), coin, {SCRIPT: TAIL}, {} if earlier is None else earlier)


def test_skim_own_given_what_the_wallet_writes_proves_all_of_it_in_one_step() -> None:
    """The spent output, whose it is, and where the map ends; whatever comes behind."""
    assert own(OWN) == (SPENT.serialize(), TAIL, len(BEFORE) + len(OWN))
    assert own(OWN + b"rest") == own(OWN)
    wide = Transaction(2, PREVIOUS.inputs, (*PREVIOUS.outputs, *[SPENT] * 9))
    raw = pair(b"\0", wide.serialize()) + pair(b"\x01", SPENT.serialize()) + TAIL.raw
    assert len(wide.serialize()) > 252
    assert own(raw, OutPoint(wide.txid, 7)) == (SPENT.serialize(), TAIL, len(BEFORE) + len(raw))


def test_skim_own_given_any_other_byte_leaves_it_to_the_others() -> None:
    """One changed bit anywhere, or one byte less."""
    for at in range(len(OWN)):
        assert own(OWN[:at] + bytes([OWN[at] ^ 1]) + OWN[at + 1 :]) is None
        assert own(OWN[:at]) is None


@pytest.mark.parametrize(
    ("raw", "coin"),
    [
        (OWN, OutPoint(COIN.txid, 0)),
        (OWN, OutPoint(COIN.txid, 2)),
        (OWN, OutPoint(bytes(32), 1)),
        (b"\x01\x00\xfd\x54\x00" + OWN[3:], COIN),  # longer spellings of the length
        (b"\x01\x00\xfe\x54\x00\x00\x00" + OWN[3:], COIN),
        (pair(b"\x01", SPENT.serialize()) + pair(b"\0", PREVIOUS.serialize()) + TAIL.raw, COIN),
        (pair(b"\0", PREVIOUS.serialize()) + TAIL.raw, COIN),
        (pair(b"\0", PREVIOUS.serialize()) + pair(b"\x01", TxOut(Sats(8), SCRIPT).serialize()) + TAIL.raw, COIN),
    ],
)
def test_skim_own_given_another_coin_claim_or_order_leaves_it_to_the_others(raw: bytes, coin: OutPoint) -> None:
    """Another output of it, another transaction, other spellings, a claimed amount that is not the proven one."""
    assert len(PREVIOUS.serialize()) == 0x54
    assert own(raw, coin) is None


def test_spent_output_given_a_transaction_reads_it_once_for_all_that_spend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other bytes under a txid that was read are hashed; what hashes to another one is not remembered."""
    raw, other = PREVIOUS.serialize(), Transaction(1, PREVIOUS.inputs, PREVIOUS.outputs).serialize()
    hashed: list[bytes] = []

    def spy(raw: bytes, at: int, end: int) -> tuple[bytes, list[int]] | None:
        hashed.append(raw[at:end])
        return skim_transaction(raw, at, end)

    monkeypatch.setattr(psbt_skim, "skim_transaction", spy)
    earlier: Earlier = {}
    assert spent_output(raw, 0, len(raw), COIN, earlier) == SPENT.serialize()
    assert (
        spent_output(b"in" + raw, 2, 2 + len(raw), OutPoint(COIN.txid, 0), earlier)
        == TxOut(Sats(5), b"other").serialize()
    )
    assert spent_output(raw, 0, len(raw), OutPoint(COIN.txid, 2), earlier) == b""
    assert hashed == [raw]
    assert spent_output(other, 0, len(other), COIN, earlier) is None
    assert hashed == [raw, other]
    assert list(earlier) == [COIN.txid]


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


def read(raw: bytes, at: int = 0, end: int | None = None) -> tuple[bytes, list[bytes]] | None:
    """Return what the fast reader reads of a transaction: txid and outputs."""
    found = skim_transaction(raw, at, len(raw) if end is None else end)
    return found and (found[0], [raw[start:stop] for start, stop in pairwise(found[1])])


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

    assert read(raw) == read(b"in front" + raw + b"behind", 8, 8 + len(raw))
    assert read(raw) == (hash256(strict.serialize_stripped()), [found.serialize() for found in strict.outputs])


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
    assert read(PLAIN) is not None
    assert read(SEGWIT) is not None
    assert read(raw) is None


def test_skim_transaction_given_no_inputs_or_outputs_agrees_with_the_strict_reader() -> None:
    """Both refuse them: the fast one by abstaining."""
    for raw in (PLAIN[:4] + b"\x00\x01\x00\x01" + bytes(9) + bytes(5), PLAIN[:46] + b"\x00" + PLAIN[-4:]):
        with pytest.raises(MalformedError):
            parse_transaction(raw)
        assert read(raw) is None


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
    assert read(raw) is None
