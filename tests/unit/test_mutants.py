"""The groups of mutation runs: what must be measured is in one of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmarks.soak_mutants import GROUPS

ROOT = Path(__file__).resolve().parents[2]


def test_groups_given_every_module_of_the_rules_have_each_once() -> None:
    """A module that nobody put into a group would never be measured; nor would one whose tests are gone."""
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "custody" / "policy").glob("*.py")}
    grouped = Counter(source for group in GROUPS.values() for source in group.sources)

    assert {source for source in grouped if source.startswith("custody/policy/")} == modules
    assert set(grouped.values()) == {1}
    for group in GROUPS.values():
        assert all(any(ROOT.glob(pattern)) for pattern in (*group.sources, *group.tests)), group.name
