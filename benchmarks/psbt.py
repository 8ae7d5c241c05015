"""`python3 dev.py bench psbt`: our PSBT engine beside embit, libwally and BDK, and beside bare libsecp256k1.

Two jobs, each from bytes to bytes. Signer: an unsigned PSBT in; parsed, every fact proven, signed from the seed,
verified by the second library; signatures out. Coordinator: m signed PSBTs in; read, every signature verified,
combined; the final transaction out. The coordinator has its own PSBT and facts from its session, as in
`coordinator.flow`; scripts are warm (derived once before) unless a line says cold.

embit verifies no signature that it made: "signer vs embit" and "signer before verify" measure our job with the second
library's verification taken out; the table and every other goal have it in. What each peer checks stands at its class
in `benchmarks._peers`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import _psbt_report as papers
from benchmarks._cases import LIMITS, Case, Shape, clear, make_book, make_case, sign
from benchmarks._floors import Floors, derive
from benchmarks._measure import Goal, Job, machine, medians, report
from benchmarks._peers import Bdk, Embit, Wally
from custody import curve
from custody.bip32 import Tweaks
from custody.facts import Facts, read_facts
from custody.finalise import finalize
from custody.psbt import parse, serialize
from custody.signatures import accept, from_foreign_psbt, sighashes
from custody.wallet import ScriptBook

QUORUMS = ((2, 3), (3, 5))
SIZES = ((1, 2), (10, 2), (100, 2), (1000, 2), (1000, 1000))
QUICK_SIZES = ((1, 2), (10, 2), (100, 2))
DERIVED = 100  # scripts per sample of the re-derivation
COULD_NOT_MEASURE = 2


@dataclass(frozen=True, slots=True)
class Timed:
    """CPU seconds of each job over one shape, medians of one interleaved run."""

    shape: Shape
    seconds: dict[str, float]

    def ratio(self, slow: str, fast: str) -> float:
        """Return how many times longer `slow` takes than `fast`."""
        return self.seconds[slow] / self.seconds[fast]


class _Unasked:
    """Stands in for `curve.SecondVerifier` while the rest of the signer is measured."""

    def verify(self, pubkey: bytes, digest: bytes, der: bytes) -> bool:
        """Say yes."""
        return True


class Ours:
    """Our two jobs, and their steps."""

    def __init__(self, case: Case) -> None:
        self._case = case

    def sign(self) -> object:
        """Return the signatures of cosigner 0, all checks made."""
        case = self._case
        psbt = parse(case.raw, case.book.known)
        facts = read_facts(psbt, case.book, LIMITS)
        if not isinstance(facts, Facts):
            raise TypeError(str(facts))
        return sign(psbt, facts, case.book, 0, case.seeds[0])

    def sign_unverified(self) -> object:
        """Return the same without the second library's opinion: here alone, to tell its cost apart."""
        real = curve.SecondVerifier
        curve.SecondVerifier = _Unasked  # type: ignore[misc, assignment]  # for this call alone; the bench has no port
        try:
            return self.sign()
        finally:
            curve.SecondVerifier = real  # type: ignore[misc]  # what was there before

    def coordinate(self) -> bytes:
        """Return the final transaction of m signed PSBTs."""
        case = self._case
        signatures = [found for raw in case.signed for found in from_foreign_psbt(case.psbt, raw)]
        accepted = accept(case.psbt, case.facts, case.book, signatures)
        return finalize(case.psbt, case.facts, case.book, accepted).serialize()

    def steps(self) -> dict[str, Job]:
        """Return each step alone, over values that the steps before it made."""
        case = self._case
        signatures = [found for raw in case.signed for found in from_foreign_psbt(case.psbt, raw)]
        accepted = accept(case.psbt, case.facts, case.book, signatures)
        return {
            "parse": lambda: parse(case.raw, case.book.known),
            "serialize": lambda: serialize(case.psbt),
            "read_facts": lambda: read_facts(parse(case.raw, case.book.known), case.book, LIMITS),
            "sighashes": lambda: sighashes(case.psbt, case.facts, case.book),
            "sign": lambda: sign(case.psbt, case.facts, case.book, 0, case.seeds[0]),
            "from_foreign_psbt": lambda: from_foreign_psbt(case.psbt, case.signed[0]),
            "accept": lambda: accept(case.psbt, case.facts, case.book, signatures),
            "finalize": lambda: finalize(case.psbt, case.facts, case.book, accepted).serialize(),
        }


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write if asked; return 0 when all goals are met, 1 when some are missed, 2 when it broke."""
    top = argparse.ArgumentParser(prog="dev.py bench psbt", description=__doc__, allow_abbrev=False)
    top.add_argument("--json", action="store_true", help="print one JSON line instead of a table")
    top.add_argument("--quick", action="store_true", help="only up to 100 inputs, and the goals that this can show")
    top.add_argument("--write", action="store_true", help="write docs/benchmarks/psbt.md and psbt.svg")
    known = top.parse_args(arguments)
    if known.quick and known.write:
        top.error("--write needs a whole run")
    where = machine()
    try:
        timed = [measure(shape) for shape in shapes(QUICK_SIZES if known.quick else SIZES, same=not known.quick)]
        derivation, left = _derivation_goals()
        goals = [*_goals(timed), *derivation, *([] if known.quick else _linear_goals())]
    except (ValueError, TypeError, RuntimeError) as error:  # what the peers raise, and we for a wrong result
        print(f"bench psbt: could not measure: {error}", file=sys.stderr)
        return COULD_NOT_MEASURE
    if known.write:
        papers.write(
            Path("docs/benchmarks"), where, [(t.shape, t.seconds) for t in timed], goals, [*_left(timed), *left]
        )
    if not known.json:
        print(papers.table([(t.shape, t.seconds) for t in timed]))
    return report("psbt", goals, as_json=known.json, where=where)


def shapes(sizes: Iterable[tuple[int, int]], *, same: bool) -> list[Shape]:
    """Return the shapes of a run, for each quorum."""
    found = [Shape(m, n, *size) for m, n in QUORUMS for size in sizes]
    return found + ([Shape(m, n, 200, 2, one_previous=True) for m, n in QUORUMS] if same else [])


def measure(shape: Shape) -> Timed:
    """Return what every contestant takes over one shape, after all of them gave the right result."""
    say(f"{shape} ...")
    case = make_case(shape)
    ours, embit, wally, bdk, floors = Ours(case), Embit(case), Wally(case), Bdk(case), Floors(case)
    _check_results(case, ours, wally, bdk)
    jobs: dict[str, Job] = {
        "sign ours": ours.sign,
        "sign embit": embit.sign,
        "sign wally": wally.sign,
        "sign bdk": bdk.sign,
        "sign floor": floors.sign,
        "second floor": floors.verify_second,
        "digests floor": floors.hash_digests,
        "hashes floor": floors.hash_all,
        "sign ours unverified": ours.sign_unverified,
        "coordinate ours": ours.coordinate,
        "coordinate embit": embit.coordinate,
        "coordinate embit hoisted": partial(embit.coordinate, hoisted=True),
        "coordinate wally": wally.coordinate,
        "coordinate bdk": bdk.coordinate,
        "coordinate floor": floors.verify,
        "sighash ours": partial(sighashes, case.psbt, case.facts, case.book),
        "sighash embit": embit.sighashes(),
        "sighash wally": wally.sighashes(),
    }
    return Timed(shape, medians(jobs))


def _check_results(case: Case, ours: Ours, wally: Wally, bdk: Bdk) -> None:
    """Refuse to time what is wrong; embit's results are compared where its quadratic jobs are still short."""
    expected = ours.coordinate()
    others: list[Callable[[], bytes]] = [wally.coordinate]
    if case.shape.inputs <= 100:
        others += [bdk.coordinate, Embit(case).coordinate]
    if any(other() != expected for other in others):
        raise ValueError(f"{case.shape}: two final transactions")
    if tuple(wally.sighashes()()) != clear(case.psbt, case.facts, case.book, 0).digests:  # type: ignore[arg-type]
        raise ValueError(f"{case.shape}: two sighashes")


def _goals(timed: Iterable[Timed]) -> list[Goal]:
    """Return the goals that compare contestants over one shape."""
    found: list[Goal] = []
    for one in timed:
        shape, seconds = one.shape, one.seconds
        unverified = seconds["sign ours unverified"]
        embit = seconds["sign embit"] / unverified
        if (shape.inputs, shape.outputs) == (10, 2):
            found.append(Goal(f"signer vs embit, {shape}", embit, ">= 25"))
        if (shape.inputs, shape.outputs) == (1000, 2):
            found += [
                Goal(f"signer vs embit, {shape}", embit, ">= 80"),
                Goal(f"coordinator vs embit, {shape}", one.ratio("coordinate embit", "coordinate ours"), ">= 40"),
                Goal(f"sighashes vs embit, {shape}", one.ratio("sighash embit", "sighash ours"), ">= 1000"),
                Goal(f"sighashes vs libwally with cache, {shape}", one.ratio("sighash wally", "sighash ours"), ">= 5"),
            ]
        if shape.inputs >= 100:
            both = seconds["sign floor"] + seconds["second floor"]
            found += [
                Goal(f"signer before verify / n sign, {shape}", unverified / seconds["sign floor"], "<= 1.75"),
                Goal(f"signer / n (sign + second verify), {shape}", seconds["sign ours"] / both, "<= 1.35"),
                Goal(f"coordinator / m n verify, {shape}", one.ratio("coordinate ours", "coordinate floor"), "<= 1.25"),
                Goal(f"coordinator vs libwally, {shape}", one.ratio("coordinate wally", "coordinate ours"), ">= 1.8"),
            ]
    return found


def _left(timed: Iterable[Timed]) -> list[papers.Left]:
    """Return what the goals against other libraries leave beside the bare operations, per input."""
    found: list[papers.Left] = []
    for one in timed:
        shape, seconds = one.shape, {name: took / one.shape.inputs * 1e6 for name, took in one.seconds.items()}
        sign, verify = seconds["sign floor"], seconds["coordinate floor"]
        hashes, digests = seconds["hashes floor"], seconds["digests floor"]
        signer, coordinator = seconds["sign ours unverified"], seconds["coordinate ours"]
        size = shape.inputs, shape.outputs
        if target := {(10, 2): 25, (1000, 2): 80}.get(size):
            allowed = seconds["sign embit"] / target
            found.append(papers.Left(f"signer {target}x embit, {shape}", allowed, sign, hashes, signer))
        if size == (1000, 2):
            allowed = seconds["coordinate embit"] / 40
            found.append(papers.Left(f"coordinator 40x embit, {shape}", allowed, verify, digests, coordinator))
        if shape.inputs >= 100:
            allowed = seconds["coordinate wally"] / 1.8
            found.append(papers.Left(f"coordinator 1.8x libwally, {shape}", allowed, verify, digests, coordinator))
    return found


def _derivation_goals() -> tuple[list[Goal], list[papers.Left]]:
    """Return the goals of re-derivation, scripts of one branch derived anew and found again, and what they leave."""
    found: list[Goal] = []
    left: list[papers.Left] = []
    for m, n in QUORUMS:
        say(f"{m}-of-{n} re-derivation ...")
        book, _ = make_book(m, n)
        embit = Embit(make_case(Shape(m, n, 1, 2)))

        def each(derive: Callable[[int, int], object]) -> Job:
            return lambda: [derive(0, index) for index in range(DERIVED)]

        took = medians(
            {
                "cold": lambda wallet=book.wallet: each(ScriptBook(wallet).script)(),  # type: ignore[misc]
                "warm": each(book.script),
                "embit": each(embit.derive),
                "floor": partial(derive, DERIVED, n),
                "hashes": partial(_hash_tweaks, n),
            }
        )
        each_us = {name: seconds / DERIVED * 1e6 for name, seconds in took.items()}
        allowed = each_us["embit"] / 6
        name = f"re-derivation 6x embit, {m}-of-{n}"
        left.append(papers.Left(name, allowed, each_us["floor"], each_us["hashes"], each_us["cold"]))
        found += [
            Goal(f"re-derivation cold vs embit, {m}-of-{n}", took["embit"] / took["cold"], ">= 6"),
            Goal(f"re-derivation warm vs embit, {m}-of-{n}", took["embit"] / took["warm"], ">= 1000"),
        ]
    return found, left


def _hash_tweaks(key_count: int) -> None:
    tweaks = Tweaks(bytes(32), bytes(33))
    for at in range(DERIVED * key_count):
        tweaks.at(at)


def _linear_goals() -> list[Goal]:
    """Return the goals of growth: CPU per input at 1000 inputs over that at 100, interleaved."""
    found: list[Goal] = []
    for m, n in QUORUMS:
        say(f"{m}-of-{n} growth ...")
        small, large = (Ours(make_case(Shape(m, n, inputs, 2))) for inputs in (100, 1000))
        jobs: dict[str, Job] = {}
        for size, ours in (("100", small), ("1000", large)):
            jobs |= {f"{name} {size}": job for name, job in ours.steps().items()}
            jobs |= {f"signer {size}": ours.sign, f"coordinator {size}": ours.coordinate}
        took = medians(jobs, rounds=15)
        for name in [name.removesuffix(" 100") for name in jobs if name.endswith(" 100")]:
            target = "<= 1.2" if name in {"signer", "coordinator"} else "<= 1.5"
            figure = took[f"{name} 1000"] / took[f"{name} 100"] / 10
            found.append(Goal(f"growth of {name}, {m}-of-{n}", figure, target))
    return found


def say(line: str) -> None:
    """Print progress on stderr: stdout is for the result."""
    print(f"bench psbt: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
