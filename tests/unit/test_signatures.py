"""Build, verify, finalise: our own PSBT and nobody else's. Attacks: tests/attacks/test_signatures.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
from embit.psbt import PSBT

from custody.facts import ShapeLimits
from custody.finalise import finalize
from custody.psbt import parse, serialize
from custody.signatures import accept, from_foreign_psbt, sighashes, with_signatures, without_signatures
from custody.transaction import OutPoint, Transaction, TxOut, parse_transaction
from custody.units import Sats
from custody.updater import SpendableCoin, build
from custody.wallet import ScriptBook
from tests.fakes.psbts import (
    BOOK,
    COIN_SATS,
    FEE_SATS,
    PAID_SATS,
    STRANGER,
    code,
    coin,
    facts_of,
    kernel_accepts,
    signed_by,
    spend,
    spent_outputs,
    valid,
    wallet_of,
)


def test_build_given_coins_and_outputs_fills_all_that_a_signer_needs() -> None:
    """Version 2, locktime 0, replaceable; previous transaction, claim, script, type and hints on each input."""
    psbt = valid()
    first = psbt.inputs[0]

    assert (psbt.transaction.version, psbt.transaction.locktime) == (2, 0)
    assert {txin.sequence for txin in psbt.transaction.inputs} == {0xFFFFFFFD}
    assert [field.type for field in first.fields] == [0, 1, 3, 5, 6, 6, 6]
    assert first.previous == coin(0, 0, 5).previous
    assert first.witness_utxo == TxOut(Sats(COIN_SATS), BOOK.script(0, 5).script)
    assert first.witness_script == BOOK.script(0, 5).witness_script
    assert {path for _, path in first.derivations} == {(2**31 + 48, 2**31 + 1, 2**31, 2**31 + 2, 0, 5)}
    assert [len(output.fields) for output in psbt.outputs] == [0, 4]


def test_build_given_our_spend_reads_the_same_in_a_second_implementation() -> None:
    """A reader by others, embit, sees the transaction, fee, scripts and hints that we wrote."""
    theirs = PSBT.parse(serialize(valid()))

    assert theirs.tx.txid() == facts_of(valid()).txid[::-1]
    assert theirs.fee() == FEE_SATS
    for ours, said in zip(valid().inputs, theirs.inputs, strict=True):
        assert said.witness_script.data == ours.witness_script
        assert {key.sec() for key in said.bip32_derivations} == {pubkey for pubkey, _ in ours.derivations}


def test_built_psbt_and_its_bytes_say_the_same() -> None:
    """What was built is what a reader of its bytes sees, field by field."""
    again = parse(serialize(valid()))

    assert facts_of(again) == facts_of(valid())
    assert [[(f.key, f.value) for f in m.fields] for m in again.inputs] == [
        [(f.key, f.value) for f in m.fields] for m in valid().inputs
    ]


def test_accept_given_signatures_over_time_tells_who_signed_and_how_many_lack() -> None:
    """None, one, two of three: the threshold is a value for people and code."""
    facts = facts_of(valid())
    collected = [accept(valid(), facts, BOOK, sum((signed_by(at, valid()) for at in range(n)), ())) for n in range(3)]

    assert [found.signed for found in collected] == [frozenset(), {0}, {0, 1}]
    assert [found.lacking for found in collected] == [2, 1, 0]
    assert [found.is_complete for found in collected] == [False, False, True]


def test_of_given_cosigners_returns_their_signatures_by_input() -> None:
    """What is sent on to the next signer: the filed ones, in order."""
    first, second = signed_by(0, valid()), signed_by(1, valid())
    found = accept(valid(), facts_of(valid()), BOOK, (*second, *first))

    assert found.of([1, 0]) == (first[0], second[0], first[1], second[1])
    assert found.of([0]) == first
    assert found.of([2]) == ()


@pytest.mark.parametrize(("threshold", "count"), [(1, 1), (1, 2), (2, 2), (3, 5), (15, 15)])
def test_finalize_given_any_m_of_n_is_accepted_by_the_kernel_and_not_above_the_bound(
    threshold: int, count: int
) -> None:
    """From 1-of-1 to 15-of-15; the bound of the size holds, and is no more than two bytes a signature too high."""
    book = ScriptBook(wallet_of(threshold, count))
    psbt = spend(2, book=book)
    facts = facts_of(psbt, book)
    signatures = sum((signed_by(at, psbt, book=book) for at in range(count)), ())

    final = finalize(psbt, facts, book, accept(psbt, facts, book, signatures))

    assert kernel_accepts(final, spent_outputs(psbt))
    assert facts.vsize_vb - threshold * 2 <= final.vsize_vb <= facts.vsize_vb
    assert final.unsigned() == psbt.transaction
    assert parse_transaction(final.serialize()) == final


def test_finalize_given_more_than_m_uses_m_in_script_order() -> None:
    """The witness is dummy, m signatures in the order of keys in the script, script."""
    facts = facts_of(valid())
    by_cosigner = [signed_by(at, valid()) for at in range(3)]

    final = finalize(valid(), facts, BOOK, accept(valid(), facts, BOOK, sum(by_cosigner, ())))

    for at, (txin, fact) in enumerate(zip(final.inputs, facts.inputs, strict=True)):
        script = BOOK.script(fact.branch, fact.index)
        ordered = sorted((0, 1), key=lambda cosigner, script=script: script.pubkeys[cosigner])  # type: ignore[misc]
        signatures = [by_cosigner[cosigner][at].signature for cosigner in ordered]
        assert txin.witness == (b"", *signatures, script.witness_script)


def test_sighashes_given_any_change_of_what_is_signed_differ() -> None:
    """Amount, sequence, output, locktime: nothing can change under a signature."""
    facts, transaction = facts_of(valid()), valid().transaction
    digests = set(sighashes(valid(), facts, BOOK))
    inputs = (replace(transaction.inputs[0], sequence=1), transaction.inputs[1])
    others = [
        replace(valid(), transaction=replace(transaction, locktime=1)),
        replace(valid(), transaction=replace(transaction, version=1)),
        replace(valid(), transaction=replace(transaction, inputs=inputs)),
        replace(valid(), transaction=replace(transaction, outputs=transaction.outputs[::-1])),
    ]

    for other in others:
        assert not digests & set(sighashes(other, facts, BOOK))
    lied = replace(facts, inputs=tuple(replace(fact, amount_sats=Sats(1)) for fact in facts.inputs))
    assert not digests & set(sighashes(valid(), lied, BOOK))


def test_with_and_without_signatures_are_each_others_undoing() -> None:
    """An export holds one signature per key; what we keep of it is our own PSBT again."""
    signatures = signed_by(0, valid())

    export = with_signatures(valid(), (*signatures, *signatures))

    assert sorted(from_foreign_psbt(valid(), serialize(export))) == sorted(signatures)
    assert without_signatures(export) == valid()
    assert code(serialize(export)) == "PSBT_HAS_SIGNATURES"


def test_build_given_many_coins_of_one_previous_transaction_is_proven() -> None:
    """200 outputs of one transaction, spent together: each input carries it, each amount is its own."""
    outputs = tuple(TxOut(Sats(10_000 + at), BOOK.script(0, at).script) for at in range(200))
    previous = Transaction(2, coin(0).previous.inputs, outputs)
    coins = [SpendableCoin(OutPoint(previous.txid, at), previous, 0, at) for at in range(200)]

    psbt = parse(serialize(build(BOOK, coins, [TxOut(Sats(PAID_SATS), STRANGER)])))

    facts = facts_of(psbt, limits=ShapeLimits())
    assert [fact.amount_sats for fact in facts.inputs] == [10_000 + at for at in range(200)]
