"""BIP-322 beside the official vectors: what a form has no place for, and a proof that says something else."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from custody.bip322 import NOTHING, Coin, Form, read_proof, spent_outputs, to_sign, to_spend, write_proof
from custody.errors import MalformedError
from custody.transaction import OutPoint, Transaction, TxOut
from custody.units import Sats

SCRIPT, MESSAGE = b"\x00\x20" + b"\x11" * 32, "We hold these coins. ¥".encode()
COINS = (
    Coin(OutPoint(b"\x01" * 32, 3), TxOut(Sats(5_000), b"\x00\x20" + b"\x22" * 32)),
    Coin(OutPoint(b"\x02" * 32, 0), TxOut(Sats(7_000), b"\x00\x20" + b"\x33" * 32)),
)


def satisfied(coins: tuple[Coin, ...] = ()) -> Transaction:
    """Return `to_sign` with some witness on every input."""
    unsigned = to_sign(SCRIPT, MESSAGE, coins)
    return unsigned.with_witnesses([(b"", b"sig %d" % at, b"script") for at in range(len(unsigned.inputs))])


def code_of(text: str, script: bytes = SCRIPT, message: bytes = MESSAGE) -> str:
    """Return the code with which a proof is refused, or OK."""
    try:
        read_proof(text, script, message)
    except MalformedError as error:
        return error.code
    return "OK"


@pytest.mark.parametrize(("form", "coins"), [(Form.SIMPLE, ()), (Form.FULL, ()), (Form.FUNDS, ()), (Form.FUNDS, COINS)])
def test_read_proof_of_what_was_written_gives_transaction_and_outputs(form: Form, coins: tuple[Coin, ...]) -> None:
    """Every form and back; the outputs behind the inputs come along."""
    signed, spent = satisfied(coins), spent_outputs(SCRIPT, coins)
    assert read_proof(write_proof(form, signed, spent), SCRIPT, MESSAGE) == (signed, spent)


def test_to_sign_spends_nothing_that_can_exist_and_pays_nobody() -> None:
    """Its first input is the output of a transaction without a real input: no network takes either."""
    spend, sign = to_spend(SCRIPT, MESSAGE), to_sign(SCRIPT, MESSAGE, COINS)
    assert spend.inputs[0].outpoint == OutPoint(bytes(32), 0xFFFFFFFF)
    assert [output.amount for output in (*spend.outputs, *sign.outputs)] == [0, 0]
    assert sign.outputs == (NOTHING,)
    assert sign.inputs[0].outpoint == OutPoint(spend.txid, 0)


@pytest.mark.parametrize(
    ("form", "signed"),
    [
        (Form.SIMPLE, satisfied(COINS)),
        (Form.FULL, satisfied(COINS)),
        (Form.SIMPLE, replace(satisfied(), inputs=(replace(satisfied().inputs[0], script_sig=b"\x01x"),))),
    ],
)
def test_write_proof_in_a_form_that_has_no_place_for_it_refuses(form: Form, signed: Transaction) -> None:
    """Coins need a proof of funds, a P2SH wallet a full signature."""
    with pytest.raises(MalformedError, match="PROOF_FORM"):
        write_proof(form, signed, spent_outputs(SCRIPT))


def full(signed: Transaction) -> str:
    """Return `signed` as a full signature, whatever it says."""
    return "ful" + base64.b64encode(signed.serialize()).decode()


def test_read_proof_given_one_lie_refuses_with_its_code() -> None:
    """Another message, another address, an output that pays somebody, a version of none, a coin that nobody shows."""
    good = satisfied()
    payment = replace(good, outputs=(TxOut(Sats(1), SCRIPT),))
    real = replace(good, inputs=(replace(good.inputs[0], outpoint=COINS[0].outpoint),))
    funds = write_proof(Form.FUNDS, satisfied(COINS), spent_outputs(SCRIPT, COINS))
    lying_amount = write_proof(Form.FUNDS, good, (TxOut(Sats(1), SCRIPT),))
    assert code_of(full(good)) == "OK"
    assert code_of(full(good), message=b"another") == "PROOF_MESSAGE"
    assert code_of(full(good), script=b"\x51") == "PROOF_MESSAGE"
    assert code_of(full(real)) == "PROOF_MESSAGE"
    assert code_of(full(payment)) == "PROOF_SHAPE"
    assert code_of(full(replace(good, version=1))) == "PROOF_SHAPE"
    assert code_of(full(satisfied(COINS))) == "PROOF_SHAPE"
    assert code_of(funds, message=b"another") == "PROOF_MESSAGE"
    assert code_of(lying_amount) == "PROOF_MESSAGE"
    assert code_of("x" * 3_000_000) == "PROOF_TOO_LARGE"
    assert code_of("smp" + "AA=A") == "PROOF_BASE64"
