"""docs/security.md lists every attack once and claims no test that is not there."""

from pathlib import Path

from tests.security_doc import DOCUMENT, NO_REASON, attack_tests, rows, updated

LAST_ATTACK = 135
TEXT = DOCUMENT.read_text(encoding="utf-8")


def test_document_lists_every_attack_once_in_order() -> None:
    """ATK-001 to ATK-135 each have exactly one row."""
    assert [number for number, _, _ in rows(TEXT)] == list(range(1, LAST_ATTACK + 1))
    assert TEXT.count("| ATK-") == LAST_ATTACK


def test_document_says_covered_or_why_not() -> None:
    """Every row names its tests or gives a reason; nothing is left open."""
    for number, _, state in rows(TEXT):
        assert state.startswith(("covered: `test_atk_", "not yet: ")), number
        assert state != NO_REASON, number


def test_document_claims_the_tests_that_exist() -> None:
    """What is covered, and by what, is what stands in tests/attacks/.

    When this fails after a test was added: `.venv/bin/python -m tests.security_doc`.
    """
    assert updated(TEXT, attack_tests()) == TEXT


def test_attack_tests_belong_to_the_corpus() -> None:
    """No test bears the number of an attack that is not in the document."""
    assert set(attack_tests()) <= set(range(1, LAST_ATTACK + 1))


def test_updated_given_a_new_test_and_a_lost_one_changes_both_rows(tmp_path: Path) -> None:
    """A row gains the test that was written and loses the one that is gone; words stay."""
    (tmp_path / "test_attacks.py").write_text("async def test_atk_001_lie_refused(x: int) -> None: ...\n")
    text = "| ATK-001 | a lie | not yet: being built |\n| ATK-002 | another | covered: `test_atk_002_x` |\n"

    after = rows(updated(text, attack_tests(tmp_path)))

    assert after == [(1, "a lie", "covered: `test_atk_001_lie_refused`"), (2, "another", NO_REASON)]
