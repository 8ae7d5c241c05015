"""This machine's clock, as a port: tests and replays bring their own."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells UTC seconds. Trusted for nothing that witnesses' timestamps do not also say."""

    def now(self) -> int:
        """Return UTC seconds."""


class SystemClock:
    """The operating system's clock."""

    def now(self) -> int:
        """Return UTC seconds."""
        return int(time.time())
