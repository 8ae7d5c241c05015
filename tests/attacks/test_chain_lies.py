"""A chain backend that lies: about amounts, scripts, outpoints, confirmations, fees, its network. No wrong money."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from coordinator.chain.embedded import EmbeddedChain
from coordinator.chain.esplora import EsploraSource
from coordinator.chain.http_source import HttpSource
from coordinator.chain.outside import OutsideChain, Place
from coordinator.chain.port import TxState, TxStatus
from coordinator.chain.rejections import rejection
from coordinator.chain.serving.run import serve
from coordinator.chain.several import Backend, SeveralChains
from custody.errors import IntegrityError, MalformedError, UnavailableError
from custody.transaction import OutPoint, Transaction, TxIn, TxOut, hash256
from custody.units import Sats
from custody.wallet import Network
from tests.fakes.clock import FakeClock
from tests.fakes.sources import LyingSource
from tests.fakes.spends import OPEN, p2wsh, spend_open

OTHER = p2wsh(b"\x51\x51")


@dataclass
class Scene:
    """One chain and three operators' views of it."""

    chain: EmbeddedChain
    sources: list[LyingSource]
    seconds: float = 0.0
    backends: list[Backend] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Give each operator its backend."""
        self.backends = [
            Backend(f"b{at}", f"operator-{at}", OutsideChain(f"b{at}", source, Network.REGTEST, poll_s=0.02))
            for at, source in enumerate(self.sources)
        ]

    @property
    def one(self) -> OutsideChain:
        """The first backend by itself."""
        found = self.backends[0].chain
        assert isinstance(found, OutsideChain)
        return found

    @property
    def liar(self) -> LyingSource:
        """What the first backend asks."""
        return self.sources[0]

    def all(self, count: int = 3, needed: int = 2) -> SeveralChains:
        """Return the first `count` backends as one chain."""
        return SeveralChains(self.backends[:count], needed, monotonic=lambda: self.seconds)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A chain with two mature coins on OPEN."""
    async with AsyncExitStack() as stack:
        chain = await stack.enter_async_context(await EmbeddedChain.open(tmp_path / "chain", FakeClock()))
        places = await serve(chain, tmp_path / "cookie", stack, (0, 0, 0))
        await chain.mine(2, OPEN)
        await chain.mine(100, OTHER)
        found = Scene(chain, [LyingSource(EsploraSource(HttpSource(places.esplora))) for _ in range(3)])
        for one in found.backends:
            assert isinstance(one.chain, OutsideChain)
            stack.push_async_callback(one.chain.close)
        yield found


COIN_LIES: dict[str, Callable[[LyingSource], None]] = {
    "amount": lambda source: setattr(source, "amount_sats", 1),
    "script": lambda source: setattr(source, "script", OTHER),
    "outpoint": lambda source: setattr(source, "vout", 7),
    "previous_transaction_of_another_coin": lambda source: setattr(source, "raw", _stranger().serialize()),
    "previous_transaction_is_noise": lambda source: setattr(source, "raw", b"\x00" * 64),
    "no_previous_transaction": lambda source: setattr(source, "raw", b""),
}


def _stranger() -> Transaction:
    return Transaction(2, (TxIn(OutPoint(b"\x07" * 32, 0)),), (TxOut(Sats(5), OPEN),))


@pytest.mark.parametrize("lie", COIN_LIES)
async def test_atk_031_backend_that_lies_about_a_coin_then_the_coin_is_not_there(scene: Scene, lie: str) -> None:
    """An amount, a script, an outpoint or bytes that do not hash to it: never a coin of ours."""
    assert len(await scene.one.coins([OPEN])) == 2
    scene = Scene(scene.chain, scene.sources)  # nothing is remembered from before the lie

    COIN_LIES[lie](scene.liar)

    assert await scene.one.coins([OPEN]) == ()


async def test_atk_032_transaction_of_64_bytes_then_proves_nothing(scene: Scene) -> None:
    """Bytes that could be an inner node of a merkle tree are hashed as what they are: another txid."""
    node = hash256(b"left") + hash256(b"right")
    scene.liar.raw = node

    assert len(node) == 64
    assert await scene.one.coins([OPEN]) == ()
    assert (await scene.one.status(hash256(node))).state is TxState.UNKNOWN


@pytest.mark.parametrize("lie", ["noise", "nothing", "another_block", "one_transaction_less", "one_twice"])
async def test_atk_032_block_with_other_transactions_then_is_no_block(scene: Scene, lie: str) -> None:
    """What its header does not commit to, or bytes that are no block: no answer, and said in the log."""
    coin, other = await scene.chain.coins([OPEN])
    for one in (coin, other):
        await scene.chain.broadcast(spend_open(one, 1_000).serialize())
    await scene.chain.mine(1, OTHER)
    block = await scene.chain.ask(lambda chain: chain.block_at(103))
    below = await scene.chain.ask(lambda chain: chain.block_at(102))
    assert block is not None
    assert below is not None
    assert (await scene.one.block(103)) is not None

    scene.liar.whole = {
        "noise": b"\x01" * 300,
        "nothing": b"",
        "another_block": below.serialize(),
        "one_transaction_less": replace(block, transactions=block.transactions[:2]).serialize(),
        "one_twice": replace(block, transactions=(*block.transactions, block.transactions[-1])).serialize(),
    }[lie]

    with pytest.raises(UnavailableError, match="CHAIN_BLOCK"):
        await scene.one.block(103)
    told = await scene.all().block(103)  # the next one is asked
    assert told is not None
    assert told.transactions == block.transactions


async def test_backend_of_another_network_then_nothing_is_asked_of_it(scene: Scene) -> None:
    """Mainnet's genesis block behind a regtest configuration."""
    scene.liar.genesis = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"

    for call in (scene.one.tip(), scene.one.coins([OPEN]), scene.one.fee_rate_sat_vb()):
        with pytest.raises(IntegrityError, match="CHAIN_NETWORK"):
            await call


async def test_one_operator_says_confirmed_then_it_is_not(scene: Scene) -> None:
    """For credit two operators must say so; the second one that does makes it confirmed, at the lesser depth."""
    coin, _ = await scene.chain.coins([OPEN])
    paid = spend_open(coin, 1_000)
    scene.liar.height = 50

    assert await scene.all().status(paid.txid) == TxStatus(TxState.MEMPOOL)
    await scene.chain.broadcast(paid.serialize())
    await scene.chain.mine(3, OTHER)
    assert await scene.all().status(paid.txid) == TxStatus(TxState.CONFIRMED, 103, 3)
    scene.sources[1].height, scene.sources[2].height = -1, -1
    assert await scene.all().status(paid.txid) == TxStatus(TxState.MEMPOOL)


async def test_two_backends_of_one_operator_say_confirmed_then_they_count_once(scene: Scene) -> None:
    """Who runs it counts, not how many machines."""
    scene.backends[1].operator = scene.backends[0].operator
    for source in scene.sources[:2]:
        source.height = 50

    assert (await scene.all().status(b"\x07" * 32)).state is TxState.MEMPOOL


async def test_one_operator_says_conflicted_then_it_is_not_believed(scene: Scene) -> None:
    """A false double spend would make us pay again: the transaction still waits."""
    coin, _ = await scene.chain.coins([OPEN])
    paid = spend_open(coin, 1_000)
    await scene.chain.broadcast(paid.serialize())
    await scene.chain.mine(1, OTHER)
    scene.liar.height, scene.liar.spent_by = -1, Place(b"\x07" * 32, 90)

    assert (await scene.one.status(paid.txid, [coin.outpoint])).state is TxState.CONFLICTED
    assert (await scene.all().status(paid.txid, [coin.outpoint])).state is TxState.CONFIRMED
    assert (await scene.all(count=2).status(paid.txid, [coin.outpoint])).state is TxState.MEMPOOL


async def test_fewer_operators_than_needed_then_it_does_not_start(scene: Scene) -> None:
    """One operator for credit has to be asked for."""
    with pytest.raises(MalformedError, match="CHAIN_OPERATORS"):
        scene.all(count=1)
    assert (await scene.all(count=1, needed=1).tip()).height == 102


async def test_one_backend_says_an_absurd_fee_rate_then_the_median_counts(scene: Scene) -> None:
    """Policy caps the rate as well; one liar among three moves nothing."""
    scene.liar.rate = 1_000_000

    assert await scene.all().fee_rate_sat_vb() == 2


async def test_backend_that_is_down_then_another_answers_and_it_is_left_alone(scene: Scene) -> None:
    """Twice as long each time, and asked again when its rest is over."""
    several = scene.all()
    scene.liar.is_down = True

    assert len(await several.coins([OPEN])) == 2
    first = scene.backends[0].until
    scene.seconds = first
    assert len(await several.coins([OPEN])) == 2
    assert scene.backends[0].until - first == 2 * first
    scene.seconds, scene.liar.is_down = scene.backends[0].until, False
    assert (await several.tip()).height == 102
    assert scene.backends[0].until == 0


async def test_all_backends_down_then_unavailable(scene: Scene) -> None:
    """Unknown is no answer."""
    for source in scene.sources:
        source.is_down = True

    for call in (scene.all().tip(), scene.all().coins([OPEN]), scene.all().status(b"\x07" * 32)):
        with pytest.raises(UnavailableError):
            await call


async def test_broadcast_that_one_backend_drops_then_the_others_have_it(scene: Scene) -> None:
    """A backend that keeps our transaction to itself cannot stop it."""
    coin, _ = await scene.chain.coins([OPEN])
    paid = spend_open(coin, 1_000)
    scene.liar.height = -1
    scene.liar.spent_by = Place(b"\x07" * 32, 90)  # "spent already": it refuses

    assert await scene.all().broadcast(paid.serialize()) is None
    assert scene.liar.sent == []
    assert (await scene.chain.status(paid.txid)).state is TxState.MEMPOOL


async def test_broadcast_of_a_bad_signature_then_no_backend_is_asked(scene: Scene) -> None:
    """Our own check comes first, whatever a server would say."""
    coin, _ = await scene.chain.coins([OPEN])
    bad = spend_open(coin, 1_000)
    bad = Transaction(2, (TxIn(coin.outpoint, sequence=0xFFFFFFFD, witness=(b"\x00",)),), bad.outputs)

    refused = await scene.all().broadcast(bad.serialize())

    assert refused is not None
    assert refused.code == "TX_CONSENSUS"
    assert all(source.sent == [] for source in scene.sources)


@pytest.mark.parametrize("depth", range(1, 7))
async def test_atk_058_reorganisation_then_what_was_confirmed_waits_again(scene: Scene, depth: int) -> None:
    """Of each depth from one to six, seen through other people's servers."""
    coin, _ = await scene.chain.coins([OPEN])
    paid = spend_open(coin, 1_000)
    await scene.all().broadcast(paid.serialize())
    await scene.chain.mine(depth, OTHER)
    assert await scene.all().status(paid.txid) == TxStatus(TxState.CONFIRMED, 103, depth)

    await scene.chain.reorg(depth, OTHER)

    assert await scene.all().status(paid.txid, [coin.outpoint]) == TxStatus(TxState.MEMPOOL)
    await scene.chain.mine(1, OTHER)
    assert (await scene.all().status(paid.txid)).state is TxState.CONFIRMED


WORDS = {
    "bad-txns-inputs-missingorspent": "TX_INPUT_MISSING",
    "sendrawtransaction RPC error: {'code':-26,'message':'min relay fee not met, 100 < 141'}": "TX_FEE_RATE",
    "txn-mempool-conflict": "TX_CONFLICT",
    "insufficient fee, rejecting replacement": "TX_REPLACEMENT_FEE",
    "mempool-script-verify-flag-failed (Script evaluated without error but finished with a false)": "TX_CONSENSUS",
    "something nobody has seen before": "TX_REJECTED",
}


@pytest.mark.parametrize("words", WORDS)
def test_rejection_given_a_servers_words_has_our_code(words: str) -> None:
    """A person reads the words, a program the code."""
    found = rejection(words)

    assert found is not None
    assert (found.code, found.found) == (WORDS[words], words)


@pytest.mark.parametrize("words", ["txn-already-in-mempool", "Transaction outputs already in utxo set"])
def test_rejection_given_that_it_is_there_already_is_none(words: str) -> None:
    """Handing in twice is no refusal."""
    assert rejection(words) is None
