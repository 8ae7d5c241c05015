"""W1 spends {c1}, W2 {c1, c2}, W3 {c2}, each replacing the one before: in every order at most one of them confirms.

The signers are real, the coordinator logs and carries whatever it likes, and the transactions go to a real chain.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.chain.embedded import EmbeddedChain
from coordinator.chain.port import TxState
from custody.finalise import finalize
from custody.psbt import parse
from custody.signatures import InputSignature, accept
from custody.transaction import Transaction, parse_transaction
from custody.updater import SpendableCoin
from custody.withdrawal import Withdrawal
from tests.fakes.clock import FakeClock
from tests.fakes.rules import NOW, PAY
from tests.integration.harness import OPEN, genesis_of, open_node
from tests.world import EXCHANGE, Spend, World, book_of, supersedes

GENESIS = genesis_of(PAY)
BOOK = book_of(GENESIS.wallets[0].wallet)
COINS = ((0,), (0, 1), (1,))  # what W1, W2 and W3 spend
ORDERS = tuple(itertools.permutations(COINS))
PAIRS = 2 * len(ORDERS) + 1


@pytest.fixture
async def chain(tmp_path: Path) -> AsyncIterator[EmbeddedChain]:
    """A chain with two coins of the treasury for each order, and for the control."""
    async with await EmbeddedChain.open(tmp_path / "chain", FakeClock()) as opened:
        for index in range(2 * PAIRS):
            await opened.mine(1, BOOK.script(0, index).script)
        await opened.mine(101, OPEN)
        yield opened


async def pair_of(chain: EmbeddedChain, number: int) -> list[SpendableCoin]:
    """Return the two coins of one order."""
    found = []
    for index in (2 * number, 2 * number + 1):
        (coin,) = await chain.coins([BOOK.script(0, index).script])
        found.append(SpendableCoin(coin.outpoint, parse_transaction(coin.previous_raw), 0, index))
    return found


def asked_in_a_row(world: World, coins: Sequence[SpendableCoin], order: Sequence[Sequence[int]]) -> list[Spend]:
    """Return three payments, each replacing the one before, over these coins, at rising fees; none is logged yet."""
    spends: list[Spend] = []
    before: Withdrawal | None = None
    for at, places in enumerate(order):
        asked = world.withdrawal((EXCHANGE, 1_000_000 + at), withdrawal_id=f"w-{at}")
        asked = asked if before is None else replace(asked, relation=supersedes(before))
        spends.append(world.spend(asked, [coins[place] for place in places], fee=3_000 * (at + 1), change_index=at))
        before = asked
    return spends


async def signed_by_two(spend: Spend, index: int, directory: Path) -> Transaction | None:
    """Hand the release to alpha and beta, as the same nodes as before; return what they make of it."""
    made: list[InputSignature] = []
    for name in ("alpha", "beta"):
        node = open_node(GENESIS, name, directory, FakeClock(NOW))
        node._books = {BOOK.wallet.wallet_id: BOOK}
        outcome = (await node.answer(spend.bundle(index, name).to_bytes())).outcome
        made += outcome if isinstance(outcome, tuple) else ()
    return final(spend, made)


def final(spend: Spend, made: Sequence[InputSignature]) -> Transaction | None:
    """Return the transaction with these signatures, or None where they are too few."""
    psbt, facts = parse(spend.psbt), spend.facts()
    accepted = accept(psbt, facts, BOOK, made)
    return finalize(psbt, facts, BOOK, accepted) if len(accepted.signed) >= 2 else None


async def confirmed(chain: EmbeddedChain, transactions: Sequence[Transaction]) -> int:
    """Broadcast all of them, with a block after each and again afterwards; return how many are in a block."""
    for transaction in (*transactions, *transactions):
        await chain.broadcast(transaction.serialize())
        await chain.mine(1, OPEN)
    states = [(await chain.status(transaction.txid)).state for transaction in transactions]
    return sum(state is TxState.CONFIRMED for state in states)


@pytest.mark.slow
async def test_family_of_three_in_every_order_confirms_at_most_once(chain: EmbeddedChain, tmp_path: Path) -> None:
    """Whatever order they are asked in, and whichever is broadcast first, one is paid and no other ever is."""
    counts = []
    for number, order in enumerate(ORDERS):
        for turn in (0, 1):
            world, home = World(GENESIS), tmp_path / f"{number}-{turn}"
            home.mkdir()
            coins = await pair_of(chain, 2 * number + turn)
            asked = asked_in_a_row(world, coins, order)
            signed = [await signed_by_two(spend, spend.release(), home) for spend in asked]
            final_ones = [found for found in signed if found is not None]
            counts.append((len(final_ones), await confirmed(chain, final_ones[:: -1 if turn else 1])))

    assert {count for _, count in counts} == {1}
    assert {made for made, _ in counts} == {2}, "the one that meets not every one before it is signed by nobody"


@pytest.mark.slow
async def test_family_signed_without_a_judge_confirms_twice(chain: EmbeddedChain) -> None:
    """What the judge prevents is no theory: keys that sign all three have the withdrawal paid twice."""
    world = World(GENESIS)
    spends = asked_in_a_row(world, await pair_of(chain, PAIRS - 1), COINS)
    made = [final(spend, (*spend.signatures("alpha"), *spend.signatures("beta"))) for spend in spends]
    first, _, third = made
    assert first is not None
    assert third is not None

    assert await confirmed(chain, [first, third]) == 2
