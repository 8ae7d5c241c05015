"""Attacks on the bytes of a PSBT: what two parsers could read in two ways is read by none (attacks.md section A).

protocol.md wins over attacks.md on sizes: a PSBT may have 2 MiB (architecture.md "Limits").
"""

from __future__ import annotations

import base64
import time
from dataclasses import replace

import pytest

from custody.base58 import decode_check
from custody.errors import MalformedError
from custody.facts import ShapeLimits
from custody.psbt import MAGIC, from_base64, parse, serialize
from custody.psbt_fields import MAX_PSBT_BYTES
from custody.reader import compact_size, sized
from custody.scripts import NUMS
from custody.transaction import Transaction, TxIn, TxOut
from custody.units import MAX_MONEY_SATS, Sats
from tests.fakes.psbts import (
    BOOK,
    COIN_SATS,
    STRANGER,
    Change,
    RawPsbt,
    changed,
    code,
    coin,
    drop,
    put,
    signed_by,
    spend,
    valid,
    with_transaction,
)

FIVE_SATS = (5).to_bytes(8, "little")
POINT = BOOK.script(0, 0).pubkeys[0]
# On both sides of the secp256k1 library's border: x of no point, x beyond the field.
NO_POINTS = (b"\x02" + bytes(32), b"\x02" + b"\xff" * 32)


def refusal(raw: bytes) -> MalformedError:
    """Return the error with which the codec refuses `raw`."""
    with pytest.raises(MalformedError) as caught:
        parse(raw)
    return caught.value


def test_valid_psbt_is_accepted_and_written_back_byte_for_byte() -> None:
    """What every test here changes is valid before the change."""
    raw = serialize(valid())

    assert serialize(parse(raw)) == raw
    assert code(raw) == "OK"


@pytest.mark.parametrize(("kind", "value"), [(3, FIVE_SATS), (4, STRANGER)])
def test_atk_001_v2_key_on_an_output_is_refused(kind: int, value: bytes) -> None:
    """An amount or a script of version 2 cannot stand beside the transaction of version 0."""
    assert code(changed(lambda raw: put(raw.outputs[0], bytes([kind]), value))) == "V2_FIELD"


@pytest.mark.parametrize(("kind", "size"), [(2, 4), (3, 4), (4, 1), (5, 1), (6, 1)])
def test_atk_002_v2_key_in_the_global_map_is_refused(kind: int, size: int) -> None:
    """Version, locktime, counts and flags of version 2 do not override a version 0 transaction."""
    assert code(changed(lambda raw: put(raw.globals, bytes([kind]), b"\x01".ljust(size, b"\0")))) == "V2_FIELD"


@pytest.mark.parametrize(("kind", "value"), [(0x0E, bytes(32)), *((k, bytes(4)) for k in (0x0F, 0x10, 0x11, 0x12))])
def test_atk_003_v2_key_on_an_input_is_refused(kind: int, value: bytes) -> None:
    """Another outpoint, sequence or locktime cannot be slipped in."""
    assert code(changed(lambda raw: put(raw.inputs[0], bytes([kind]), value))) == "V2_FIELD"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (bytes(4), "OK"),
        (b"\x01\0\0\0", "PSBT_VERSION"),
        (b"\x02\0\0\0", "V0_FIELD"),
        (b"\x03\0\0\0", "PSBT_VERSION"),
        (b"\0\0\0\x80", "PSBT_VERSION"),
        (bytes(5), "VALUE_LENGTH"),
        (bytes(3), "VALUE_LENGTH"),
        ((2**40).to_bytes(8, "little"), "VALUE_LENGTH"),
    ],
)
def test_atk_004_version_other_than_its_own_is_refused(value: bytes, expected: str) -> None:
    """Version 0 may be said or left out; all others, in any width, are refused over a version 0 transaction."""
    assert code(changed(lambda raw: put(raw.globals, b"\xfb", value))) == expected


def test_atk_004_version_twice_is_refused() -> None:
    """Two versions are a duplicate key, whatever they say."""
    assert code(changed(lambda raw: raw.globals.extend([(b"\xfb", bytes(4))] * 2))) == "DUPLICATE_KEY"


def test_atk_004_v2_psbt_without_its_version_is_refused() -> None:
    """A version 2 PSBT needs its fields; without the version those fields give it away."""
    fields = [(b"\x02", b"\x02\0\0\0"), (b"\x04", b"\x01"), (b"\x05", b"\x01")]
    version_2 = RawPsbt([*fields, (b"\xfb", b"\x02\0\0\0")], [[]], [[]])

    assert code(version_2.to_bytes()) == "FIELD_REQUIRED"
    assert code(RawPsbt(fields, [[]], [[]]).to_bytes()) == "V2_FIELD"


@pytest.mark.parametrize("where", ["globals", "input", "output"])
def test_atk_009_each_key_twice_is_refused_in_every_map(where: str) -> None:
    """First or last wins nowhere: the second is refused even where it says the same."""
    maps = {
        "globals": [(b"\0", b""), (b"\x77", b"x")],
        "input": [*((field.key, field.value) for field in valid().inputs[0].fields), (b"\x77", b"x")],
        "output": [*((field.key, field.value) for field in valid().outputs[1].fields), (b"\x77", b"x")],
    }

    for key, value in maps[where]:

        def twice(raw: RawPsbt, key: bytes = key, value: bytes = value) -> None:
            pairs = {"globals": raw.globals, "input": raw.inputs[0], "output": raw.outputs[1]}[where]
            known = any(found == key for found, _ in pairs)
            pairs.extend([(key, value)] * (1 if known else 2))

        assert code(changed(twice)) == "DUPLICATE_KEY", key.hex()


@pytest.mark.parametrize("kind", [0x00, 0x01, 0x03, 0x04, 0x05, 0x07, 0x08, 0x09, 0x13, 0x17, 0x18])
def test_atk_010_more_key_data_behind_a_bare_input_type_is_refused(kind: int) -> None:
    """`00 00` is no second previous transaction."""
    assert code(changed(lambda raw: raw.inputs[0].append((bytes([kind, 0]), bytes(64))))) == "KEY_LENGTH"


@pytest.mark.parametrize("kind", [0x00, 0x01, 0x05, 0x06])
def test_atk_010_more_key_data_behind_a_bare_output_type_is_refused(kind: int) -> None:
    """As for inputs."""
    assert code(changed(lambda raw: raw.outputs[1].append((bytes([kind, 0]), bytes(32))))) == "KEY_LENGTH"


@pytest.mark.parametrize("key", [b"\x00\x00", b"\xfb\x00"])
def test_atk_010_more_key_data_behind_a_bare_global_type_is_refused(key: bytes) -> None:
    """As for inputs."""
    assert code(changed(lambda raw: raw.globals.append((key, bytes(4))))) == "KEY_LENGTH"


HIDDEN: dict[str, Change] = {
    "global_unknown": lambda raw: put(raw.globals, b"\x77", b"run this"),
    "input_unknown": lambda raw: put(raw.inputs[0], b"\x77", b"run this"),
    "output_unknown": lambda raw: put(raw.outputs[0], b"\x77", b"run this"),
    "long_type": lambda raw: put(raw.inputs[0], b"\xfd\x00\x01", b""),
    "global_proprietary": lambda raw: put(raw.globals, b"\xfc\x02me\x01", b"data"),
    "input_proprietary": lambda raw: put(raw.inputs[1], b"\xfc\x02me\x01", b"data"),
    "output_proprietary": lambda raw: put(raw.outputs[1], b"\xfc\x02me\x01", b"data"),
    "a_megabyte": lambda raw: put(raw.inputs[0], b"\x77", bytes(1_000_000)),
    "ten_thousand": lambda raw: raw.inputs[0].extend((b"\x77%d" % at, b"") for at in range(10_000)),
    "redeem_script": lambda raw: put(raw.inputs[0], b"\x04", b"\x51"),
    "taproot": lambda raw: put(raw.inputs[0], b"\x17", bytes(32)),
}


@pytest.mark.parametrize("hidden", HIDDEN)
def test_atk_011_field_that_nobody_judges_is_kept_by_the_codec_and_refused_by_signers(hidden: str) -> None:
    """The codec keeps unknown bytes exactly, so nothing is dropped unseen; read_facts refuses them."""
    raw = changed(HIDDEN[hidden])

    assert serialize(parse(raw)) == raw
    assert code(raw) == "UNKNOWN_FIELD"


@pytest.mark.parametrize("key", [b"\xfc", b"\xfc\x05me", b"\xfc\x02me", b"\xfc\xfd\x02\x00me\x01"])
def test_atk_011_malformed_proprietary_key_is_refused(key: bytes) -> None:
    """A proprietary key has an identifier behind its length and a subtype (BIP-174)."""
    assert code(changed(lambda raw: put(raw.inputs[0], key, b""))) in ("TRUNCATED", "NOT_MINIMAL")


def test_atk_012_longer_compact_size_than_needed_is_refused_everywhere() -> None:
    """Counts, key lengths, value lengths and key types have one spelling."""
    raw = serialize(valid())
    transaction = valid().transaction.serialize_stripped()
    long_count = transaction.replace(b"\x02\0\0\0\x02", b"\x02\0\0\0\xfd\x02\0", 1)

    assert code(MAGIC + b"\xfd\x01\x00" + raw[6:]) == "NOT_MINIMAL"
    assert code(
        raw.replace(b"\x01\x00" + sized(transaction)[:1], b"\x01\x00\xfd" + sized(transaction)[:1] + b"\0", 1)
    ) == ("NOT_MINIMAL")
    assert code(changed(lambda p: put(p.globals, b"\0", long_count))) == "NOT_MINIMAL"
    assert code(changed(lambda p: put(p.inputs[0], b"\xfd\x77\x00", b""))) == "NOT_MINIMAL"


HUGE = {
    "key_length": MAGIC + b"\xff" * 9,
    "value_length": MAGIC + b"\x01\x00" + b"\xff" * 9,
    "value_of_4_gib": MAGIC + b"\x01\x00\xfe\xff\xff\xff\xff",
    "inputs": MAGIC + b"\x01\x00" + sized(b"\x02\0\0\0\xfe\0\0\0\x80" + bytes(9)),
    "outputs": MAGIC + b"\x01\x00" + sized(b"\x02\0\0\0\x01" + bytes(41) + b"\xfe\0\0\0\x80" + bytes(9)),
    "v2_inputs": MAGIC + b"\x01\x04\x05\xfe\0\0\0\x80\x01\x05\x01\x01\x01\xfb\x04\x02\0\0\0\0",
}


@pytest.mark.parametrize("huge", HUGE)
def test_atk_013_count_or_length_above_the_bytes_that_are_there_is_refused_at_once(huge: str) -> None:
    """Nothing is allocated or looped for a number that only claims to be there; embit hangs on the last of these."""
    begin = time.process_time()
    found = refusal(HUGE[huge])

    assert found.code in ("TRUNCATED", "COUNT_TOO_LARGE", "PSBT_VERSION")
    assert time.process_time() - begin < 0.5


def test_atk_013_leaf_hash_count_of_2_to_the_31_is_refused_at_once() -> None:
    """133 bytes that hang embit for ever."""
    raw = changed(lambda p: put(p.inputs[0], b"\x16" + NUMS, b"\xfe\0\0\0\x80" + bytes(4)))

    assert refusal(raw).code == "COUNT_TOO_LARGE"


def test_atk_013_witness_stack_of_2_to_the_31_items_is_refused_at_once() -> None:
    """The items of a final witness are counted against the bytes that are there."""
    assert refusal(changed(lambda p: put(p.inputs[0], b"\x08", b"\xfe\0\0\0\x80"))).code == "COUNT_TOO_LARGE"


def test_atk_014_truncation_at_every_byte_is_refused() -> None:
    """No prefix of a PSBT is a PSBT, and each refusal says where it happened."""
    raw = serialize(spend(1))

    for end in range(len(raw)):
        found = refusal(raw[:end])
        assert 0 <= found.offset <= end, end


def test_atk_014_previous_transaction_cut_at_every_byte_is_refused() -> None:
    """A previous transaction without its last bytes (its locktime) is none."""
    whole = valid().inputs[0].fields[0].value

    for end in range(len(whole)):
        assert code(changed(lambda raw, end=end: put(raw.inputs[0], b"\0", whole[:end]))) != "OK", end  # type: ignore[misc]


@pytest.mark.parametrize("tail", [b"\0", b"\xff", MAGIC, b"\n"])
def test_atk_015_bytes_after_the_end_are_refused(tail: bytes) -> None:
    """A PSBT ends with its last map."""
    assert code(serialize(valid()) + tail) == "TRAILING_BYTES"
    assert code(serialize(valid()) * 2) == "TRAILING_BYTES"


def test_atk_016_previous_transaction_longer_or_shorter_than_its_field_is_refused() -> None:
    """Its length and its own end must agree: other keys cannot appear from inside it."""
    whole = valid().inputs[0].fields[0].value
    hidden = sized(b"\x03") + sized(b"\x02\0\0\0")

    assert code(changed(lambda raw: put(raw.inputs[0], b"\0", whole + hidden))) == "TRAILING_BYTES"
    assert code(changed(lambda raw: put(raw.inputs[0], b"\0", whole[:-1]))) == "TRUNCATED"


BASE64_LIES = {
    "newline": lambda text: text + "\n",
    "space_inside": lambda text: text[:8] + " " + text[8:],
    "junk_inside": lambda text: text[:8] + "!" + text[8:],
    "padding_more": lambda text: text + "=",
    "padding_twice": lambda text: text + "====",
    "url_alphabet": lambda text: text.replace("/", "_", 1).replace("+", "-", 1),
    "byte_order_mark": lambda text: "\ufeff" + text,
    "cut": lambda text: text[:-1],
    "full_width": lambda text: text.replace("c", "\uff43", 1),
}


@pytest.mark.parametrize("lie", BASE64_LIES)
def test_atk_017_base64_of_another_spelling_is_refused(lie: str) -> None:
    """One text stands for one PSBT."""
    text = base64.b64encode(serialize(valid())).decode()
    assert from_base64(text) == serialize(valid())

    with pytest.raises(MalformedError, match="PSBT_BASE64"):
        from_base64(BASE64_LIES[lie](text))


def test_atk_017_base64_with_loose_bits_or_hex_or_too_long_is_refused() -> None:
    """Bits behind the last byte must be zero; hex is not base64; size is bounded before decoding."""
    text = base64.b64encode(b"x" * 7).decode()
    loose = text[:-3] + chr(ord(text[-3]) + 1) + text[-2:]

    for lie in (loose, MAGIC.hex().upper() + "=", "A" * (MAX_PSBT_BYTES * 2)):
        with pytest.raises(MalformedError, match=r"PSBT_BASE64|PSBT_TOO_LARGE"):
            from_base64(lie)
    assert code(MAGIC.hex().upper().encode()) == "PSBT_MAGIC"


def test_atk_018_transaction_with_script_sig_or_witness_is_refused() -> None:
    """The global transaction is unsigned, and only in the old form."""
    plain = valid().transaction
    script_sig = replace(plain, inputs=(replace(plain.inputs[0], script_sig=b"\x51"), *plain.inputs[1:]))
    witness = replace(plain, inputs=(replace(plain.inputs[0], witness=(b"x",)), *plain.inputs[1:]))
    empty_witness = b"\x02\0\0\0\x00\x01" + plain.serialize_stripped()[4:-4] + bytes(2) + bytes(4)

    for signed in (script_sig.serialize(), witness.serialize()):
        assert code(changed(lambda raw, signed=signed: put(raw.globals, b"\0", signed))) == "TX_NOT_UNSIGNED"  # type: ignore[misc]
    assert code(changed(lambda raw: put(raw.globals, b"\0", empty_witness))) == "WITNESS_EMPTY"


@pytest.mark.parametrize(
    ("transaction", "expected"),
    [
        (b"\x02\0\0\0\x00\x00" + bytes(4), "WITNESS_FLAG"),
        (b"\x02\0\0\0\x00\x01" + TxOut(Sats(5), STRANGER).serialize() + bytes(4), "COUNT_TOO_LARGE"),
        (b"\x02\0\0\0\x01" + bytes(41) + b"\x00" + bytes(4), "NO_OUTPUTS"),
    ],
)
def test_atk_019_transaction_without_inputs_or_outputs_is_refused(transaction: bytes, expected: str) -> None:
    """No inputs look like a witness marker: refused by policy, as Core's own RPC cannot tell them apart."""
    assert code(RawPsbt([(b"\0", transaction)], [[]], []).to_bytes()) == expected


@pytest.mark.parametrize("amount", [MAX_MONEY_SATS + 1, 2**63, 2**64 - 1])
def test_atk_020_amount_beyond_all_money_is_refused_at_parse(amount: int) -> None:
    """In the transaction, in the claimed output and in the previous transaction."""
    plain, wide = valid().transaction.serialize_stripped(), amount.to_bytes(8, "little")
    paid = valid().transaction.outputs[0].amount.to_bytes(8, "little")
    previous, held = valid().inputs[0].fields[0].value, COIN_SATS.to_bytes(8, "little")
    claimed = valid().inputs[0].fields[1].value

    assert code(changed(lambda raw: put(raw.globals, b"\0", plain.replace(paid, wide, 1)))) == "AMOUNT_OUT_OF_RANGE"
    assert code(changed(lambda raw: put(raw.inputs[0], b"\0", previous.replace(held, wide)))) == "AMOUNT_OUT_OF_RANGE"
    assert code(changed(lambda raw: put(raw.inputs[0], b"\x01", claimed.replace(held, wide)))) == "AMOUNT_OUT_OF_RANGE"


def test_atk_020_outputs_above_inputs_or_above_all_money_are_refused() -> None:
    """A fee is never negative, and a sum never above 21 million coins."""
    outputs = valid().transaction.outputs
    more = (TxOut(Sats(2 * COIN_SATS), STRANGER), *outputs[1:])
    all_money = (TxOut(Sats(MAX_MONEY_SATS), STRANGER), *outputs[1:])

    for lie in (more, all_money):
        assert code(serialize(with_transaction(valid(), replace(valid().transaction, outputs=lie)))) == "MONEY"


def test_atk_020_fee_of_nothing_is_no_lie_about_money() -> None:
    """Outputs may equal inputs: whether that fee is enough is for rules and relay."""
    change = valid().transaction.outputs[1]
    outputs = (TxOut(Sats(2 * COIN_SATS - change.amount), STRANGER), change)

    assert code(serialize(with_transaction(valid(), replace(valid().transaction, outputs=outputs)))) == "OK"


def test_atk_021_same_outpoint_twice_is_refused() -> None:
    """One coin counts once (CVE-2018-17144)."""

    def twice(raw: RawPsbt) -> None:
        first = valid().transaction.inputs[0]
        put(raw.globals, b"\0", replace(valid().transaction, inputs=(first, first)).serialize_stripped())
        raw.inputs[1] = list(raw.inputs[0])

    assert code(changed(twice)) == "DUPLICATE_OUTPOINT"


def test_atk_022_psbt_above_2_mib_is_refused_by_its_size_alone() -> None:
    """Size comes first (2 MiB: architecture.md "Limits"); the network's weight limit is the relay check's."""
    begin = time.process_time()

    assert refusal(serialize(valid()).ljust(MAX_PSBT_BYTES + 1, b"\0")).code == "PSBT_TOO_LARGE"
    assert refusal(serialize(valid()).ljust(MAX_PSBT_BYTES, b"\0")).code == "TRAILING_BYTES"
    assert time.process_time() - begin < 0.5


def test_atk_022_as_many_inputs_as_fit_are_answered_soon() -> None:
    """49,000 inputs without anything to prove them cost time in proportion to their bytes (0.8 s here)."""
    inputs = tuple(TxIn(replace(coin(0).outpoint, vout=at)) for at in range(49_000))
    many = Transaction(2, inputs, valid().transaction.outputs).serialize_stripped()
    raw = MAGIC + b"\x01\x00" + compact_size(len(many)) + many + bytes(1 + len(inputs) + 2)
    assert len(raw) <= MAX_PSBT_BYTES
    begin = time.process_time()

    assert code(raw) == "PREVIOUS_MISSING"
    assert time.process_time() - begin < 2


def test_atk_023_transaction_version_other_than_2_is_refused() -> None:
    """Version 0 stays 0 here (embit makes it 2), and is refused like 1, 3 and 2^32 - 1."""
    for version in (0, 1, 3, 2**32 - 1):
        lie = with_transaction(valid(), replace(valid().transaction, version=version))
        assert lie.transaction.version == version
        assert code(serialize(lie)) == "TX_VERSION"


BAD_KEYS = {
    "off_curve": (NO_POINTS[0], "PUBKEY"),
    "beyond_the_field": (NO_POINTS[1], "PUBKEY"),
    "prefix_04": (b"\x04" + POINT[1:], "PUBKEY"),
    "prefix_00": (b"\x00" + POINT[1:], "PUBKEY"),
    "hybrid": (b"\x06" + POINT[1:] + bytes(32), "KEY_LENGTH"),
    "uncompressed": (b"\x04" + POINT[1:] + bytes(32), "KEY_LENGTH"),
    "short": (POINT[:-1], "KEY_LENGTH"),
    "x_only": (POINT[1:], "KEY_LENGTH"),
    "long": (POINT + b"\0", "KEY_LENGTH"),
}


@pytest.mark.parametrize("bad", BAD_KEYS)
def test_atk_024_key_that_is_no_compressed_point_is_refused_in_every_field(bad: str) -> None:
    """In signatures and derivations, of inputs and outputs."""
    pubkey, expected = BAD_KEYS[bad]

    assert code(changed(lambda raw: put(raw.inputs[0], b"\x02" + pubkey, bytes(70)))) == expected
    assert code(changed(lambda raw: put(raw.inputs[0], b"\x06" + pubkey, bytes(8)))) == expected
    assert code(changed(lambda raw: put(raw.outputs[1], b"\x02" + pubkey, bytes(8)))) == expected


@pytest.mark.parametrize("xonly", [bytes(32), b"\xff" * 32, bytes(31) + b"\x05"], ids=["zero", "no_field", "no_point"])
def test_atk_024_x_only_key_that_is_no_point_is_refused_in_every_field(xonly: bytes) -> None:
    """In taproot's signatures and derivations, of inputs and outputs; x = 5 is on no point of the curve."""
    assert code(changed(lambda raw: put(raw.inputs[0], b"\x14" + xonly + bytes(32), bytes(64)))) == "PUBKEY"
    assert code(changed(lambda raw: put(raw.inputs[0], b"\x16" + xonly, b"\x00" + bytes(8)))) == "PUBKEY"
    assert code(changed(lambda raw: put(raw.outputs[1], b"\x07" + xonly, b"\x00" + bytes(8)))) == "PUBKEY"


def test_atk_024_hint_of_the_other_parity_points_nowhere_and_changes_nothing() -> None:
    """A derivation under 03.. where the key is 02..: hints prove nothing, facts stay the same."""

    def flip(raw: RawPsbt) -> None:
        (key, value), *rest = [pair for pair in raw.inputs[0] if pair[0][0] == 6]
        drop(raw.inputs[0], 6)
        raw.inputs[0].extend([(b"\x06" + bytes([key[1] ^ 1]) + key[2:], value), *rest])

    assert code(changed(flip)) == "OK"


def test_atk_026_every_byte_of_a_field_set_to_any_value_raises_no_foreign_exception() -> None:
    """The smallest spend, each byte given eight other values: OK or a code of ours, nothing else."""
    raw = serialize(spend(1))

    for at in range(len(raw)):
        for bit in range(8):
            lie = raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]
            assert isinstance(code(lie, ShapeLimits()), str)


def test_signatures_inside_the_psbt_are_refused_by_signers() -> None:
    """protocol.md "Bundle": the PSBT carries no signatures; those collected travel beside it."""
    for field in (
        (b"\x02" + POINT, signed_by(0, valid())[0].signature),
        (b"\x07", b"\x51"),
        (b"\x08", b"\x01\x01x"),
    ):
        assert code(changed(lambda raw, field=field: raw.inputs[0].append(field))) == "PSBT_HAS_SIGNATURES"  # type: ignore[misc]


@pytest.mark.parametrize(("kind", "key_bytes"), [(0x0A, 20), (0x0B, 32), (0x0C, 20), (0x0D, 32)])
def test_hash_preimage_under_a_hash_of_another_length_is_refused(kind: int, key_bytes: int) -> None:
    """The codec knows these fields (BIP-174), and signers judge none of them."""
    for size, expected in ((key_bytes - 1, "KEY_LENGTH"), (key_bytes, "UNKNOWN_FIELD"), (key_bytes + 1, "KEY_LENGTH")):
        key = bytes([kind]) + bytes(size)
        assert code(changed(lambda raw, key=key: put(raw.inputs[0], key, b"x"))) == expected  # type: ignore[misc]


def test_global_xpub_whose_path_is_not_of_its_depth_is_refused() -> None:
    """An extended key of depth 4 has four steps above it."""
    xpub, origin = decode_check(BOOK.wallet.keys[0].xpub), BOOK.wallet.keys[0].origin

    for path, expected in ((origin, "OK"), (origin[:-4], "VALUE_LENGTH"), (origin + bytes(4), "VALUE_LENGTH")):
        assert code(changed(lambda raw, path=path: put(raw.globals, b"\x01" + xpub, path))) == expected  # type: ignore[misc]
