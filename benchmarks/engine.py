"""`python3 dev.py bench engine`: what it costs that a key never leaves its vault.

A real OpenBao server with both: the engine, as PyInstaller's one file, which follows, judges and signs inside; and
transit, where the node unseals the seed and signs. Wall time of `Backend.sign` of a new transaction each, in turn on
the same server, so that neighbours cost both the same. What the node itself does before (it judges in both cases) is
not in it. Memory: the plugin's processes after that work, shared pages counted by their share.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks._measure import Goal, machine, quiet, report
from custody.bundle import Bundle
from custody.entries import parse_entry, statements_of
from deploy.ca import make_ca
from deploy.engine import one_file
from deploy.openbao import Server, start
from signer_node.backends import make_key, open_backend, pin_document
from signer_node.backends.port import Backend
from signer_node.judge import Cleared
from tests.fakes.engine_processes import engine_pids
from tests.fakes.today import Today, genesis_of_today
from tests.fakes.vault_nodes import VaultNode, roles

NODE, TRANSIT_NODE = "alpha", "beside"  # a role of its own on the same server, for the same node of its world
KINDS = {"engine": NODE, "transit": TRANSIT_NODE}
INPUTS = (1, 10, 100)
MOST_TIMES = {1: "<= 8", 10: "<= 6", 100: "<= 6"}  # one more hop and a whole judgement, which grows with the inputs
MOST_MIB = 64


@dataclass(frozen=True, slots=True)
class Stage:
    """A server, and for each kind a backend whose key stands in the genesis of its own world."""

    server: Server
    backends: dict[str, Backend]
    worlds: dict[str, Today]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return the exit code: 0 all goals met, 1 some missed."""
    parser = argparse.ArgumentParser(prog="bench engine", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--quick", action="store_true", help="few samples")
    args = parser.parse_args(arguments)
    where = machine()
    if not args.json:
        print(where)
    with tempfile.TemporaryDirectory(prefix="keyturn-bench-") as directory, staged(Path(directory)) as stage:
        goals = [goal_at(stage, inputs, 3 if args.quick else 21) for inputs in INPUTS]
        goals.append(memory_goal(stage.server))
    return report("engine", goals, as_json=args.json, where=where)


@contextmanager
def staged(directory: Path) -> Iterator[Stage]:
    """Start one server with an engine and transit, each with a key that is pinned in a world of its own."""
    packed = one_file(lambda line: print(line, file=sys.stderr))
    admitted = [role for kind, name in KINDS.items() for role in roles(kind, (name,))]
    server = start(directory / "bao", make_ca(directory), roles=admitted, engine=packed)
    try:
        backends, worlds = {}, {}
        for kind, name in KINDS.items():
            place = VaultNode(server, kind, name, directory)
            key = asyncio.run(make_key(place.uri, place.access("keysmith"))).key
            worlds[kind] = Today(genesis_of_today(others={NODE: key}))
            asyncio.run(pin_document(place.uri, place.access("keysmith"), worlds[kind].genesis.signed))
            backends[kind] = open_backend(place.uri, place.access())
        yield Stage(server, backends, worlds)
    finally:
        server.stop()


def goal_at(stage: Stage, inputs: int, samples: int) -> Goal:
    """Measure both at transactions of `inputs` inputs, in turn."""
    took: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with quiet():
        for number in range(samples + 1):
            for kind in KINDS:
                cleared = asked(stage.worlds[kind], inputs)
                began = time.perf_counter()
                asyncio.run(stage.backends[kind].sign(cleared))
                if number:  # the first one opens connections and derives keys
                    took[kind].append(time.perf_counter() - began)
    p50 = {kind: statistics.median(found) * 1000 for kind, found in took.items()}
    told = ", ".join(f"{kind} {found:.1f} ms" for kind, found in p50.items())
    name = f"p50 of sign at {inputs} inputs, engine over transit ({told})"
    return Goal(name, p50["engine"] / p50["transit"], MOST_TIMES[inputs])


def asked(world: Today, inputs: int) -> Cleared:
    """Return what is cleared for a new payment, its bundle with the news of the log alone, as coordinators send it."""
    known = len(world.world.entries)
    whole = world.bundle(NODE, inputs)
    return replace(world.judged(whole, NODE), raw_bundle=_news(whole, known).to_bytes())


def _news(bundle: Bundle, known: int) -> Bundle:
    log = bundle.log
    entries = log.entries[known:]
    named = {digest for raw in entries for digest in statements_of(parse_entry(raw))}
    statements = tuple(signed for signed in log.statements if signed.digest in named)
    return replace(bundle, log=replace(log, first=known, entries=entries, statements=statements))


def memory_goal(server: Server) -> Goal:
    """Measure what the plugin's processes hold, shared pages by their share (PSS)."""
    kib = sum(_pss_kib(pid) for pid in engine_pids(server))
    return Goal("memory of the engine's processes, MiB", kib / 1024, f"<= {MOST_MIB}")


def _pss_kib(pid: int) -> int:
    lines = Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    sys.exit(main())
