"""What rules ask and count: approvals, signers, waits and budgets, as frozen values. They judge nothing themselves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias, Union


@dataclass(frozen=True, slots=True)
class Votes:
    """Approvals by `threshold` people of `group`, or by the one `service`; the initiator never counts.

    seen: how many must be seen approvals.  blind: whether the others may be blind.
    lifetime_s: how long after its own `at` an approval counts here, or None.
    distinct_orgs: no two of them may be of one org.  device_bound: only keys that cannot leave their device count.
    """

    group: str | None
    service: str | None
    threshold: int
    seen: int
    blind: bool
    lifetime_s: int | None = None
    distinct_orgs: bool = False
    device_bound: bool = False

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


@dataclass(frozen=True, slots=True)
class StagedVotes:
    """Every stage, in order: an approval counts in a stage if the ones that it names fill all stages before."""

    stages: tuple[VoteTree, ...]


VoteTree: TypeAlias = Union[Votes, "AllVotes", "AnyVotes", "StagedVotes"]


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
    """The `then` of a require rule. local_conf: a code must be typed at each signer's own machine."""

    approvals: VoteTree | None = None
    signers: SignersRequired | None = None
    delay: Delay | None = None
    local_conf: bool = False


def has_stages(tree: VoteTree) -> bool:
    """Return whether an approval for `tree` may have to name earlier ones."""
    if isinstance(tree, Votes):
        return False
    return isinstance(tree, StagedVotes) or any(has_stages(part) for part in tree.parts)


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
