"""The RELEASE of one transaction: the coordinator logs it, each signer recomputes every field of it."""

from __future__ import annotations

from collections.abc import Sequence

from custody.entries import Release
from custody.facts import VERSION, Facts, vsize_bound_vb
from custody.psbt import Psbt, PsbtInput, PsbtOutput
from custody.psbt_fields import FieldMap
from custody.transaction import Transaction, TxIn, TxOut
from custody.units import VBytes
from custody.wallet import CHANGE, ScriptBook
from custody.withdrawal import Withdrawal


def release_of(withdrawal: Withdrawal, approvals: Sequence[bytes], facts: Facts, family: bytes, time: int) -> Release:
    """Return the release that permits exactly the transaction of `facts` for `withdrawal`.

    Args:
        withdrawal: what was asked.
        approvals: digests (32 bytes) of the approvals it rests on, in the order of the bundle.
        facts: proven from the PSBT.
        family: 32 bytes, from `custody.follow.family_of`.
        time: UTC seconds, for display.
    """
    return Release(
        withdrawal_digest=withdrawal.digest,
        withdrawal_id=withdrawal.withdrawal_id,
        wallet_id=withdrawal.wallet_id,
        family=family,
        approvals=tuple(approvals),
        txid=facts.txid,
        outpoints=tuple(fact.outpoint for fact in facts.inputs),
        payments=facts.payments,
        change=tuple((change.index, change.amount_sats) for change in facts.change),
        fee_sats=facts.fee_sats,
        max_fee_sats=withdrawal.max_fee_sats,
        initiator=withdrawal.initiator,
        relation=withdrawal.relation,
        time=time,
    )


def vsize_of_release_vb(release: Release, book: ScriptBook) -> VBytes:
    """Return the largest size of the release's transaction; the order of its outputs, which is lost, does not enter."""
    change = [TxOut(amount, book.script(CHANGE, index).script) for index, amount in release.change]
    inputs = tuple(TxIn(outpoint) for outpoint in release.outpoints)
    transaction = Transaction(VERSION, inputs, (*release.payments, *change))
    shape = Psbt(FieldMap(()), transaction, tuple(PsbtInput(()) for _ in inputs), (PsbtOutput(()),))
    return vsize_bound_vb(shape, book.wallet)
