"""The words a rule is made of: matchers, obligations and budgets, as frozen values. They judge nothing themselves.

Inside a matcher different fields narrow (AND) and the items of one field widen (OR). Each matcher declares where its
fact comes from: signers judge all but COORDINATOR, and a rule that holds such a matcher is skipped by name there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, TypeAlias, Union

from custody.transaction import OutPoint
from custody.withdrawal import RelationKind


class Evidence(Enum):
    """Where a fact comes from (policy.md "Evidence"); signers judge the first four."""

    BYTES = "bytes"
    SIGNED = "signed"
    LOG = "log"
    TIME = "time"
    COORDINATOR = "coordinator"


class Operation(Enum):
    """What is asked for: money that leaves, or a message to be signed (BIP-322)."""

    WITHDRAWAL = "withdrawal"
    MESSAGE = "message"


class MessageFormat(Enum):
    """How a signed message is written (BIP-322 "Types of Signatures")."""

    SIMPLE = "simple"
    FULL = "full"
    FUNDS = "funds"


class DestinationClass(Enum):
    """What a payee is: on one of the lists, our own wallet, or neither."""

    LISTED = "listed"
    ONE_TIME = "one_time"
    INTERNAL = "internal"


class Quantifier(Enum):
    """How many payees must fit."""

    ALL = "all"
    ANY = "any"


class ScriptType(Enum):
    """Output types that an address can stand for, and two that none can."""

    P2PKH = "p2pkh"
    P2SH = "p2sh"
    P2WPKH = "p2wpkh"
    P2WSH = "p2wsh"
    P2TR = "p2tr"
    OP_RETURN = "op_return"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class WalletTerm:
    """The withdrawal leaves a wallet with one of `names` and one of `classes` (each only where given)."""

    evidence: ClassVar[Evidence] = Evidence.SIGNED
    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InitiatorTerm:
    """The initiator is one of `users`, in one of `groups`, or one of `services`."""

    evidence: ClassVar[Evidence] = Evidence.SIGNED
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DestinationTerm:
    """All payees (or any) fit each field given; false where nobody is paid.

    lists, scripts: the payee is on a live list entry or is one of `scripts` (scriptPubKeys of the addresses).
    """

    evidence: ClassVar[Evidence] = Evidence.BYTES
    lists: tuple[str, ...] = ()
    scripts: tuple[bytes, ...] = ()
    kind: DestinationClass | None = None
    quantifier: Quantifier = Quantifier.ALL
    script_types: tuple[ScriptType, ...] = ()
    op_return: bool | None = None


@dataclass(frozen=True, slots=True)
class AmountTerm:
    """Payments plus the largest fee (`include_fee`) inside min..max sats; no payment above `per_output_max_sats`."""

    evidence: ClassVar[Evidence] = Evidence.BYTES
    min_sats: int | None = None
    max_sats: int | None = None
    per_output_max_sats: int | None = None
    include_fee: bool = True


@dataclass(frozen=True, slots=True)
class FeeTerm:
    """This transaction's own fee inside the bounds. max_pct_of_amount: of the payments; silent where there are none."""

    evidence: ClassVar[Evidence] = Evidence.BYTES
    max_sats: int | None = None
    max_sat_vb: int | None = None
    min_sat_vb: int | None = None
    max_pct_of_amount: int | None = None


@dataclass(frozen=True, slots=True)
class ShapeTerm:
    """The transaction is no larger than this; the coins it spends and its payees are all of `script_types`."""

    evidence: ClassVar[Evidence] = Evidence.BYTES
    max_inputs: int | None = None
    max_outputs: int | None = None
    max_vbytes: int | None = None
    script_types: tuple[ScriptType, ...] = ()


@dataclass(frozen=True, slots=True)
class InputsTerm:
    """Every coin that is spent is one of `outpoints`."""

    evidence: ClassVar[Evidence] = Evidence.BYTES
    outpoints: tuple[OutPoint, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeTerm:
    """At most so many outputs come back as change."""

    evidence: ClassVar[Evidence] = Evidence.BYTES
    max_outputs: int | None = None


@dataclass(frozen=True, slots=True)
class NoPaymentsTerm:
    """Nobody is paid: self-transfer, consolidation, CPFP child, cancel."""

    evidence: ClassVar[Evidence] = Evidence.BYTES


@dataclass(frozen=True, slots=True)
class RelationTerm:
    """How the withdrawal stands to earlier ones is one of `kinds`."""

    evidence: ClassVar[Evidence] = Evidence.SIGNED
    kinds: tuple[RelationKind, ...]


@dataclass(frozen=True, slots=True)
class ReplacementTerm:
    """This fee is at most `max_fee_increase` sats above the smallest of its family; silent where none is replaced."""

    evidence: ClassVar[Evidence] = Evidence.LOG
    max_fee_increase: int | None = None


@dataclass(frozen=True, slots=True)
class MessageTerm:
    """The message is signed in one of `formats` and has at most `max_len` characters."""

    evidence: ClassVar[Evidence] = Evidence.SIGNED
    formats: tuple[MessageFormat, ...] = ()
    max_len: int | None = None


@dataclass(frozen=True, slots=True)
class TimeTerm:
    """The release happens on one of `days` (0 = Monday) and inside one of `hours` (0..23), UTC."""

    evidence: ClassVar[Evidence] = Evidence.TIME
    days: tuple[int, ...] = ()
    hours: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ZoneTimeTerm:
    """As TimeTerm, by the clocks of `zone`: tables of zones change, so no signer can be asked."""

    evidence: ClassVar[Evidence] = Evidence.COORDINATOR
    zone: str
    days: tuple[int, ...] = ()
    hours: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionTerm:
    """Who handed the withdrawal in had one of `factors`, an address in one of `ip_cidrs`, a role in `cert_role`."""

    evidence: ClassVar[Evidence] = Evidence.COORDINATOR
    factors: tuple[str, ...] = ()
    ip_cidrs: tuple[str, ...] = ()
    cert_role: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WalletShareTerm:
    """Payments and the largest fee are at most `max_pct` percent of what the wallet holds."""

    evidence: ClassVar[Evidence] = Evidence.COORDINATOR
    max_pct: int | None = None


@dataclass(frozen=True, slots=True)
class ConfirmationsTerm:
    """Every coin that is spent has at least so many confirmations."""

    evidence: ClassVar[Evidence] = Evidence.COORDINATOR
    least: int


@dataclass(frozen=True, slots=True)
class ChainTerm:
    """The coordinator's chain is at most `max_lag_blocks` behind the best header it knows."""

    evidence: ClassVar[Evidence] = Evidence.COORDINATOR
    max_lag_blocks: int | None = None


@dataclass(frozen=True, slots=True)
class NotTerm:
    """The opposite of `term`; a missing fact stays missing."""

    term: Term


@dataclass(frozen=True, slots=True)
class AnyTerm:
    """At least one of `terms`, every one of which must be answerable."""

    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class AllTerm:
    """Every one of `terms`; true where there are none."""

    terms: tuple[Term, ...]


Leaf: TypeAlias = (
    WalletTerm
    | InitiatorTerm
    | DestinationTerm
    | AmountTerm
    | FeeTerm
    | ShapeTerm
    | InputsTerm
    | ChangeTerm
    | NoPaymentsTerm
    | RelationTerm
    | ReplacementTerm
    | MessageTerm
    | TimeTerm
    | ZoneTimeTerm
    | SessionTerm
    | WalletShareTerm
    | ConfirmationsTerm
    | ChainTerm
)
Term: TypeAlias = Union[Leaf, "NotTerm", "AnyTerm", "AllTerm"]
