"""Measure contestants side by side: CPU time of one process, interleaved round by round, medians, collector frozen.

Only ratios inside one run mean anything: a shared machine changes its speed by half within minutes, and interleaving
spreads each change over all contestants alike. CPU time, because neighbours take wall time away.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

Job = Callable[[], object]
LEAST_SAMPLE_S = 0.04  # shorter jobs are repeated inside one sample: neither the clock nor cold caches are in it
MAX_REPEATS = 200


@dataclass(frozen=True, slots=True)
class Goal:
    """One promise. figure: measured, a ratio.  target: as written, ">= 25" or "<= 1.25"."""

    name: str
    figure: float
    target: str

    @property
    def is_met(self) -> bool:
        """Whether the figure keeps the promise."""
        sign, bound = self.target.split()
        return self.figure >= float(bound) if sign == ">=" else self.figure <= float(bound)


def machine() -> str:
    """Return what ran this, for people: processor, cores, Python, and how busy it was."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    cores = sum(line.startswith("processor") for line in lines) if cpuinfo.is_file() else 0
    load = f"load {os.getloadavg()[0]:.1f} at the start"  # neighbours take caches away from whoever uses memory
    return f"{model}, {cores} cores, {platform.system()}, CPython {platform.python_version()}, {load}"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the cyclic collector out of the figures: what exists is frozen, nothing is collected inside."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def medians(jobs: Mapping[str, Job], rounds: int = 5, budget_s: float = 1.5) -> dict[str, float]:
    """Return the median CPU seconds of one call of each job.

    Args:
        jobs: run in turn, round after round; the first round warms up and tells how often each is repeated.
        rounds: samples of each, as far as `budget_s` allows; always at least one.
        budget_s: a job that has used this much is not sampled again.
    """
    repeats: dict[str, int] = {}
    samples: dict[str, list[float]] = {name: [] for name in jobs}
    spent = dict.fromkeys(jobs, 0.0)
    with quiet():
        for name, job in jobs.items():
            once = _sample(job, 1)
            spent[name] += once
            if once > budget_s / 3:
                samples[name].append(once)  # too slow to warm up: the first call counts
            repeats[name] = min(MAX_REPEATS, max(1, round(LEAST_SAMPLE_S / max(once, 1e-7))))
        for _ in range(rounds):
            for name, job in jobs.items():
                if samples[name] and spent[name] >= budget_s:
                    continue
                took = _sample(job, repeats[name])
                spent[name] += took
                samples[name].append(took / repeats[name])
    return {name: statistics.median(found) for name, found in samples.items()}


def report(name: str, goals: Sequence[Goal], *, as_json: bool, where: str = "") -> int:
    """Print the goals, for people or as one JSON line; return the exit code: 0 all met, 1 some missed."""
    for goal in goals:
        if not as_json:
            print(f"{'reached' if goal.is_met else 'MISSED '}  {goal.figure:9.2f}  {goal.target:>8}  {goal.name}")
    if as_json:
        listed = [{**asdict(goal), "figure": round(goal.figure, 3), "pass": goal.is_met} for goal in goals]
        print(json.dumps({"name": name, "machine": where or machine(), "goals": listed}))
    return 0 if all(goal.is_met for goal in goals) else 1


def _sample(job: Job, repeats: int) -> float:
    began = time.process_time()
    for _ in range(repeats):
        job()
    return time.process_time() - began
