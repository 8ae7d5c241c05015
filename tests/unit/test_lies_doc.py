"""docs/hostile-coordinator.md says what the suite of lies says."""

from __future__ import annotations

from tests.lies.table import CHAPTERS, LIES
from tests.lies_doc import DOCUMENT, document


def test_lies_document_when_read_is_what_the_suite_says() -> None:
    """`.venv/bin/python -m tests.lies_doc` brings it up to date."""
    assert DOCUMENT.read_text(encoding="utf-8") == document()


def test_lies_when_counted_are_many_and_have_names_of_their_own() -> None:
    """Each is one builder with a docstring, a sentence and a code; no two share a name."""
    told = [lie for lies in CHAPTERS.values() for lie in lies]

    assert len(told) == len(LIES) >= 60
    assert all(lie.meaning and lie.sentence and lie.code for lie in told)
