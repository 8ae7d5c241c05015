"""A hook that ends its own process by SIGKILL before or after one named effect, the n-th time it happens.

The order to do so is a file that the test writes while the process runs: `EFFECT SIDE N`. It is taken away before the
process dies, so the next start goes on.
"""

from __future__ import annotations

import os
import signal
from enum import Enum
from pathlib import Path


class Fuse:
    """The hook of one process. path: where the order comes to lie."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left: dict[str, int] = {}

    def __call__(self, effect: Enum, side: Enum) -> None:
        """Die if this is the moment."""
        try:
            order = self._path.read_text()
        except FileNotFoundError:
            return
        name, where, times = order.split()
        if (name, where) != (effect.value, side.value):
            return
        self._left.setdefault(order, int(times))
        self._left[order] -= 1
        if self._left[order] == 0:
            self._path.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def arm(path: Path, effect: Enum, side: Enum, times: int = 1) -> None:
    """Order the process whose fuse looks at `path` to die there."""
    fresh = path.with_suffix(".new")
    fresh.write_text(f"{effect.value} {side.value} {times}")
    fresh.replace(path)
