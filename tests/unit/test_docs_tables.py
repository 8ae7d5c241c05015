"""Tables that say which test shows a sentence name tests that exist."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = frozenset(
    name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
)
FILES = frozenset(str(path.relative_to(ROOT / "tests").with_suffix("")) for path in (ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("document", ["docs/audit.md"])
def test_document_names_tests_that_exist(document: str) -> None:
    """Every `test_name`, with * for the rest of a name, and every `directory/test_file`."""
    rows = [line for line in (ROOT / document).read_text().splitlines() if line.startswith("|")]
    named = {word for row in rows for word in re.findall(r"`([\w/*]*test_[\w*]+)`", row)}

    lost = {
        word
        for word in named
        if word not in FILES and not any(fnmatchcase(name, word.removeprefix("test/")) for name in NAMES)
    }

    assert len(named) > 60
    assert not lost
