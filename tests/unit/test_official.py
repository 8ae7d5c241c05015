"""Every official vector has the outcome that is pinned for it, and docs/vectors.md says so."""

from __future__ import annotations

import json

import pytest

from tests.official import MUST_BE_REFUSED, OK, SETS, WRONG
from tests.vectors_doc import DOCUMENT, PINNED, document, wrong

STANDS: dict[str, list[str]] = json.loads(PINNED.read_text(encoding="utf-8"))
LISTS = [f"{name}, {part}" for name, (_, parts) in SETS.items() for part in parts]


@pytest.mark.parametrize("name", LISTS)
def test_vectors_given_a_list_have_the_outcomes_that_are_pinned(name: str) -> None:
    """Each single vector, in order: taken exactly, or refused by its code."""
    group, _, part = name.rpartition(", ")

    assert SETS[group][0](part) == STANDS[name]


def test_pinned_outcomes_take_nothing_broken_and_explain_each_refusal() -> None:
    """A pin cannot excuse a broken vector that is taken, a valid one that is misread, or one refused without reason."""
    assert list(STANDS) == LISTS
    assert wrong(STANDS) == []


@pytest.mark.parametrize(
    ("name", "outcome"), [("BIP-174, invalid", OK), ("BIP-371, valid", "KEY_LENGTH"), ("BIP-350, valid", WRONG)]
)
def test_wrong_given_one_outcome_that_may_not_be_names_its_list(name: str, outcome: str) -> None:
    """The check above can fail."""
    assert wrong({**STANDS, name: [outcome, *STANDS[name][1:]]}) == [name]


def test_document_counts_what_is_pinned() -> None:
    """docs/vectors.md is made of the pins; `.venv/bin/python -m tests.vectors_doc` makes both."""
    assert DOCUMENT.read_text(encoding="utf-8") == document(STANDS)
    assert set(MUST_BE_REFUSED) <= {name.rpartition(", ")[2] for name in LISTS}
