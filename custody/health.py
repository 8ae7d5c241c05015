"""How far a wallet is from being locked out: which of its keys were proven, and how many may still be lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from custody.genesis import GenesisWallet

UNPROVEN_AFTER_S = 90 * 86_400  # a key that nobody proved for a quarter of a year may be gone
DAY_S = 86_400


class Alarm(Enum):
    """How urgent it is. FINE: every key proven.  WATCH: some are not.  ALERT: one more loss locks out, or worse."""

    FINE = "fine"
    WATCH = "watch"
    ALERT = "alert"


@dataclass(frozen=True, slots=True)
class Health:
    """One wallet's keys. unproven: nodes, and "declared" for keys without one, in the order of the descriptor.

    spare: how many proven keys could be lost and the wallet still be spent; negative where too few are proven.
    """

    wallet: str
    keys: int
    threshold: int
    unproven: tuple[str, ...]

    @property
    def spare(self) -> int:
        """Proven keys beyond those that must sign."""
        return self.keys - len(self.unproven) - self.threshold

    @property
    def alarm(self) -> Alarm:
        """How urgent it is."""
        if not self.unproven:
            return Alarm.FINE
        return Alarm.ALERT if self.spare <= 0 else Alarm.WATCH

    def __str__(self) -> str:
        """Return the sentence for people."""
        days = UNPROVEN_AFTER_S // DAY_S
        if not self.unproven:
            return f"{self.wallet}: all {self.keys} keys proven within {days} days"
        told = f"{self.wallet}: {len(self.unproven)} of {self.keys} keys unproven for {days} days"
        if self.spare < 0:
            return f"{told}, {-self.spare} too few proven to sign"
        losses = "one loss" if self.spare == 0 else f"{self.spare + 1} losses"
        return f"{told}, {losses} from lock-out"


def health_of(wallet: GenesisWallet, proven_at: Mapping[str, int], now: int) -> Health:
    """Return how the keys of `wallet` stand.

    Args:
        wallet: as pinned.
        proven_at: UTC seconds of the last proof of life that holds, by node; nodes without one are left out.
        now: UTC seconds.
    """

    def is_proven(node: str | None) -> bool:
        return node is not None and now - proven_at.get(node, 0) < UNPROVEN_AFTER_S

    unproven = tuple(slot.node or "declared" for slot in wallet.slots if not is_proven(slot.node))
    return Health(wallet.name, len(wallet.slots), wallet.wallet.threshold, unproven)
