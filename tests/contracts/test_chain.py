"""What every adapter of the Chain port must do; an adapter joins by one line in ADAPTERS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.chain.core import CoreSource, cookie_of
from coordinator.chain.electrum import ElectrumPlace, ElectrumSource
from coordinator.chain.embedded import EmbeddedChain
from coordinator.chain.esplora import EsploraSource
from coordinator.chain.http_source import HttpSource
from coordinator.chain.port import ChainCoin, MineableChain, TxState, TxStatus
from coordinator.chain.serving.run import Places
from custody.errors import MalformedError, Refused, UnavailableError
from custody.transaction import OutPoint, Transaction, TxIn, TxOut, parse_transaction
from custody.units import Sats
from tests.fakes.clock import FakeClock
from tests.fakes.served import ServedChain
from tests.fakes.spends import KEYS, OPEN, p2wsh, sign_two_of_three, spend_open, two_of_three, with_high_s

OTHER = p2wsh(b"\x51\x51")
MULTISIG = p2wsh(two_of_three())


async def _embedded(directory: Path) -> EmbeddedChain:
    return await EmbeddedChain.open(directory, FakeClock())


async def _esplora(directory: Path) -> ServedChain:
    return await ServedChain.open(directory, lambda places: EsploraSource(HttpSource(places.esplora)))


async def _electrum(directory: Path) -> ServedChain:
    def source(places: Places) -> ElectrumSource:
        host, _, port = places.electrum.partition(":")
        return ElectrumSource(ElectrumPlace(host, int(port), pin=None))

    return await ServedChain.open(directory, source)


async def _core(directory: Path) -> ServedChain:
    def source(places: Places) -> CoreSource:
        return CoreSource(HttpSource(places.core), cookie_of(Path(places.cookie)), wallet="keyturn")

    return await ServedChain.open(directory, source)


Opened = EmbeddedChain | ServedChain
ADAPTERS: dict[str, Callable[[Path], Awaitable[Opened]]] = {
    "embedded": _embedded,
    "esplora": _esplora,
    "electrum": _electrum,
    "core": _core,
}


@pytest.fixture(params=ADAPTERS)
async def chain(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    """An empty chain."""
    opened = await ADAPTERS[request.param](tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
async def coin(chain: MineableChain) -> ChainCoin:
    """The one spendable coin of a chain at height 101, on OPEN."""
    await chain.mine(1, OPEN)
    await chain.mine(100, OTHER)
    (coin,) = await chain.coins([OPEN])
    return coin


def code(answer: Refused | None) -> str | None:
    """Return the code of a refusal."""
    return answer.code if answer else None


async def fund_multisig(chain: MineableChain, coin: ChainCoin) -> ChainCoin:
    """Return a confirmed coin on the 2-of-3."""
    assert await chain.broadcast(spend_open(coin, 1_000, to=MULTISIG).serialize()) is None
    await chain.mine(1, OTHER)
    (funded,) = await chain.coins([MULTISIG])
    return funded


async def test_height_when_blocks_are_mined_then_counts_them(chain: MineableChain) -> None:
    """Height starts at the genesis block, and the tip is the last mined block."""
    assert await chain.height() == 0
    assert await chain.lag_blocks() in (0, None)  # None: not every interface has a word for it

    hashes = await chain.mine(3, OPEN)

    tip = await chain.tip()
    assert (tip.height, tip.block_hash) == (3, hashes[-1])


async def test_coins_when_coinbase_is_young_then_leaves_it_out(chain: MineableChain) -> None:
    """A coinbase shows up exactly when the next block is its 100th successor."""
    await chain.mine(99, OPEN)
    assert await chain.coins([OPEN]) == ()

    await chain.mine(1, OTHER)

    assert [c.height for c in await chain.coins([OPEN])] == [1]


async def test_coins_when_asked_then_prove_their_amounts(chain: MineableChain, coin: ChainCoin) -> None:
    """The previous transaction hashes to the outpoint and holds the amount and script that the coin claims."""
    previous = parse_transaction(coin.previous_raw)

    assert previous.txid == coin.outpoint.txid
    assert previous.outputs[coin.outpoint.vout] == TxOut(coin.amount_sats, coin.script)


async def test_coins_when_script_is_asked_twice_then_tells_once(chain: MineableChain, coin: ChainCoin) -> None:
    """Repeated and unknown scripts change nothing."""
    assert await chain.coins([OPEN, OPEN, b"\x00\x14" + bytes(20)]) == (coin,)
    assert await chain.coins([]) == ()


async def test_coins_when_mempool_spends_one_then_leaves_it_out(chain: MineableChain, coin: ChainCoin) -> None:
    """A coin that waits to be spent is no coin, and what it will become is none yet."""
    await chain.broadcast(spend_open(coin, 1_000).serialize())

    assert await chain.coins([OPEN]) == ()


async def test_broadcast_when_two_of_three_sign_then_confirms(chain: MineableChain, coin: ChainCoin) -> None:
    """A P2WSH 2-of-3 spend goes from unknown over mempool to confirmed, and its depth grows."""
    funded = await fund_multisig(chain, coin)
    unsigned = Transaction(2, (TxIn(funded.outpoint),), (TxOut(Sats(funded.amount_sats - 500), OPEN),))
    signed = sign_two_of_three(unsigned, [funded.amount_sats])
    spent = [TxOut(funded.amount_sats, MULTISIG)]

    assert await chain.status(signed.txid) == TxStatus(TxState.UNKNOWN)
    assert await chain.check(signed.serialize(), spent) is None
    assert await chain.broadcast(signed.serialize()) is None
    assert await chain.status(signed.txid) == TxStatus(TxState.MEMPOOL)
    await chain.mine(2, OTHER)
    assert await chain.status(signed.txid) == TxStatus(TxState.CONFIRMED, 103, 2)


async def test_broadcast_when_repeated_then_answers_the_same(chain: MineableChain, coin: ChainCoin) -> None:
    """Handing a transaction in again is fine while it waits and after it confirmed."""
    raw = spend_open(coin, 1_000).serialize()
    assert await chain.broadcast(raw) is None
    assert await chain.broadcast(raw) is None
    await chain.mine(1, OTHER)

    assert await chain.broadcast(raw) is None


async def test_check_when_no_transaction_then_raises(chain: MineableChain) -> None:
    """Bytes that are no transaction are malformed, not refused."""
    for call in (chain.broadcast(b"\x02"), chain.check(b"\x02", [])):
        with pytest.raises(MalformedError, match="TRUNCATED"):
            await call


SIGNATURE_LIES: dict[str, tuple[Callable[[Transaction], Transaction], str]] = {
    "one_signature": (lambda t: _witness(t, lambda w: (b"", w[1], w[1], w[3])), "TX_CONSENSUS"),
    "order_swapped": (lambda t: _witness(t, lambda w: (b"", w[2], w[1], w[3])), "TX_CONSENSUS"),
    "other_script": (lambda t: _witness(t, lambda w: (*w[:3], w[3][:-1] + b"\xaf")), "TX_CONSENSUS"),
    "nulldummy": (lambda t: _witness(t, lambda w: (b"\x01", *w[1:])), "TX_CONSENSUS"),
    "high_s": (lambda t: _witness(t, lambda w: (b"", with_high_s(w[1]), *w[2:])), "TX_HIGH_S"),
    "locktime_changed": (lambda t: replace(t, locktime=1), "TX_CONSENSUS"),
}


def _witness(transaction: Transaction, change: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> Transaction:
    txin = transaction.inputs[0]
    return replace(transaction, inputs=(replace(txin, witness=change(txin.witness)),))


@pytest.mark.parametrize("lie", SIGNATURE_LIES)
async def test_check_when_signature_is_wrong_then_refuses(chain: MineableChain, coin: ChainCoin, lie: str) -> None:
    """A valid 2-of-3 spend with one change is refused by check and by broadcast with that change's code."""
    change, expected = SIGNATURE_LIES[lie]
    funded = await fund_multisig(chain, coin)
    unsigned = Transaction(2, (TxIn(funded.outpoint),), (TxOut(Sats(funded.amount_sats - 500), OPEN),))
    bad = change(sign_two_of_three(unsigned, [funded.amount_sats], KEYS[1:]))

    assert code(await chain.check(bad.serialize(), [TxOut(funded.amount_sats, MULTISIG)])) == expected
    assert code(await chain.broadcast(bad.serialize())) == expected
    assert await chain.status(bad.txid) == TxStatus(TxState.UNKNOWN)


async def test_check_when_amount_is_false_then_refuses(chain: MineableChain, coin: ChainCoin) -> None:
    """A SegWit signature commits to the amount: check with another one refuses."""
    funded = await fund_multisig(chain, coin)
    unsigned = Transaction(2, (TxIn(funded.outpoint),), (TxOut(Sats(funded.amount_sats - 500), OPEN),))
    signed = sign_two_of_three(unsigned, [funded.amount_sats])

    answer = await chain.check(signed.serialize(), [TxOut(Sats(funded.amount_sats + 1), MULTISIG)])

    assert code(answer) == "TX_CONSENSUS"


async def test_broadcast_when_input_is_unknown_then_refuses(chain: MineableChain, coin: ChainCoin) -> None:
    """A coin that no transaction made cannot be spent."""
    stranger = spend_open((OutPoint(b"\x07" * 32, 0), 50_000), 1_000)

    assert code(await chain.broadcast(stranger.serialize())) == "TX_INPUT_MISSING"


async def test_broadcast_when_coin_is_spent_in_a_block_then_refuses(chain: MineableChain, coin: ChainCoin) -> None:
    """A second spend of a confirmed spend conflicts, and its status says so when told what it spends."""
    await chain.broadcast(spend_open(coin, 1_000).serialize())
    await chain.mine(1, OTHER)
    second = spend_open(coin, 2_000)

    assert code(await chain.broadcast(second.serialize())) == "TX_CONFLICT"
    assert await chain.status(second.txid, [coin.outpoint]) == TxStatus(TxState.CONFLICTED, 102, 1)


async def test_broadcast_when_fee_is_higher_then_replaces(chain: MineableChain, coin: ChainCoin) -> None:
    """A signalling transaction gives way to a better paying one, with all that builds on it."""
    first = spend_open(coin, 1_000)
    child = spend_open((OutPoint(first.txid, 0), first.outputs[0].amount), 1_000)
    for transaction in (first, child):
        assert await chain.broadcast(transaction.serialize()) is None

    assert code(await chain.broadcast(spend_open(coin, 2_050).serialize())) == "TX_REPLACEMENT_FEE"
    better = spend_open(coin, 3_000)
    assert await chain.broadcast(better.serialize()) is None

    assert (await chain.status(better.txid)).state is TxState.MEMPOOL
    assert (await chain.status(first.txid)).state is TxState.CONFLICTED
    await chain.mine(1, OTHER)
    assert (await chain.status(better.txid)).state is TxState.CONFIRMED
    assert await chain.status(first.txid) == TxStatus(TxState.CONFLICTED, 102, 1)


async def test_broadcast_when_first_does_not_signal_then_keeps_it(chain: MineableChain, coin: ChainCoin) -> None:
    """Without the signal of BIP-125 no fee buys a replacement."""
    first = spend_open(coin, 1_000, sequence=0xFFFFFFFE)
    assert await chain.broadcast(first.serialize()) is None

    assert code(await chain.broadcast(spend_open(coin, 9_000).serialize())) == "TX_CONFLICT"
    assert (await chain.status(first.txid)).state is TxState.MEMPOOL


async def test_mine_when_child_waits_behind_parent_then_takes_both(chain: MineableChain, coin: ChainCoin) -> None:
    """A chain of unconfirmed transactions confirms in one block, and the coinbase gets their fees."""
    first = spend_open(coin, 1_000)
    child = spend_open((OutPoint(first.txid, 0), first.outputs[0].amount), 2_000)
    for transaction in (first, child):
        assert await chain.broadcast(transaction.serialize()) is None

    await chain.mine(1, MULTISIG)

    assert (await chain.status(child.txid)).state is TxState.CONFIRMED
    await chain.mine(100, OTHER)
    (reward,) = await chain.coins([MULTISIG])
    assert reward.amount_sats == 5_000_000_000 + 3_000


async def test_mine_when_halvings_pass_then_kernel_still_accepts(chain: MineableChain) -> None:
    """Regtest halves every 150 blocks; a wrong subsidy would be refused."""
    await chain.mine(301, OPEN)
    await chain.mine(100, OTHER)

    amounts = {c.height: c.amount_sats for c in await chain.coins([OPEN])}
    assert [amounts[h] for h in (149, 150, 299, 300)] == [5_000_000_000, 2_500_000_000, 2_500_000_000, 1_250_000_000]


async def test_reorg_when_a_spend_is_undone_then_it_waits_again(chain: MineableChain, coin: ChainCoin) -> None:
    """A transaction of a replaced block goes back to the mempool and confirms again; coins follow."""
    transaction = spend_open(coin, 1_000)
    await chain.broadcast(transaction.serialize())
    await chain.mine(3, OTHER)
    assert (await chain.status(transaction.txid)).depth_blocks == 3

    await chain.reorg(3, OTHER)

    assert await chain.height() == 105
    assert (await chain.status(transaction.txid)).state is TxState.MEMPOOL
    await chain.mine(1, OTHER)
    assert await chain.status(transaction.txid) == TxStatus(TxState.CONFIRMED, 106, 1)
    assert [c.outpoint for c in await chain.coins([OPEN])] == [OutPoint(transaction.txid, 0)]


async def test_reorg_when_branch_spends_the_coin_then_conflicts(chain: MineableChain, coin: ChainCoin) -> None:
    """A double spend that wins by a longer branch leaves the first one conflicted, without asking for outpoints."""
    first, second = spend_open(coin, 1_000), spend_open(coin, 900, to=MULTISIG)
    await chain.broadcast(first.serialize())
    await chain.mine(2, OTHER)

    await chain.reorg(2, OTHER, [second.serialize()])

    assert await chain.status(second.txid) == TxStatus(TxState.CONFIRMED, 102, 3)
    assert await chain.status(first.txid) == TxStatus(TxState.CONFLICTED, 102, 3)
    assert await chain.coins([OPEN]) == ()


async def test_block_when_asked_then_is_the_one_of_the_best_chain(chain: MineableChain, coin: ChainCoin) -> None:
    """Blocks name their parents; whole ones hold the coinbase and what was spent; above the tip is none."""
    spend = spend_open(coin, 1_000)
    await chain.broadcast(spend.serialize())
    (block_hash,) = await chain.mine(1, OTHER)

    below, block = await chain.block(101), await chain.block(102)

    assert block is not None
    assert below is not None
    assert (block.height, block.block_hash, block.parent) == (102, block_hash, below.block_hash)
    if block.transactions is not None:  # a protocol without blocks has headers alone
        assert [one.txid for one in block.transactions][1:] == [spend.txid]
    assert await chain.block(103) is None


async def test_block_when_the_chain_reorganises_then_is_another(chain: MineableChain, coin: ChainCoin) -> None:
    """What a replaced block held is in no block any more."""
    await chain.broadcast(spend_open(coin, 1_000).serialize())
    await chain.mine(1, OTHER)
    before = await chain.block(102)

    await chain.reorg(1, OTHER)

    after = await chain.block(102)
    assert before is not None
    assert after is not None
    assert before.block_hash != after.block_hash
    assert before.parent == after.parent
    assert after.transactions is None or len(after.transactions) == 1


async def test_history_when_asked_then_tells_what_pays_and_what_spends(chain: MineableChain, coin: ChainCoin) -> None:
    """Confirmed ones by height, then what waits; each once, also where it pays one script and spends another."""
    first = spend_open(coin, 1_000, to=MULTISIG)
    await chain.broadcast(first.serialize())
    await chain.mine(1, OTHER)
    funded = OutPoint(first.txid, 0), first.outputs[0].amount
    unsigned = Transaction(2, (TxIn(funded[0]),), (TxOut(Sats(funded[1] - 500), OPEN),))
    second = sign_two_of_three(unsigned, [funded[1]])
    await chain.broadcast(second.serialize())

    found = await chain.history([MULTISIG, OPEN, MULTISIG])

    told = [(touch.transaction.txid, touch.height) for touch in found]
    assert told == [(coin.outpoint.txid, 1), (first.txid, 102), (second.txid, None)]
    assert [touch.transaction.txid for touch in await chain.history([MULTISIG])] == [first.txid, second.txid]
    assert await chain.history([]) == ()
    assert await chain.history([b"\x00\x14" + bytes(20)]) == ()


async def test_history_when_a_block_is_undone_then_it_waits_again(chain: MineableChain, coin: ChainCoin) -> None:
    """Heights follow the best chain."""
    spend = spend_open(coin, 1_000, to=MULTISIG)
    await chain.broadcast(spend.serialize())
    await chain.mine(1, OTHER)

    await chain.reorg(1, OTHER)

    assert [(touch.transaction.txid, touch.height) for touch in await chain.history([MULTISIG])] == [(spend.txid, None)]


async def test_fee_rate_when_asked_then_is_at_least_the_relay_floor(chain: MineableChain) -> None:
    """A rate below 1 sat/vB would not travel."""
    assert await chain.fee_rate_sat_vb() >= 1


async def test_wait_for_change_when_nothing_happens_then_waits(chain: MineableChain) -> None:
    """It returns at once for an old view, waits for the present one, and wakes on a block and on a broadcast."""
    seen = await chain.wait_for_change(0)
    waiting = asyncio.create_task(chain.wait_for_change(seen))
    await asyncio.sleep(0.01)
    assert not waiting.done()

    await chain.mine(1, OPEN)

    assert await asyncio.wait_for(waiting, 1) != seen


async def test_calls_when_many_at_once_then_all_answer(chain: MineableChain, coin: ChainCoin) -> None:
    """Concurrent readers and a miner do not disturb each other."""
    answers = await asyncio.gather(
        chain.mine(20, OTHER),
        *(chain.coins([OPEN]) for _ in range(20)),
        chain.broadcast(spend_open(coin, 400).serialize()),
    )

    assert len(answers) == 22
    assert await chain.height() == 121


@pytest.mark.parametrize("pause_s", [0, 0.002, 0.01])
async def test_mine_when_its_task_is_cancelled_then_all_or_nothing(chain: MineableChain, pause_s: float) -> None:
    """Giving up on a call leaves no half of it, and the chain goes on."""
    mining = asyncio.create_task(chain.mine(50, OPEN))
    await asyncio.sleep(pause_s)
    mining.cancel()

    assert await chain.height() in (0, 50)
    await chain.mine(1, OPEN)


async def test_calls_when_closed_then_unavailable(chain: Opened) -> None:
    """A closed chain knows nothing; closing again is fine."""
    await chain.close()
    await chain.close()

    with pytest.raises(UnavailableError, match="CHAIN_CLOSED"):
        await chain.lag_blocks()
    with pytest.raises(UnavailableError, match="CHAIN_CLOSED"):
        await chain.height()
