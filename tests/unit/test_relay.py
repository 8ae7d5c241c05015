"""Relay rules: one valid transaction, one change, one code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from coordinator.chain.relay import (
    MAX_FEE_SATS,
    MAX_STANDARD_WEIGHT,
    NextBlock,
    dust_threshold_sats,
    pushes,
    relay_check,
)
from custody.finalise import finalize
from custody.scripts import Template
from custody.signatures import accept
from custody.transaction import OutPoint, Transaction, TxIn, TxOut
from custody.units import Sats
from tests.fakes.psbts import facts_of, signed_by, spent_outputs
from tests.fakes.spends import p2wsh, sign_two_of_three, two_of_three, with_high_s
from tests.fakes.templates import BOOKS, spend_of

AT = NextBlock(height=500, median_time=1_700_000_000)
P2WSH = p2wsh(two_of_three())
P2WPKH = b"\x00\x14" + b"\x01" * 20
P2TR = b"\x51\x20" + b"\x02" * 32
P2PKH = b"\x76\xa9\x14" + b"\x03" * 20 + b"\x88\xac"
P2SH = b"\xa9\x14" + b"\x04" * 20 + b"\x87"
SPENT = (TxOut(Sats(100_000), P2WSH),)


def valid(fee_sats: int = 1_000, script: bytes = P2WPKH) -> Transaction:
    """Return a signed 2-of-3 spend of SPENT."""
    unsigned = Transaction(2, (TxIn(OutPoint(b"\x09" * 32, 1)),), (TxOut(Sats(100_000 - fee_sats), script),))
    return sign_two_of_three(unsigned, [100_000])


def with_input(transaction: Transaction, **changes: object) -> Transaction:
    """Return `transaction` with its first input changed."""
    return replace(transaction, inputs=(replace(transaction.inputs[0], **changes), *transaction.inputs[1:]))  # type: ignore[arg-type]


def with_output(transaction: Transaction, script: bytes, amount: int) -> Transaction:
    """Return `transaction` with one more output, paid by the first."""
    first = transaction.outputs[0]
    outputs = (replace(first, amount=Sats(first.amount - amount)), TxOut(Sats(amount), script))
    return replace(transaction, outputs=outputs)


def with_witness(transaction: Transaction, change: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> Transaction:
    """Return `transaction` with the witness of its first input changed."""
    return with_input(transaction, witness=change(transaction.inputs[0].witness))


REFUSED: dict[str, tuple[Callable[[Transaction], Transaction], str]] = {
    "version_1": (lambda t: replace(t, version=1), "TX_NONSTANDARD"),
    "version_3": (lambda t: replace(t, version=3), "TX_NONSTANDARD"),
    "too_heavy": (lambda t: with_witness(t, lambda w: (b"\0" * MAX_STANDARD_WEIGHT, *w)), "TX_WEIGHT"),
    "too_small": (lambda t: replace(t, outputs=(TxOut(Sats(99_000), b"\x6a\x00"),)), "TX_NONSTANDARD"),
    "height_not_reached": (lambda t: replace(t, locktime=500), "TX_NOT_FINAL"),
    "time_not_reached": (lambda t: replace(t, locktime=1_700_000_000), "TX_NOT_FINAL"),
    "relative_lock": (lambda t: with_input(t, sequence=1), "TX_NOT_FINAL"),
    "script_sig_with_opcode": (lambda t: with_input(t, script_sig=b"\x61"), "TX_NONSTANDARD"),
    "script_sig_too_long": (lambda t: with_input(t, script_sig=b"\x00" * 1_651), "TX_NONSTANDARD"),
    "witness_item_too_long": (lambda t: with_witness(t, lambda w: (b"\1" * 81, *w)), "TX_NONSTANDARD"),
    "witness_script_too_long": (lambda t: with_witness(t, lambda w: (*w[:3], w[3] + b"\0" * 3_600)), "TX_NONSTANDARD"),
    "witness_too_many": (lambda t: with_witness(t, lambda w: (b"",) * 101 + w[3:]), "TX_NONSTANDARD"),
    "high_s": (lambda t: with_witness(t, lambda w: (b"", with_high_s(w[1]), *w[2:])), "TX_HIGH_S"),
    "sighash_undefined": (lambda t: with_witness(t, lambda w: (b"", w[1][:-1] + b"\x04", *w[2:])), "TX_NONSTANDARD"),
    "dust": (lambda t: with_output(t, P2WSH, 329), "TX_DUST"),
    "output_script_unknown": (lambda t: with_output(t, b"\x51", 5_000), "TX_NONSTANDARD"),
    "output_bare_multisig": (lambda t: with_output(t, two_of_three(), 5_000), "TX_NONSTANDARD"),
    "output_program_of_31_bytes": (lambda t: with_output(t, b"\x00\x1f" + b"\1" * 31, 5_000), "TX_NONSTANDARD"),
    "data_too_long": (lambda t: with_output(t, b"\x6a\x4c\x51" + b"\1" * 81, 0), "TX_NONSTANDARD"),
    "data_twice": (lambda t: replace(t, outputs=(*t.outputs, *(TxOut(Sats(0), b"\x6a"),) * 2)), "TX_NONSTANDARD"),
    "no_fee": (lambda t: valid(0), "TX_FEE_TOO_LOW"),
    "fee_below_one_per_vbyte": (lambda t: valid(t.vsize_vb - 1), "TX_FEE_TOO_LOW"),
}
ACCEPTED: dict[str, Callable[[Transaction], Transaction]] = {
    "as_it_is": lambda t: t,
    "fee_of_one_per_vbyte": lambda t: valid(t.vsize_vb),
    "height_reached": lambda t: replace(t, locktime=499),
    "time_reached": lambda t: replace(t, locktime=1_699_999_999),
    "lock_time_switched_off": lambda t: with_input(replace(t, locktime=900), sequence=0xFFFFFFFF),
    "dust_threshold": lambda t: with_output(t, P2WSH, 330),
    "data": lambda t: with_output(t, b"\x6a\x04test", 0),
    "p2tr": lambda t: valid(script=P2TR),
    "p2pkh": lambda t: valid(script=P2PKH),
    "p2sh": lambda t: valid(script=P2SH),
}


@pytest.mark.parametrize("change", ACCEPTED)
def test_relay_check_when_rules_are_kept_then_accepts(change: str) -> None:
    """The valid transaction and each change at the edge of a rule pass."""
    assert relay_check(ACCEPTED[change](valid()), SPENT, AT) is None


@pytest.mark.parametrize("change", REFUSED)
def test_relay_check_when_one_rule_is_broken_then_refuses(change: str) -> None:
    """One change, one code."""
    broken, code = REFUSED[change]

    answer = relay_check(broken(valid()), SPENT, AT)

    assert answer is not None
    assert answer.code == code


@pytest.mark.parametrize(("amount", "fee_sats"), [(100_000_000_000, MAX_FEE_SATS + 1), (10_000_000, 2_000_000)])
def test_relay_check_when_fee_is_absurd_then_refuses(amount: int, fee_sats: int) -> None:
    """Above 0.1 BTC, or above 10,000 sat/vB, a fee is a mistake."""
    transaction = replace(valid(), outputs=(TxOut(Sats(amount - fee_sats), P2WPKH),))

    answer = relay_check(transaction, (TxOut(Sats(amount), P2WSH),), AT)

    assert answer is not None
    assert answer.code == "TX_FEE_ABSURD"


@pytest.mark.parametrize(("script", "sats"), [(P2WPKH, 294), (P2WSH, 330), (P2TR, 330), (P2PKH, 546), (P2SH, 540)])
def test_dust_threshold_when_script_is_standard_then_is_cores(script: bytes, sats: int) -> None:
    """The numbers that Bitcoin Core's GetDustThreshold gives at 3 sat/vB."""
    assert dust_threshold_sats(script) == sats


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (b"", ()),
        (b"\x00\x51\x01\x07", (b"", b"", b"\x07")),
        (b"\x4c\x02ab\x4d\x01\x00c\x4e\x01\x00\x00\x00d", (b"ab", b"c", b"d")),
        (b"\x02a", None),
        (b"\x4c", None),
        (b"\x4c\x05abc", None),
        (b"\x61", None),
    ],
)
def test_pushes_when_read_then_gives_items_or_none(script: bytes, found: tuple[bytes, ...] | None) -> None:
    """Every push opcode is read; other opcodes and pushes past the end are none."""
    assert pushes(script) == found


def final_of(template: Template) -> tuple[Transaction, tuple[TxOut, ...]]:
    """Return a complete transaction of a wallet of ours, and what it spends."""
    book, psbt = BOOKS[template], spend_of(template)
    facts = facts_of(psbt, book)
    signatures = (*signed_by(0, psbt, book=book), *signed_by(1, psbt, book=book))
    return finalize(psbt, facts, book, accept(psbt, facts, book, signatures)), spent_outputs(psbt)


WITNESSES: dict[str, tuple[Template, Callable[[tuple[bytes, ...]], tuple[bytes, ...]]]] = {
    "script_in_p2sh_too_long": (Template.SH_WSH, lambda w: (*w[:-1], w[-1] + b"\0" * 3_600)),
    "item_in_p2sh_too_long": (Template.SH_WSH, lambda w: (b"\1" * 81, *w)),
    "too_many_in_p2sh": (Template.SH_WSH, lambda w: (b"",) * 101 + w[-1:]),
    "item_of_a_tapscript_too_long": (Template.TR, lambda w: (b"\1" * 81, *w)),
    "annex": (Template.TR, lambda w: (*w, b"\x50")),
    "long_annex": (Template.TR_SORTED, lambda w: (*w, b"\x50" + bytes(32))),
}


@pytest.mark.parametrize("template", Template)
def test_relay_check_when_the_wallet_has_any_template_then_accepts(template: Template) -> None:
    """Finalised by us: within every limit."""
    final, spent = final_of(template)

    assert relay_check(final, spent, AT) is None


@pytest.mark.parametrize("change", WITNESSES)
def test_relay_check_when_a_witness_is_outside_relay_limits_then_refuses(change: str) -> None:
    """P2WSH inside P2SH has the limits of P2WSH; tapscripts have those of items, and no annex."""
    template, bend = WITNESSES[change]
    final, spent = final_of(template)

    answer = relay_check(with_witness(final, bend), spent, AT)

    assert answer is not None
    assert answer.code == "TX_NONSTANDARD"
