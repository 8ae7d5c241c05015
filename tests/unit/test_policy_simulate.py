"""Simulation: each change of a draft shows on the releases it would have met, by its rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from custody.entries import Release
from custody.policy import Policy
from custody.policy.simulate import Change, Compared, PastRelease, Verdict, changes, simulate
from custody.wallet import Network, ScriptBook, make_wallet, parse_key
from custody.withdrawal import Withdrawal
from signer_node.seed import key_material
from tests.fakes.rules import (
    DAY,
    EXCHANGE,
    NOW,
    PAY,
    STRANGER,
    Document,
    approval,
    policy,
    release,
    rule,
    script,
    withdrawal,
)
from tests.world import bitcoin_seed

TWO = rule("two", "require", {"amount": {"min_sats": 60_000}}, {"approvals": {"group": "ops", "threshold": 1}})


def past(asked: Withdrawal, *people: str, t: int = NOW, **changes_: Any) -> PastRelease:
    """Return a release of `asked` with approvals by `people`."""
    return PastRelease(replace(release(asked), **changes_), t, asked, tuple(approval(asked, who) for who in people))


SMALL = past(withdrawal((EXCHANGE, 50_000), withdrawal_id="small"), t=NOW - 100)
LARGE = past(withdrawal((STRANGER, 90_000), withdrawal_id="large"), t=NOW - 50)
AGREED = past(withdrawal((EXCHANGE, 80_000), withdrawal_id="agreed"), "bob", t=NOW - 10)
HISTORY = (SMALL, LARGE, AGREED)


def told(*rules: Mapping[str, Any], now: Policy | None = None, since: int = 0) -> dict[str, Compared]:
    """Return what a draft of PAY and `rules` says of each release, by its id."""
    found = simulate(now or policy(), policy(PAY, *rules), HISTORY, {}, since)
    return {each.withdrawal_id: each for each in found}


DRAFTS: dict[str, tuple[Document, dict[str, tuple[Verdict, tuple[str, ...]]]]] = {
    "a deny of strangers": (
        rule("known", "deny", {"not": {"destination": {"lists": ["exchanges"]}}}),
        {"large": (Verdict.DENIED, ("known",))},
    ),
    "one more approval": (TWO, {"large": (Verdict.NEEDS, ("two",))}),
    "a budget that the third exceeds": (
        rule("cap", "limit", {}, {"window": "day", "max_sats": 150_000, "on_exceed": "deny"}),
        {"agreed": (Verdict.DENIED, ("cap",))},
    ),
    "a budget that asks": (
        rule(
            "cap",
            "limit",
            {},
            {"window": "day", "max_count": 1, "on_exceed": "require", "approvals": {"group": "ops", "threshold": 1}},
        ),
        {"large": (Verdict.NEEDS, ("cap",))},
    ),
    "a fact that the log lacks": (
        rule("slow", "deny", {"not": {"fee": {"max_sat_vb": 500}}}),
        dict.fromkeys(("small", "large", "agreed"), (Verdict.DENIED, ("slow",))),
    ),
    "a shadow": (rule("s", "deny", {}, mode="shadow"), {}),
}


@pytest.mark.parametrize("name", DRAFTS)
def test_simulate_given_one_new_rule_changes_what_it_meets(name: str) -> None:
    """The others stay as they were, and the rule is named."""
    draft, expected = DRAFTS[name]

    found = told(draft)

    assert {w: (e.draft.verdict, e.draft.because) for w, e in found.items() if e.is_changed} == expected
    assert all(each.now.verdict is Verdict.ALLOWED for each in found.values())


def test_simulate_given_what_a_draft_asks_besides_shows_it() -> None:
    """A wait or a cold signer is a change though the verdict stays."""
    wait = rule("wait", "require", {"amount": {"min_sats": 90_000}}, {"delay": {"seconds": 60}, "local_conf": True})

    found = told(wait)["large"]

    assert found.is_changed
    assert (found.draft.verdict, found.draft.also) == (Verdict.ALLOWED, "waits 60 s, a code typed at each signer")


def test_simulate_given_a_draft_without_its_allow_denies_all_by_code() -> None:
    """Where no rule stands in the way, none allowed it."""
    found = simulate(policy(), policy(rules=[]), HISTORY, {})

    assert {each.draft.because for each in found} == {("NO_RULE_ALLOWS",)}


def test_simulate_given_since_counts_the_older_and_shows_the_newer() -> None:
    """A budget of the last day looks back before the days that are shown."""
    cap = rule("cap", "limit", {}, {"window": "day", "max_count": 1, "on_exceed": "deny"})

    found = told(cap, since=NOW - 60)

    assert {w: each.draft.verdict for w, each in found.items()} == {
        "large": Verdict.DENIED,
        "agreed": Verdict.DENIED,
    }


def test_simulate_given_a_draft_of_tomorrow_asks_it_about_yesterday() -> None:
    """The dates of the document are not those of the question."""
    tomorrow = policy(PAY, effective_from=NOW + DAY)

    assert not any(each.is_changed for each in simulate(policy(), tomorrow, HISTORY, {}))


def test_changes_given_what_was_compared_counts_by_rule() -> None:
    """The table: from, to, by which rule, how many, how much."""
    known = rule("known", "deny", {"not": {"destination": {"lists": ["exchanges"]}}})

    table = changes(tuple(told(TWO, known, now=policy(PAY, TWO)).values()))

    assert table == (Change("needs approvals", "denied", "known", 1, 92_000),)
    assert changes(tuple(told(TWO, now=policy(PAY, TWO, known)).values())) == (
        Change("denied", "needs approvals", "two", 1, 92_000),
    )
    assert changes(tuple(told(now=policy(PAY, TWO)).values())) == (
        Change("needs approvals", "allowed", "two", 1, 92_000),
    )


def test_simulate_given_the_wallets_scripts_knows_sizes_and_own_addresses() -> None:
    """What a release does not say is derived, as signers derive it."""
    keys = [key_material(bitcoin_seed(name), Network.REGTEST).key for name in ("alpha", "beta", "cold")]
    wallet = make_wallet(2, tuple(parse_key(key, Network.REGTEST) for key in keys), Network.REGTEST)
    book = ScriptBook(wallet)
    wallets = {"treasury": {"wallet_id": wallet.wallet_id.hex(), "classes": []}}
    asked = withdrawal(wallet_id=wallet.wallet_id)
    paid: Release = replace(release(asked), change=((0, 20_000),))  # type: ignore[arg-type]  # Sats of a test
    rules = [
        PAY,
        rule("slow", "deny", {"not": {"fee": {"max_sat_vb": 500}}}),
        rule("ours", "deny", {"destination": {"class": "internal"}}),
    ]

    (found,) = simulate(
        policy(PAY, wallets=wallets),
        policy(*rules, wallets=wallets),
        [PastRelease(paid, NOW, asked, ())],
        {wallet.wallet_id: book},
    )

    assert found.draft.verdict is Verdict.ALLOWED
    assert script(EXCHANGE) not in {book.script(0, index).script for index in range(20)}
