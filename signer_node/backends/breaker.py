"""A circuit breaker: a server that keeps failing is left alone for a while, then asked once.

Without it a node whose server is gone would spend its time in timeouts, and would say late that it cannot sign.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from custody.errors import UnavailableError

FAILURES, WITHIN_S = 5, 10.0  # so many failures in so short a time: it will not work the next time either
OPEN_S = 5.0  # long enough to spare a server that comes up; below the 10 s after which routing passes a node over
COUNTED = frozenset({"VAULT_UNREACHABLE", "VAULT_ENGINE_DOWN"})  # what is not the caller's doing and costs time


class Breaker:
    """Closed, open or half-open; safe to use from many threads. monotonic: a clock, in seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failures: deque[float] = deque(maxlen=FAILURES)
        self._open_until: float | None = None
        self._last: UnavailableError | None = None

    def admit(self) -> None:
        """Pass if a call may be made now; half-open, one call may, and all others wait for what becomes of it.

        Raises:
            UnavailableError: the last failure's code, at once, while open.
        """
        with self._lock:
            if self._open_until is None or self._last is None:
                return
            now = self._monotonic()
            if now < self._open_until:
                raise UnavailableError(self._last.code, f"not asked again yet after: {self._last.message}")
            self._open_until = now + OPEN_S  # half-open: should this call never come back, another one tries then

    def failed(self, error: UnavailableError) -> None:
        """Count a failed call."""
        if error.code not in COUNTED:
            self.passed()  # the server answered
            return
        with self._lock:
            now, self._last = self._monotonic(), error
            self._failures.append(now)
            is_half_open = self._open_until is not None
            if is_half_open or (len(self._failures) == FAILURES and now - self._failures[0] <= WITHIN_S):
                self._open_until = now + OPEN_S

    def passed(self) -> None:
        """Count an answer: the server works."""
        with self._lock:
            self._failures.clear()
            self._open_until = None

    @property
    def is_open(self) -> bool:
        """Whether it would refuse a call, or let only one through."""
        return self._open_until is not None
