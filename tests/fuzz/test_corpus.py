"""Every target over its seeds and over a few mutants of each, without the fuzzer: the promises, in a second."""

from __future__ import annotations

import importlib
from random import Random
from typing import cast

import pytest

from tests.fuzz.target import TARGETS, TargetModule

MUTANTS = 4


def module_of(name: str) -> TargetModule:
    """Return the module of a target."""
    return cast(TargetModule, importlib.import_module(TARGETS[name].module))


@pytest.mark.parametrize("name", TARGETS)
def test_check_given_seeds_and_mutants_of_them_keeps_its_promises(name: str) -> None:
    """Nothing but listed refusals comes out of what was written to be read, nor out of what is one change away."""
    target, random = module_of(name), Random(7)  # noqa: S311  # repeatable, not secret

    def mutate_bytes(raw: bytes) -> bytes:
        at = random.randrange(len(raw) + 1)
        return raw[:at] + random.randbytes(random.randrange(3)) + raw[at + random.randrange(3) :]

    seeds = list(target.seeds())
    for raw in seeds:
        target.check(raw)
        for _ in range(MUTANTS):
            target.check(target.mutate(raw, random, mutate_bytes))
    assert len(seeds) >= 5
