"""The words a rule is made of: matchers, obligations and budgets, as frozen values. They judge nothing themselves.

Inside a matcher different fields narrow (AND) and the items of one field widen (OR). Each matcher declares where its
fact comes from; a fact that only the coordinator could state has no matcher here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, TypeAlias, Union

from custody.withdrawal import RelationKind


class Evidence(Enum):
    """Where a fact comes from (policy.md "Evidence"); signers judge all four."""

    BYTES = "bytes"
    SIGNED = "signed"
    LOG = "log"
    TIME = "time"


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
    """The transaction is no larger than this."""

    evidence: ClassVar[Evidence] = Evidence.BYTES
    max_inputs: int | None = None
    max_outputs: int | None = None
    max_vbytes: int | None = None


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
class TimeTerm:
    """The release happens on one of `days` (0 = Monday) and inside one of `hours` (0..23), UTC."""

    evidence: ClassVar[Evidence] = Evidence.TIME
    days: tuple[int, ...] = ()
    hours: tuple[int, ...] = ()


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
    | NoPaymentsTerm
    | RelationTerm
    | TimeTerm
)
Term: TypeAlias = Union[Leaf, "NotTerm", "AnyTerm", "AllTerm"]


@dataclass(frozen=True, slots=True)
class Votes:
    """Approvals by `threshold` people of `group`, or by the one `service`; the initiator never counts.

    seen: how many must be seen approvals.  blind: whether the others may be blind.
    lifetime_s: how long after its own `at` an approval counts here, or None.
    """

    group: str | None
    service: str | None
    threshold: int
    seen: int
    blind: bool
    lifetime_s: int | None = None

    @property
    def of(self) -> str:
        """Whose approvals, for people."""
        return f"group {self.group}" if self.group is not None else f"service {self.service}"


@dataclass(frozen=True, slots=True)
class AllVotes:
    """Every part, each by different people: one human, one vote."""

    parts: tuple[VoteTree, ...]


@dataclass(frozen=True, slots=True)
class AnyVotes:
    """At least one part."""

    parts: tuple[VoteTree, ...]


VoteTree: TypeAlias = Union[Votes, "AllVotes", "AnyVotes"]


@dataclass(frozen=True, slots=True)
class SignersRequired:
    """Which nodes must sign, and which must not; enforced cold first by the judge. Names are sorted."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    min_offline: int = 0


@dataclass(frozen=True, slots=True)
class Veto:
    """`threshold` people of `group` may stop the withdrawal while it waits."""

    group: str
    threshold: int


@dataclass(frozen=True, slots=True)
class Delay:
    """Seconds between NOTICE and RELEASE, and who may veto meanwhile."""

    seconds: int
    vetoes: tuple[Veto, ...] = ()


@dataclass(frozen=True, slots=True)
class Obligations:
    """The `then` of a require rule."""

    approvals: VoteTree | None = None
    signers: SignersRequired | None = None
    delay: Delay | None = None


class Measure(Enum):
    """What a budget counts."""

    SATS = "max_sats"
    COUNT = "max_count"
    FEE_SATS = "max_fee_sats"


class GroupBy(Enum):
    """What a budget is kept apart by."""

    WALLET = "wallet"
    INITIATOR = "initiator"
    DESTINATION = "destination"
    ORG = "org"


@dataclass(frozen=True, slots=True)
class Budget:
    """The `then` of a limit rule: at most `most` of `measure` per group inside `window`.

    approvals: what lifts it when it is exceeded, or None where exceeding it denies.
    """

    window: str
    measure: Measure
    most: int
    group_by: tuple[GroupBy, ...] = ()
    approvals: VoteTree | None = None
