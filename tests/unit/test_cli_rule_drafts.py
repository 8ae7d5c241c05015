"""policy lint, show and explain of a file: YAML and JSON alike, and exit codes that scripts can act on."""

import json
from pathlib import Path

import pytest

from console.policy.text import write_text
from custody.policy import policy_hash
from tests.desk import keyturn
from tests.fakes.rules import PAY, document, rule

KEEP = rule("keep", "allow", {"payments": "none", "fee": {"max_sats": 9_000}})
WHOLE = document(PAY, rule("hush", "deny", {"not": {"session": {"factors": ["otp"]}}}))


@pytest.fixture(params=["yaml", "json"])
def draft(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A document in a file of either kind, on a machine without settings."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / f"rules.{request.param}"
    path.write_text(write_text(WHOLE) if request.param == "yaml" else json.dumps(WHOLE, indent=1))
    return path


def test_lint_given_findings_exits_with_3_and_names_them(draft: Path) -> None:
    """A pipeline stops on what lint finds."""
    ran = keyturn("policy", "lint", str(draft), "-o", "json")

    assert ran.code == 3
    assert [(f["code"], f["where"]) for f in ran.json["findings"]] == [("COORDINATOR_ONLY", "hush")]
    assert ran.json["policy_hash"] == policy_hash(WHOLE).hex()
    assert "No genesis is pinned here" in ran.err


def test_lint_given_a_sound_document_exits_with_0(draft: Path) -> None:
    """Nothing to say is success."""
    draft.write_text(write_text(document(PAY)))

    ran = keyturn("policy", "lint", str(draft))

    assert (ran.code, "nothing to say" in ran.out) == (0, True)


def test_lint_given_a_slip_says_file_line_and_column(draft: Path) -> None:
    """An editor can jump there."""
    draft.write_text(write_text(document(PAY, rule("r", "deny", {"moon": 1}))))

    ran = keyturn("policy", "lint", str(draft))

    line = draft.read_text().splitlines().index("    moon: 1") + 1
    assert ran.code == 2
    assert f"FIELD_UNKNOWN: {draft.name}:{line}:5: policy.rules[1].match: found unknown field 'moon'" in ran.err


def test_explain_given_a_file_says_where_each_rule_gets_its_facts(draft: Path) -> None:
    """What signers judge, and what they skip."""
    ran = keyturn("policy", "explain", str(draft), "-o", "json")

    assert [(r["id"], r["evidence"]) for r in ran.json["rules"]] == [
        ("pay", "bytes, signed"),
        ("hush", "the coordinator alone (session)"),
    ]


def test_show_given_a_file_says_it_in_words_as_yaml_and_as_json(draft: Path) -> None:
    """All three are the same document."""
    words = keyturn("policy", "show", str(draft))
    as_yaml = keyturn("policy", "show", str(draft), "--yaml", "-o", "json")
    as_json = keyturn("policy", "show", str(draft), "--document")

    assert "rules      treasury version 1" in words.out
    assert as_yaml.json["yaml"] == write_text(WHOLE)
    assert json.loads(as_json.out) == {"rules": WHOLE}


def test_draft_given_bytes_that_are_no_text_is_refused(draft: Path) -> None:
    """A file of another kind is not guessed at."""
    draft.write_bytes(b"\xff\xfe")

    assert "YAML_ENCODING" in keyturn("policy", "lint", str(draft)).err
