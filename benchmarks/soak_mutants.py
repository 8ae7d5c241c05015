"""Change the code a little, thousands of times; see whether tests notice: `python3 dev.py soak mutants [GROUP ...]`.

Each group of modules has tests that must fail for at least 90 % of its mutants: mutmut makes them in a copy of this
tree outside of it, `benchmarks._mutant_runs` runs them; `--every N` only each N-th of a module. Without a GROUP: psbt,
facts, signatures. docs/mutation.md is written anew: the figures, and every survivor with the reason that stood beside
it there, or `OPEN` where nobody has judged it yet. `--json` prints one line for machines. Exit 0: all groups reach
90 %; 1: some do not; 2: could not measure.

mutmut changes what functions do, not decorated ones (properties, `@contextmanager`), nor what a module does when it is
loaded. A mutant that no test runs counts as a survivor; one that never ends counts as noticed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from ast import FunctionDef, parse, unparse, walk
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks._measure import Goal, report

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "mutation.md"
TARGET_PERCENT = 90
FOLDERS = ("console", "coordinator", "custody", "deploy", "docs", "signer_node", "tests")  # what tests import or read
OPEN = "OPEN: not judged yet"
NEAR = 30  # characters: enough to find the place in its function
# Tests of speed fail for mutants that do nothing wrong: mutmut's detours and a busy machine slow every mutant down.
TIMED = ("derives_few_of_them", "as_fast_with_one_input")
KILLED, TIMED_OUT, NO_TESTS = "killed", "timed out", "not run by any test"
_OUTCOMES = {1: KILLED, 33: NO_TESTS, 24: TIMED_OUT, 9: TIMED_OUT, 14: TIMED_OUT}  # signals: too long, by either clock
STATS, NO_MUTANT = "mutmut-stats.json", "no.mutant.of.this.name"
_SURVIVOR = re.compile(r"- (?P<mutant>.+``)\. (?P<reason>.+)")


@dataclass(frozen=True, slots=True)
class Group:
    """Modules that are changed, and the tests that must notice. Both are paths or globs of the tree."""

    name: str
    sources: tuple[str, ...]
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the mutants of a group. survivors: "module.function: ``before`` became ``after``" each.

    of: how many there are; fewer are run where each n-th is.
    """

    group: str
    mutants: int
    of: int
    killed: int
    timed_out: int
    survivors: tuple[str, ...]
    seconds: int

    @property
    def percent(self) -> float:
        """How many of a hundred were noticed."""
        return 100 * (self.killed + self.timed_out) / self.mutants


# What a decision is told and what it counts is seen by its matchers and budgets, so those tests are of both groups.
_DECISION_TESTS = (
    "tests/unit/test_decide*.py",
    "tests/unit/test_policy_budgets.py",
    "tests/unit/test_policy_match.py",
    "tests/unit/test_policy_reasons.py",
)


def _policy(*modules: str) -> tuple[str, ...]:
    return tuple(f"custody/policy/{module}.py" for module in modules)


def _tests(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/unit/test_policy_{name}.py" for name in names)


GROUPS = {
    group.name: group
    for group in (
        Group(
            "psbt",
            ("custody/psbt.py", "custody/psbt_fields.py", "custody/psbt_v2.py", "custody/psbt_skim.py"),
            ("tests/unit/test_psbt_*.py",),
        ),
        Group(
            "facts",
            ("custody/facts.py", "custody/claims.py"),
            ("tests/unit/test_facts*.py",),
        ),
        Group(
            "signatures",
            ("custody/signatures.py", "custody/sighash.py", "custody/finalise.py", "custody/updater.py"),
            ("tests/unit/test_signatures*.py", "tests/unit/test_sighash.py"),
        ),
        Group(
            "policy_judging",
            _policy("evaluate", "match", "budgets", "votes", "duties", "subject", "terms"),
            _DECISION_TESTS,
        ),
        Group(
            "policy_reading",
            _policy("__init__", "document", "parse", "parse_match", "parse_rules", "words"),
            (*_tests("parse", "whole", "words", "text"), "tests/unit/test_credentials.py"),
        ),
        Group(
            "policy_diff",
            _policy("diff", "diff_people", "diff_rules", "change", "implies", "referred"),
            _tests("diff", "diff_words", "implies"),
        ),
        Group(
            "policy_review",
            _policy("lint", "dead", "places", "finding", "explain", "simulate"),
            _tests("lint", "lint_words", "simulate", "reasons"),
        ),
        Group("decide", ("custody/decide.py",), _DECISION_TESTS),
        Group(
            "approval",
            ("custody/approval.py", "custody/people.py"),
            ("tests/unit/test_approval*.py", "tests/unit/test_people.py", "tests/unit/test_credentials.py"),
        ),
    )
}
USUAL = ("psbt", "facts", "signatures")


def _read(arguments: Sequence[str]) -> tuple[int, list[str]]:
    """Return what --every says, and the groups."""
    words = [argument for argument in arguments if argument != "--json"]
    every = 1
    if "--every" in words:
        at = words.index("--every")
        every = int(words[at + 1])
        del words[at : at + 2]
    return every, words or list(USUAL)


def main(arguments: Sequence[str]) -> int:
    """Run the groups one after another; print a line for each, write the page, return the exit code."""
    every, names = _read(arguments)
    if unknown := [name for name in names if name not in GROUPS]:
        print(f"no such group: {', '.join(unknown)}. There are: {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    outcomes = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            outcome = run_group(GROUPS[name], Path(folder), every)
        if outcome is None:
            return 2
        print(line_of(outcome), file=sys.stderr, flush=True)
        outcomes.append(outcome)
        PAGE.write_text(page([outcome], PAGE.read_text() if PAGE.is_file() else ""))  # now: what follows may be stopped
    goals = [Goal(f"{found.group}: mutants noticed, in %", found.percent, f">= {TARGET_PERCENT}") for found in outcomes]
    return report("mutants", goals, as_json="--json" in arguments)


def run_group(group: Group, folder: Path, every: int) -> Outcome | None:
    """Make and run each `every`-th mutant of `group` in `folder`; None, and why on stderr, where that failed."""
    began = time.monotonic()
    copy_tree(group, folder)
    # mutmut has no command that only makes mutants and notes which tests reach each function; a name that no mutant
    # bears ends it after that.
    made = _run([str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", "1", NO_MUTANT], folder)
    if not (folder / "mutants" / STATS).is_file():
        print(made.stdout[-4_000:], made.stderr[-4_000:], file=sys.stderr)
        return None
    total = len(dict(read_outcomes(folder)))
    runs = [sys.executable, str(Path(__file__).with_name("_mutant_runs.py")), str(every)]
    done = _run([*runs, *tests_of(group)], folder / "mutants")
    found = dict(read_outcomes(folder))
    if done.returncode != 0 or not found or None in found.values():
        print(done.stdout[-4_000:], done.stderr[-4_000:], file=sys.stderr)
        return None
    counted = Counter(found.values())
    killed, timed_out = counted[KILLED], counted[TIMED_OUT]
    alive = [name for name, outcome in found.items() if outcome not in (KILLED, TIMED_OUT)]
    seconds = round(time.monotonic() - began)
    return Outcome(group.name, len(found), total, killed, timed_out, tuple(sorted(told(folder, alive))), seconds)


def _run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `command` in `folder`, whose modules it imports."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # else: the real tree
    environment |= {"PYTHONPATH": str(folder)} if folder.name == "mutants" else {}
    return subprocess.run(  # noqa: S603  # our own tools
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def tests_of(group: Group) -> list[str]:
    """Return pytest's arguments that select the tests of `group`."""
    paths = sorted(str(path.relative_to(ROOT)) for pattern in group.tests for path in ROOT.glob(pattern))
    return [*paths, "-k", f"not ({' or '.join(TIMED)})", "-W", "ignore"]


def copy_tree(group: Group, folder: Path) -> None:
    """Copy what the tests of `group` need into `folder`, with the configuration that mutmut reads there."""
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    settings: dict[str, Sequence[str]] = {
        "source_paths": ["custody"],
        "only_mutate": group.sources,
        "also_copy": [name for name in FOLDERS if name != "custody"],
        "pytest_add_cli_args_test_selection": tests_of(group),
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    written = (ROOT / "pyproject.toml").read_text() + "\n[tool.mutmut]\n" + "\n".join(lines) + "\n"
    (folder / "pyproject.toml").write_text(written)


def read_outcomes(folder: Path) -> Iterator[tuple[str, str | None]]:
    """Yield each mutant's name and what became of it; None where it was not run."""
    for path in sorted((folder / "mutants" / "custody").rglob("*.meta")):
        for name, code in json.loads(path.read_text())["exit_code_by_key"].items():
            yield name, None if code is None else _OUTCOMES.get(abs(code), "survived")


def told(folder: Path, names: Iterable[str]) -> Iterator[str]:
    """Yield, for each mutant of `names`, the function it is in and the lines that differ."""
    bodies: dict[str, dict[str, str]] = {}
    for name in names:
        module, _, mutant = name.rpartition(".")
        if module not in bodies:
            bodies[module] = bodies_of(folder / "mutants" / module_path(folder, module))
        original = mutant.partition("__mutmut_")[0]
        before, after = bodies[module][f"{original}__mutmut_orig"], bodies[module][mutant]
        removed, added = differing(before, after)
        function = original.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
        yield f"{module}.{function}: ``{removed}`` became ``{added}``"


def differing(before: str, after: str) -> tuple[str, str]:
    """Return where two texts differ, with `NEAR` more characters of each around it, in one line."""
    start = same_beginning(before, after)
    end = same_beginning(before[start:][::-1], after[start:][::-1])
    removed, added = (" ".join(text[max(0, start - NEAR) : len(text) - end + NEAR].split()) for text in (before, after))
    return removed, added


def same_beginning(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def module_path(folder: Path, module: str) -> str:
    """Return the path of `module`, which may be a package."""
    path = module.replace(".", "/")
    return f"{path}/__init__.py" if (folder / path).is_dir() else f"{path}.py"


def bodies_of(path: Path) -> dict[str, str]:
    """Return the text of each function of a module that mutmut wrote, without its name."""
    functions = [node for node in walk(parse(path.read_text())) if isinstance(node, FunctionDef)]
    return {node.name: unparse(node).replace(node.name, "", 1) for node in functions if "__mutmut_" in node.name}


def line_of(found: Outcome) -> str:
    """Return the figures of one group as a row of the page's table."""
    mutants = str(found.mutants) if found.mutants == found.of else f"{found.mutants} of {found.of}"
    figures = (mutants, found.killed, found.timed_out, len(found.survivors), f"{found.percent:.1f} %")
    return f"| {found.group} | {' | '.join(map(str, figures))} | {found.seconds} |"


def page(outcomes: Sequence[Outcome], old: str) -> str:
    """Return docs/mutation.md: groups that were not run stay as they stand in `old`, and so do reasons."""
    rows = {match["name"]: match[0] for match in re.finditer(r"^\| (?P<name>\w+) \| \d.*$", old, re.MULTILINE)}
    sections = {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in old.split("\n## ")[1:]}
    reasons = {match["mutant"]: match["reason"] for match in map(_SURVIVOR.fullmatch, old.splitlines()) if match}
    for found in outcomes:
        rows[found.group] = line_of(found)
        sections[found.group] = survivors_of(found, reasons)
    names = [name for name in GROUPS if name in rows]
    head = [
        "# Mutation tests",
        "",
        "Made by `python3 dev.py soak mutants [GROUP ...]`, which says in its own text what is counted. Each survivor",
        "stands here with the reason why it may live; a reason is written by hand and kept by the next run. Where it",
        "says n of m, only each so many-th mutant of a module was run (`--every`), evenly over all of its functions.",
        "",
        "| Group | Mutants | Killed | Timed out | Survived | Noticed | Seconds |",
        "|---|---|---|---|---|---|---|",
        *(rows[name] for name in names),
    ]
    parts = ["\n".join(head), *(f"## {name}\n\n{sections.get(name, '')}".strip() for name in names)]
    return "\n\n".join(parts) + "\n"


def survivors_of(found: Outcome, reasons: Mapping[str, str]) -> str:
    """Return the list of survivors of one group, each with its reason."""
    modules = ", ".join(f"`{source}`" for source in GROUPS[found.group].sources)
    listed = [f"- {mutant}. {reasons.get(mutant, OPEN)}" for mutant in found.survivors]
    return f"{modules}\n\n" + ("\n".join(listed) or "None survived.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
