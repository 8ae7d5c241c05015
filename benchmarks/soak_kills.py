"""Kill -9 the store's writer a thousand times under load: `python3 dev.py soak kills [N]`.

After each kill the same files are opened again: every acknowledged commit must be there, trees and state must agree.
Exit 0: all kept; 1: something was lost.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from custody.errors import CustodyError
from tests.crash.kills import KILLS_PER_STORE, kills

KILLS = 1_000
TOLD_EVERY = 50


def main(arguments: Sequence[str]) -> int:
    """Run it and print one line every 50 kills."""
    count = int(arguments[0]) if arguments else KILLS
    began, done, commits, last = time.monotonic(), 0, 0, 0
    with tempfile.TemporaryDirectory() as directory:
        try:
            for told in kills(Path(directory), count, seed=time.time_ns()):
                done, last = done + 1, told
                if done % KILLS_PER_STORE == 0 or done == count:
                    commits += last
                    for old in Path(directory).iterdir():
                        old.unlink()
                if done % TOLD_EVERY == 0 or done == count:
                    print(f"{done} kills, {commits} acknowledged commits, 0 lost, {time.monotonic() - began:.0f} s")
                    sys.stdout.flush()
        except (AssertionError, CustodyError) as error:
            print(f"LOST at kill {done + 1}: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
