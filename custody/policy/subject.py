"""What rules are asked about: facts of the request in hand, or of a release of the past. None: not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from custody.policy.terms import MessageFormat, Operation, ScriptType
from custody.transaction import OutPoint, TxOut
from custody.withdrawal import RelationKind


@dataclass(frozen=True, slots=True)
class MessageFact:
    """How the message in hand is to be signed, and how many characters it has."""

    format: MessageFormat
    length: int


@dataclass(frozen=True, slots=True)
class CoordinatorFacts:
    """What the coordinator alone can say; a signer is never told.

    factors, ip, cert_role: of the call that handed the withdrawal in.  wallet_sats: what the wallet holds.
    confirmations: the least of any coin that is spent.  lag_blocks: how far the chain is behind the best header.
    offsets_s: seconds east of UTC by name of the zone.
    """

    factors: frozenset[str] | None = None
    ip: str | None = None
    cert_role: str | None = None
    wallet_sats: int | None = None
    confirmations: int | None = None
    lag_blocks: int | None = None
    offsets_s: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What rules are asked about.

    payments: proven outputs.  fee_sats: of this transaction.  lo, hi: UTC seconds (protocol.md "Time").
    released: T(RELEASE).  own_scripts: those of the payees that are wallets of ours.  replaced_fees: fees in sats of
    the other releases of its family.  script_types: of the coins it spends and of its payees.
    coordinator: None at a signer, where rules that need it are skipped.
    """

    wallet_id: bytes
    initiator: str
    payments: tuple[TxOut, ...]
    max_fee_sats: int
    relation: RelationKind
    lo: int
    hi: int
    released: int | None
    fee_sats: int | None = None
    inputs: int | None = None
    outputs: int | None = None
    vsize_vb: int | None = None
    own_scripts: frozenset[bytes] | None = None
    outpoints: frozenset[OutPoint] | None = None
    change_outputs: int | None = None
    script_types: frozenset[ScriptType] | None = None
    replaced_fees: tuple[int, ...] | None = None
    operation: Operation = Operation.WITHDRAWAL
    message: MessageFact | None = None
    coordinator: CoordinatorFacts | None = None

    @property
    def paid_sats(self) -> int:
        """The sum of the payments."""
        return sum(payment.amount for payment in self.payments)

    @property
    def total_sats(self) -> int:
        """Payments and the largest fee."""
        return self.paid_sats + self.max_fee_sats


def script_type(script: bytes) -> ScriptType:
    """Return the kind of output that `script` (a scriptPubKey) is."""
    size, head = len(script), script[:2]
    if head[:1] == b"\x6a":
        return ScriptType.OP_RETURN
    if size == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return ScriptType.P2PKH
    if size == 23 and head == b"\xa9\x14" and script[22:] == b"\x87":
        return ScriptType.P2SH
    segwit = {(22, b"\x00\x14"): ScriptType.P2WPKH, (34, b"\x00\x20"): ScriptType.P2WSH}
    segwit[(34, b"\x51\x20")] = ScriptType.P2TR
    return segwit.get((size, head), ScriptType.OTHER)
