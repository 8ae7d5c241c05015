"""Fees that eat the coins, replacements that pay twice, blocks that vanish: judged by real nodes on a real chain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.chain.port import TxState
from coordinator.session import Stage
from custody.errors import CustodyError, Refused
from custody.units import Sats
from signer_node.node import Node
from tests.fakes.clock import FakeClock
from tests.fakes.rules import NOW
from tests.fakes.spends import OPEN
from tests.integration.harness import Organisation, close, genesis_of, open_node, organise
from tests.world import EXCHANGE, World, supersedes

GENESIS = genesis_of()
BTC = 100_000_000


@pytest.fixture
def world() -> World:
    """A log that a hostile coordinator writes as it likes."""
    return World(GENESIS)


@pytest.fixture
async def org(tmp_path: Path) -> AsyncIterator[Organisation]:
    """An organisation that just started, on a chain of its own."""
    found = await organise(GENESIS, tmp_path)
    yield found
    await close(found)


def node(name: str, directory: Path) -> Node:
    """Return a node with its key in a sealed file."""
    (directory / name).mkdir()
    return open_node(GENESIS, name, directory / name, FakeClock(NOW))


async def code(judge: Node, raw: bytes) -> str:
    """Return the code with which a node refuses a bundle, or SIGNED."""
    try:
        outcome = (await judge.answer(raw)).outcome
    except CustodyError as error:
        return error.code
    return outcome.code if isinstance(outcome, Refused) else "SIGNED"


@pytest.mark.parametrize(("fee", "answer"), [(20_000, "SIGNED"), (20_001, "FEE_ABOVE_MAX"), (5 * BTC, "FEE_ABOVE_MAX")])
async def test_atk_033_fee_above_what_the_initiator_signed_is_refused(
    fee: int, answer: str, world: World, tmp_path: Path
) -> None:
    """Whatever a source of fee rates says: the fee is proven from the coins, and capped by the signed withdrawal."""
    spend = world.spend(world.withdrawal(), (world.coin(amount=6 * BTC),), fee=fee)

    assert await code(node("alpha", tmp_path), spend.bundle().to_bytes()) == answer


async def test_atk_033_fee_that_the_initiator_allowed_is_still_capped_by_the_rules(
    world: World, tmp_path: Path
) -> None:
    """One careless person is not enough: the rules have a highest rate per byte."""
    asked = world.withdrawal(max_fee_sats=Sats(5 * BTC))
    spend = world.spend(asked, (world.coin(amount=6 * BTC),), fee=5 * BTC)

    assert await code(node("alpha", tmp_path), spend.bundle().to_bytes()) == "FEERATE_ABOVE_MAX"


async def test_atk_056_fee_bump_that_pays_somebody_else_is_refused(world: World, tmp_path: Path) -> None:
    """The first transaction is released and signed; its replacement keeps the name and changes the payee."""
    asked, judge = world.withdrawal(), node("alpha", tmp_path)
    assert await code(judge, world.spend(asked).bundle().to_bytes()) == "SIGNED"
    other = world.spend(world.withdrawal((EXCHANGE + 1, 50_000)), fee=9_000)

    assert await code(judge, replace(other, asked=asked).bundle().to_bytes()) == "RELEASE_INADMISSIBLE"


async def test_atk_056_fee_bump_over_other_coins_is_refused_and_over_a_shared_one_signed(
    world: World, tmp_path: Path
) -> None:
    """Two transactions of one withdrawal that share no coin could both confirm."""
    asked, judge = world.withdrawal(), node("alpha", tmp_path)
    assert await code(judge, world.spend(asked, (world.coin(0),)).bundle().to_bytes()) == "SIGNED"

    assert (
        await code(judge, world.spend(asked, (world.coin(0), world.coin(1)), fee=9_000).bundle().to_bytes()) == "SIGNED"
    )
    assert await code(judge, world.spend(asked, (world.coin(1),), fee=9_000).bundle().to_bytes()) == "SECOND_PAYMENT"


async def test_atk_069_two_signers_shown_different_transactions_do_not_both_sign(world: World, tmp_path: Path) -> None:
    """One release stands for one transaction; a second one over other coins is a second payment for every signer."""
    asked = world.withdrawal()
    shown, hidden = world.spend(asked, (world.coin(0),)), world.spend(asked, (world.coin(1),))
    index = shown.release()
    assert await code(node("alpha", tmp_path), shown.bundle(index).to_bytes()) == "SIGNED"
    beta = node("beta", tmp_path)

    assert await code(beta, hidden.bundle(index, node="beta").to_bytes()) == "RELEASE_MISMATCH"
    assert await code(beta, shown.bundle(index, node="beta").to_bytes()) == "SIGNED"
    assert await code(beta, hidden.bundle(node="beta").to_bytes()) == "SECOND_PAYMENT"


async def test_atk_058_block_that_vanishes_before_it_is_deep_confirms_nothing(org: Organisation) -> None:
    """Two blocks are asked for: one that a longer branch replaces does not count, the payment is followed on."""
    org.parts = replace(org.parts, confirmations=2)
    asked = org.withdrawal()
    await org.propose(asked)
    assert await org.run(asked) is Stage.BROADCAST
    await org.mine()
    assert await org.advance(asked) is Stage.BROADCAST

    await org.chain.reorg(1, OPEN)

    txid = (await org.session(asked)).txid or b""
    assert (await org.chain.status(txid)).state is TxState.MEMPOOL
    assert await org.advance(asked) is Stage.BROADCAST
    await org.mine(2)
    assert await org.advance(asked) is Stage.CONFIRMED


async def test_atk_058_double_spend_that_wins_after_broadcast_ends_the_withdrawal(org: Organisation) -> None:
    """A longer branch holds another spend of the same coins: named as conflicted, never reported as paid."""
    org.parts = replace(org.parts, confirmations=2)
    first = org.withdrawal()
    await org.propose(first)
    second = org.withdrawal(0, withdrawal_id="cancel-1", relation=supersedes(first))
    assert await org.propose(second) is Stage.SIGNING
    assert await org.run(second) is Stage.BROADCAST
    rival = (await org.session(second)).transaction or b""
    await org.mine()
    await org.chain.reorg(1, OPEN, [rival])

    assert await org.run(first) is Stage.CONFLICTED
    assert await org.advance(second) is Stage.CONFIRMED
