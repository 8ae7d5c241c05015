"""Run the mutants that mutmut wrote, each in a child of one process that collected the tests once.

Started by `benchmarks.soak_mutants` in the folder of the mutants. mutmut's own loop starts pytest anew for each mutant,
which takes longer than the tests that tell it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest

STATS = Path("mutmut-stats.json")
PASSED, FAILED, NOT_RUN = 0, 1, 33  # as mutmut writes them; a signal that ended a child is its negative number
SLOWER = 10  # times as long as the tests take without a mutant, in processor time: then it never ends
LEAST_S = 20  # of processor time
LONGEST_S = 1_200  # by the clock, for one that sleeps


class Runs:
    """A pytest plugin that runs every mutant instead of the tests. failed: whether they fail without any.

    every: 1 for all mutants, 5 for each fifth; the others are left out of what mutmut wrote.

    The tests that noticed other mutants of the same function go first: they most often notice the next one too.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        stats = json.loads(STATS.read_text())
        self._tests: dict[str, list[str]] = stats["tests_by_mangled_function_name"]
        self._seconds: dict[str, float] = stats["duration_by_test"]
        self._noticed: Counter[str] = Counter()
        self.failed = False

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """See pytest: return True where the loop is done here."""
        items = {item.nodeid: item for item in session.items}
        self.failed = self._run(session, list(items.values()), "") != PASSED
        for path in () if self.failed else sorted(Path("custody").rglob("*.meta")):
            found = json.loads(path.read_text())
            codes: dict[str, int | None] = dict(islice(found["exit_code_by_key"].items(), 0, None, self._every))
            found["exit_code_by_key"] = codes
            function = ""
            for mutant in codes:
                if mutant.partition("__mutmut_")[0] != function:
                    function = mutant.partition("__mutmut_")[0]
                    self._noticed.clear()
                reached = sorted(self._tests.get(function, []), key=self._promise)
                chosen = [items[test] for test in reached if test in items]
                codes[mutant] = self._run(session, chosen, mutant) if chosen else NOT_RUN
            path.write_text(json.dumps(found))
        return True

    def _promise(self, test: str) -> tuple[int, float]:
        return -self._noticed[test], self._took(test)

    def _took(self, test: str) -> float:
        return self._seconds.get(test, 0.0)

    def _run(self, session: pytest.Session, items: Sequence[pytest.Item], mutant: str) -> int:
        """Run `items` in a child under `mutant`; return how it ended."""
        limit_s = int(LEAST_S + SLOWER * sum(self._took(item.nodeid) for item in items))
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.environ["MUTANT_UNDER_TEST"] = mutant
            resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 5))
            signal.alarm(LONGEST_S)
            failed = _first_failure(session, items)
            os.write(writing, failed.encode())
            os._exit(FAILED if failed else PASSED)
        os.close(writing)
        with os.fdopen(reading) as told:
            self._noticed[told.read()] += 1
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _first_failure(session: pytest.Session, items: Sequence[pytest.Item]) -> str:
    """Return the first test that fails, or nothing."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        except BaseException:  # a mutant may raise anything, and then it was noticed
            return item.nodeid
        if session.testsfailed:
            return item.nodeid
    return ""


def main(arguments: list[str]) -> int:
    """Run each n-th mutant (the first argument) with pytest's arguments; 1: the tests fail without a mutant."""
    runs = Runs(int(arguments[0]))
    pytest.main(["-q", "-p", "no:cacheprovider", *arguments[1:]], plugins=[runs])
    return int(runs.failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
