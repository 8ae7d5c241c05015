"""Who asked and who agreed: the signatures of people and services, judged against the keys that the rules pin.

The coordinator carries these statements and can neither make nor move one. How many approvals a withdrawal needs, and
of whom, is for `custody.decide`; here each one is proven to be what it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from custody.approval import Approval, Decision
from custody.credentials import may_ask, proofs_by
from custody.errors import Refused
from custody.policy import Policy
from custody.statements import Kind, Signed
from custody.withdrawal import Withdrawal


class Asked(Protocol):
    """What can be approved: a withdrawal, or a message to be signed."""

    @property
    def genesis(self) -> bytes:
        """32 bytes."""

    @property
    def digest(self) -> bytes:
        """32 bytes."""

    @property
    def initiator(self) -> str:
        """Who asks."""

    @property
    def expires_at(self) -> int:
        """UTC seconds."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """One proven approval. seen: made with a credential whose program shows what it signs.  at: UTC seconds.

    device_bound: made with a key that its device does not give away.  digest: 32 bytes, its own.  after: what it names.
    """

    person: str
    seen: bool
    at: int
    digest: bytes
    device_bound: bool = False
    after: tuple[bytes, ...] = ()

    @property
    def worth(self) -> tuple[bool, bool, int, int, bytes]:
        """Tells the best of several approvals of one person: the one that rules can use most, then the last."""
        return self.seen, self.device_bound, len(self.after), self.at, self.digest


def verify_people(
    policy: Policy, withdrawal: Withdrawal, signed: Signed, approvals: Sequence[tuple[Approval, Signed]], at: int
) -> Refused | None:
    """Return the first reason why these are not the people they claim to be, or None.

    Args:
        policy: the rules in force, which pin every key.
        withdrawal: what was asked.
        signed: the statement of `withdrawal`.
        approvals: each with its statement.
        at: T(RELEASE), or now where there is no release yet; UTC seconds.
    """
    # Plan: 1 the initiator signed · 2 each approval is proven · 3 one human, one vote.
    if refused := check_initiator(policy, withdrawal, signed, at):
        return refused
    people: set[str] = set()
    for approval, approval_signed in approvals:
        ballot = check_approval(policy, withdrawal, approval, approval_signed, at)
        if isinstance(ballot, Refused):
            return ballot
        if ballot.person in people:
            return Refused("APPROVAL_DUPLICATE_PERSON", "one approval of each person", f"two of {ballot.person}")
        people.add(ballot.person)
    return None


def check_initiator(policy: Policy, withdrawal: Withdrawal, signed: Signed, at: int) -> Refused | None:
    """Return None if the initiator that `withdrawal` names is in the rules, valid at `at`, and signed it."""
    initiator = policy.principal(withdrawal.initiator)
    if initiator is None:
        return Refused("INITIATOR_UNKNOWN", "an initiator named in the rules", withdrawal.initiator)
    if at >= initiator.valid_until:
        return Refused("INITIATOR_UNKNOWN", f"an initiator valid at {at}", f"one valid until {initiator.valid_until}")
    is_same = signed.kind is Kind.WITHDRAWAL and signed.digest == withdrawal.digest
    if not is_same or not may_ask(initiator, signed):
        return Refused("INITIATOR_SIGNATURE", f"a signature of this withdrawal by {initiator.name}", "none")
    return None


def check_approval(policy: Policy, asked: Asked, approval: Approval, signed: Signed, at: int) -> Ballot | Refused:
    """Return the ballot that one approval is worth at `at` (UTC seconds), or why it is worth none.

    A reject comes back as REJECTED once its signature holds: it is final, and no date ends it.
    """
    # Plan: 1 of this withdrawal · 2 signed by the one it names · 3 a no is final · 4 not the initiator · 5 in date.
    if (approval.genesis, approval.withdrawal_digest) != (asked.genesis, asked.digest):
        return Refused("APPROVAL_OTHER_WITHDRAWAL", asked.digest.hex()[:16], approval.withdrawal_digest.hex()[:16])
    approver = policy.principal(approval.approver)
    if approver is None:
        return Refused("APPROVER_UNKNOWN", "an approver named in the rules", approval.approver)
    is_same = signed.kind is Kind.APPROVAL and signed.digest == approval.digest
    used = proofs_by(approver, signed) if is_same else ()
    if not used:
        return Refused("APPROVAL_SIGNATURE", f"a signature by {approver.name}", "none")
    if approval.decision is Decision.REJECT:
        return Refused("REJECTED", "no reject", f"a reject by {approver.name}")
    if approver.name == asked.initiator:
        return Refused("APPROVAL_SELF", "an approver other than the initiator", approver.name)
    if at >= approver.valid_until:
        return Refused("APPROVER_UNKNOWN", f"an approver valid at {at}", f"one valid until {approver.valid_until}")
    return _in_date(approval, asked, at) or Ballot(
        person=approver.name,
        seen=any(proof.seen for proof in used),
        at=approval.at,
        device_bound=any(proof.credential.device_bound for proof in used),
        digest=approval.digest,
        after=approval.after,
    )


def _in_date(approval: Approval, asked: Asked, at: int) -> Refused | None:
    until = min(approval.expires_at, asked.expires_at)
    if at < approval.at:
        return Refused("APPROVAL_NOT_YET", f"an approval made by {at}", f"one of {approval.at} by {approval.approver}")
    if at >= until:
        return Refused("APPROVAL_EXPIRED", f"an approval valid at {at}", f"one of {approval.approver} until {until}")
    return None
