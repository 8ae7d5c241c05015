"""How much one picture holds: versions of QR, for whoever cuts frames without drawing them."""

from __future__ import annotations

SMALL, MEDIUM, LARGE = 6, 15, 27  # versions: a terminal of 80 x 24, a phone's camera, a good camera
FRAME_MILLISECONDS = 250  # four a second: what phone cameras and devices follow
TERMINAL_QUIET = 2  # white margin in modules on a terminal, whose cells around it are one colour already
_ALPHANUMERIC_LOW_CAPACITY = {SMALL: 195, 10: 395, MEDIUM: 758, 20: 1249, LARGE: 2132}  # ISO/IEC 18004, table 7


def frame_chars(version: int) -> int:
    """Return how many characters a QR of `version` holds, at the lowest level of correction: frames come again."""
    return _ALPHANUMERIC_LOW_CAPACITY[version]


def version_for(columns: int, rows: int) -> int:
    """Return the largest version that a terminal of `columns` x `rows` shows, SMALL where even that does not fit."""
    fitting = [v for v in _ALPHANUMERIC_LOW_CAPACITY if _side(v) <= columns and -(-_side(v) // 2) <= rows]
    return max(fitting, default=SMALL)


def _side(version: int) -> int:
    return 17 + 4 * version + 2 * TERMINAL_QUIET
