"""YAML of rules: the same value and hash back, and every refusal by code, line and column."""

from __future__ import annotations

import json

import pytest

from console.policy.lookalikes import skeleton
from console.policy.text import parse_written, read_text, write_text
from custody.canonical import encode
from custody.errors import MalformedError
from custody.policy import parse_policy, policy_hash
from tests.fakes.rules import PAY, document, list_entry, rule

RULES = (
    PAY,
    rule("no", "deny", {"not": {"fee": {"max_pct_of_amount": 1}}}, reason_code="FEE_TOO_HIGH", description="no: 1e3"),
    rule("two", "require", {"amount": {"min_sats": 1}}, {"approvals": {"group": "ops", "threshold": 2}}),
)


def refused(text: str) -> tuple[str, str]:
    """Return the code and the place of the refusal of `text`."""
    with pytest.raises(MalformedError) as raised:
        parse_written(read_text(text, "rules.yaml"))
    return raised.value.code, ":".join(raised.value.message.split(":")[1:3])


def test_text_given_a_document_round_trips_to_the_same_bytes_and_hash() -> None:
    """YAML -> JSON -> hash is what JSON alone gives."""
    whole = document(*RULES, lists=[{"name": "no", "entries": [list_entry(11, label="Ja: \u00fc # 'x' 0x1")]}])

    written = read_text(write_text(whole), "rules.yaml")

    assert encode(written.value) == encode(whole)
    assert policy_hash(written.value) == policy_hash(whole)
    assert parse_written(written).hash == parse_policy(whole).hash


def test_text_given_json_reads_the_same() -> None:
    """JSON is YAML, indented or not."""
    whole = document(*RULES)

    for text in (json.dumps(whole), json.dumps(whole, indent=2), encode(whole).decode()):
        assert parse_written(read_text(text, "rules.json")).hash == policy_hash(whole)


def test_text_given_flow_and_comments_reads_what_people_write() -> None:
    """The form of the manual: one rule on a line."""
    text = "a: {names: [treasury, hot], max: 500000000, open: true}  # ours\nb: 'yes'\nc: \"12\"\nd: -3\n"

    assert read_text(text, "x").value == {
        "a": {"names": ["treasury", "hot"], "max": 500_000_000, "open": True},
        "b": "yes",
        "c": "12",
        "d": -3,
    }


REFUSED: dict[str, tuple[str, str, str]] = {
    "a duplicate key": ("a: 1\nb: 2\na: 3\n", "YAML_DUPLICATE_KEY", "3:1"),
    "a duplicate key inside": ("a:\n  b: 1\n  b: 2\n", "YAML_DUPLICATE_KEY", "3:3"),
    "a float": ("a: 1.5\n", "YAML_AMBIGUOUS", "1:4"),
    "an exponent": ("a: 1e3\n", "YAML_AMBIGUOUS", "1:4"),
    "not a number": ("a: .nan\n", "YAML_AMBIGUOUS", "1:4"),
    "infinity": ("a: [1, -.inf]\n", "YAML_AMBIGUOUS", "1:8"),
    "null": ("a: null\n", "YAML_AMBIGUOUS", "1:4"),
    "a tilde": ("a: ~\n", "YAML_AMBIGUOUS", "1:4"),
    "nothing": ("a:\nb: 1\n", "YAML_AMBIGUOUS", "1:3"),
    "Norway": ("a: no\n", "YAML_AMBIGUOUS", "1:4"),
    "a loud truth": ("a: True\n", "YAML_AMBIGUOUS", "1:4"),
    "octal": ("a: 0123\n", "YAML_AMBIGUOUS", "1:4"),
    "hexadecimal": ("a: 0x10\n", "YAML_AMBIGUOUS", "1:4"),
    "underscores": ("a: 1_000\n", "YAML_AMBIGUOUS", "1:4"),
    "a comma": ("a: 1,000\n", "YAML_AMBIGUOUS", "1:4"),
    "base sixty": ("a: 1:30\n", "YAML_AMBIGUOUS", "1:4"),
    "a date": ("a: 2026-01-02\n", "YAML_AMBIGUOUS", "1:4"),
    "a plus": ("a: +1\n", "YAML_AMBIGUOUS", "1:4"),
    "a number beyond all": ("a: 123456789012345678\n", "YAML_NUMBER", "1:4"),
    "an anchor": ("a: &x 1\n", "YAML_ANCHOR", "1:4"),
    "an alias": ("a: 1\nb: *x\n", "YAML_ANCHOR", "2:4"),
    "a tag": ("a: !!str 1\n", "YAML_TAG", "1:4"),
    "a tag that runs": ("a: !!python/object:os.system x\n", "YAML_TAG", "1:4"),
    "a merge key": ("a:\n  <<: {b: 1}\n", "YAML_KEY", "2:3"),
    "a key of Cyrillic": ("a\u0430: 1\n", "YAML_KEY", "1:1"),
    "a key that is a list": ("? [a]\n: 1\n", "YAML_KEY", "1:3"),
    "two documents": ("a: 1\n---\nb: 1\n", "YAML_DOCUMENTS", "2:1"),
    "a directive": ("%YAML 1.1\n---\na: 1\n", "YAML_TAG", "1:1"),
    "a tab": ("a:\n\t- 1\n", "YAML_SYNTAX", "2:1"),
    "an open list": ("a: [1\n", "YAML_SYNTAX", "2:1"),
    "a control character": ("a: \x01\n", "YAML_SYNTAX", "1:1"),
    "a list at the top": ("- a\n", "YAML_EMPTY", "1:1"),
    "an empty file": ("", "YAML_EMPTY", "1:1"),
    "depth": ("a: " + "[" * 40 + "]" * 40, "YAML_SYNTAX", "1:35"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_text_given_one_slip_is_refused_with_line_and_column(name: str) -> None:
    """What YAML lets mean two things is refused, and said where."""
    text, code, place = REFUSED[name]

    assert refused(text) == (code, place)


def test_text_given_too_much_is_refused() -> None:
    """A file that no log could carry is not even parsed."""
    with pytest.raises(MalformedError, match="YAML_TOO_LARGE"):
        read_text("a" * (2 * 1024 * 1024 + 1), "x")


def line_of(text: str, needle: str) -> str:
    """Return the line (from 1) and column at which `needle` first stands."""
    before = text[: text.index(needle)]
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


@pytest.mark.parametrize(
    ("change", "code", "needle"),
    [
        (rule("r", "deny", {"moon": {"phase": 1}}), "FIELD_UNKNOWN", "moon:"),
        (rule("r", "deny", {"amount": {"max_sats": -1}}), "FIELD_RANGE", "max_sats: -1"),
        (rule("r", "deny", {"time": {"days": ["funday"]}}), "FIELD_RANGE", "funday"),
        (rule("r", "deny", {"any_of": [{"payments": "none"}, {"wallet": {}}]}), "POLICY_EMPTY_MATCHER", "wallet: {}"),
        (rule("r", "require", {}, {"approvals": {"all_of": [{"threshold": 77}]}}), "POLICY_VOTES", "threshold: 77"),
        (rule("r", "deny", {}, not_before=-77), "TIME_OUT_OF_RANGE", "not_before: -77"),
        (rule("r", "bypass", {}), "FIELD_RANGE", "kind: bypass"),
    ],
)
def test_parse_given_one_wrong_rule_says_where_it_stands(change: dict[str, object], code: str, needle: str) -> None:
    """The parser's own refusals point into the file."""
    text = write_text(document(PAY, change))

    assert refused(text) == (code, line_of(text, needle))


@pytest.mark.parametrize(
    ("change", "needle"),
    [
        ({"rules": [PAY, {**PAY, "id": "p4y"}, {**PAY, "id": "PAY"}]}, "id: PAY"),
        ({"rules": [{**PAY, "id": "pay-1"}, {**PAY, "id": "pay-l"}]}, "id: pay-l"),
        ({"rules": [{**PAY, "id": "p\u0430y"}]}, 'id: "p'),
        ({"windows": {"day-0": {"type": "lifetime"}, "day-o": {"type": "lifetime"}}}, "day-o:"),
        ({"lists": [{"name": "kraken", "entries": []}, {"name": "kra.ken", "entries": []}]}, "name: kra.ken"),
    ],
)
def test_text_given_ids_that_look_alike_refuses_the_second(change: dict[str, object], needle: str) -> None:
    """O and 0, l and 1, case, dashes and foreign letters: an eye takes them for one."""
    text = write_text(document(**change))

    assert refused(text) == ("YAML_LOOKALIKE", line_of(text, needle))


@pytest.mark.parametrize(
    ("one", "other"), [("0ps", "ops"), ("a11ce", "allce"), ("modern", "modem"), ("w-1", "W.l"), ("clear", "dear")]
)
def test_skeleton_given_look_alikes_is_the_same(one: str, other: str) -> None:
    """What an eye mixes up has one skeleton."""
    assert skeleton(one) == skeleton(other)
    assert skeleton("alice") != skeleton("alicia")
