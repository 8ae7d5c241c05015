"""A minute of fuzzing in CI: no target crashes, and a bug that was planted is found and told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.runner import fuzz
from tests.fuzz.target import TARGETS

RUNS = {  # about ten seconds each on a quiet machine, start included
    "parse": 15_000,
    "bundle": 40_000,
    "checkpoint": 60_000,
    "frames": 6_000,
    "combine": 12_000,
    "descriptor": 10_000,
    "differential": 5_000,
}
HANG_S = 10  # a whole run says one second; a busy machine may stop any process that long


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_target_given_a_short_run_keeps_its_promises(name: str, tmp_path: Path) -> None:
    """Only listed refusals come out, what is accepted comes back byte for byte, and each run is the same."""
    outcome = fuzz(name, tmp_path, RUNS[name], timeout_s=HANG_S)

    assert not outcome.crash, outcome.crash
    assert outcome.runs >= RUNS[name]
    assert outcome.branches > 50, "the target is not instrumented: nothing guides the search"


@pytest.mark.slow
def test_fuzz_given_a_planted_bug_finds_and_tells_it(tmp_path: Path) -> None:
    """Four nested comparisons are passed by coverage, the exception is told and the input is kept."""
    outcome = fuzz("planted", tmp_path, 1_000_000, timeout_s=HANG_S)

    assert "IndexError: the planted bug" in outcome.crash
    assert Path(outcome.crash.rpartition("input: ")[2]).read_bytes().startswith(b"keys")
