"""What facts say of a valid spend, and what they cost. Lies: tests/attacks/test_money_and_change.py."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from custody.errors import Refused
from custody.facts import INPUT_GAP, MAX_HINTED_OUTPUTS, ChangeFact, ShapeLimits, own_payees, read_facts
from custody.psbt import parse, serialize
from custody.transaction import TxIn, TxOut
from custody.units import MAX_MONEY_SATS, Sats
from custody.updater import build
from custody.wallet import MAX_INDEX, MAX_KEPT_SCRIPTS, ScriptBook
from tests.fakes.psbts import (
    BOOK,
    COIN_SATS,
    FEE_SATS,
    OTHER_BOOK,
    PAID_SATS,
    STRANGER,
    WALLET,
    RawPsbt,
    code,
    coin,
    facts_of,
    valid,
    wallet_of,
)


def test_read_facts_given_a_valid_spend_says_what_it_does() -> None:
    """Inputs with their places, payments in order, change by its place, fee, outpoints, txid."""
    facts = facts_of(valid())

    assert [(fact.branch, fact.index, fact.amount_sats) for fact in facts.inputs] == [
        (0, 5, COIN_SATS),
        (1, 6, COIN_SATS),
    ]
    assert facts.payments == (TxOut(Sats(PAID_SATS), STRANGER),)
    assert facts.change == (ChangeFact(1, 3, Sats(2 * COIN_SATS - PAID_SATS - FEE_SATS)),)
    assert (facts.fee_sats, facts.version, facts.locktime) == (FEE_SATS, 2, 0)
    assert facts.outpoints == {txin.outpoint for txin in valid().transaction.inputs}
    assert facts.txid == valid().transaction.txid


def test_read_facts_given_what_the_wallet_writes_says_the_same_in_one_step() -> None:
    """Read as our own or field by field, by the book that knows the scripts or by a new one: the same facts."""
    raw, expected = serialize(valid()), facts_of(valid())
    own = parse(raw, BOOK.known)

    assert all(said.own_at(txin.outpoint) for said, txin in zip(own.inputs, own.transaction.inputs, strict=True))
    assert facts_of(own) == facts_of(own, ScriptBook(WALLET)) == facts_of(parse(raw)) == expected
    assert [fact.script for fact in facts_of(own).inputs] == [BOOK.script(0, 5).script, BOOK.script(1, 6).script]


def test_read_facts_given_what_another_wallet_writes_refuses() -> None:
    """What another book proved of its own coins proves nothing here."""
    psbt = parse(serialize(valid()), BOOK.known)

    assert psbt.inputs[0].own_at(psbt.transaction.inputs[0].outpoint)
    refused = read_facts(psbt, OTHER_BOOK, ShapeLimits())
    assert isinstance(refused, Refused)
    assert refused.code == "FOREIGN_INPUT"


def test_read_facts_given_another_outpoint_than_was_proven_proves_it_anew() -> None:
    """The other output of the same transaction, of another amount or script: nothing of the first proof counts."""
    psbt = parse(serialize(valid()), BOOK.known)
    first, *others = psbt.transaction.inputs
    moved = replace(first.outpoint, vout=0)
    lie = replace(psbt, transaction=replace(psbt.transaction, inputs=(TxIn(moved), *others)))

    assert psbt.inputs[0].own_at(moved) is None
    refused = read_facts(lie, BOOK, ShapeLimits())
    assert isinstance(refused, Refused)
    assert refused.code == "AMOUNT_LIE"


def test_read_facts_given_a_coin_without_hints_finds_it_inside_the_window_only() -> None:
    """A wallet's software that writes no hints is searched for up to the window; beyond it a hint must point."""

    def bare(index: int) -> str:
        raw = RawPsbt.of(build(BOOK, [coin(0, 0, index)], [TxOut(Sats(PAID_SATS), STRANGER)]))
        raw.inputs[0] = [pair for pair in raw.inputs[0] if pair[0][0] != 6]
        return code(raw.to_bytes())

    assert bare(INPUT_GAP) == "OK"
    assert bare(INPUT_GAP + 1) == "FOREIGN_INPUT"


@pytest.mark.parametrize("index", [INPUT_GAP + 1, 1_000_000, MAX_INDEX])
def test_read_facts_given_a_hint_proves_a_coin_at_any_index(index: int) -> None:
    """A coin is ours wherever it lies: only change has a window."""
    psbt = build(BOOK, [coin(0, 0, index)], [TxOut(Sats(PAID_SATS), STRANGER)])

    assert facts_of(psbt).inputs[0].index == index


def test_read_facts_given_a_hint_of_two_steps_proves_a_coin_and_one_of_one_step_does_not() -> None:
    """Branch and index are enough: what stands before them is not ours to judge."""
    place = (0).to_bytes(4, "little") + (5_000).to_bytes(4, "little")
    psbt = build(BOOK, [coin(0, 0, 5_000)], [TxOut(Sats(PAID_SATS), STRANGER)])

    def hinted(path: bytes) -> str:
        raw = RawPsbt.of(psbt)
        raw.inputs[0] = [(key, bytes(4) + path if key[0] == 6 else value) for key, value in raw.inputs[0]]
        return code(raw.to_bytes())

    assert hinted(place) == "OK"
    assert hinted(bytes(400) + place) == "OK"
    assert hinted(place[4:]) == "FOREIGN_INPUT"


def test_read_facts_given_change_without_hints_names_it_up_to_a_thousand_beyond_the_log() -> None:
    """Change that went too far is told as such where it can be found without searching for ever."""
    found = {}
    for index in (1_009, 1_010, 1_011):
        psbt = build(BOOK, [coin(0)], [TxOut(Sats(PAID_SATS), BOOK.script(1, index).script)])
        facts = read_facts(psbt, BOOK, ShapeLimits(highest_change_index=10))
        found[index] = facts.code if isinstance(facts, Refused) else "payment"

    assert found == {1_009: "CHANGE_INDEX", 1_010: "CHANGE_INDEX", 1_011: "payment"}


def test_read_facts_given_the_first_change_of_a_wallet_takes_indices_0_to_19() -> None:
    """Before any change stands in the log, twenty places are open."""

    def first(index: int) -> str:
        outputs = [TxOut(Sats(PAID_SATS), BOOK.script(1, index).script)]
        return code(serialize(build(BOOK, [coin(0)], outputs, [(0, index)])))

    assert [first(index) for index in (0, 19, 20)] == ["OK", "OK", "CHANGE_INDEX"]


def test_read_facts_given_change_whose_hints_point_elsewhere_knows_it_all_the_same() -> None:
    """Hints prove nothing and spoil nothing: the script decides."""
    raw = RawPsbt.of(valid())
    elsewhere = (1).to_bytes(4, "little") + (11).to_bytes(4, "little")
    raw.outputs[1] = [(key, bytes(4) + elsewhere if key[0] == 2 else value) for key, value in raw.outputs[1]]

    assert facts_of(parse(raw.to_bytes())) == facts_of(valid())


def test_read_facts_given_inputs_above_all_money_refuses() -> None:
    """Two coins of 15 million each cannot exist together."""
    coins = [coin(at, amount=MAX_MONEY_SATS * 5 // 7) for at in range(2)]

    assert code(serialize(build(BOOK, coins, [TxOut(Sats(PAID_SATS), STRANGER)]))) == "MONEY"


def test_read_facts_given_exactly_all_money_is_no_lie() -> None:
    """21 million coins are the most there can be (consensus: MoneyRange), and that many can be."""
    psbt = build(BOOK, [coin(0, amount=MAX_MONEY_SATS)], [TxOut(Sats(MAX_MONEY_SATS - 1), STRANGER)])

    assert facts_of(psbt).fee_sats == 1


@pytest.mark.parametrize(("threshold", "count"), [(1, 1), (2, 3), (5, 7), (8, 8), (15, 15)])
@pytest.mark.parametrize("inputs", [1, 3])
def test_vsize_bound_is_that_of_a_transaction_with_the_longest_signatures(
    threshold: int, count: int, inputs: int
) -> None:
    """Exactly: every signature at its 72 bytes, and nothing added."""
    book = ScriptBook(wallet_of(threshold, count))
    psbt = build(book, [coin(at, book=book) for at in range(inputs)], [TxOut(Sats(PAID_SATS), STRANGER)])
    stack = (b"", *[bytes(72)] * threshold, book.script(0, 0).witness_script)
    longest = replace(psbt.transaction, inputs=tuple(replace(txin, witness=stack) for txin in psbt.transaction.inputs))

    assert facts_of(psbt, book).vsize_vb == longest.vsize_vb


def test_own_payees_given_payments_returns_those_to_our_receiving_branch() -> None:
    """Another wallet's scripts and our change branch are none."""
    ours, theirs = BOOK.script(0, 8).script, OTHER_BOOK.script(0, 8).script
    psbt = build(BOOK, [coin(0)], [TxOut(Sats(1_000), script) for script in (ours, theirs, STRANGER)])

    assert own_payees(facts_of(psbt), BOOK) == {ours}


def test_read_facts_given_a_refusal_names_the_outpoint() -> None:
    """Refusals are for people too: what was expected, what was found."""
    raw = RawPsbt.of(valid())
    del raw.inputs[1][0]

    found = read_facts(parse(raw.to_bytes()), BOOK, ShapeLimits())

    assert found == Refused(
        "PREVIOUS_MISSING", f"the previous transaction of {valid().transaction.inputs[1].outpoint}", "none"
    )


def test_read_facts_given_thousands_of_hints_derives_few_of_them() -> None:
    """Hints on outputs cost a bounded number of derivations, however many there are."""
    book = ScriptBook(WALLET)
    pubkey = BOOK.script(0, 1).pubkeys[0]

    def hint(index: int) -> tuple[bytes, bytes]:
        return b"\x02" + pubkey, bytes(4) + (1).to_bytes(4, "little") + index.to_bytes(4, "little")

    script = OTHER_BOOK.script(0, 0).script
    outputs = [TxOut(Sats(1_000), script) for _ in range(4_000)]
    raw = RawPsbt.of(build(BOOK, [coin(0)], outputs))
    for at in range(len(outputs)):
        raw.outputs[at].append(hint(10_000 + at))
    psbt = parse(raw.to_bytes())
    book.find(script, 0, INPUT_GAP + 1)
    book.find(script, 1, INPUT_GAP + 1)
    begin = time.process_time()

    assert len(facts_of(psbt, book).payments) == len(outputs)

    per_derivation_s = 0.001  # 10 times what one takes
    assert time.process_time() - begin < 0.2 + MAX_HINTED_OUTPUTS * per_derivation_s


def test_read_facts_given_one_script_is_as_fast_with_one_input_as_each_of_a_thousand() -> None:
    """Facts are linear: ten times the inputs take about ten times as long, not a hundred."""

    def seconds(inputs: int) -> float:
        coins = [coin(at, 0, 5) for at in range(inputs)]
        psbt = parse(serialize(build(BOOK, coins, [TxOut(Sats(PAID_SATS), STRANGER)])))
        begin = time.process_time()
        assert len(facts_of(psbt).inputs) == inputs
        return time.process_time() - begin

    seconds(50)
    small, large = min(seconds(50) for _ in range(3)), min(seconds(500) for _ in range(3))

    assert large < 30 * small


def test_script_book_given_more_scripts_than_it_keeps_starts_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is bounded, and what it forgets it derives again."""
    monkeypatch.setattr("custody.wallet.MAX_KEPT_SCRIPTS", 5)
    book = ScriptBook(WALLET)

    for index in range(12):
        assert book.script(0, index) == BOOK.script(0, index)
        assert book.recognise(BOOK.script(1, index).script, 1, index) == BOOK.script(1, index)

    assert MAX_KEPT_SCRIPTS >= 10_000


def test_script_book_given_places_that_cannot_be_recognises_nothing() -> None:
    """Other branches, hardened and negative indices, scripts of other kinds."""
    script = BOOK.script(0, 5).script

    assert BOOK.recognise(script, 0, 5) == BOOK.script(0, 5)
    for branch, index in ((1, 5), (0, 6), (2, 5), (-1, 5), (0, 2**31), (0, -1)):
        assert BOOK.recognise(script, branch, index) is None
    assert BOOK.recognise(script + b"\0", 0, 5) is None
    assert BOOK.find(STRANGER, 0, 10) is None
