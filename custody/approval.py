"""One person's key over one exact withdrawal: approve or reject.

Whether the person counts (group, seen or blind, dates, distinct people) is for the rules to say: `custody.decide`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from custody.canonical import Json, decode, encode, tagged_hash
from custody.errors import MalformedError
from custody.fields import Fields
from custody.statements import Kind, Signed


class Decision(Enum):
    """What the person said; a reject is final."""

    APPROVE = "approve"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Approval:
    """The statement {genesis, withdrawal_digest, decision, approver, at, expires_at}; digests are 32 bytes."""

    genesis: bytes
    withdrawal_digest: bytes
    decision: Decision
    approver: str
    at: int
    expires_at: int

    @property
    def digest(self) -> bytes:
        """32 bytes: what a RELEASE names."""
        return tagged_hash(Kind.APPROVAL.value, encode(self.to_json()))

    def to_json(self) -> Json:
        """Return the statement that the approver signs."""
        return {
            "genesis": self.genesis.hex(),
            "withdrawal_digest": self.withdrawal_digest.hex(),
            "decision": self.decision.value,
            "approver": self.approver,
            "at": self.at,
            "expires_at": self.expires_at,
        }


def read_approval(signed: Signed) -> Approval:
    """Return the approval inside `signed`; whose signature it bears is not judged here.

    Raises:
        MalformedError: STATEMENT_KIND, APPROVAL_DECISION, or a FIELD_ code.
    """
    if signed.kind is not Kind.APPROVAL:
        raise MalformedError("STATEMENT_KIND", f"expected an approval, found {signed.kind.name}")
    fields = Fields(decode(signed.raw), "approval")
    decision_text = fields.text("decision")
    decision = next((d for d in Decision if d.value == decision_text), None)
    if decision is None:
        raise MalformedError("APPROVAL_DECISION", f"expected approve or reject, found {decision_text[:20]!r}")
    approval = Approval(
        genesis=fields.hex("genesis", 32),
        withdrawal_digest=fields.hex("withdrawal_digest", 32),
        decision=decision,
        approver=fields.name("approver"),
        at=fields.time("at"),
        expires_at=fields.time("expires_at"),
    )
    fields.done()
    return approval
