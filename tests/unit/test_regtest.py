"""The embedded chain's core: what only a chain of our own can show (same inputs, same blocks; bad blocks; replay)."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from random import Random

import pytest

from coordinator.chain.blocklog import BlockLog, Record, RecordKind
from coordinator.chain.blocks import GENESIS, merkle_root, mine_block, subsidy_sats
from coordinator.chain.embedded import EmbeddedChain
from coordinator.chain.kernel import Kernel
from coordinator.chain.port import TxState
from coordinator.chain.regtest import Regtest
from custody.errors import IntegrityError, Refused, UnavailableError
from custody.transaction import OutPoint, Transaction, hash256
from tests.fakes.clock import FakeClock
from tests.fakes.spends import OPEN, p2wsh, spend_open

OTHER = p2wsh(b"\x51\x51")


def test_broadcast_when_coinbase_is_young_then_refuses(tmp_path: Path) -> None:
    """The same coin is spendable at height 100 and not one block earlier (two chains of equal blocks)."""
    older, younger = Regtest(tmp_path / "older", FakeClock()), Regtest(tmp_path / "younger", FakeClock())
    older.mine(100, OPEN)
    younger.mine(99, OPEN)
    (coin,) = older.coins([OPEN])
    raw = spend_open(coin, 1_000).serialize()

    answer = younger.broadcast(raw)

    assert isinstance(answer, Refused)
    assert answer.code == "TX_IMMATURE"
    younger.mine(1, OPEN)
    assert younger.broadcast(raw) is None
    older.close()
    younger.close()


def test_open_when_closed_before_then_state_is_the_same(tmp_path: Path) -> None:
    """Blocks, a reorganisation, the mempool and a replacement in it are all there after opening again."""
    chain = Regtest(tmp_path, FakeClock())
    chain.mine(103, OPEN)
    coins = chain.coins([OPEN])
    confirmed, first, better = spend_open(coins[0], 1_000), spend_open(coins[1], 1_000), spend_open(coins[1], 5_000)
    for transaction in (confirmed, first, better):
        assert chain.broadcast(transaction.serialize()) is None
    chain.mine(1, OTHER)
    chain.reorg(2, OTHER)
    before = (chain.tip, chain.coins([OPEN]), chain.block_count)
    states = [chain.status(t.txid) for t in (confirmed, first, better)]
    chain.close()

    chain = Regtest(tmp_path, FakeClock())

    assert (chain.tip, chain.coins([OPEN]), chain.block_count) == before
    assert [chain.status(t.txid) for t in (confirmed, first, better)] == states
    assert [s.state for s in states] == [TxState.MEMPOOL, TxState.CONFLICTED, TxState.MEMPOOL]
    chain.close()


def test_index_when_reorganised_then_equals_a_fresh_replay(tmp_path: Path) -> None:
    """The incremental index after many reorganisations is the index of a replayed log."""
    chain = Regtest(tmp_path, FakeClock())
    chain.mine(110, OPEN)
    for depth in (1, 3, 2, 6, 1):
        for coin in chain.coins([OPEN])[:2]:
            assert chain.broadcast(spend_open(coin, 1_000, to=OTHER if depth % 2 else OPEN).serialize()) is None
        chain.mine(2, OTHER)
        chain.reorg(depth, OPEN)
    live = chain.coins([OPEN, OTHER])
    chain.close()

    chain = Regtest(tmp_path, FakeClock())

    assert chain.coins([OPEN, OTHER]) == live
    chain.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_chain_when_anything_happens_then_mines_on_and_replays_alike(tmp_path: Path, seed: int) -> None:
    """Random spends, double spends, children, replacements and reorganisations; no mempool ever blocks mining."""
    random = Random(seed)  # noqa: S311 (a history, not a key)
    chain = Regtest(tmp_path, FakeClock())
    chain.mine(104, OPEN)
    sent: list[Transaction] = []
    for _ in range(120):
        action = random.randrange(10)
        if action < 6:
            sources = [(coin.outpoint, coin.amount_sats) for coin in chain.coins([OPEN])[:3]]
            sources += [(OutPoint(t.txid, 0), t.outputs[0].amount) for t in sent[-4:]]
            sources += [(t.inputs[0].outpoint, t.outputs[0].amount) for t in sent[-4:]]
            transaction = spend_open(random.choice(sources), random.choice([200, 900, 9_000]))
            if chain.broadcast(transaction.serialize()) is None:
                sent.append(transaction)
        elif action < 9:
            chain.mine(random.randrange(3), OTHER)
        else:
            inside = [t.serialize() for t in sent[-1:] if chain.status(t.txid).state is TxState.MEMPOOL]
            depth = random.randrange(1, 4)
            with contextlib.suppress(IntegrityError):  # its parent may be in a replaced block
                chain.reorg(depth, OTHER, inside)
    states = [chain.status(transaction.txid) for transaction in sent]
    view = (chain.tip, chain.coins([OPEN, OTHER]))
    chain.close()

    chain = Regtest(tmp_path, FakeClock())

    assert (chain.tip, chain.coins([OPEN, OTHER])) == view
    assert [chain.status(transaction.txid) for transaction in sent] == states
    assert {state.state for state in states} >= {TxState.CONFIRMED, TxState.CONFLICTED}
    chain.mine(1, OTHER)
    chain.close()


def test_open_when_in_use_then_unavailable(tmp_path: Path) -> None:
    """Two processes cannot share one chain."""
    chain = Regtest(tmp_path, FakeClock())

    with pytest.raises(UnavailableError, match="BLOCKLOG_IN_USE"):
        Regtest(tmp_path, FakeClock())
    chain.close()


def test_reorg_when_its_transactions_are_invalid_then_chain_stays(tmp_path: Path) -> None:
    """A branch that fails only when it is connected is refused, and the chain goes on, also after opening again."""
    chain = Regtest(tmp_path, FakeClock())
    chain.mine(102, OPEN)
    (coin, *_) = chain.coins([OPEN])
    tip = chain.tip
    overdrawn = spend_open((coin.outpoint, coin.amount_sats + 1), 0)

    with pytest.raises(IntegrityError, match="BLOCK_INVALID"):
        chain.reorg(1, OTHER, [overdrawn.serialize()])

    assert chain.tip == tip
    chain.mine(1, OTHER)
    tip = chain.tip
    chain.close()
    chain = Regtest(tmp_path, FakeClock())
    assert chain.tip == tip
    chain.close()


def test_open_when_a_logged_block_lacks_its_parent_then_refuses(tmp_path: Path) -> None:
    """A log whose checksums hold but whose blocks do not connect is damage."""
    block, _ = mine_block(GENESIS, 1_700_000_000, OPEN, [], 0, tag=1)
    _, orphan = mine_block(block, 1_700_000_001, OPEN, [], 0, tag=2)
    with BlockLog(tmp_path / "chain.log") as log:
        log.append(Record(RecordKind.BLOCK, orphan))
        log.flush()

    with pytest.raises(IntegrityError, match="BLOCKLOG_DAMAGED"):
        Regtest(tmp_path, FakeClock())


def test_kernel_when_coinbase_takes_too_much_then_refuses(tmp_path: Path) -> None:
    """A block that passes the first checks and fails to connect is refused, not reported as taken."""
    kernel = Kernel(tmp_path)
    _, greedy = mine_block(GENESIS, 1_700_000_000, OPEN, [], 1, tag=1)
    _, modest = mine_block(GENESIS, 1_700_000_000, OPEN, [], 0, tag=1)

    answer = kernel.submit(greedy)

    assert isinstance(answer, Refused)
    assert answer.code == "BLOCK_INVALID"
    assert isinstance(kernel.submit(modest), tuple)


def test_kernel_when_header_is_wrong_then_refuses(tmp_path: Path) -> None:
    """A block whose merkle root does not fit is refused though process_block raises for it."""
    kernel = Kernel(tmp_path)
    _, raw = mine_block(GENESIS, 1_700_000_000, OPEN, [], 0, tag=1)

    answer = kernel.submit(raw[:-5] + b"\x01" + raw[-4:])

    assert isinstance(answer, Refused)
    assert answer.code == "BLOCK_INVALID"


async def test_embedded_when_disk_fails_then_answers_nothing_until_reopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that may not be on the disk is never shown; opening again tells what is."""

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    chain = await EmbeddedChain.open(tmp_path, FakeClock())
    await chain.mine(1, OPEN)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UnavailableError, match="BLOCKLOG_IO"):
            await chain.mine(1, OPEN)
    with pytest.raises(UnavailableError, match="BLOCKLOG_IO"):
        await chain.height()
    await chain.close()

    async with await EmbeddedChain.open(tmp_path, FakeClock()) as chain:
        assert await chain.height() in (1, 2)


def test_merkle_root_when_odd_then_doubles_the_last() -> None:
    """One leaf is its own root; three leaves count the last twice."""
    a, b, c = (bytes([n]) * 32 for n in (1, 2, 3))

    assert merkle_root([a]) == a
    assert merkle_root([a, b, c]) == hash256(hash256(a + b) + hash256(c + c))


def test_subsidy_when_regtest_halves_then_follows() -> None:
    """50 BTC, halved every 150 blocks, nothing after 64 halvings."""
    assert [subsidy_sats(h) for h in (1, 149, 150, 300, 150 * 64)] == [
        5_000_000_000,
        5_000_000_000,
        2_500_000_000,
        1_250_000_000,
        0,
    ]
