"""What the coordinator shows, as frozen values. Each statement in them is re-read from its own bytes; the rest is told.

"Told" (stage, reasons, who is missing, facts, history) is shown as what the coordinator says, and nothing here decides
what a person signs: that is made from the statement alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from custody.errors import Refused
from custody.statements import Signed
from custody.withdrawal import Withdrawal


class Stage(Enum):
    """Where a withdrawal stands (protos/custody/v1/withdrawal.proto)."""

    APPROVING = "approving"
    RELEASED = "released"
    SIGNING = "signing"
    FINAL = "final"
    BROADCAST = "broadcast"
    CONFIRMED = "confirmed"
    DENIED = "denied"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    CONFLICTED = "conflicted"

    @property
    def is_end(self) -> bool:
        """Whether nothing follows it."""
        return self in _ENDS


_PATH = (Stage.APPROVING, Stage.RELEASED, Stage.SIGNING, Stage.FINAL, Stage.BROADCAST, Stage.CONFIRMED)
_ENDS = frozenset(Stage) - frozenset(_PATH[:-1])


def has_reached(stage: Stage, wanted: Stage) -> bool:
    """Return whether a withdrawal in `stage` is in `wanted` or, on the way to its confirmation, beyond it."""
    if stage is wanted:
        return True
    return stage in _PATH and wanted in _PATH and _PATH.index(stage) > _PATH.index(wanted)


@dataclass(frozen=True, slots=True)
class Missing:
    """Approvals that one part of a rule still asks for. option: which alternative of an any_of, from 0.

    stage: how many stages are filled before it, whose approvals are named by those asked for.
    """

    rule: str
    of: str
    needed: int
    have: tuple[str, ...]
    could: tuple[str, ...]
    option: int
    stage: int = 0


@dataclass(frozen=True, slots=True)
class SignerRow:
    """One key of the wallet. progress: "waiting", "asked", "signed", "refused" or "not_needed"."""

    name: str
    key_index: int
    progress: str
    offline: bool
    refused: Refused | None


@dataclass(frozen=True, slots=True)
class ReasonRow:
    """One line of the tree of reasons. truth: "true", "false" or "unknown"."""

    depth: int
    rule: str
    kind: str
    shadow: bool
    truth: str
    text: str


@dataclass(frozen=True, slots=True)
class DecisionView:
    """What the coordinator says that the rules say. outcome: "allow", "need", "deny" or "" for not judged."""

    outcome: str
    rows: tuple[ReasonRow, ...]
    policy_hash: bytes
    policy_version: int
    refusals: tuple[Refused, ...]
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    min_offline: int


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of a withdrawal's history. time: UTC seconds."""

    time: int
    kind: str
    actor: str
    text: str


@dataclass(frozen=True, slots=True)
class Told:
    """What the coordinator read from the PSBT. txid: 32 bytes, wire order."""

    txid: bytes
    inputs: int
    change_sats: int
    fee_sats: int
    vsize_vb: int


@dataclass(frozen=True, slots=True)
class WithdrawalView:
    """One withdrawal. signed and withdrawal: its own statement; digest is computed from them. Times: UTC seconds."""

    signed: Signed
    withdrawal: Withdrawal
    stage: Stage
    told: Told | None
    decision: DecisionView
    approvals: tuple[Signed, ...]
    missing: tuple[Missing, ...]
    signers: tuple[SignerRow, ...]
    threshold: int
    signed_count: int
    txid: bytes
    release_index: int | None
    height: int
    depth_blocks: int
    updated_at: int
    delayed_until: int
    ended: Refused | None
    history: tuple[Happening, ...]

    @property
    def digest(self) -> bytes:
        """32 bytes, computed here."""
        return self.signed.digest


@dataclass(frozen=True, slots=True)
class NodeView:
    """One signer node. backend: "ready", "sealed", ... or "" for never heard.  heard_at: UTC seconds, 0 for never.

    code: why it is not ready, or "".
    alive, drill: what it signed about its key last; to be verified by whoever reads it.
    """

    name: str
    offline: bool
    connected: bool
    heard_at: int
    backend: str
    money_size: int
    alive: Signed | None = None
    drill: Signed | None = None
    code: str = ""


@dataclass(frozen=True, slots=True)
class Balance:
    """What a wallet holds, as the chain backend says."""

    confirmed_sats: int
    reserved_sats: int
    immature_sats: int
    height: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address stands. wallet_id: 32 bytes."""

    wallet_id: bytes
    branch: int
    index: int


@dataclass(frozen=True, slots=True)
class FreezeView:
    """A freeze in force. since, lapses_at: UTC seconds, 0 for unknown or never."""

    freeze_id: str
    by: str
    since: int
    lapses_at: int


@dataclass(frozen=True, slots=True)
class ProposedView:
    """A rules document that waits, as served. effective_at: UTC seconds, 0 while signatures are missing.

    missing: who may still sign, says the coordinator.
    """

    signed: Signed
    effective_at: int
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RulesView:
    """A rules document as served. document: canonical JSON."""

    document: bytes
    version: int
    proposed: tuple[ProposedView, ...]
    freezes: tuple[FreezeView, ...]

    @property
    def pending(self) -> int:
        """How many documents wait."""
        return len(self.proposed)


@dataclass(frozen=True, slots=True)
class LogPage:
    """Consecutive entries with the statements they name. size: entries in the log now."""

    entries: tuple[bytes, ...]
    statements: tuple[Signed, ...]
    size: int


@dataclass(frozen=True, slots=True)
class DeltaPage:
    """One delta document. to_size: entries that the node has after it.  more: whether another follows."""

    document: bytes
    to_size: int
    more: bool
