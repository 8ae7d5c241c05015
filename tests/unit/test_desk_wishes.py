"""From the fields of a page to a statement, and what the rules would say of it."""

from __future__ import annotations

import pytest

from console.desk.wishes import Wish, read_btc, verdict_on, withdrawal_of
from console.refusal import RefusedHereError
from custody.errors import CustodyError, MalformedError
from custody.follow import start
from custody.message import FundCoin
from custody.transaction import OutPoint
from custody.units import Sats
from tests.fakes.rules import NOW, address
from tests.integration.harness import genesis_of

GENESIS = genesis_of()
STATE = start(GENESIS)
WISH = Wish("treasury", ((address(11), "0.05", "rent"),), "50000", "24", is_again=False)


@pytest.mark.parametrize(
    ("text", "amount"), [("1", 100_000_000), ("0.00000001", 1), (" 20.5 ", 2_050_000_000), (".5", 50_000_000)]
)
def test_amount_when_typed_in_btc_then_is_whole_sats(text: str, amount: int) -> None:
    """No float is between."""
    assert read_btc(text) == amount


@pytest.mark.parametrize("text", ["", "0", "1,5", "-1", "1e3", "0.000000001", "21000001", "٣", "1 2", "."])
def test_amount_when_it_is_none_then_is_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(MalformedError) as refused:
        read_btc(text)
    assert refused.value.code == "AMOUNT"


def test_wish_when_whole_then_is_the_statement_that_it_says() -> None:
    """Payees, fee and time are those typed; nothing else is."""
    asked = withdrawal_of(WISH, GENESIS, STATE, "alice", "w-1", NOW)

    assert [(p.address, p.amount_sats, p.label) for p in asked.payments] == [(address(11), 5_000_000, "rent")]
    assert (asked.max_fee_sats, asked.expires_at, asked.initiator) == (50_000, NOW + 86_400, "alice")
    assert asked.genesis == GENESIS.hash


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"wallet": "another"}, "WALLET_UNKNOWN"),
        ({"payees": (("bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "1", ""),)}, "ADDRESS_NETWORK"),
        ({"payees": (("nonsense", "1", ""),)}, "ADDRESS_INVALID"),
        ({"payees": ((address(11), "", ""),)}, "AMOUNT"),
        ({"payees": ((address(11), "1", "x" * 141),)}, "LABEL_TOO_LONG"),
        ({"payees": ((address(11), "0.001", ""),) * 1_001}, "PAYMENTS"),
        ({"max_fee_sats": "many"}, "FIELD_RANGE"),
        ({"hours": "0"}, "FIELD_RANGE"),
    ],
)
def test_wish_when_one_field_is_wrong_then_says_which(changes: dict[str, object], code: str) -> None:
    """One change, one code."""
    fields = {name: getattr(WISH, name) for name in Wish.__slots__} | changes

    with pytest.raises((RefusedHereError, CustodyError)) as refused:
        withdrawal_of(Wish(**fields), GENESIS, STATE, "alice", "w-1", NOW)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("btc", "held", "outcome"),
    [("0.05", 1, "allow"), ("0.2", 1, "need"), ("2.5", 1, "deny"), ("0.05", 0, "coins")],
)
def test_verdict_when_nobody_approved_yet_then_is_what_the_rules_say(btc: str, held: int, outcome: str) -> None:
    """By policy alone, by two people, above the daily limit, and with no coins."""
    wallet = GENESIS.wallets[0]
    coins = [FundCoin(OutPoint(bytes([9]) * 32, n), Sats(5_000_000_000), 0, n) for n in range(held)]
    wish = Wish("treasury", ((address(12), btc, ""),), "50000", "24", is_again=False)
    asked = withdrawal_of(wish, GENESIS, STATE, "alice", "w-1", NOW)

    assert verdict_on(asked, wallet, STATE, coins, NOW).outcome == outcome
