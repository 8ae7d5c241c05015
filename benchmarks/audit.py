"""`python3 dev.py bench audit`: what the logs cost, beside the disk's own flushes, json.dumps, SHA-256 and signatures.

Throughput and latency are wall time, since they wait for the disk; each is measured next to its floor in the same
minute on the same disk. All else is CPU time. The store is the coordinator's own, on SQLite.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks._logs import Releases, event_of
from benchmarks._measure import Goal, machine, medians, quiet, report
from coordinator.store.append import Heads, append
from coordinator.store.port import Change, Event
from coordinator.store.sql import SqlStore
from custody import ed25519
from custody.audit import Frontier, Subtrees, Verdict, inclusion_proof, leaf_hash, verify_export
from custody.canonical import Json, encode
from custody.replay import export_keys, replay

WRITERS = 64
SMALL, LARGE = 1_000, 1_000_000
ROUNDS = 5
COULD_NOT_MEASURE = 2


def raw_rate(folder: Path, events: int) -> float:
    """Return events per second where each is written and flushed alone."""
    raw = encode(event_of(1))
    with (folder / "raw").open("ab") as file:
        began = time.perf_counter()
        for _ in range(events):
            file.write(raw)
            file.flush()
            os.fdatasync(file.fileno())
        return events / (time.perf_counter() - began)


def layer_rate(folder: Path, batches: int) -> float:
    """Return events per second of the log layer alone: encode, both trees' hashes, one flush per 64 events."""
    heads = Heads()
    with (folder / "layer").open("ab") as file:
        began = time.perf_counter()
        for number in range(batches):
            for writer in range(WRITERS):
                heads, added, _ = append(heads, change_of(number * WRITERS + writer))
                file.write(b"".join(new.raw + b"".join(n.digest for n in new.nodes) for new in added))
            file.flush()
            os.fdatasync(file.fileno())
        return batches * WRITERS / (time.perf_counter() - began)


def change_of(number: int) -> Change:
    """Return one event to record."""
    said: dict[str, Json] = {"withdrawal": number.to_bytes(32).hex(), "count": 1}
    return Change(1_800_000_000 + number, events=(Event("signature.accepted", "alpha by alpha", said),))


async def store_rate(folder: Path, each: int) -> tuple[float, float]:
    """Return events per second through the real store with 64 writers, and the median seconds of one."""
    store = await asyncio.to_thread(SqlStore.open, f"sqlite:///{folder}/store.db")
    took: list[float] = []

    async def write(writer: int) -> None:
        for number in range(each):
            began = time.perf_counter()
            await store.record(change_of(writer * each + number))
            took.append(time.perf_counter() - began)

    try:
        await store.record(change_of(0))
        began = time.perf_counter()
        await asyncio.gather(*(write(writer) for writer in range(WRITERS)))
        rate = WRITERS * each / (time.perf_counter() - began)
    finally:
        await store.close()
    return rate, statistics.median(took)


def disk_goals(quick: bool) -> list[Goal]:
    """Measure what waits for the disk, each beside its floor, as the median of rounds."""
    store, layer, latency = [], [], []
    for _ in range(2 if quick else ROUNDS):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:  # the disk of the tree, not a memory file system
            folder = Path(name)
            floor = raw_rate(folder, 200 if quick else 500)
            rate, median_s = asyncio.run(store_rate(folder, 8 if quick else 40))
            store.append(rate / floor)
            latency.append(median_s * floor)
            layer.append(layer_rate(folder, 10 if quick else 50) / raw_rate(folder, 200 if quick else 500))
    return [
        Goal("events/s through the store, 64 writers, over one fdatasync per event", statistics.median(store), ">= 3"),
        Goal("events/s of the log layer alone, over one fdatasync per event", statistics.median(layer), ">= 8"),
        Goal("p50 of one event through the store, in flushes of the disk", statistics.median(latency), "<= 6"),
    ]


def tree_goals(large: int) -> list[Goal]:
    """Measure encoding, appending and proving at two sizes."""
    value = event_of(7)
    start = frontier_of(SMALL)
    grown = frontier_of(large)
    small_tree, large_tree = Subtrees(), Subtrees()
    for tree, size in ((small_tree, SMALL), (large_tree, large)):
        for number in range(size):
            tree.append(hashlib.sha256(number.to_bytes(8)).digest())

    def ours() -> object:
        return start.grow(leaf_hash(encode(value)))

    def floor() -> object:
        raw = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
        return hashlib.sha256(hashlib.sha256(raw).digest()).digest()

    leaf = hashlib.sha256(b"leaf").digest()
    took = medians(
        {
            "encode": ours,
            "floor": floor,
            "append small": lambda: appended(start, leaf),
            "append large": lambda: appended(grown, leaf),
            "proof small": lambda: proved(small_tree, SMALL),
            "proof large": lambda: proved(large_tree, large),
        },
        rounds=21,
    )
    return [
        Goal("encode and tree over json.dumps and two sha256", took["encode"] / took["floor"], "<= 2"),
        Goal(f"proof at {large:,} over proof at {SMALL:,}", took["proof large"] / took["proof small"], "<= 2"),
        Goal(f"append rate at {large:,} over {SMALL:,}", took["append small"] / took["append large"], ">= 0.9"),
    ]


def appended(tree: Frontier, leaf: bytes) -> Frontier:
    """Append 256 leaves."""
    for _ in range(256):
        tree = tree.grow(leaf)[0]
    return tree


def proved(tree: Subtrees, size: int) -> None:
    """Prove 32 leaves all over the tree."""
    for at in range(32):
        inclusion_proof(tree, at * (size // 32), size)


def frontier_of(size: int) -> Frontier:
    """Return a tree of `size` leaves; what they hash to does not enter."""
    return Frontier(size, tuple(hashlib.sha256(bytes([at])).digest() for at in range(size.bit_count())))


def verifier_goals(events: int, releases: int) -> list[Goal]:
    """Measure the verifier at both levels."""
    full = Releases(releases)
    keys = export_keys(full.world.genesis)
    light = Releases(2)
    light.events += [encode(event_of(number)) for number in range(events)]
    for raw in light.events[-events:]:
        light._tree = light._tree.append(leaf_hash(raw))
    raw_light = light._export()
    count = light.entries
    light_keys = export_keys(light.world.genesis)

    def checked(work: Callable[[], Verdict]) -> Callable[[], None]:
        def run() -> None:
            ed25519._holds.cache_clear()  # each run stands for a program started anew
            verdict = work()
            if str(verdict) != "OK":
                raise ValueError(f"expected OK, found {verdict} {verdict.detail}")

        return run

    took = medians(
        {
            "log": checked(lambda: verify_export(raw_light, light_keys)),
            "full": checked(lambda: verify_export(full.export, keys, replay=replay)),
            "floor": full.floor,
        },
        rounds=5,
    )
    print(
        f"full: {took['full'] / releases * 1000:.2f} ms a withdrawal, signatures alone "
        f"{took['floor'] / releases * 1000:.2f} ms; export {len(full.export) / releases:,.0f} bytes a withdrawal",
        file=sys.stderr,
    )
    return [
        Goal("thousand entries/s of the verifier at level log", count / took["log"] / 1000, ">= 20"),
        Goal("verifier at level full over its signature verifications", took["full"] / took["floor"], "<= 1.5"),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return the exit code: 0 all goals met, 1 some missed, 2 could not measure."""
    parser = argparse.ArgumentParser(prog="bench audit", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--quick", action="store_true", help="smaller logs and fewer rounds")
    args = parser.parse_args(arguments)
    if not args.json:
        print(machine())
    try:
        goals = disk_goals(args.quick)
        with quiet():
            goals += tree_goals(50_000 if args.quick else LARGE)
            goals += verifier_goals(2_000 if args.quick else 20_000, 20 if args.quick else 200)
    except OSError as error:
        print(f"could not measure: {error}", file=sys.stderr)
        return COULD_NOT_MEASURE
    return report("audit", goals, as_json=args.json)


if __name__ == "__main__":
    sys.exit(main())
