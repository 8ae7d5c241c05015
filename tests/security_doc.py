"""Bring docs/security.md up to date: which attack is covered by which test.

`.venv/bin/python -m tests.security_doc` rewrites the last column only: an attack with a test
`test_atk_NNN_...` in tests/attacks/ is covered by it; one without keeps the reason that stands in the document.
The words of an attack and of a reason are written by hand, in the document.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "security.md"
ATTACKS = ROOT / "tests" / "attacks"

NO_REASON = "not yet: its test is gone"
_ROW = re.compile(r"^\| ATK-(\d{3}) \| ([^|]+) \| ([^|]+) \|$", flags=re.MULTILINE)
_TEST = re.compile(r"^ *(?:async )?def (test_atk_(\d{3})_\w+)\(", flags=re.MULTILINE)


def rows(text: str) -> list[tuple[int, str, str]]:
    """Return (number, attack, state) of every row of the document `text`, in its order."""
    return [(int(number), attack, state) for number, attack, state in _ROW.findall(text)]


def attack_tests(folder: Path = ATTACKS) -> dict[int, list[str]]:
    """Return number -> names of its tests, sorted, for every attack that has a test in `folder`."""
    found: dict[int, list[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        for name, number in _TEST.findall(path.read_text(encoding="utf-8")):
            found.setdefault(int(number), []).append(name)
    return {number: sorted(names) for number, names in found.items()}


def state_of(tests: list[str], written: str) -> str:
    """Return the state of an attack: covered by `tests`, or the reason that is `written` so far."""
    if tests:
        return "covered: " + ", ".join(f"`{name}`" for name in tests)
    return NO_REASON if written.startswith("covered") else written


def updated(text: str, tests: dict[int, list[str]]) -> str:
    """Return the document `text` with the state of every row as `tests` say."""

    def row(match: re.Match[str]) -> str:
        number, attack, state = match.groups()
        return f"| ATK-{number} | {attack} | {state_of(tests.get(int(number), []), state)} |"

    return _ROW.sub(row, text)


if __name__ == "__main__":
    DOCUMENT.write_text(updated(DOCUMENT.read_text(encoding="utf-8"), attack_tests()), encoding="utf-8")
