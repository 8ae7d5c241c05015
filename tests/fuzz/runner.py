"""Run one target in a process of its own and say what came of it: for the soak and for the smoke test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

RSS_LIMIT_MB = 256
_STAT = re.compile(r"^stat::(\w+):\s+(\d+)", re.MULTILINE)
_DONE = re.compile(r"^Done \d+ runs in (\d+) second", re.MULTILINE)
_COVERED = re.compile(r"^#\d+\s+DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)", re.MULTILINE)
_ARTIFACT = re.compile(r"Test unit written to (\S+)")
_TOLD_LINES = 25


# Linux counts what its parent had at the moment of exec as a process's own peak of memory, and libFuzzer reads that: a
# test process that has grown would fail every target. A shell in between, which forks anew, has nothing.
_BETWEEN = ("/bin/sh", "-c", '"$@"; exit $?', "fuzz")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of a target gave.

    runs: inputs tried.  seconds: whole ones, of wall time.  slowest_s: the longest input, in whole seconds.
    branches, features: reached, as libFuzzer counts them.  kept: inputs in the corpus at the end.
    crash: the traceback and the failing input's file; "" where no promise broke.
    """

    target: str
    runs: int
    seconds: int
    peak_rss_mb: int
    slowest_s: int
    branches: int
    features: int
    kept: int
    crash: str


def fuzz(name: str, folder: Path, runs: int, *, seed: int = 1, timeout_s: int = 1) -> Outcome:
    """Return what `runs` inputs to the target `name` gave.

    Args:
        name: of `tests.fuzz.target`.
        folder: for the corpus, the log and what failed; a corpus that is there is taken up again.
        runs: inputs to try.
        seed: the same one gives the same run.
        timeout_s: an input that takes longer is a crash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [*_BETWEEN, sys.executable, "-m", "tests.fuzz.run", name, str(folder / "corpus")]
    command += [f"-runs={runs}", f"-seed={seed}"]
    command += [f"-rss_limit_mb={RSS_LIMIT_MB}", f"-timeout={timeout_s}", "-print_final_stats=1", "-mutate_depth=3"]
    command += [f"-artifact_prefix={folder}/"]
    log = folder / "log"
    with log.open("wb") as out:
        same = {**os.environ, "PYTHONHASHSEED": "0"}  # sets in another order would give another run
        done = subprocess.run(
            command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=same, check=False
        )
    return read_log(name, log.read_text(errors="replace"), done.returncode)


def read_log(name: str, text: str, returncode: int) -> Outcome:
    """Return what libFuzzer's output says."""
    stats = {found[1]: int(found[2]) for found in _STAT.finditer(text)}
    done, covered = _DONE.search(text), _COVERED.search(text)
    crash = ""
    if returncode != 0 or done is None:
        artifact = _ARTIFACT.search(text)
        crash = _traceback(text) + (f"\ninput: {artifact[1]}" if artifact else f"\nexit code {returncode}")
    return Outcome(
        target=name,
        runs=stats.get("number_of_executed_units", 0),
        seconds=int(done[1]) if done else 0,
        peak_rss_mb=stats.get("peak_rss_mb", 0),
        slowest_s=stats.get("slowest_unit_time_sec", 0),
        branches=int(covered[1]) if covered else 0,
        features=int(covered[2]) if covered else 0,
        kept=int(covered[3]) if covered else 0,
        crash=crash,
    )


def _traceback(text: str) -> str:
    """Return the last lines that say why; libFuzzer's own lines of progress are left out."""
    lines = [line for line in text.splitlines() if not line.startswith(("#", "INFO:", "stat::"))]
    return "\n".join(lines[-_TOLD_LINES:])
