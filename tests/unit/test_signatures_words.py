"""Signatures field by field: what is written for signers, taken back from them, filed, rejected and finalised."""

from __future__ import annotations

from dataclasses import replace

import pytest

from custody import curve, signatures
from custody.errors import IntegrityError, MalformedError
from custody.finalise import finalize, signatures_in
from custody.psbt import Psbt, PsbtInput, convert, parse, serialize
from custody.psbt_fields import Field
from custody.reader import sized
from custody.scripts import NUMS, Template, leaf_hash_of
from custody.sighash import segwit_digests, shared_message
from custody.signatures import (
    InputSignature,
    Rejected,
    accept,
    from_foreign_psbt,
    is_signed,
    sighashes,
    with_signatures,
    without_signatures,
)
from custody.transaction import Transaction, TxIn, TxOut
from custody.units import Sats
from custody.updater import build
from custody.wallet import ScriptBook
from tests.attacks.test_signatures import other_signature
from tests.fakes.psbts import (
    BOOK,
    PAID_SATS,
    STRANGER,
    Pair,
    RawPsbt,
    coin,
    drop,
    facts_of,
    put,
    signed_by,
    spend,
    valid,
    wallet_of,
)
from tests.fakes.spends import bip143_digest, with_high_s

BOOKS = {
    template: BOOK if template is Template.WSH else ScriptBook(wallet_of(template=template)) for template in Template
}
TR = BOOKS[Template.TR]
TR_PSBT = spend(book=TR)
FIRST, SECOND = signed_by(0, valid()), signed_by(1, valid())
TR_FIRST = signed_by(0, TR_PSBT, book=TR)
STRANGERS_KEY = curve.public_key(b"\x09" * 32)


def rejected(signature: InputSignature, book: ScriptBook = BOOK) -> list[tuple[str, int | None]]:
    """Return why `signature` beside those of cosigner 0 is not filed: code and whose it claims to be."""
    psbt, honest = (valid(), FIRST) if book is BOOK else (TR_PSBT, TR_FIRST)
    found = accept(psbt, facts_of(psbt, book), book, (*honest, signature))
    assert found.signed == {0}
    assert all(isinstance(one, Rejected) and one.signature is signature for one in found.rejected)
    return [(one.code, one.key_index) for one in found.rejected]


def test_accept_given_one_bad_signature_says_which_check_it_fails() -> None:
    """Input, key, type, signature, in this order; those of cosigner 0 stand all the while."""
    good = SECOND[1]
    assert rejected(good) == []
    assert rejected(FIRST[0]) == []
    assert rejected(replace(FIRST[0])) == []
    assert rejected(replace(good, input_index=-1)) == [("SIGNATURE_INPUT", None)]
    assert rejected(replace(good, input_index=2)) == [("SIGNATURE_INPUT", None)]
    assert rejected(replace(good, input_index=0)) == [("SIGNATURE_KEY", None)]
    assert rejected(replace(good, signature=good.signature[:-1] + b"\x02")) == [("SIGNATURE_TYPE", 1)]
    assert rejected(replace(good, signature=b"")) == [("SIGNATURE_TYPE", 1)]
    assert rejected(replace(good, signature=with_high_s(good.signature))) == [("SIGNATURE_INVALID", 1)]
    assert rejected(replace(good, signature=FIRST[1].signature)) == [("SIGNATURE_INVALID", 1)]


def test_accept_given_a_bad_taproot_signature_says_which_check_it_fails() -> None:
    """65 bytes name a type; all other lengths are no signature."""
    good = signed_by(1, TR_PSBT, book=TR)[1]
    assert rejected(good, TR) == []
    assert rejected(replace(good, signature=good.signature + b"\x01"), TR) == [("SIGNATURE_TYPE", 1)]
    assert rejected(replace(good, signature=good.signature + b"\0\0"), TR) == [("SIGNATURE_INVALID", 1)]
    assert rejected(replace(good, signature=good.signature[:-1]), TR) == [("SIGNATURE_INVALID", 1)]
    assert rejected(replace(good, signature=TR_FIRST[1].signature), TR) == [("SIGNATURE_INVALID", 1)]
    assert rejected(replace(good, input_index=0), TR) == [("SIGNATURE_KEY", None)]


def test_accept_given_a_second_valid_signature_of_a_key_keeps_the_first() -> None:
    """Another nonce makes another valid signature: one is filed."""
    facts = facts_of(valid())
    other = other_signature()
    found = accept(valid(), facts, BOOK, (*FIRST, other))

    assert [(one.signature, one.code, one.key_index) for one in found.rejected] == [(other, "SIGNATURE_DIFFERS", 0)]
    assert found.by_input == ({0: FIRST[0]}, {0: FIRST[1]})
    assert (found.threshold, set(found.signed), found.lacking) == (2, {0}, 1)
    assert accept(valid(), facts, BOOK, (other, *FIRST)).by_input[0] == {0: other}


def test_accept_given_bad_signatures_first_files_the_good_ones_behind_them() -> None:
    """Whatever is sent in front keeps nobody from signing."""
    facts = facts_of(valid())
    bad = (replace(FIRST[0], input_index=9), replace(FIRST[0], pubkey=STRANGERS_KEY), replace(FIRST[0], signature=b""))

    for one in (*bad, replace(FIRST[0], signature=SECOND[0].signature)):
        assert accept(valid(), facts, BOOK, (one, *FIRST)).by_input == ({0: FIRST[0]}, {0: FIRST[1]})


def test_accept_given_signatures_of_some_inputs_counts_nobody() -> None:
    """A cosigner counts with every input signed."""
    found = accept(valid(), facts_of(valid()), BOOK, (FIRST[0], SECOND[1]))

    assert found.signed == frozenset()
    assert found.by_input == ({0: FIRST[0]}, {1: SECOND[1]})
    assert (found.lacking, found.is_complete) == (2, False)
    assert found.of([0, 1]) == (FIRST[0], SECOND[1])
    assert found.of([2]) == ()


def pairs_of(found: PsbtInput) -> list[Pair]:
    """Return keys and values, in order."""
    return [(field.key, field.value) for field in found.fields]


def test_with_signatures_puts_each_once_in_the_order_of_types() -> None:
    """Sorted by key, behind the claimed output and before the sighash type; the last one in where none is behind."""
    signed = with_signatures(valid(), (*SECOND, *FIRST, *FIRST))
    for at, found in enumerate(signed.inputs):
        expected = sorted([(b"\x02" + one[at].pubkey, one[at].signature) for one in (FIRST, SECOND)])
        before = pairs_of(valid().inputs[at])
        assert pairs_of(found) == [*before[:2], *expected, *before[2:]]
    assert signed.outputs == valid().outputs
    bare = replace(valid(), inputs=tuple(PsbtInput(found.fields[:1]) for found in valid().inputs))
    last = with_signatures(bare, FIRST[:1])
    assert pairs_of(last.inputs[0]) == [pairs_of(bare.inputs[0])[0], (b"\x02" + FIRST[0].pubkey, FIRST[0].signature)]
    assert last.inputs[1] is bare.inputs[1]


def test_with_signatures_given_two_of_one_key_keeps_the_smaller() -> None:
    """One per key, whatever the order in which they come."""
    small, large = (replace(FIRST[0], signature=value) for value in (b"\x01" * 9, b"\x02" * 9))
    for both in ((small, large), (large, small)):
        found = with_signatures(valid(), both).inputs[0]
        assert found.partial_signatures == ((FIRST[0].pubkey, small.signature),)


def test_with_signatures_given_some_that_are_there_puts_others_behind_them() -> None:
    """What stands there stays in front."""
    both = with_signatures(with_signatures(valid(), SECOND), FIRST)

    assert [pubkey for pubkey, _ in both.inputs[0].partial_signatures] == [SECOND[0].pubkey, FIRST[0].pubkey]


@pytest.mark.parametrize("template", Template)
def test_from_foreign_psbt_given_the_final_witness_of_one_input_picks_what_is_signed(template: Template) -> None:
    """A transaction of one input is the smallest there is."""
    book = BOOKS[template]
    psbt = spend(1, book=book)
    made = [signed_by(at, psbt, book=book)[0] for at in (0, 2)]

    found = taken(with_witnesses(psbt, tuple(one.signature for one in made)), psbt)

    assert set(found) == set(made)


def test_with_signatures_given_taproot_names_the_leaf() -> None:
    """BIP-371: x-only key and leaf hash; without the leaf there is nothing to name."""
    signed = with_signatures(TR_PSBT, TR_FIRST)
    for at, found in enumerate(signed.inputs):
        leaf_hash = TR.script(at % 2, 5 + at).leaf_hash
        key = b"\x14" + TR_FIRST[at].pubkey + leaf_hash
        assert (key, TR_FIRST[at].signature) in pairs_of(found)
        assert [field.type for field in found.fields] == [0, 1, 0x14, 0x15, 0x16, 0x16, 0x16, 0x17, 0x18]
    assert without_signatures(signed) == TR_PSBT
    assert without_signatures(with_signatures(valid(), FIRST)) == valid()
    bare = replace(TR_PSBT, inputs=tuple(PsbtInput(found.fields[:2]) for found in TR_PSBT.inputs))
    with pytest.raises(MalformedError) as raised:
        with_signatures(bare, TR_FIRST)
    assert str(raised.value) == ("TAP_LEAF_MISSING: expected the leaf script in each input of a taproot wallet")


OURS = parse(serialize(valid()), BOOK.known)
EXPORT = serialize(with_signatures(valid(), (*FIRST, *SECOND)))


def taken(raw: bytes, ours: Psbt = OURS) -> tuple[InputSignature, ...] | str:
    """Return the signatures that are taken from `raw`, or the refusal."""
    try:
        return from_foreign_psbt(ours, raw)
    except MalformedError as error:
        return str(error)


def by_key(*of_one_input: InputSignature) -> list[InputSignature]:
    """Return the signatures of one input in the order of their keys."""
    return sorted(of_one_input)


BOTH = (*by_key(FIRST[0], SECOND[0]), *by_key(FIRST[1], SECOND[1]))


def test_from_foreign_psbt_given_ours_with_signatures_takes_them() -> None:
    """In the usual form in one step, in version 2 by the strict reader: the same."""
    assert taken(EXPORT) == BOTH
    assert signatures._beside_ours(OURS, EXPORT) == BOTH
    assert taken(serialize(convert(parse(EXPORT), 2))) == BOTH
    assert taken(serialize(valid())) == ()
    assert signatures._beside_ours(OURS, serialize(valid())) == ()
    one = serialize(with_signatures(valid(), SECOND[1:]))
    assert taken(one) == signatures._beside_ours(OURS, one) == SECOND[1:]


def test_from_foreign_psbt_given_another_transaction_refuses() -> None:
    """It names ours."""
    assert taken(serialize(spend(1))) == (f"FOREIGN_TRANSACTION: expected transaction {valid().transaction.txid_hex}")


SIGNATURE_AT = EXPORT.index(b"\x22\x02" + BOTH[0].pubkey)


def entry(pubkey: bytes, value: bytes) -> bytes:
    """Return a partial signature as it stands in a map."""
    return sized(b"\x02" + pubkey) + sized(value)


@pytest.mark.parametrize(
    "raw",
    [
        EXPORT[:-1],
        EXPORT + b"\0",
        EXPORT[:SIGNATURE_AT],
        EXPORT[: SIGNATURE_AT + 1],
        EXPORT[: SIGNATURE_AT + 20],
        EXPORT[: SIGNATURE_AT + 36],
        b"",
        EXPORT[:5],
        b"q" + EXPORT[1:],
        EXPORT[:SIGNATURE_AT] + entry(BOTH[0].pubkey, BOTH[0].signature) + EXPORT[SIGNATURE_AT:],
        EXPORT[:SIGNATURE_AT] + entry(STRANGERS_KEY, BOTH[0].signature) + EXPORT[SIGNATURE_AT:],
        EXPORT.replace(b"\x01\x03\x04\x01", b"\x01\x03\x04\x02", 1),
        serialize(with_signatures(valid(), [replace(FIRST[0], signature=bytes(8))])),
        serialize(with_signatures(valid(), [replace(FIRST[0], signature=bytes(74))])),
    ],
)
def test_beside_ours_given_one_byte_that_differs_leaves_it_to_the_strict_reader(raw: bytes) -> None:
    """Cuts, tails, keys twice or of others, lengths that no signature has, anything else that is not ours."""
    assert signatures._beside_ours(OURS, raw) is None


@pytest.mark.parametrize("size", [9, 10, 72, 73])
def test_beside_ours_given_lengths_that_a_signature_may_have_takes_them(size: int) -> None:
    """What they are worth is for `accept` to say."""
    odd = replace(SECOND[0], signature=bytes(size))
    raw = serialize(with_signatures(valid(), [odd]))

    assert signatures._beside_ours(OURS, raw) == (odd,)
    assert taken(raw) == (odd,)


def test_beside_ours_given_hints_alone_takes_none_for_a_signature() -> None:
    """Where no other field stands between, the first hint follows where signatures would: its type tells them apart."""
    raw = RawPsbt.of(valid())
    for pairs in raw.inputs:
        drop(pairs, 3)
        drop(pairs, 5)
    bare = parse(raw.to_bytes())

    assert signatures._beside_ours(bare, raw.to_bytes()) == ()


def finalised(template: Template, cosigners: tuple[int, ...] = (0, 1)) -> tuple[Psbt, Transaction]:
    """Return a PSBT of the template and its signed transaction."""
    book = BOOKS[template]
    psbt = spend(book=book)
    made = sum((signed_by(at, psbt, book=book) for at in cosigners), ())
    facts = facts_of(psbt, book)
    return psbt, finalize(psbt, facts, book, accept(psbt, facts, book, made))


def with_witnesses(psbt: Psbt, *stacks: tuple[bytes, ...]) -> bytes:
    """Return the PSBT with final witnesses."""
    raw = RawPsbt.of(psbt)
    for pairs, stack in zip(raw.inputs, stacks, strict=True):
        if stack:
            put(pairs, b"\x08", bytes([len(stack)]) + b"".join(sized(item) for item in stack))
    return raw.to_bytes()


@pytest.mark.parametrize("template", Template)
def test_from_foreign_psbt_given_final_witnesses_picks_what_is_signed(template: Template) -> None:
    """By key, each over the digest of its own input; items that are no signature of ours are left."""
    book = BOOKS[template]
    psbt, final = finalised(template)
    made = [signed_by(at, psbt, book=book) for at in (0, 1)]
    stacks = [txin.witness for txin in final.inputs]

    found = taken(with_witnesses(psbt, *stacks), psbt)

    assert sorted(found) == sorted((*made[0], *made[1]))
    assert sorted(taken(with_witnesses(psbt, (), stacks[1]), psbt)) == sorted((made[0][1], made[1][1]))
    assert taken(with_witnesses(psbt, stacks[1], stacks[0]), psbt) == ()
    beyond = (*[b""] * 5, *stacks[0])
    assert taken(with_witnesses(psbt, beyond, ()), psbt) == ()
    last = (*[b""] * 4, made[0][0].signature)
    assert taken(with_witnesses(psbt, last, ()), psbt) == (made[0][0],)
    assert taken(with_witnesses(psbt, (b"", *last), ()), psbt) == ()


def test_from_foreign_psbt_given_partial_signatures_does_not_look_at_the_witness() -> None:
    """An input that has both is read for its partial ones."""
    _, final = finalised(Template.WSH)
    raw = RawPsbt.of(with_signatures(valid(), FIRST[:1]))
    put(raw.inputs[0], b"\x08", b"\x04" + b"".join(sized(item) for item in final.inputs[0].witness))

    assert taken(raw.to_bytes()) == FIRST[:1]


def test_is_signed_given_another_type_key_or_digest_says_no() -> None:
    """ECDSA with SIGHASH_ALL, Schnorr without a type."""
    digest = sighashes(valid(), facts_of(valid()), BOOK)[0]
    one = FIRST[0]
    assert is_signed(one.pubkey, digest, one.signature)
    assert not is_signed(one.pubkey, digest, one.signature[:-1] + b"\x03")
    assert not is_signed(one.pubkey, digest, b"\x01")
    assert not is_signed(one.pubkey, bytes(32), one.signature)
    assert not is_signed(SECOND[0].pubkey, digest, one.signature)
    tap = sighashes(TR_PSBT, facts_of(TR_PSBT, TR), TR)[0]
    assert is_signed(TR_FIRST[0].pubkey, tap, TR_FIRST[0].signature)
    assert not is_signed(TR_FIRST[0].pubkey, tap, TR_FIRST[0].signature + b"\x01")
    assert not is_signed(TR_FIRST[0].pubkey, bytes(32), TR_FIRST[0].signature)


def test_finalize_given_too_few_refuses() -> None:
    """It says how many there are."""
    facts = facts_of(valid())
    with pytest.raises(IntegrityError) as raised:
        finalize(valid(), facts, BOOK, accept(valid(), facts, BOOK, FIRST))
    assert str(raised.value) == "NOT_COMPLETE: expected 2 cosigners, found 1"


@pytest.mark.parametrize("template", Template)
@pytest.mark.parametrize("cosigners", [(0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_finalize_given_any_two_puts_their_signatures_in_script_order(
    template: Template, cosigners: tuple[int, ...]
) -> None:
    """Each template's own form; a third signature is left out; `signatures_in` reads the same back."""
    book = BOOKS[template]
    psbt, final = finalised(template, cosigners)
    made = {at: signed_by(at, psbt, book=book) for at in cosigners[:2]}

    assert final.unsigned() == psbt.transaction
    for at, txin in enumerate(final.inputs):
        script = book.script(at % 2, 5 + at)
        listed = [made[cosigner][at].signature for cosigner in script.order if cosigner in made]
        if template.is_taproot:
            items = [made[cosigner][at].signature if cosigner in made else b"" for cosigner in script.order[::-1]]
            assert txin.witness == (*items, script.witness_script, script.control_block)
        else:
            assert txin.witness == (b"", *listed, script.witness_script)
        redeem = sized(script.redeem_script) if template is Template.SH_WSH else b""
        assert (txin.script_sig, txin.sequence) == (redeem, 0xFFFFFFFD)
        assert signatures_in(txin, script, 2) == tuple(listed)


@pytest.mark.parametrize("template", Template)
def test_signatures_in_given_another_form_finds_none(template: Template) -> None:
    """Another script, scriptSig, number of items or signatures, or first item."""
    script = BOOKS[template].script(0, 5)
    txin = finalised(template)[1].inputs[0]
    tail = txin.witness[-2:] if template.is_taproot else txin.witness[-1:]
    items = txin.witness[: -len(tail)]
    assert len(signatures_in(txin, script, 2) or ()) == 2

    def read(*stack: bytes, script_sig: bytes = txin.script_sig) -> object:
        return signatures_in(replace(txin, witness=stack, script_sig=script_sig), script, 2)

    assert read(*items, *tail[:-1], b"\x51") is None
    assert read(*items, b"\x51", *tail[1:]) is None
    assert read(*txin.witness, script_sig=txin.script_sig + b"\0") is None
    assert read(*items, b"x", *tail) is None
    assert read(*items[:-1], *tail) is None
    assert read(*items) is None
    assert read() is None
    assert signatures_in(txin, script, 1) is None
    assert signatures_in(txin, script, 3) is None
    if not template.is_taproot:
        assert read(b"x", *items[1:], *tail) is None
    else:
        assert read(*items, b"", *tail) is None


def four(*values: int) -> bytes:
    """Return each in four bytes, little-endian."""
    return b"".join(value.to_bytes(4, "little") for value in values)


@pytest.mark.parametrize("template", Template)
def test_build_writes_each_field_of_a_template(template: Template) -> None:
    """BIP-174 and BIP-371, byte for byte; a payment's map is empty."""
    book = BOOKS[template]
    source = coin(3, 1, 258, book=book)
    outputs = [TxOut(Sats(20_000), book.script(1, 7).script), TxOut(Sats(PAID_SATS), STRANGER)]
    psbt = build(book, [source], outputs, [(0, 7)])
    spent, back = book.script(1, 258), book.script(1, 7)
    by_pubkey = sorted(range(3), key=lambda at: spent.pubkeys[at])
    back_by_pubkey = sorted(range(3), key=lambda at: back.pubkeys[at])
    origins = [key.origin for key in book.wallet.keys]
    transaction = Transaction(2, (TxIn(source.outpoint, b"", 0xFFFFFFFD),), tuple(outputs), 0)

    assert psbt.transaction == transaction
    assert psbt.version == 0
    assert [(f.key, f.value) for f in psbt.globals.fields] == [(b"\0", transaction.serialize_stripped())]
    head = [(b"\0", source.previous.serialize()), (b"\x01", source.previous.outputs[1].serialize())]
    if template.is_taproot:
        leaf = leaf_hash_of(spent.witness_script)
        assert pairs_of(psbt.inputs[0]) == [
            *head,
            (b"\x15" + spent.control_block, spent.witness_script + b"\xc0"),
            *[(b"\x16" + spent.pubkeys[at], b"\x01" + leaf + origins[at] + four(1, 258)) for at in by_pubkey],
            (b"\x17", NUMS),
            (b"\x18", leaf),
        ]
        back_leaf = leaf_hash_of(back.witness_script)
        expected = [
            (b"\x05", NUMS),
            (b"\x06", b"\x00\xc0" + sized(back.witness_script)),
            *[(b"\x07" + back.pubkeys[at], b"\x01" + back_leaf + origins[at] + four(1, 7)) for at in back_by_pubkey],
        ]
    else:
        redeem = template is Template.SH_WSH
        assert pairs_of(psbt.inputs[0]) == [
            *head,
            (b"\x03", four(1)),
            *([(b"\x04", spent.redeem_script)] if redeem else []),
            (b"\x05", spent.witness_script),
            *[(b"\x06" + spent.pubkeys[at], origins[at] + four(1, 258)) for at in by_pubkey],
        ]
        expected = [
            *([(b"\x00", back.redeem_script)] if redeem else []),
            (b"\x01", back.witness_script),
            *[(b"\x02" + back.pubkeys[at], origins[at] + four(1, 7)) for at in back_by_pubkey],
        ]
    assert [(field.key, field.value) for field in psbt.outputs[0].fields] == expected
    assert psbt.outputs[1].fields == ()
    assert len(psbt.outputs) == 2
    assert all(isinstance(field, Field) and field.offset == -1 for field in psbt.inputs[0].fields)


def test_segwit_digests_given_scripts_of_several_lengths_are_those_of_a_second_implementation() -> None:
    """Each with its own length, in any order, signed or unsigned; one amount and script for each input."""
    transaction = valid().transaction
    inputs = (*transaction.inputs, TxIn(coin(9).outpoint, b"", 5), TxIn(coin(8).outpoint, b"", 6))
    wide = replace(transaction, inputs=inputs, locktime=1_000, version=1)
    scripts = [(b"a" * 105, 5), (b"b" * 105, 6), (b"c" * 300, 7), (b"d" * 105, 8)]
    expected = tuple(bip143_digest(wide, at, *scripts[at]) for at in range(4))

    assert segwit_digests(wide, scripts) == expected
    signed = replace(wide, inputs=tuple(replace(txin, script_sig=b"\x51", witness=(b"x",)) for txin in inputs))
    assert segwit_digests(signed, scripts) == expected
    with pytest.raises(ValueError, match="zip"):
        segwit_digests(wide, scripts[:3])
    with pytest.raises(ValueError, match="zip"):
        segwit_digests(wide, [*scripts, scripts[0]])
    many = replace(wide, inputs=inputs * 64, outputs=wide.outputs * 127)  # counts of three bytes
    assert segwit_digests(many, scripts * 64)[255] == bip143_digest(many, 255, *scripts[3])


def test_shared_message_begins_with_type_version_and_locktime() -> None:
    """BIP-341: SIGHASH_DEFAULT, then both in four bytes, little-endian; five hashes behind them."""
    found = shared_message(replace(TR_PSBT.transaction, version=258, locktime=1_000), [TxOut(Sats(1), b"")] * 2)

    assert found[:9] == b"\0" + four(258, 1_000)
    assert len(found) == 9 + 5 * 32
