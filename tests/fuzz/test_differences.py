"""The reviewed list of differences: every row has an example that needs it, and no example needs another one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from custody.psbt import parse
from tests.fuzz import differences, differential
from tests.fuzz.parse import CODES
from tests.fuzz.refusal import attempt

EXAMPLES = [bytes.fromhex(text) for text in json.loads(Path(__file__).with_name("differences.json").read_text())]
ROWS = [(table, row) for table in ("STRICTER", "LOOSER", "REWRITES") for row in range(len(getattr(differences, table)))]


def unreviewed(raw: bytes) -> list[str]:
    """Return the differences that the list does not explain."""
    return list(differential.differences(raw, attempt(lambda: parse(raw), CODES, len(raw))))


@pytest.mark.parametrize("raw", EXAMPLES, ids=range(len(EXAMPLES)))
def test_differences_given_an_example_explains_every_one(raw: bytes) -> None:
    """The whole list has a reason for all that the other two readers see in another way."""
    assert unreviewed(raw) == []


@pytest.mark.parametrize(("table", "at"), ROWS)
def test_differences_without_one_row_leaves_an_example_unexplained(
    table: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row is dead, and none excuses what another one is for."""
    rows = getattr(differences, table)

    monkeypatch.setattr(differences, table, rows[:at] + rows[at + 1 :])

    assert any(unreviewed(raw) for raw in EXAMPLES), rows[at].reason


def test_document_lists_every_reason() -> None:
    """docs/fuzzing.md is where people read the list."""
    document = (Path(__file__).resolve().parents[2] / "docs/fuzzing.md").read_text()

    reasons = {
        differences.BEHIND_REASON,
        differences.TWO_WAYS_REASON,
        *(getattr(differences, table)[at].reason for table, at in ROWS),
    }

    assert [reason for reason in reasons if f" {reason} |" not in document] == []
