"""Time as an interval: what a signer can be sure has passed, and what it must assume has passed.

protocol.md "Time": windows age, delays and cool-downs run out, and `not_before` passes by `lo`; expiry passes by `hi`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """UTC seconds. lo: proven by the oldest counted witness.  hi: the latest that any clock seen so far has claimed."""

    lo: int
    hi: int
