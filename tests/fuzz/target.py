"""What there is to fuzz. Only names stand here: custody is imported later, under instrumentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Protocol

MAX_INPUT_BYTES = 3072  # all that parsers branch on fits but size limits, which tests reach; more makes runs fewer
ByteMutator = Callable[[bytes], bytes]


class TargetModule(Protocol):
    """A module of this package that is a target."""

    def check(self, raw: bytes) -> None:
        """Raise anything where reading `raw` breaks a promise."""

    def seeds(self) -> Iterator[bytes]:
        """Yield the corpus to begin with."""

    def mutate(self, raw: bytes, random: Random, mutate_bytes: ByteMutator) -> bytes:
        """Return `raw` changed in the terms of its format; `mutate_bytes` changes a part of it."""


@dataclass(frozen=True, slots=True)
class Target:
    """module: its name.  runs: how many make a whole run.  package: the one whose branches guide the search."""

    module: str
    runs: int
    package: str = "custody"


TARGETS = {
    "parse": Target("tests.fuzz.parse", 5_000_000),
    "bundle": Target("tests.fuzz.bundle", 5_000_000),
    "checkpoint": Target("tests.fuzz.checkpoint", 5_000_000),
    "frames": Target("tests.fuzz.frames", 1_000_000),
    "combine": Target("tests.fuzz.combine", 1_000_000),
    "descriptor": Target("tests.fuzz.descriptor", 1_000_000),
    "differential": Target("tests.fuzz.differential", 500_000),
}
PLANTED = {"planted": Target("tests.fuzz.planted", 0, "tests")}  # a bug on purpose: the smoke test must see it found
