"""Kill -9 a signer node a thousand times, at each of its fsyncs in turn: `python3 dev.py soak node_kills [N]`.

The coordinator is hostile and shows another history, and a second transaction of each withdrawal, after every restart
(tests/crash/node_kills.py). Exit 0: paid once, counted all, came back; 1: it did not.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from custody.errors import CustodyError
from tests.crash.node_kills import node_kills

KILLS = 1_000
TOLD_EVERY = 50


def main(arguments: Sequence[str]) -> int:
    """Run it and print one line every 50 kills."""
    count = int(arguments[0]) if arguments else KILLS
    began, done, most = time.monotonic(), 0, 0
    ways: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as directory:
        try:
            for each in node_kills(Path(directory), count):
                done, most = done + 1, max(most, each.order.at)
                ways[each.order.death.value] += 1
                if done % TOLD_EVERY == 0 or done == count:
                    told = ", ".join(f"{number} {way}" for way, number in sorted(ways.items()))
                    print(f"{done} kills at {most} fsyncs ({told}), 0 second transactions, 0 lost counts", end=", ")
                    print(f"{time.monotonic() - began:.0f} s", flush=True)
        except (AssertionError, CustodyError) as error:
            print(f"WRONG at kill {done + 1}: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
