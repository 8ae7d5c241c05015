"""The manual of the language: every example parses, and every field stands in one."""

import re
from pathlib import Path
from typing import Any

import pytest

from console.policy.text import read_value
from custody.policy import policy_hash
from custody.policy.duties import GroupBy, Measure
from custody.policy.parse_match import _READERS
from custody.policy.terms import MessageFormat, Operation
from tests.fakes.rules import document, policy

MANUAL = (Path(__file__).parents[2] / "docs" / "policy-language.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", MANUAL, re.DOTALL)
FIELDS = (
    *_READERS,
    *("min_confirmations", "payments", "not", "any_of", "all_of"),
    *("names", "classes", "users", "groups", "services", "lists", "addresses", "class", "quantifier", "script_types"),
    *("op_return", "min_sats", "max_sats", "per_output_max_sats", "include_fee", "max_sat_vb", "min_sat_vb"),
    *("max_pct_of_amount", "max_inputs", "max_outputs", "max_vbytes", "outpoints", "kinds", "max_fee_increase"),
    *("formats", "max_len", "days", "hours", "zone", "factors", "ip_cidrs", "cert_role", "max_pct", "max_lag_blocks"),
    *("group", "service", "threshold", "seen", "blind", "lifetime_s", "distinct_orgs", "device_bound", "stages"),
    *("exclude_initiator", "delay", "seconds", "veto", "signers", "include", "exclude", "min_offline", "local_conf"),
    *("window", "group_by", "on_exceed", "reason_code", "not_before", "expires_at", "operations", "mode"),
    *(group.value for group in GroupBy),
    *(measure.value for measure in Measure),
    *(operation.value for operation in Operation),
    *(message.value for message in MessageFormat),
)


@pytest.mark.parametrize("block", BLOCKS)
def test_manual_given_each_example_parses_as_rules(block: str) -> None:
    """What the manual shows is what the parser takes."""
    rules, _ = read_value(block, "policy-language.md")
    changes: dict[str, Any] = {"rules": rules}

    assert policy(**changes).hash == policy_hash(document(**changes))


@pytest.mark.parametrize("field", sorted(set(FIELDS)))
def test_manual_names_every_field(field: str) -> None:
    """A field without an entry is a field that nobody finds."""
    assert re.search(rf"\b{field}\b", MANUAL)
