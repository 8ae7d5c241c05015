"""Fuzz one target in this process: `python -m tests.fuzz.run TARGET CORPUS [libFuzzer's flags]`.

Ends as libFuzzer does: 0 after its runs, another code where a promise broke, with the traceback and the input's file.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import cast

import atheris

from tests.fuzz.target import MAX_INPUT_BYTES, PLANTED, TARGETS, TargetModule

# What every parser calls for every few bytes: counting its few branches would take half of all time.
NOT_INSTRUMENTED = ("custody.reader", "custody.curve", "custody.errors")


def main(arguments: Sequence[str]) -> None:
    """Import the target under instrumentation, write its seeds where the corpus is empty, and run."""
    name, corpus, *flags = arguments
    target = (TARGETS | PLANTED)[name]
    with atheris.instrument_imports(include=[target.package], exclude=list(NOT_INSTRUMENTED)):
        module = cast(TargetModule, importlib.import_module(target.module))
    folder = Path(corpus)
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        for number, seed in enumerate(module.seeds()):
            (folder / f"seed-{number:04}").write_bytes(seed)

    def mutate(raw: bytes, max_size: int, seed: int) -> bytes:
        return module.mutate(raw, Random(seed), _mutate_bytes)[:max_size]  # noqa: S311  # repeatable, not secret

    atheris.Setup([name, f"-max_len={MAX_INPUT_BYTES}", *flags, corpus], module.check, custom_mutator=mutate)
    atheris.Fuzz()


def _mutate_bytes(raw: bytes) -> bytes:
    """Return `raw` as libFuzzer changes it: bits, bytes, splices, and values that comparisons asked for."""
    return bytes(atheris.Mutate(raw, max(len(raw) + 64, 8)))


if __name__ == "__main__":
    main(sys.argv[1:])
