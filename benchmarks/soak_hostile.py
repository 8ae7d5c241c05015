"""A hostile coordinator, 5,000 random histories of up to 100 steps: `python3 dev.py soak hostile`.

Its arguments, all optional: how many histories, of how many steps, and after how many of them an earlier run ended.
tests/hostile.py says what it can do and what must hold. Exit 0: all of it held, in every history; otherwise the
shortest history in which it did not is printed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.hostile import HostileCoordinator

EXAMPLES, STEPS = 5_000, 100
AT_ONCE = 100  # histories in one run of the library: it keeps what it saw, and slows down over thousands


def main(arguments: Sequence[str]) -> int:
    """Run it, one line for each hundred histories, each with a seed of its own; the last line is JSON."""
    examples = int(arguments[0]) if arguments else EXAMPLES
    steps = int(arguments[1]) if len(arguments) > 1 else STEPS
    done = int(arguments[2]) if len(arguments) > 2 else 0
    began = time.monotonic()
    for first in range(done, examples, AT_ONCE):
        count = min(AT_ONCE, examples - first)
        chosen = settings(
            max_examples=count,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(seed(first)(HostileCoordinator), settings=chosen)
        told = {"histories": HostileCoordinator.begun, "steps": HostileCoordinator.steps, **_answers()}
        print(json.dumps({**told, "seconds": round(time.monotonic() - began)}), flush=True)
    return 0


def _answers() -> dict[str, object]:
    said = HostileCoordinator.said
    return {"bundles": said.total(), "signed": said["tuple"], "answers": dict(said.most_common())}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
