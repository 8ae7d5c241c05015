"""What was asked, by whom: the statement that an initiator signs and everybody else only carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from custody.canonical import Json, decode, encode, tagged_hash
from custody.errors import MalformedError
from custody.fields import Fields
from custody.statements import Kind, Signed
from custody.units import Sats

MAX_PAYMENTS = 1_000  # a batch above this does not fit a standard transaction's weight with multisig inputs
MAX_LABEL_CHARS = 140  # what one screen line and one audit line can show whole


class RelationKind(Enum):
    """How a withdrawal stands to earlier ones (protocol.md "Withdrawal")."""

    NEW = "new"
    ADDITIONAL = "additional"
    SUPERSEDES = "supersedes"


@dataclass(frozen=True, slots=True)
class Relation:
    """kind, and the withdrawal digests (32 bytes each) it names: none for new, one for supersedes."""

    kind: RelationKind
    digests: tuple[bytes, ...] = ()

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"kind": self.kind.value, "digests": [digest.hex() for digest in self.digests]}

    @staticmethod
    def from_fields(fields: Fields) -> Relation:
        """Read the JSON form. Raises MalformedError RELATION for a wrong number or order of digests."""
        kind_text = fields.text("kind")
        kind = next((k for k in RelationKind if k.value == kind_text), None)
        digests = tuple(Fields({"d": item}, "relation").hex("d", 32) for item in fields.items("digests", 1_000))
        fields.done()
        counts_fit = {
            RelationKind.NEW: len(digests) == 0,
            RelationKind.ADDITIONAL: len(digests) >= 1,
            RelationKind.SUPERSEDES: len(digests) == 1,
        }
        if kind is None or not counts_fit[kind] or list(digests) != sorted(set(digests)):
            raise MalformedError("RELATION", "expected new, additional(sorted distinct digests) or supersedes(one)")
        return Relation(kind, digests)


NEW = Relation(RelationKind.NEW)


@dataclass(frozen=True, slots=True)
class Payment:
    """One payee. label: free text of the requester, shown quoted, never as a name."""

    address: str
    amount_sats: Sats
    label: str = ""

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"address": self.address, "amount_sats": self.amount_sats, "label": self.label}

    @staticmethod
    def from_fields(fields: Fields) -> Payment:
        """Read the JSON form. Raises MalformedError for zero sats (AMOUNT_OUT_OF_RANGE) and hidden characters."""
        payment = Payment(
            fields.text("address", 120), fields.sats("amount_sats"), fields.text("label", MAX_LABEL_CHARS)
        )
        fields.done()
        if payment.amount_sats == 0:
            raise MalformedError("AMOUNT_OUT_OF_RANGE", "expected at least 1 sat in a payment, found 0")
        if not payment.label.isprintable():
            raise MalformedError("LABEL_UNPRINTABLE", "expected a label of printable characters")
        return payment


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """One request for money to leave one wallet.

    genesis, wallet_id: 32 bytes.  payments: empty for a self-transfer.  pinned_txid: 32 bytes, wire order, of the
    unsigned transaction; exactly that one may be signed.  rules_floor: lowest rules version that may judge it.
    """

    genesis: bytes
    withdrawal_id: str
    wallet_id: bytes
    network: str
    payments: tuple[Payment, ...]
    max_fee_sats: Sats
    relation: Relation
    initiator: str
    created_at: int
    expires_at: int
    rules_floor: int
    pinned_txid: bytes | None = None

    @property
    def amount_sats(self) -> Sats:
        """What leaves at most: payments plus the largest fee."""
        return Sats(sum(p.amount_sats for p in self.payments) + self.max_fee_sats)

    @property
    def digest(self) -> bytes:
        """32 bytes: what approvals, entries and signers name."""
        return _digest_of(self)

    def to_json(self) -> Json:
        """Return the statement that the initiator signs."""
        statement: dict[str, Json] = {
            "genesis": self.genesis.hex(),
            "withdrawal_id": self.withdrawal_id,
            "wallet_id": self.wallet_id.hex(),
            "network": self.network,
            "payments": [payment.to_json() for payment in self.payments],
            "max_fee_sats": self.max_fee_sats,
            "relation": self.relation.to_json(),
            "initiator": self.initiator,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "rules_floor": self.rules_floor,
        }
        if self.pinned_txid is not None:
            statement["pinned_txid"] = self.pinned_txid[::-1].hex()
        return statement


@lru_cache(maxsize=64)  # one judgement asks for it a dozen times, and encoding is most of its cost
def _digest_of(withdrawal: Withdrawal) -> bytes:
    return tagged_hash(Kind.WITHDRAWAL.value, encode(withdrawal.to_json()))


def read_withdrawal(signed: Signed) -> Withdrawal:
    """Return the withdrawal inside `signed`; whose signature it bears is not judged here.

    Raises:
        MalformedError: STATEMENT_KIND, WITHDRAWAL_DATES, or a FIELD_ code.
    """
    if signed.kind is not Kind.WITHDRAWAL:
        raise MalformedError("STATEMENT_KIND", f"expected a withdrawal, found {signed.kind.name}")
    return _read(signed.raw)


@lru_cache(
    maxsize=64
)  # 32 MB at their largest; whoever follows the log and judges what is in it reads each several times
def _read(raw: bytes) -> Withdrawal:
    value = decode(raw)
    if not isinstance(value, Mapping):
        raise MalformedError("FIELD_TYPE", "withdrawal: expected an object")
    fields = Fields(value, "withdrawal")
    payments = tuple(Payment.from_fields(Fields(p, "payment")) for p in fields.items("payments", MAX_PAYMENTS))
    withdrawal = Withdrawal(
        genesis=fields.hex("genesis", 32),
        withdrawal_id=fields.name("withdrawal_id"),
        wallet_id=fields.hex("wallet_id", 32),
        network=fields.text("network"),
        payments=payments,
        max_fee_sats=fields.sats("max_fee_sats"),
        relation=Relation.from_fields(fields.fields("relation")),
        initiator=fields.name("initiator"),
        created_at=fields.time("created_at"),
        expires_at=fields.time("expires_at"),
        rules_floor=fields.integer("rules_floor", 1),
        pinned_txid=fields.hex("pinned_txid", 32)[::-1] if fields.has("pinned_txid") else None,
    )
    fields.done()
    if not withdrawal.created_at < withdrawal.expires_at:
        raise MalformedError("WITHDRAWAL_DATES", "expected created_at before expires_at")
    return withdrawal
