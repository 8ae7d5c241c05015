"""A clock that stands still until a test moves it."""

from __future__ import annotations


class FakeClock:
    """Implements `coordinator.clock.Clock`.

    Args:
        at: UTC seconds to start from.
    """

    def __init__(self, at: int = 1_700_000_000) -> None:
        self.at = at

    def now(self) -> int:
        """Return the time that was set last, UTC seconds."""
        return self.at

    def advance(self, seconds: int) -> None:
        """Move on by `seconds`."""
        self.at += seconds
