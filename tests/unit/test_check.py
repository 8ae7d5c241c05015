"""The combined check: every answer is a value, whatever the bytes; money rules that the script check skips."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from coordinator.chain.check import check_transaction
from coordinator.chain.relay import NextBlock
from custody.errors import MalformedError
from custody.transaction import OutPoint, Transaction, TxIn, TxOut
from custody.units import MAX_MONEY_SATS, Sats
from tests.fakes.spends import OPEN, OPEN_WITNESS_SCRIPT, p2wsh, sign_two_of_three, two_of_three

AT = NextBlock(height=500, median_time=1_700_000_000)
COIN = OutPoint(b"\x09" * 32, 1)
SPENT = (TxOut(Sats(100_000), p2wsh(two_of_three())),)
VALID = sign_two_of_three(Transaction(2, (TxIn(COIN),), (TxOut(Sats(99_000), OPEN),)), [100_000])


def code(transaction: Transaction, spent: tuple[TxOut, ...]) -> str | None:
    """Return the code of the answer."""
    answer = check_transaction(transaction.serialize(), spent, AT)
    return answer.code if answer else None


def test_check_when_transaction_is_valid_then_accepts() -> None:
    """The valid case of this file."""
    assert code(VALID, SPENT) is None


def test_check_when_outputs_are_missing_then_refuses() -> None:
    """One spent output for each input."""
    assert code(VALID, ()) == "TX_INPUT_MISSING"
    assert code(VALID, SPENT * 2) == "TX_INPUT_MISSING"


def test_check_when_outputs_exceed_inputs_then_refuses() -> None:
    """One sat more out than in."""
    greedy = replace(VALID, outputs=(TxOut(Sats(100_001), OPEN),))

    assert code(greedy, SPENT) == "TX_CONSENSUS"


def test_check_when_a_coin_is_spent_twice_inside_then_refuses() -> None:
    """CVE-2018-17144: the same outpoint in two inputs."""
    assert code(replace(VALID, inputs=VALID.inputs * 2), SPENT * 2) == "TX_CONSENSUS"


def test_check_when_an_input_is_null_then_refuses() -> None:
    """Only a coinbase has an input without a previous transaction."""
    txin = replace(VALID.inputs[0], outpoint=OutPoint(bytes(32), 0xFFFFFFFF))

    assert code(replace(VALID, inputs=(txin,)), SPENT) == "TX_CONSENSUS"


def test_check_when_sums_pass_all_money_then_refuses() -> None:
    """Each amount is possible, their sum is not."""
    txin = TxIn(COIN, witness=(OPEN_WITNESS_SCRIPT,))
    other = replace(txin, outpoint=OutPoint(b"\x09" * 32, 2))
    transaction = Transaction(2, (txin, other), (TxOut(Sats(1_000), OPEN),))

    assert code(transaction, (TxOut(Sats(MAX_MONEY_SATS), OPEN),) * 2) == "TX_CONSENSUS"


def test_check_when_spent_script_is_empty_then_refuses() -> None:
    """A coin on an empty script is not satisfied by nothing."""
    assert code(Transaction(2, (TxIn(COIN),), (TxOut(Sats(99_000), OPEN),)), (TxOut(Sats(100_000), b""),)) is not None


@given(at=st.integers(0, len(VALID.serialize()) - 1), value=st.integers(0, 255))
def test_check_given_one_changed_byte_answers_or_calls_it_malformed(at: int, value: int) -> None:
    """No other error leaves, so our parser refuses whatever the kernel's would; and no change is accepted."""
    raw = VALID.serialize()
    changed = raw[:at] + bytes([value]) + raw[at + 1 :]

    try:
        answer = check_transaction(changed, SPENT, AT)
    except MalformedError:
        return

    assert (answer is None) == (changed == raw)


@given(raw=st.binary(max_size=200), keep=st.integers(0, 60))
def test_check_given_any_bytes_answers_or_calls_it_malformed(raw: bytes, keep: int) -> None:
    """Foreign bytes, also behind a valid beginning, never break the check."""
    try:
        answer = check_transaction(VALID.serialize()[:keep] + raw, SPENT, AT)
    except MalformedError:
        return

    assert answer is not None
