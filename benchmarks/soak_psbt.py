"""Every small change of twenty valid PSBTs: `python3 dev.py soak psbt [SEEDS]`.

Each bit flipped, each truncation, 00 and ff put in at each offset, each entry moved into each map, in both versions of
each PSBT (tests/properties/mutations.py). Nothing that is accepted may say something else unseen, and nothing but a
refusal with a code and an offset may come out. The last line is JSON. Exit 0: so it was; 1: some mutant broke it.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence

from benchmarks._measure import machine
from tests.properties.mutations import MUTATIONS, OTHER, SAME, VERSIONS, Case, case_of

SEEDS = 20


def main(arguments: Sequence[str]) -> int:
    """Mutate, judge, count; print a line per seed and each mutant that broke a promise."""
    seeds = int(arguments[0]) if arguments else SEEDS
    where, began = machine(), time.process_time()
    told: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    broken = 0
    for seed in range(seeds):
        for version in VERSIONS:
            broken += sweep(case_of(seed, version), told, kinds, f"seed {seed} version {version}")
        print(f"seed {seed}: {kinds.total():,} mutants so far, {broken} broke a promise", flush=True)
    refused = told.total() - told[SAME] - told[OTHER]
    print(f"{refused:,} refused, {told[SAME]:,} say the same, {told[OTHER]:,} are another transaction that says so")
    for code, count in told.most_common():
        print(f"{count:>9,}  {code}")
    figures = {"seeds": seeds, "mutants": dict(kinds), "outcomes": dict(told), "broken": broken}
    print(json.dumps({"name": "psbt", "machine": where, "cpu_s": round(time.process_time() - began), **figures}))
    return 1 if broken else 0


def sweep(case: Case, told: Counter[str], kinds: Counter[str], name: str) -> int:
    """Judge every mutant of one PSBT, count into `told` and `kinds`; return how many broke a promise."""
    broken = 0
    for kind, mutants in MUTATIONS.items():
        for mutant in mutants(case.raw, slice(None)):
            kinds[kind] += 1
            try:
                told[case.outcome(mutant)] += 1
            except Exception as error:  # any class at all is what this run is looking for
                broken += 1
                print(f"{name}, {kind}: {type(error).__name__} {error}: {mutant.hex()}")
    return broken


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
