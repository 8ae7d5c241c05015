"""Fuzz what reads foreign bytes: `python3 dev.py soak fuzz [--target T]... [--runs N] [--seed S] [--folder F]`.

Each target runs in its own process, under a limit of 256 MiB and of one second per input, for as many inputs as
`tests.fuzz.target` says or as `--runs` does. The last line is JSON. Exit 0: no crash; 1: some target crashed, and the
input lies in the folder. docs/fuzzing.md tells what each target promises.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks._measure import machine
from tests.fuzz.runner import Outcome, fuzz
from tests.fuzz.target import TARGETS


def main(arguments: Sequence[str]) -> int:
    """Run the targets one after the other and print what each gave."""
    top = argparse.ArgumentParser(prog="dev.py soak fuzz", description=__doc__, allow_abbrev=False)
    top.add_argument("--target", action="append", choices=sorted(TARGETS), help="only this one; may be repeated")
    top.add_argument("--runs", type=int, help="inputs per target; without it what issue 3 asks of each")
    top.add_argument("--seed", type=int, default=1, help="the same one gives the same run")
    top.add_argument("--folder", type=Path, help="keeps corpus, logs and crashes; taken up again if it is there")
    known = top.parse_args(arguments)
    folder = known.folder or Path(tempfile.mkdtemp(prefix="keyturn-fuzz-"))
    where, outcomes = machine(), []
    print(f"corpus, logs and crashes: {folder}")
    for name in known.target or TARGETS:
        outcome = fuzz(name, folder / name, known.runs or TARGETS[name].runs, seed=known.seed)
        outcomes.append(outcome)
        print(line_of(outcome), flush=True)
    crashes = sum(bool(outcome.crash) for outcome in outcomes)
    print(json.dumps({"name": "fuzz", "machine": where, "crashes": crashes, "targets": list(map(asdict, outcomes))}))
    return 1 if crashes else 0


def line_of(outcome: Outcome) -> str:
    """Return the outcome for people."""
    told = (
        f"{outcome.target:12} {outcome.runs:>9,} runs in {outcome.seconds:,} s, slowest {outcome.slowest_s} s, "
        f"{outcome.peak_rss_mb} MiB, {outcome.branches} branches, {outcome.features} features, {outcome.kept} kept, "
    )
    return told + (f"CRASHED\n{outcome.crash}" if outcome.crash else "no crash")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
