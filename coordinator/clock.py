"""What time it is, as a port: only adapters read a clock, everything else is given the time."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time. Trusted for liveness only: what a signer believes is bounded by witnesses, not by this."""

    def now(self) -> int:
        """Return UTC seconds since 1970. Never fails; may step backwards when the machine's clock is set."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """Return UTC seconds since 1970."""
        return int(time.time())
