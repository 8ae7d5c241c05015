"""Rules in words."""

import pytest

from console.rules import rule_words
from tests.fakes.rules import address, policy, rule

VOTES = {"any_of": [{"group": "ops", "threshold": 2}, {"group": "security", "threshold": 1}]}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (rule("a", "allow", {"amount": {"max_sats": 500_000_000}}), "amount up to 5.00000000 BTC"),
        (
            rule("b", "require", {"amount": {"min_sats": 10_000_000}}, {"approvals": {"group": "ops", "threshold": 2}}),
            "amount from 0.10000000 BTC: needs 2 of group ops",
        ),
        (rule("c", "require", {}, {"signers": {"min_offline": 1}}), "always: 1 offline node(s) sign first"),
        (rule("d", "require", {}, {"approvals": VOTES}), "always: needs (2 of group ops or 1 of group security)"),
        (
            rule("e", "limit", {"payments": "none"}, {"window": "day", "max_fee_sats": 500_000, "on_exceed": "deny"}),
            "nobody is paid: at most 0.00500000 BTC in fees in window day; beyond it denied",
        ),
        (rule("f", "deny", {"wallet": {"names": ["vault"]}}), "wallet names vault"),
    ],
)
def test_rule_words_say_when_and_what(given: dict[str, object], words: str) -> None:
    """Amounts in BTC, people by group, windows by name."""
    (found,) = policy(given).rules
    assert rule_words(found) == words


def test_rule_words_of_every_matcher_name_their_values() -> None:
    """What has no words of its own is told field by field."""
    (found,) = policy(
        rule("g", "deny", {"destination": {"addresses": [address(11)]}, "time": {"days": ["sat", "sun"]}})
    ).rules
    assert "destination scripts 0020" in rule_words(found)
    assert "time days 5|6" in rule_words(found)
