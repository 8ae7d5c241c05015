"""Coin selection: sums are exact, the fee stays inside the withdrawal, change is never small."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.chain.port import ChainCoin
from coordinator.selecting import Wanted, without_change
from coordinator.spending import CHANGE_FLOOR_SATS, Change, Multisig, OwnCoin, Spending, Terms, choose, waste_sats
from custody.errors import Refused
from custody.finalise import finalize
from custody.scripts import Template
from custody.signatures import accept
from custody.transaction import OutPoint, Transaction, TxIn, TxOut
from custody.units import Sats, SatsPerVByte
from custody.updater import build
from custody.wallet import ScriptBook
from tests.fakes.psbts import COIN_SATS, coin, facts_of, signed_by, wallet_of
from tests.fakes.spends import KEYS, p2wsh, sign_two_of_three, two_of_three

WALLET = p2wsh(two_of_three())
PAYEE = b"\x00\x14" + b"\x07" * 20
CHANGE = Change(b"\x00\x20" + b"\x08" * 32, 3)
SHAPE = Multisig(2, 3)


def own(amount: int, number: int = 0) -> OwnCoin:
    """Return a coin of the wallet."""
    outpoint = OutPoint(number.to_bytes(32, "big"), amount % 7)
    return OwnCoin(ChainCoin(outpoint, Sats(amount), WALLET, 10, b""), 0, number)


def terms(rate: int = 2, max_fee_sats: int = 5_000) -> Terms:
    """Return terms for the 2-of-3."""
    return Terms(SatsPerVByte(rate), Sats(max_fee_sats), SHAPE)


def pay(amount: int) -> list[TxOut]:
    """Return one payment."""
    return [TxOut(Sats(amount), PAYEE)]


def chosen(answer: Spending | Refused) -> Spending:
    """Return the spending, failing with the refusal."""
    assert isinstance(answer, Spending), answer
    return answer


def code(answer: Spending | Refused) -> str:
    """Return the code of a refusal."""
    assert isinstance(answer, Refused), answer
    return answer.code


def test_choose_when_one_coin_is_enough_then_takes_one_and_makes_change() -> None:
    """The largest coin alone, one change output at the given index."""
    spending = chosen(choose([own(50_000, 1), own(200_000, 2)], pay(100_000), CHANGE, terms(20)))

    assert [c.coin.amount_sats for c in spending.coins] == [200_000]
    assert spending.change_index == 3
    assert TxOut(Sats(200_000 - 100_000 - spending.fee_sats), CHANGE.script) in spending.outputs
    assert spending.fee_sats == 20 * spending.vsize_vb


@pytest.mark.parametrize("template", Template)
@pytest.mark.parametrize(("threshold", "count"), [(2, 3), (3, 5)])
def test_choose_when_the_wallet_has_any_template_then_its_size_is_that_of_the_facts(
    template: Template, threshold: int, count: int
) -> None:
    """What is paid for is what the facts allow, to the byte, and never less than what is signed."""
    book = ScriptBook(wallet_of(threshold, count, template=template))
    coins = [coin(at, book=book) for at in range(3)]
    owned = [
        OwnCoin(ChainCoin(one.outpoint, Sats(COIN_SATS), book.script(0, 0).script, 10, b""), 0, 0) for one in coins
    ]
    change = Change(book.script(1, 3).script, 3)
    paid = 2 * COIN_SATS + 1_000
    shape = Multisig(threshold, count, template)

    spending = chosen(choose(owned, pay(paid), change, Terms(SatsPerVByte(2), Sats(9_000), shape)))

    places = [(at, 3) for at, output in enumerate(spending.outputs) if output.script == change.script]
    psbt = build(book, coins, spending.outputs, places)
    facts = facts_of(psbt, book)
    signatures = sum((signed_by(at, psbt, book=book) for at in range(threshold)), ())
    final = finalize(psbt, facts, book, accept(psbt, facts, book, signatures))
    assert spending.vsize_vb == facts.vsize_vb >= final.vsize_vb
    assert facts.fee_sats == spending.fee_sats == 2 * spending.vsize_vb


def test_choose_when_rest_is_below_floor_and_fee_may_take_it_then_makes_no_change() -> None:
    """A rest that is too small for change goes to the fee inside max_fee_sats."""
    spending = chosen(choose([own(104_000)], pay(100_000), CHANGE, terms(max_fee_sats=4_000)))

    assert (spending.change_index, spending.fee_sats, spending.outputs) == (None, 4_000, tuple(pay(100_000)))


def test_choose_when_rest_is_below_floor_and_fee_may_not_take_it_then_takes_another_coin() -> None:
    """One sat less of max_fee_sats: another coin joins, so that the change is large enough."""
    spending = chosen(choose([own(104_000, 1), own(30_000, 2)], pay(100_000), CHANGE, terms(max_fee_sats=3_999)))

    assert len(spending.coins) == 2
    assert spending.change_index == 3


def test_choose_when_rest_fits_nowhere_then_refuses() -> None:
    """Too small for change, too large for the fee, no more coins."""
    answer = choose([own(104_000)], pay(100_000), CHANGE, terms(max_fee_sats=3_999))

    assert code(answer) == "INSUFFICIENT_FUNDS"


@pytest.mark.parametrize("amount", [0, 50_000, 100_100])
def test_choose_when_coins_are_too_few_then_refuses(amount: int) -> None:
    """Nothing, too little, and too little for the fee."""
    coins = [own(amount)] if amount else []

    assert code(choose(coins, pay(100_000), CHANGE, terms())) == "INSUFFICIENT_FUNDS"


def test_choose_when_fee_passes_max_then_refuses() -> None:
    """A rate that the withdrawal does not allow."""
    assert code(choose([own(500_000)], pay(100_000), CHANGE, terms(rate=100))) == "FEE_ABOVE_MAX"


def test_choose_when_transaction_gets_too_heavy_then_refuses() -> None:
    """More coins than a standard transaction can spend."""
    coins = [own(2_000, number) for number in range(1_200)]

    assert code(choose(coins, pay(2_000_000), CHANGE, terms(rate=1, max_fee_sats=10**7))) == "TX_WEIGHT"


def test_choose_when_payment_is_dust_then_refuses() -> None:
    """What no node would relay is refused before anyone signs it."""
    assert code(choose([own(500_000)], pay(293), CHANGE, terms())) == "TX_DUST"


def test_choose_when_there_is_no_payment_then_all_is_change() -> None:
    """A self-transfer has one output, to change."""
    spending = chosen(choose([own(500_000)], [], CHANGE, terms()))

    assert [output.script for output in spending.outputs] == [CHANGE.script]


def test_choose_when_coins_are_required_then_spends_them_all() -> None:
    """Required coins are inputs even where one other coin would do, and none is counted twice."""
    required = [own(20_000, 1), own(30_000, 2)]

    spending = chosen(choose([own(900_000, 3), *required], pay(100_000), CHANGE, terms(), required))

    assert {c.index for c in spending.coins} == {1, 2, 3}


def test_choose_when_signed_then_vsize_is_an_upper_bound_and_tight() -> None:
    """A really signed 2-of-3 transaction is never larger than said, and at most a few bytes per signature smaller."""
    spending = chosen(choose([own(60_000, n) for n in range(1, 5)], pay(200_000), CHANGE, terms()))
    unsigned = Transaction(2, tuple(TxIn(c.coin.outpoint) for c in spending.coins), spending.outputs)

    signed = sign_two_of_three(unsigned, [c.coin.amount_sats for c in spending.coins], KEYS[:2])

    assert 0 <= spending.vsize_vb - signed.vsize_vb <= len(spending.coins) * 2


@given(
    amounts=st.lists(st.integers(500, 3_000_000), max_size=12),
    payments=st.lists(st.integers(294, 2_000_000), max_size=4),
    rate=st.integers(1, 60),
    max_fee=st.integers(0, 60_000),
)
def test_choose_given_anything_keeps_its_promises(
    amounts: list[int], payments: list[int], rate: int, max_fee: int
) -> None:
    """In = out + fee; fee within rate and maximum; change at least the floor; every payment made; no coin twice."""
    coins = [own(amount, number) for number, amount in enumerate(amounts)]
    asked = [TxOut(Sats(amount), PAYEE) for amount in payments]

    answer = choose(coins, asked, CHANGE, terms(rate, max_fee))

    if isinstance(answer, Refused):
        assert answer.code in ("INSUFFICIENT_FUNDS", "FEE_ABOVE_MAX")
        return
    total_in = sum(c.coin.amount_sats for c in answer.coins)
    assert total_in == sum(o.amount for o in answer.outputs) + answer.fee_sats
    assert rate * answer.vsize_vb <= answer.fee_sats <= max_fee
    change = [output for output in answer.outputs if output.script == CHANGE.script]
    assert all(output.amount >= CHANGE_FLOOR_SATS for output in change)
    assert len(change) == (answer.change_index is not None)
    assert sorted(o.amount for o in answer.outputs if o.script == PAYEE) == sorted(payments)
    assert len({c.coin.outpoint for c in answer.coins}) == len(answer.coins)


@given(
    amounts=st.lists(st.integers(12_000, 3_000_000), min_size=1, max_size=10),
    amount=st.integers(294, 5_000_000),
    rate=st.integers(1, 60),
)
def test_choose_given_coins_wastes_no_more_than_the_fewest_would(amounts: list[int], amount: int, rate: int) -> None:
    """The largest coins first, as many as it takes, is always one of the sets that are compared."""
    coins = sorted((own(value, number) for number, value in enumerate(amounts)), key=lambda c: -c.coin.amount_sats)
    asked = terms(rate, 200_000)

    answer = choose(coins, pay(amount), CHANGE, asked)

    for count in range(1, len(coins) + 1):
        fewest = choose([], pay(amount), CHANGE, asked, required=coins[:count])
        if isinstance(fewest, Spending):
            assert isinstance(answer, Spending)
            assert waste_sats(answer, asked) <= waste_sats(fewest, asked)
            break


def test_choose_given_a_set_that_fits_makes_no_change() -> None:
    """Branch and bound: 60,000 and 44,000 pay 100,000 and their fee to within what change would cost."""
    spending = chosen(choose([own(n, n) for n in (900_000, 60_000, 55_000, 44_000)], pay(100_000), CHANGE, terms(12)))

    assert sorted(c.coin.amount_sats for c in spending.coins) == [44_000, 60_000]
    assert (spending.change_index, spending.outputs) == (None, tuple(pay(100_000)))


def test_choose_given_low_fees_gathers_small_coins_and_given_high_fees_takes_one() -> None:
    """What the long-term rate is above or below."""
    coins = [own(1_000_000, 0), *(own(40_000, number) for number in range(1, 9))]

    low, high = (chosen(choose(coins, pay(60_000), CHANGE, terms(rate, 90_000))) for rate in (1, 60))

    assert [c.coin.amount_sats for c in low.coins] == [40_000, 40_000]
    assert [c.coin.amount_sats for c in high.coins] == [1_000_000]


def test_choose_given_labels_apart_never_mixes_them() -> None:
    """A payee who sees two coins as inputs knows that they are one person's."""
    coins = [replace(own(80_000, 1), label="exchange"), replace(own(80_000, 2), label="donations")]
    apart = replace(terms(), apart=True)

    assert len(chosen(choose(coins, pay(100_000), CHANGE, terms())).coins) == 2
    assert code(choose(coins, pay(100_000), CHANGE, apart)) == "LABELS_APART"
    assert code(choose(coins, pay(900_000), CHANGE, apart)) == "INSUFFICIENT_FUNDS"
    more = [*coins, replace(own(90_000, 3), label="donations")]
    assert {c.label for c in chosen(choose(more, pay(100_000), CHANGE, apart)).coins} == {"donations"}


def test_choose_given_coins_that_cost_more_than_they_bring_leaves_them_out() -> None:
    """At 60 sat/vB an input of 6,000 sats is a loss; one that is required is spent all the same."""
    coins = [own(300_000, 1), *(own(6_000, number) for number in range(2, 6))]

    spending = chosen(choose(coins, pay(100_000), CHANGE, terms(60, 90_000), required=[coins[1]]))

    assert sorted(c.coin.amount_sats for c in spending.coins) == [6_000, 300_000]


@given(
    amounts=st.lists(st.integers(2_000, 60_000), min_size=1, max_size=9),
    target=st.integers(1_000, 200_000),
    slack=st.integers(0, 4_000),
    each=st.integers(-2_000, 5_000),
)
def test_without_change_given_few_coins_finds_the_set_of_least_waste(
    amounts: list[int], target: int, slack: int, each: int
) -> None:
    """Against every subset within the slack; none where there is none."""
    values = sorted(amounts, reverse=True)
    sets = [chosen for size in range(1, len(values) + 1) for chosen in combinations(values, size)]
    wastes = [len(one) * each + sum(one) - target for one in sets if target <= sum(one) <= target + slack]

    found = without_change(values, Wanted(target, slack, 10**9, each))

    if found is None:
        assert wastes == []
    else:
        assert len(set(found)) == len(found)
        assert len(found) * each + sum(values[at] for at in found) - target == min(wastes)
