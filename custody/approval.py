"""One person's key over one exact withdrawal: approve or reject.

Whether the person counts (group, seen or blind, dates, distinct people) is for the rules to say: `custody.decide`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from custody.canonical import Json, decode, encode, tagged_hash
from custody.errors import MalformedError
from custody.fields import Fields
from custody.statements import Kind, Signed


class Decision(Enum):
    """What the person said; a reject is final."""

    APPROVE = "approve"
    REJECT = "reject"


MAX_AFTER = 64  # earlier approvals that one may name: as many as one part of a rule can ask for


@dataclass(frozen=True, slots=True)
class Approval:
    """The statement {genesis, withdrawal_digest, decision, approver, at, expires_at, after?}; digests are 32 bytes.

    after: the approvals that its maker had seen, sorted; rules with stages ask for it.
    """

    genesis: bytes
    withdrawal_digest: bytes
    decision: Decision
    approver: str
    at: int
    expires_at: int
    after: tuple[bytes, ...] = ()

    @property
    def digest(self) -> bytes:
        """32 bytes: what a RELEASE names."""
        return _digest_of(self)

    def to_json(self) -> Json:
        """Return the statement that the approver signs."""
        statement: dict[str, Json] = {
            "genesis": self.genesis.hex(),
            "withdrawal_digest": self.withdrawal_digest.hex(),
            "decision": self.decision.value,
            "approver": self.approver,
            "at": self.at,
            "expires_at": self.expires_at,
        }
        if self.after:
            statement["after"] = [digest.hex() for digest in self.after]
        return statement


@lru_cache(maxsize=1_024)  # as withdrawals', and each has several approvals
def _digest_of(approval: Approval) -> bytes:
    return tagged_hash(Kind.APPROVAL.value, encode(approval.to_json()))


def read_approval(signed: Signed) -> Approval:
    """Return the approval inside `signed`; whose signature it bears is not judged here.

    Raises:
        MalformedError: STATEMENT_KIND, APPROVAL_DECISION, APPROVAL_AFTER, or a FIELD_ code.
    """
    if signed.kind is not Kind.APPROVAL:
        raise MalformedError("STATEMENT_KIND", f"expected an approval, found {signed.kind.name}")
    return _read(signed.raw)


@lru_cache(maxsize=1_024)
def _read(raw: bytes) -> Approval:
    fields = Fields(decode(raw), "approval")
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
        after=_read_after(fields) if fields.has("after") else (),
    )
    fields.done()
    return approval


def _read_after(fields: Fields) -> tuple[bytes, ...]:
    """One statement has one form: nothing named is left out, and what is named is sorted and stands once."""
    digests = tuple(Fields({"d": item}, "approval.after").hex("d", 32) for item in fields.items("after", MAX_AFTER))
    if not digests or list(digests) != sorted(set(digests)):
        raise MalformedError("APPROVAL_AFTER", "expected sorted distinct digests of approvals, or no such field")
    return digests
