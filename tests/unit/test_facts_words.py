"""Facts word for word: each refusal of `read_facts` and `check_matches`, each bound at both of its sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from custody import facts as facts_module
from custody.address import address_of
from custody.base58 import decode_check
from custody.errors import Refused
from custody.facts import (
    Facts,
    InputFact,
    ShapeLimits,
    check_matches,
    own_payees,
    read_facts,
    vsize_bound_vb,
)
from custody.psbt import Psbt, parse
from custody.psbt_fields import Field, FieldMap
from custody.scripts import NUMS, Template
from custody.transaction import TxIn, TxOut
from custody.units import MAX_MONEY_SATS, Sats
from custody.updater import build
from custody.wallet import Network, ScriptBook
from custody.withdrawal import NEW, Payment, Withdrawal
from tests.fakes.psbts import (
    BOOK,
    COIN_SATS,
    FEE_SATS,
    OTHER_BOOK,
    PAID_SATS,
    STRANGER,
    WALLET,
    RawPsbt,
    coin,
    drop,
    facts_of,
    put,
    spend,
    valid,
    wallet_of,
    with_transaction,
)

SH = ScriptBook(wallet_of(template=Template.SH_WSH))
TR = ScriptBook(wallet_of(template=Template.TR))
LIMITS = ShapeLimits()
POINTS = [txin.outpoint for txin in valid().transaction.inputs]
CHANGE_SATS = 2 * COIN_SATS - PAID_SATS - FEE_SATS
OURS = BOOK.script(1, 3)


def words(psbt: Psbt, book: ScriptBook = BOOK, limits: ShapeLimits = LIMITS) -> str:
    """Return the refusal of `psbt` as people read it, or OK."""
    found = read_facts(psbt, book, limits)
    return str(found) if isinstance(found, Refused) else "OK"


def after(change: Callable[[RawPsbt], object], psbt: Psbt | None = None, book: ScriptBook = BOOK) -> str:
    """Return the refusal of the valid PSBT after `change`."""
    raw = RawPsbt.of(psbt or valid())
    change(raw)
    return words(parse(raw.to_bytes()), book)


CHANGES: dict[str, tuple[Callable[[RawPsbt], object], str]] = {
    "nothing": (lambda raw: None, "OK"),
    "no previous transaction": (
        lambda raw: drop(raw.inputs[1], 0),
        f"PREVIOUS_MISSING: expected the previous transaction of {POINTS[1]}, found none",
    ),
    "another claimed amount": (
        lambda raw: put(raw.inputs[0], b"\x01", TxOut(Sats(COIN_SATS - 1), BOOK.script(0, 5).script).serialize()),
        f"AMOUNT_LIE: expected 5000000 sats on the script of {POINTS[0]}, found another claim",
    ),
    "no claimed amount": (lambda raw: drop(raw.inputs[0], 1), "OK"),
    "SIGHASH_NONE": (
        lambda raw: put(raw.inputs[1], b"\x03", b"\x82\x01\0\0"),
        "SIGHASH_TYPE: expected SIGHASH_ALL, in taproot DEFAULT, found 0x182",
    ),
    "no sighash type": (lambda raw: drop(raw.inputs[1], 3), "OK"),
    "another witness script": (
        lambda raw: put(raw.inputs[1], b"\x05", b"\x51"),
        "WITNESS_SCRIPT: expected what 1/6 of this wallet has, found another",
    ),
    "no witness script": (lambda raw: drop(raw.inputs[1], 5), "OK"),
    "a signature": (
        lambda raw: put(raw.inputs[0], b"\x02" + BOOK.script(0, 5).pubkeys[0], bytes(71)),
        "PSBT_HAS_SIGNATURES: expected signatures beside the PSBT, found one inside",
    ),
    "a final witness": (
        lambda raw: put(raw.inputs[1], b"\x08", b"\x00"),
        "PSBT_HAS_SIGNATURES: expected signatures beside the PSBT, found one inside",
    ),
    "a global field": (
        lambda raw: put(raw.globals, b"\x77", b""),
        "UNKNOWN_FIELD: expected fields that are judged here, found type 0x77",
    ),
    "an input field": (
        lambda raw: put(raw.inputs[1], b"\x09", b""),
        "UNKNOWN_FIELD: expected fields that are judged here, found type 0x09",
    ),
    "two input fields": (
        lambda raw: raw.inputs[0].extend([(b"\x78", b""), (b"\x09", b"")]),
        "UNKNOWN_FIELD: expected fields that are judged here, found type 0x09",
    ),
    "an output field": (
        lambda raw: put(raw.outputs[0], b"\x77", b""),
        "UNKNOWN_FIELD: expected fields that are judged here, found type 0x77",
    ),
    "a taproot field": (
        lambda raw: put(raw.inputs[0], b"\x17", NUMS),
        "UNKNOWN_FIELD: expected fields that are judged here, found type 0x17",
    ),
    "a redeem script": (
        lambda raw: put(raw.inputs[0], b"\x04", b""),
        "UNKNOWN_FIELD: expected fields that are judged here, found type 0x04",
    ),
    "our own extended key": (
        lambda raw: put(raw.globals, b"\x01" + decode_check(WALLET.keys[0].xpub), WALLET.keys[0].origin),
        "OK",
    ),
    "our own extended key with another origin": (
        lambda raw: put(raw.globals, b"\x01" + decode_check(WALLET.keys[0].xpub), WALLET.keys[1].origin),
        "XPUB_OTHER: expected only extended keys of this wallet, with their origin, found another",
    ),
    "another's extended key": (
        lambda raw: put(
            raw.globals, b"\x01" + decode_check(OTHER_BOOK.wallet.keys[0].xpub), OTHER_BOOK.wallet.keys[0].origin
        ),
        "XPUB_OTHER: expected only extended keys of this wallet, with their origin, found another",
    ),
    "another witness script of the change": (
        lambda raw: put(raw.outputs[1], b"\x01", b"\x51"),
        "WITNESS_SCRIPT: expected what 1/3 of this wallet has, found another",
    ),
    "no word about the change": (lambda raw: raw.outputs[1].clear(), "OK"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_read_facts_given_one_change_says_what_was_expected(name: str) -> None:
    """One valid PSBT, one change, one refusal word for word."""
    change, expected = CHANGES[name]
    assert after(change) == expected


def transaction_after(**changes: object) -> str:
    """Return the refusal of the valid PSBT over a changed transaction."""
    return words(with_transaction(valid(), replace(valid().transaction, **changes)))  # type: ignore[arg-type]


def test_read_facts_given_another_shape_says_what_was_expected() -> None:
    """Version 2, every input replaceable, nothing that may be added to, each coin once."""
    first, second = valid().transaction.inputs
    assert transaction_after(version=1) == "TX_VERSION: expected 2, found 1"
    assert transaction_after(version=3) == "TX_VERSION: expected 2, found 3"
    for sequence in (0xFFFFFFFC, 0xFFFFFFFE):
        inputs = (first, replace(second, sequence=sequence))
        assert transaction_after(inputs=inputs) == "SEQUENCE: expected 0xfffffffd in every input, found another"
    flagged = replace(valid(), globals=FieldMap((*valid().globals.fields, Field(b"\x06", b"\x01"))))
    assert words(flagged) == (
        "TX_MODIFIABLE: expected a transaction that nothing may be added to, found a modifiable flag"
    )
    twice = build(BOOK, [coin(0), coin(0)], [TxOut(Sats(PAID_SATS), STRANGER)])
    assert words(twice) == "DUPLICATE_OUTPOINT: expected each coin once, found one twice"


def test_read_facts_given_a_coin_of_another_wallet_names_it() -> None:
    """Its script is derived by none of our places."""
    theirs = coin(0, book=OTHER_BOOK)
    psbt = build(OTHER_BOOK, [theirs], [TxOut(Sats(PAID_SATS), STRANGER)])

    assert words(psbt) == f"FOREIGN_INPUT: expected a coin of this wallet at {theirs.outpoint}, found another's"


def test_read_facts_given_a_previous_transaction_of_another_outpoint_names_both() -> None:
    """`parse` refuses it earlier; a PSBT that was built and never parsed is judged here too."""
    one, other = coin(0), coin(1)
    built = build(BOOK, [one], [TxOut(Sats(PAID_SATS), STRANGER)])
    lie = replace(built, transaction=replace(built.transaction, inputs=(TxIn(other.outpoint),)))

    assert words(lie) == (
        f"PREVIOUS_MISMATCH: expected the transaction of {other.outpoint}, found {one.previous.txid_hex}"
    )


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([COIN_SATS], "OK"),
        ([COIN_SATS + 1], "MONEY: expected outputs of at most 5000000 sats, found 5000001 sats"),
        ([COIN_SATS, 1], "MONEY: expected outputs of at most 5000000 sats, found 5000001 sats"),
    ],
)
def test_read_facts_given_outputs_up_to_the_inputs_takes_them(outputs: list[int], expected: str) -> None:
    """A fee of 0 is no lie about money."""
    psbt = build(BOOK, [coin(0)], [TxOut(Sats(amount), STRANGER) for amount in outputs])

    assert words(psbt) == expected


def test_read_facts_given_all_money_takes_it_and_one_more_not() -> None:
    """The sum of the inputs counts too (consensus: MoneyRange)."""
    paid = [TxOut(Sats(PAID_SATS), STRANGER)]
    half = MAX_MONEY_SATS // 2

    assert words(build(BOOK, [coin(0, amount=half), coin(1, amount=half)], paid)) == "OK"
    assert words(build(BOOK, [coin(0, amount=half), coin(1, amount=half + 1)], paid)) == (
        f"MONEY: expected outputs of at most {MAX_MONEY_SATS + 1} sats, found {PAID_SATS} sats"
    )


def change_of(*indices: int, amount: int = 20_000, limits: ShapeLimits = LIMITS) -> str:
    """Return the refusal of a spend that returns change to `indices`."""
    outputs = [TxOut(Sats(amount), BOOK.script(1, index).script) for index in indices]
    return words(build(BOOK, [coin(0)], outputs, list(enumerate(indices))), limits=limits)


def test_read_facts_given_change_at_its_bounds_says_which_one_it_crosses() -> None:
    """Index, floor and number, each at both of its sides."""
    seen = ShapeLimits(highest_change_index=30, change_floor_sats=1_000, max_change_outputs=2)
    assert change_of(19) == change_of(50, limits=seen) == "OK"
    assert change_of(20) == "CHANGE_INDEX: expected an index of at most 19, found 20"
    assert change_of(51, limits=seen) == "CHANGE_INDEX: expected an index of at most 50, found 51"
    assert change_of(0, amount=10_000) == "OK"
    assert change_of(0, amount=9_999) == "CHANGE_BELOW_FLOOR: expected at least 10000 sats, found 9999 sats"
    assert change_of(0, amount=999, limits=seen) == "CHANGE_BELOW_FLOOR: expected at least 1000 sats, found 999 sats"
    assert change_of(0, amount=1_000, limits=seen) == "OK"
    assert change_of(0, 1) == "TOO_MUCH_CHANGE: expected at most 1 change output(s), found 2"
    assert change_of(0, 1, limits=seen) == "OK"
    assert change_of(0, 1, 2, limits=seen) == "TOO_MUCH_CHANGE: expected at most 2 change output(s), found 3"


@pytest.mark.parametrize(("book", "least"), [(BOOK, 330), (SH, 540), (TR, 330)])
def test_read_facts_given_no_floor_takes_no_change_that_is_dust(book: ScriptBook, least: int) -> None:
    """What nodes do not relay is no change, whatever the rules say: the least amount of its kind, and one below."""
    limits = ShapeLimits(change_floor_sats=0)
    for amount, expected in (
        (least, "OK"),
        (least - 1, f"CHANGE_BELOW_FLOOR: expected at least {least} sats, found {least - 1} sats"),
    ):
        outputs = [TxOut(Sats(amount), book.script(1, 3).script)]
        assert words(build(book, [coin(0, book=book)], outputs, [(0, 3)]), book, limits) == expected


def test_read_facts_given_change_between_payments_tells_which_is_which() -> None:
    """Places, indices and amounts of each; our receiving branch is a payee."""
    own = BOOK.script(0, 9).script
    scripts = [BOOK.script(1, 4).script, STRANGER, BOOK.script(1, 2).script, own]
    outputs = [TxOut(Sats(20_000 + at), script) for at, script in enumerate(scripts)]
    psbt = build(BOOK, [coin(7, 1, 8)], outputs, [(0, 4), (2, 2)])
    facts = read_facts(psbt, BOOK, ShapeLimits(max_change_outputs=2))

    assert isinstance(facts, Facts)
    assert facts.payments == (outputs[1], outputs[3])
    assert [(one.output, one.index, one.amount_sats) for one in facts.change] == [(0, 4, 20_000), (2, 2, 20_002)]
    assert facts.inputs == (InputFact(coin(7, 1, 8).outpoint, Sats(COIN_SATS), 1, 8, BOOK.script(1, 8).script),)
    assert facts.fee_sats == COIN_SATS - sum(output.amount for output in outputs)
    assert facts.txid == psbt.transaction.txid
    assert facts.outpoints == {coin(7, 1, 8).outpoint}
    assert own_payees(facts, BOOK) == {own}


def test_own_payees_given_the_window_of_addresses_looks_no_further() -> None:
    """Below a thousand."""
    scripts = [BOOK.script(0, index).script for index in (999, 1_000)]
    psbt = build(BOOK, [coin(0)], [TxOut(Sats(1_000), script) for script in scripts])

    assert own_payees(facts_of(psbt), BOOK) == {scripts[0]}


ASKED = Withdrawal(
    genesis=bytes(32),
    withdrawal_id="w-1",
    wallet_id=WALLET.wallet_id,
    network="regtest",
    payments=(Payment(address_of(STRANGER, Network.REGTEST), Sats(PAID_SATS)),),
    max_fee_sats=Sats(FEE_SATS),
    relation=NEW,
    initiator="alice",
    created_at=1,
    expires_at=2,
    rules_floor=1,
)
FACTS = facts_of(valid())
WALLET_WORDS = f"WALLET_OTHER: expected wallet {WALLET.wallet_id.hex()[:16]} on regtest, found another"


def payment(script: bytes, amount: int) -> Payment:
    """Return what is asked for."""
    return Payment(address_of(script, Network.REGTEST), Sats(amount))


def paying(*outputs: TxOut) -> Facts:
    """Return the facts with other payments."""
    return replace(FACTS, payments=outputs)


STRANGER_PAID = TxOut(Sats(PAID_SATS), STRANGER)
MATCHES: dict[str, tuple[Withdrawal, Facts, str]] = {
    "what was asked": (ASKED, FACTS, "None"),
    "another wallet": (replace(ASKED, wallet_id=OTHER_BOOK.wallet.wallet_id), FACTS, WALLET_WORDS),
    "another network": (replace(ASKED, network="signet"), FACTS, WALLET_WORDS),
    "an address of another network": (
        replace(ASKED, payments=(Payment(address_of(STRANGER, Network.MAINNET), Sats(PAID_SATS)),)),
        FACTS,
        "ADDRESS",
    ),
    "an output too many": (
        ASKED,
        paying(STRANGER_PAID, STRANGER_PAID, TxOut(Sats(1), STRANGER)),
        "OUTPUT_NOT_ASKED: expected only the payments of the withdrawal, found 2 other output(s)",
    ),
    "another amount": (
        ASKED,
        paying(TxOut(Sats(PAID_SATS - 1), STRANGER)),
        "OUTPUT_NOT_ASKED: expected only the payments of the withdrawal, found 1 other output(s)",
    ),
    "a payment too few": (
        replace(ASKED, payments=ASKED.payments * 3),
        FACTS,
        "PAYMENT_MISSING: expected every payment of the withdrawal, found 2 missing",
    ),
    "a payment to our change": (
        replace(ASKED, payments=(*ASKED.payments, payment(OURS.script, CHANGE_SATS))),
        FACTS,
        "PAYMENT_TO_CHANGE: expected payments to addresses of branch 0 or of others, found one to own branch 1",
    ),
    "a fee too high": (
        replace(ASKED, max_fee_sats=Sats(FEE_SATS - 1)),
        FACTS,
        "FEE_ABOVE_MAX: expected at most 2999 sats, found 3000 sats",
    ),
    "the pinned transaction": (replace(ASKED, pinned_txid=FACTS.txid), FACTS, "None"),
    "another pinned transaction": (
        replace(ASKED, pinned_txid=bytes(32)),
        FACTS,
        f"PINNED_OTHER: expected the pinned transaction, found {FACTS.txid[::-1].hex()}",
    ),
    "a locktime": (
        ASKED,
        replace(FACTS, locktime=7),
        "LOCKTIME: expected 0 where no transaction is pinned, found 7",
    ),
    "a locktime of a pinned transaction": (
        replace(ASKED, pinned_txid=FACTS.txid),
        replace(FACTS, locktime=7),
        "None",
    ),
}


@pytest.mark.parametrize("name", MATCHES)
def test_check_matches_given_one_change_says_what_was_expected(name: str) -> None:
    """One thing that was asked or done differs, one refusal word for word."""
    asked, facts, expected = MATCHES[name]
    found = str(check_matches(asked, facts, WALLET))
    if expected != "ADDRESS":
        assert found == expected
        return
    assert found.startswith("ADDRESS")
    assert ": expected addresses of regtest, found expected" in found


@pytest.mark.parametrize(
    ("script", "least", "kind"),
    [
        (b"\x76\xa9\x14" + bytes(20) + b"\x88\xac", 546, "p2pkh"),
        (b"\xa9\x14" + bytes(20) + b"\x87", 540, "p2sh"),
        (b"\x00\x14" + bytes(20), 294, "p2wpkh"),
        (b"\x00\x20" + bytes(32), 330, "p2wsh"),
        (b"\x51\x20" + NUMS, 330, "p2tr"),
    ],
)
def test_check_matches_given_dust_names_the_least_of_its_kind(script: bytes, least: int, kind: str) -> None:
    """The least amount that nodes relay, and one below."""
    for amount, expected in (
        (least, "None"),
        (least - 1, f"OUTPUT_DUST: expected at least {least} sats on {kind}, found {least - 1} sats"),
    ):
        asked = replace(ASKED, payments=(*ASKED.payments, payment(script, amount)))
        found = check_matches(asked, paying(STRANGER_PAID, TxOut(Sats(amount), script)), WALLET)
        assert str(found) == expected


@pytest.mark.parametrize("template", Template)
@pytest.mark.parametrize("inputs", [1, 2, 3, 4])
def test_vsize_bound_grows_by_what_an_input_needs(template: Template, inputs: int) -> None:
    """Weight of the unsigned form, marker and flag, and a witness for each input; rounded up."""
    book = ScriptBook(wallet_of(template=template))
    psbt = spend(inputs, book=book)
    script_bytes = 3 + 34 * 3
    witness = {
        Template.WSH: 1 + 1 + 2 * 73 + 1 + script_bytes,
        Template.SH_WSH: 1 + 1 + 2 * 73 + 1 + script_bytes + 4 * 35,
        Template.TR: 1 + 2 * 65 + 1 + 1 + (34 * 3 + 2) + 34,
        Template.TR_SORTED: 1 + 2 * 65 + 1 + 1 + (34 * 3 + 2) + 34,
    }[template]
    weight = 4 * len(psbt.transaction.serialize_stripped()) + 2 + inputs * witness

    assert vsize_bound_vb(psbt, book.wallet) == -(-weight // 4)


SH_PSBT, TR_PSBT = spend(book=SH), spend(book=TR)
TR_IN, TR_OUT = TR.script(0, 5), TR.script(1, 3)
LEAF_KEY = b"\x15" + TR_IN.control_block
OTHER_TEMPLATES: dict[str, tuple[ScriptBook, Psbt, Callable[[RawPsbt], object], str]] = {
    "sh: nothing": (SH, SH_PSBT, lambda raw: None, "OK"),
    "sh: another redeem script": (
        SH,
        SH_PSBT,
        lambda raw: put(raw.inputs[0], b"\x04", b"\x51"),
        "REDEEM_SCRIPT: expected what 0/5 of this wallet has, found another",
    ),
    "sh: no redeem script": (SH, SH_PSBT, lambda raw: drop(raw.inputs[0], 4), "OK"),
    "sh: another witness script": (
        SH,
        SH_PSBT,
        lambda raw: put(raw.inputs[0], b"\x05", b"\x51"),
        "WITNESS_SCRIPT: expected what 0/5 of this wallet has, found another",
    ),
    "sh: another redeem script of the change": (
        SH,
        SH_PSBT,
        lambda raw: put(raw.outputs[1], b"\x00", b"\x51"),
        "REDEEM_SCRIPT: expected what 1/3 of this wallet has, found another",
    ),
    "sh: no redeem script of the change": (SH, SH_PSBT, lambda raw: drop(raw.outputs[1], 0), "OK"),
    "sh: a taproot field": (
        SH,
        SH_PSBT,
        lambda raw: put(raw.outputs[1], b"\x05", NUMS),
        "UNKNOWN_FIELD: expected fields that are judged here, found type 0x05",
    ),
    "tr: nothing": (TR, TR_PSBT, lambda raw: None, "OK"),
    "tr: SIGHASH_DEFAULT": (TR, TR_PSBT, lambda raw: put(raw.inputs[0], b"\x03", bytes(4)), "OK"),
    "tr: SIGHASH_ALL": (
        TR,
        TR_PSBT,
        lambda raw: put(raw.inputs[0], b"\x03", b"\x01\0\0\0"),
        "SIGHASH_TYPE: expected SIGHASH_ALL, in taproot DEFAULT, found 0x1",
    ),
    "tr: another leaf": (
        TR,
        TR_PSBT,
        lambda raw: put(raw.inputs[0], LEAF_KEY, b"\x51\xc0"),
        "TAP_LEAF: expected what 0/5 of this wallet has, found another",
    ),
    "tr: another leaf version": (
        TR,
        TR_PSBT,
        lambda raw: put(raw.inputs[0], LEAF_KEY, TR_IN.witness_script + b"\xc2"),
        "TAP_LEAF: expected what 0/5 of this wallet has, found another",
    ),
    "tr: a second leaf": (
        TR,
        TR_PSBT,
        lambda raw: put(raw.inputs[0], LEAF_KEY + bytes(32), TR_IN.witness_script + b"\xc0"),
        "TAP_LEAF: expected what 0/5 of this wallet has, found another",
    ),
    "tr: no leaf": (TR, TR_PSBT, lambda raw: drop(raw.inputs[0], 0x15), "OK"),
    "tr: another internal key": (
        TR,
        TR_PSBT,
        lambda raw: put(raw.inputs[0], b"\x17", TR_IN.pubkeys[0]),
        "TAP_INTERNAL_KEY: expected what 0/5 of this wallet has, found another",
    ),
    "tr: no internal key": (TR, TR_PSBT, lambda raw: drop(raw.inputs[0], 0x17), "OK"),
    "tr: another root": (
        TR,
        TR_PSBT,
        lambda raw: put(raw.inputs[0], b"\x18", bytes(32)),
        "TAP_ROOT: expected what 0/5 of this wallet has, found another",
    ),
    "tr: no root": (TR, TR_PSBT, lambda raw: drop(raw.inputs[0], 0x18), "OK"),
    "tr: another internal key of the change": (
        TR,
        TR_PSBT,
        lambda raw: put(raw.outputs[1], b"\x05", TR_OUT.pubkeys[0]),
        "TAP_INTERNAL_KEY: expected what 1/3 of this wallet has, found another",
    ),
    "tr: no internal key of the change": (TR, TR_PSBT, lambda raw: drop(raw.outputs[1], 5), "OK"),
    "tr: another tree of the change": (
        TR,
        TR_PSBT,
        lambda raw: put(raw.outputs[1], b"\x06", b"\x00\xc0\x01\x51"),
        "TAP_TREE_OTHER: expected what 1/3 of this wallet has, found another",
    ),
    "tr: no tree of the change": (TR, TR_PSBT, lambda raw: drop(raw.outputs[1], 6), "OK"),
    "tr: no word about the change": (TR, TR_PSBT, lambda raw: raw.outputs[1].clear(), "OK"),
    "tr: a signature of the internal key": (
        TR,
        TR_PSBT,
        lambda raw: put(raw.inputs[0], b"\x13", bytes(64)),
        "PSBT_HAS_SIGNATURES: expected signatures beside the PSBT, found one inside",
    ),
    "tr: a signature of a leaf": (
        TR,
        TR_PSBT,
        lambda raw: put(raw.inputs[1], b"\x14" + TR_IN.pubkeys[0] + bytes(32), bytes(64)),
        "PSBT_HAS_SIGNATURES: expected signatures beside the PSBT, found one inside",
    ),
    "tr: a witness script": (
        TR,
        TR_PSBT,
        lambda raw: put(raw.inputs[0], b"\x05", TR_IN.witness_script),
        "UNKNOWN_FIELD: expected fields that are judged here, found type 0x05",
    ),
}


@pytest.mark.parametrize("name", OTHER_TEMPLATES)
def test_read_facts_given_another_template_judges_what_it_may_claim(name: str) -> None:
    """One valid PSBT of the template, one change, one refusal word for word."""
    book, psbt, change, expected = OTHER_TEMPLATES[name]
    assert after(change, psbt, book) == expected


def hinted_at(place: tuple[int, ...], count: int = 3, index: int = 3_000) -> str:
    """Return what becomes of a coin at branch 0 and `index` whose hints, `count` of three, are all `place`."""
    raw = RawPsbt.of(build(BOOK, [coin(0, 0, index)], [TxOut(Sats(PAID_SATS), STRANGER)]))
    path = bytes(4) + b"".join(step.to_bytes(4, "little") for step in place)
    hints = [pair for pair in raw.inputs[0] if pair[0][0] == 6]
    drop(raw.inputs[0], 6)
    raw.inputs[0] += [(key, path) for key, _ in hints[:count]]
    return words(parse(raw.to_bytes())).partition(":")[0]


def test_read_facts_given_hints_looks_where_they_point() -> None:
    """Branch and index are the last two steps; one hint is enough, fewer steps are none."""
    assert hinted_at((0, 3_000)) == hinted_at((9, 9, 0, 3_000)) == hinted_at((0, 3_000), count=1) == "OK"
    assert hinted_at((1, 3_000)) == hinted_at((0, 2_999)) == hinted_at((3_000,)) == hinted_at(()) == "FOREIGN_INPUT"
    assert hinted_at((0, 3_000, 0)) == "FOREIGN_INPUT"
    assert hinted_at((), index=1_000) == "OK"
    assert hinted_at((), index=1_001) == "FOREIGN_INPUT"


def test_read_facts_given_as_many_hints_as_keys_looks_at_all_of_them() -> None:
    """The last of three may be the true one; a fourth is not looked at."""
    extra = OTHER_BOOK.script(0, 0).pubkeys

    def place(*steps: int) -> bytes:
        return bytes(4) + b"".join(step.to_bytes(4, "little") for step in steps)

    def with_hints(*hints: tuple[bytes, bytes]) -> str:
        raw = RawPsbt.of(build(BOOK, [coin(0, 0, 3_000)], [TxOut(Sats(PAID_SATS), STRANGER)]))
        drop(raw.inputs[0], 6)
        raw.inputs[0] += [(b"\x06" + key, value) for key, value in hints]
        return words(parse(raw.to_bytes())).partition(":")[0]

    keys = [*BOOK.script(0, 0).pubkeys, extra[0]]
    wrong, true = place(0, 1), place(0, 3_000)
    assert with_hints(*zip(keys[:3], (wrong, place(1, 2), true), strict=True)) == "OK"
    assert with_hints(*zip(keys[:3], (place(), true, wrong), strict=True)) == "OK"
    assert with_hints(*zip(keys, (wrong, wrong, wrong, true), strict=True)) == "FOREIGN_INPUT"


def test_read_facts_given_change_far_out_needs_a_hint_to_be_named() -> None:
    """Up to a thousand beyond the log it is searched for; further out, a hint makes it change that goes too far."""
    far = BOOK.script(1, 4_000)
    hinted = build(BOOK, [coin(0)], [TxOut(Sats(20_000), far.script)], [(0, 4_000)])
    bare = build(BOOK, [coin(0)], [TxOut(Sats(20_000), far.script)])
    own = build(BOOK, [coin(0)], [TxOut(Sats(20_000), BOOK.script(0, 4_000).script)])

    assert words(hinted) == "CHANGE_INDEX: expected an index of at most 19, found 4000"
    assert facts_of(bare, BOOK).payments == bare.transaction.outputs
    assert facts_of(own, BOOK).payments == own.transaction.outputs
    near = build(BOOK, [coin(0)], [TxOut(Sats(20_000), BOOK.script(1, 999).script)])
    beyond = build(BOOK, [coin(0)], [TxOut(Sats(20_000), BOOK.script(1, 1_000).script)])
    assert words(near) == "CHANGE_INDEX: expected an index of at most 19, found 999"
    assert words(beyond) == "OK"


def test_read_facts_given_many_hinted_outputs_looks_at_the_first_hundred() -> None:
    """Each hint costs a derivation; the money is told apart without them."""
    far = BOOK.script(1, 4_000)
    theirs = OTHER_BOOK.script(1, 0)

    def outputs_before(count: int, hints: int) -> str:
        outputs = [TxOut(Sats(1_000), theirs.script)] * count + [TxOut(Sats(20_000), far.script)]
        raw = RawPsbt.of(build(BOOK, [coin(0)], outputs, [(count, 4_000)]))
        hint = (b"\x02" + theirs.pubkeys[0], bytes(4) + b"\x01\0\0\0" + b"\x07\0\0\0")
        for found in raw.outputs[:hints]:
            found.append(hint)
        return words(parse(raw.to_bytes())).partition(":")[0]

    assert outputs_before(99, 99) == outputs_before(101, 99) == "CHANGE_INDEX"
    assert outputs_before(100, 100) == "OK"


def test_check_payment_given_a_script_without_an_address_names_its_beginning() -> None:
    """No address makes such a script, so only this step alone can show it."""
    assert str(facts_module._check_payment(TxOut(Sats(PAID_SATS), bytes(range(1, 20))))) == (
        "OUTPUT_TYPE: expected one of p2pkh, p2sh, p2wpkh, p2wsh, p2tr, found 0102030405060708"
    )
