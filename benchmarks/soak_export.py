"""Flip every bit of a 100-entry export, one at a time: `python3 dev.py soak export [BYTES]`.

Each flip must be detected, and the verdict must name a line: the one that was changed, or its neighbour where the flip
was in a line end. BYTES limits the run to that many bytes, spread evenly. Exit 0: all detected and named; 1: not.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache

from custody.audit import ExportKeys, VerdictKind, verify_export
from custody.statements import Kind, sign
from tests.fakes.audit_log import ADMIN_SEED, FakeLog

COMMITS = 20  # each: a WITNESS entry and another one in the money log, three events
TOLD_EVERY_S = 60.0


def main(arguments: Sequence[str]) -> int:
    """Flip, verify and count; print progress once a minute."""
    raw, keys = honest()
    verdict = verify_export(raw, keys)
    if verdict.kind is not VerdictKind.OK or verdict.size + verdict.event_size != 100:
        print(f"expected an honest export of 100 entries, found {verdict}")
        return 1
    step = max(1, len(raw) // int(arguments[0])) if arguments else 1
    places = range(0, len(raw), step)
    print(f"{len(raw)} bytes, {8 * len(places)} flips")
    found: Counter[str] = Counter()
    began = told = time.monotonic()
    with multiprocessing.Pool() as pool:
        for done, outcome in enumerate(pool.imap_unordered(flip, places, chunksize=64), 1):
            found.update(outcome)
            if time.monotonic() - told > TOLD_EVERY_S:
                told = time.monotonic()
                print(f"{done} of {len(places)} bytes, {told - began:.0f} s")
                sys.stdout.flush()
    flips, missed, elsewhere = found.total(), found["missed"], found["elsewhere"]
    named, took = flips - missed - elsewhere, time.monotonic() - began
    print(f"{flips} flips, {flips - missed} detected, {named} named, {took:.0f} s")
    return 1 if missed or elsewhere else 0


@cache
def honest() -> tuple[bytes, ExportKeys]:
    """Return an export of 39 money entries and 61 events, and what its verifier pins."""
    log = FakeLog(witness_count=3, w=2)
    for number in range(COMMITS):
        log.event("withdrawal.proposed", (sign(Kind.MESSAGE, {"text": f"message {number}"}, ADMIN_SEED),))
        log.event("withdrawal.read")
        log.event("withdrawal.denied")
        log.commit(f"entry {number}")
    log.event("log.read")
    return log.export(), log.keys


def flip(place: int) -> list[str]:
    """Return what became of each of the eight flips at `place`: "named", "elsewhere" or "missed"."""
    raw, keys = honest()
    changed = bytearray(raw)
    line = raw.count(b"\n", 0, place) + 1
    near: Iterable[int] = (line, line + 1) if raw[place] == ord("\n") else (line,)
    outcomes = []
    for bit in range(8):
        changed[place] = raw[place] ^ (1 << bit)
        verdict = verify_export(bytes(changed), keys)
        if verdict.kind is VerdictKind.OK:
            outcomes.append("missed")
        else:
            outcomes.append("named" if verdict.line in near else "elsewhere")
    return outcomes


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
