"""Make the RELEASE of one transaction: the coordinator to log it, each signer to recompute every field of it."""

from __future__ import annotations

from collections.abc import Sequence

from custody.entries import Release
from custody.facts import Facts
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
