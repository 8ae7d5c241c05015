"""Write docs/hostile-coordinator.md: every lie of the suite, the sentence that it breaks, and what signers say.

`.venv/bin/python -m tests.lies_doc` writes it anew; tests/unit/test_lies_doc.py holds it to the code.
"""

from __future__ import annotations

from pathlib import Path

from tests.lies.table import CHAPTERS, LIES

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "hostile-coordinator.md"
HEAD = """# What a hostile coordinator may say, and what signers answer

Made by `.venv/bin/python -m tests.lies_doc` from the suite itself; a test holds it to the code.

The log key and every key of the coordinator are in hostile hands; people's keys, the witness's and the signers' are
not. Each lie is one change to a story that a signer would have believed. It is told to a node over every backend (a
sealed file, Vault KV, Vault Transit, the engine inside the vault), and to the engine past its node. Each time the
answer is the code below, the node's files but the followed log stay as they are, and no request reaches the vault:
`tests/contracts/test_hostile_coordinator.py`. {count} lies. `BEHIND` is no refusal: a node that lacks entries says how
many it has, and signs nothing. ATK numbers are those of [security.md](security.md).
"""


def document() -> str:
    """Return the document."""
    parts = [HEAD.format(count=len(LIES))]
    for chapter, lies in CHAPTERS.items():
        rows = [f"\n## {chapter}\n", "| lie | what it breaks | code | attacks |", "|---|---|---|---|"]
        for lie in lies:
            attacks = ", ".join(f"ATK-{number:03}" for number in lie.attacks)
            rows.append(f"| {_cell(lie.meaning)} | {_cell(lie.sentence)} | `{lie.code}` | {attacks} |")
        parts.append("\n".join(rows) + "\n")
    return "".join(parts)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
