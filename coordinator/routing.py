"""Whom to ask next for a signature. Pure: standing of the nodes in, names out.

The order is the signers' own (protocol.md step 5): k offline nodes, then included ones by key, then the rest. Asking
the wrong node wastes time and nothing else: every node proves the order for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from custody.policy.duties import SignersRequired

ANSWER_TIMEOUT_S = 10  # protocol of the online courier: a signer that is silent this long is passed over
RETRY_CODES = frozenset(
    {
        "CHECKPOINT_STALE",
        "CLOCK_AHEAD",
        "ROLLED_BACK",
        "LOG_GAP",
        "COLD_FIRST",
        "INCLUDED_FIRST",
        "DELAY_RUNNING",
        "FROZEN",
        "RELEASE_STALE",
    }
)
"""Refusals that a later bundle for the same withdrawal can cure."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One node as the coordinator sees it for one release.

    is_ready: connected and its key backend can sign.  asked_at: UTC seconds of the last bundle, None for never.
    refused: code of its last refusal of this release, "" for none.  is_lost: it was asked through a stream that is
    gone, because either side started anew: no answer will come by it.
    """

    name: str
    is_offline: bool
    is_ready: bool
    asked_at: int | None = None
    refused: str = ""
    is_lost: bool = False

    def is_out(self) -> bool:
        """Return whether asking again is useless."""
        return bool(self.refused) and self.refused not in RETRY_CODES

    def is_lost_for_good(self) -> bool:
        """Return whether no signature of it can come: at an offline node a person may still think again."""
        return self.is_out() and not (self.is_offline and self.refused == "OPERATOR_DECLINED")

    def is_resting(self, now: int) -> bool:
        """Return whether it was asked lately: a refusal that only time or others cure is not provoked on every tick.

        One that misses log entries does not rest: it gets them at once.
        """
        return self._was_asked_lately(now) and self.refused != "LOG_GAP"

    def is_awaited(self, now: int) -> bool:
        """Return whether an answer may still come."""
        return self._was_asked_lately(now) and not self.refused

    def _was_asked_lately(self, now: int) -> bool:
        return self.asked_at is not None and not self.is_lost and now < self.asked_at + ANSWER_TIMEOUT_S


def next_to_ask(
    nodes: Sequence[Standing], required: SignersRequired, signed: frozenset[str], lacking: int, now: int
) -> tuple[str, ...]:
    """Return the nodes to send a bundle to now; empty while enough answers are awaited or nobody can be asked.

    Args:
        nodes: the wallet's judging nodes, in the order of their keys.
        required: what the rules ask of signers.
        signed: nodes whose signatures are verified on every input.
        lacking: how many more keys must sign.
        now: UTC seconds.
    """
    if lacking <= 0:
        return ()
    open_nodes = [n for n in nodes if n.name not in signed and n.name not in required.exclude and not n.is_out()]
    cold_signed = sum(1 for n in nodes if n.is_offline and n.name in signed)
    if cold_signed < required.min_offline:
        return tuple(n.name for n in open_nodes if n.is_offline)
    included = [n for n in nodes if n.name in required.include and n.name not in signed]
    if included:
        first = included[0]
        ask = first in open_nodes and not first.is_resting(now) and (first.is_offline or first.is_ready)
        return (first.name,) if ask else ()
    return _the_rest(open_nodes, lacking, now)


def can_finish(
    nodes: Sequence[Standing], required: SignersRequired, signed: frozenset[str], unjudging: int, lacking: int
) -> bool:
    """Return whether enough signatures can still come, whoever refused for good so far.

    Args:
        nodes: the wallet's judging nodes.
        required: what the rules ask of signers.
        signed: nodes whose signatures are verified on every input.
        unjudging: keys without a judge that have not signed.
        lacking: how many more keys must sign.
    """
    willing = [n for n in nodes if n.name not in signed and n.name not in required.exclude and not n.is_lost_for_good()]
    cold = sum(1 for n in nodes if n.is_offline and (n.name in signed or n in willing))
    names = signed.union(n.name for n in willing)
    return len(willing) + unjudging >= lacking and cold >= required.min_offline and names.issuperset(required.include)


def offline_candidates(
    nodes: Sequence[Standing], required: SignersRequired, signed: frozenset[str], lacking: int
) -> tuple[str, ...]:
    """Return the offline nodes whose operators could carry a bundle now."""
    if lacking <= 0:
        return ()
    return tuple(
        n.name
        for n in nodes
        if n.is_offline and n.name not in signed and n.name not in required.exclude and not n.is_out()
    )


def _the_rest(open_nodes: Sequence[Standing], lacking: int, now: int) -> tuple[str, ...]:
    """Return `lacking` healthy online nodes, counting those still awaited; never-asked ones come first."""
    awaited = sum(1 for n in open_nodes if n.is_awaited(now))
    free = [n for n in open_nodes if not n.is_offline and n.is_ready and not n.is_resting(now)]
    free.sort(key=lambda n: (n.asked_at is not None, n.asked_at or 0))
    return tuple(n.name for n in free[: max(0, lacking - awaited)])
