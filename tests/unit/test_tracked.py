"""What is tracked block by block equals what the chain as it is now says, whatever was undone on the way."""

from __future__ import annotations

import random

import pytest

from coordinator.chain.port import SeenBlock
from coordinator.tracked import MAX_UNDO, Place, Tracked
from custody.transaction import OutPoint, Transaction, TxIn, TxOut
from custody.units import Sats

FIRST, SECOND = b"\x01" * 32, b"\x02" * 32
STRANGER = b"\x00\x14" + b"\x09" * 20


def script(wallet: bytes, index: int = 0) -> bytes:
    """Return a script of a wallet."""
    return b"\x00\x14" + wallet[:19] + bytes([index])


def tracked_of() -> Tracked:
    """Return the watch of two wallets with three scripts each."""
    found = Tracked()
    for wallet in (FIRST, SECOND):
        for index in range(3):
            found.watch(script(wallet, index), Place(wallet, 0, index))
    return found


def payment(spends: list[OutPoint], *outputs: tuple[bytes, int]) -> Transaction:
    """Return a transaction."""
    made = tuple(TxOut(Sats(amount), to) for to, amount in outputs)
    return Transaction(2, tuple(TxIn(outpoint) for outpoint in spends), made)


def block(height: int, *transactions: Transaction) -> SeenBlock:
    """Return a block."""
    return SeenBlock(height, height.to_bytes(32), b"", transactions)


FOREIGN = OutPoint(b"\x77" * 32, 0)


def test_connect_when_a_wallet_is_paid_then_tells_the_deposit() -> None:
    """A deposit from outside, and the line of it."""
    tracked = tracked_of()
    paid = payment([FOREIGN], (script(FIRST, 2), 5_000), (STRANGER, 100))

    (one,) = tracked.connect(block(1, paid))

    assert [(coin.outpoint, coin.sats, coin.place.index) for coin in one.deposits] == [
        (OutPoint(paid.txid, 0), 5_000, 2)
    ]
    assert tracked.balance_sats(FIRST) == 5_000
    assert tracked.highest(FIRST, 0) == 2
    assert tracked.balance_sats(SECOND) == 0


def test_connect_when_change_comes_back_then_is_no_deposit() -> None:
    """Neither is what one wallet pays itself; what it pays another of ours is, and the fee is the payer's."""
    tracked = tracked_of()
    paid = payment([FOREIGN], (script(FIRST), 5_000))
    tracked.connect(block(1, paid))
    spend = payment([OutPoint(paid.txid, 0)], (script(FIRST, 1), 3_000), (script(SECOND), 1_500), (STRANGER, 300))

    (one,) = tracked.connect(block(2, spend))

    assert [coin.place.wallet_id for coin in one.deposits] == [SECOND]
    assert [coin.sats for coin in one.spent] == [5_000]
    assert (tracked.balance_sats(FIRST), tracked.balance_sats(SECOND)) == (3_000, 1_500)
    assert [line.fee_sats for line in (tracked.lines(FIRST)[-1], tracked.lines(SECOND)[-1])] == [200, 0]


@pytest.mark.parametrize("is_turned", [False, True])
def test_connect_when_a_child_stands_in_the_same_block_then_finds_the_spend(is_turned: bool) -> None:
    """Also where a backend gives the parts of a block in another order."""
    tracked = tracked_of()
    paid = payment([FOREIGN], (script(FIRST), 5_000))
    spend = payment([OutPoint(paid.txid, 0)], (STRANGER, 4_000))

    found = tracked.connect(block(1, *((spend, paid) if is_turned else (paid, spend))))

    assert sum(len(one.spent) for one in found) == 1
    assert tracked.balance_sats(FIRST) == 0
    assert not tracked.coins(FIRST)
    assert tracked.disconnect() is not None
    assert not tracked.coins(FIRST)


def test_disconnect_when_too_deep_then_tells_so() -> None:
    """What rests cannot be taken back, nor more than MAX_UNDO blocks."""
    tracked = tracked_of()
    assert tracked.disconnect() is None
    for height in range(1, MAX_UNDO + 3):
        tracked.connect(block(height))
    for _ in range(MAX_UNDO):
        assert tracked.disconnect() is not None
    assert tracked.disconnect() is None
    assert tracked.height == 2


def test_history_when_paged_then_newest_first() -> None:
    """Pages do not overlap, and end."""
    tracked = tracked_of()
    for height in range(1, 6):
        tracked.connect(block(height, payment([OutPoint(bytes(32), height)], (script(FIRST), height))))

    assert [line.height for line in tracked.history(FIRST, 2)] == [5, 4]
    assert [line.height for line in tracked.history(FIRST, 9, newer=2)] == [3, 2, 1]
    assert tracked.history(FIRST, 2, newer=5) == ()
    assert [line.balance_sats for line in tracked.lines(FIRST)] == [1, 3, 6, 10, 15]


def test_tracked_when_blocks_come_and_go_then_equals_the_chain_as_it_is() -> None:
    """1,000 random steps forward and back: coins, balances and histories are those of the blocks that stand."""
    chance, tracked, chain = random.Random(11), tracked_of(), list[SeenBlock]()  # noqa: S311  # the same each time
    for step in range(1_000):
        if chain and chance.random() < 0.4:
            chain.pop()
            assert tracked.disconnect() is not None
        else:
            coins = [*tracked.coins(FIRST), *tracked.coins(SECOND)]
            spends = chance.sample(coins, min(len(coins), chance.randint(0, 2))) or [OutPoint(step.to_bytes(32), 1)]
            wallet = chance.choice([FIRST, SECOND])
            outputs = (script(wallet, chance.randint(0, 2)), chance.randint(1, 99)), (STRANGER, 1)
            chain.append(block(len(chain) + 1, payment(spends, *outputs[: chance.randint(1, 2)])))
            tracked.connect(chain[-1])
        if len(chain) > MAX_UNDO // 2:
            del chain[10:]
            while tracked.height > 10:
                tracked.disconnect()
    again = tracked_of()
    for one in chain:
        again.connect(one)
    for wallet in (FIRST, SECOND):
        assert dict(tracked.coins(wallet)) == dict(again.coins(wallet))
        assert list(tracked.lines(wallet)) == list(again.lines(wallet))
        assert tracked.balance_sats(wallet) == sum(coin.sats for coin in tracked.coins(wallet).values())
