"""Not a second payment: any two transactions of one family conflict, and nothing is paid again unless that was asked.

Signers judge by this and the coordinator plans by it. Everything is counted from the money log, plus what a signer
signed itself; which of several transactions confirms, and whether one ever does, is nobody's to know here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from custody.errors import Refused
from custody.facts import Facts
from custody.follow import State, family_of
from custody.transaction import OutPoint
from custody.withdrawal import RelationKind, Withdrawal

REPAYMENT_SECONDS = 90 * 86_400  # protocol.md "Withdrawal": how long `new` may not pay the same again


@dataclass(frozen=True, slots=True)
class OwnSignature:
    """One transaction that a signer signed before, from its journal. Digests and txid: 32 bytes."""

    withdrawal_digest: bytes
    family: bytes
    txid: bytes
    outpoints: frozenset[OutPoint]


def pays_once(
    withdrawal: Withdrawal,
    facts: Facts,
    state: State,
    lo: int,
    release_index: int | None = None,
    mine: Sequence[OwnSignature] = (),
) -> Refused | None:
    """Return None if the transaction of `facts` conflicts with every other of its family and repeats no other payment.

    Args:
        withdrawal: what it pays.
        facts: proven from its PSBT.
        state: settled; every admissible release counts.
        lo: UTC seconds, the early end of now.
        release_index: of its own RELEASE where there is one: it does not stand against itself.
        mine: what this signer signed itself.
    """
    family, digest, outpoints = family_of(state, withdrawal), withdrawal.digest, facts.outpoints
    if family is None:
        return Refused("NOTHING_TO_SUPERSEDE", "a superseded withdrawal with a release in the log", "none")
    for released in state.releases:
        release = released.release
        if released.index == release_index:
            continue
        if release.family == family and not outpoints & frozenset(release.outpoints):
            return Refused("SECOND_PAYMENT", f"an outpoint of release {release.txid[::-1].hex()}", "none shared")
        if release.relation.kind is RelationKind.SUPERSEDES and digest in release.relation.digests:
            return Refused("SUPERSEDED", "a withdrawal that no released one supersedes", release.withdrawal_id)
        is_same_id = (release.initiator, release.withdrawal_id) == (withdrawal.initiator, withdrawal.withdrawal_id)
        if is_same_id and release.withdrawal_digest != digest:
            return Refused("WITHDRAWAL_ID_REUSED", digest.hex(), release.withdrawal_digest.hex())
    for own in mine:
        if own.family == family and not outpoints & own.outpoints:
            return Refused("SECOND_PAYMENT", f"an outpoint of what I signed, {own.txid[::-1].hex()}", "none shared")
    return _relation_holds(withdrawal, facts, state, lo, family)


def _relation_holds(withdrawal: Withdrawal, facts: Facts, state: State, lo: int, family: bytes) -> Refused | None:
    """Refuse to pay again what is already released, unless the initiator listed every such withdrawal."""
    relation = withdrawal.relation
    if relation.kind is RelationKind.SUPERSEDES:
        return None
    wanted = {(p.script, p.amount) for p in facts.payments}
    for released in state.releases:
        release = released.release
        is_recent = released.t > lo - REPAYMENT_SECONDS
        is_again = release.family != family and any((p.script, p.amount) in wanted for p in release.payments)
        if is_recent and is_again and release.withdrawal_digest not in relation.digests:
            return Refused("ALREADY_PAID", "a relation that lists every such release", release.withdrawal_digest.hex())
    return None
