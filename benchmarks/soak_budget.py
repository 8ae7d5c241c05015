"""64 withdrawals at once against one budget and one set of coins, a thousand times: `python3 dev.py soak budget [N]`.

Exit 0: never a sat above the budget, at the coordinator or at all signers together; 1: there was.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

from tests.integration.overspend import BUDGET_SATS, PARALLEL, rounds

ROUNDS = 1_000
TOLD_EVERY = 50


def main(arguments: Sequence[str]) -> int:
    """Run it and print one line every 50 rounds."""
    return asyncio.run(_run(int(arguments[0]) if arguments else ROUNDS))


async def _run(count: int) -> int:
    began, done, most = time.monotonic(), 0, 0
    async for each in rounds(count):
        done, most = done + 1, max(most, each.released, each.signed)
        if not each.is_within:
            print(f"OVERSPENT in round {done}: {each} with a budget of {BUDGET_SATS}")
            return 1
        if done % TOLD_EVERY == 0 or done == count:
            told = f"{done} rounds of {PARALLEL}, at most {most} of {BUDGET_SATS} sats, 0 overspent"
            print(f"{told}, {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
