"""Following the chain: deposits as they are, and an alarm within one block for every spend that nothing released."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.chain.port import SeenBlock, TxState, TxStatus
from coordinator.watching import ALARM, Watching
from custody.audit import Log
from custody.canonical import decode
from custody.errors import UnavailableError
from custody.facts import Facts, ShapeLimits, read_facts
from custody.fields import Fields
from custody.finalise import finalize
from custody.psbt import parse, serialize
from custody.signatures import InputSignature, accept, sighashes
from custody.transaction import OutPoint, Transaction, TxOut, parse_transaction
from custody.units import Sats
from custody.updater import SpendableCoin, build
from custody.wallet import RECEIVE, Network
from signer_node.backends.signing import sign_and_drop
from tests.fakes.cleared import ClearedInputs
from tests.fakes.spends import OPEN as TRUE
from tests.fakes.spends import spend_open
from tests.integration.harness import OPEN, Organisation, close, genesis_of, organise
from tests.world import NODES, bitcoin_seed


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[Organisation]:
    """An organisation with four coins, and two coins that a payer may spend."""
    found = await organise(genesis_of(), tmp_path)
    await found.chain.mine(2, TRUE)
    await found.chain.mine(100, OPEN)
    yield found
    await close(found)


@pytest.fixture
async def watching(there: Organisation) -> Watching:
    """A watch that has seen everything so far."""
    found = Watching(there.parts)
    await found.look()
    return found


async def said(there: Organisation) -> list[tuple[str, Fields]]:
    """Return kind and fields of every event of the watch, in order."""
    size = there.parts.store.head(Log.EVENT).size
    entries = await there.parts.store.entries(Log.EVENT, 0, size, 1 << 24)
    found = []
    for raw in entries:
        event = Fields(decode(raw), "event")
        if event.text("actor") == "chain":
            found.append((event.text("kind"), event.fields("fields")))
    return found


async def kinds(there: Organisation) -> list[str]:
    """Return the kind of every event of the watch, in order."""
    return [kind for kind, _ in await said(there)]


async def pay(there: Organisation, fee: int = 1_000, index: int = 7) -> Transaction:
    """Send a payer's coin to the treasury's address `index`."""
    coin, *_ = await there.chain.coins([TRUE])
    paid = spend_open(coin, fee, to=there.book.script(RECEIVE, index).script)
    assert await there.chain.broadcast(paid.serialize()) is None
    return paid


async def steal(there: Organisation) -> Transaction:
    """Spend a coin of the treasury with two stolen keys and no release."""
    book = there.book
    (coin, *_) = await there.chain.coins([book.script(RECEIVE, 0).script])
    spendable = SpendableCoin(coin.outpoint, parse_transaction(coin.previous_raw), RECEIVE, 0)
    outputs = [TxOut(Sats(coin.amount_sats - 1_000), TRUE)]
    psbt = parse(serialize(build(book, [spendable], outputs, ())))
    facts = read_facts(psbt, book, ShapeLimits())
    assert isinstance(facts, Facts)
    signatures: list[InputSignature] = []
    for node in ("alpha", "beta"):
        pubkey = book.script(RECEIVE, 0).pubkeys[NODES.index(node)]
        cleared = ClearedInputs(sighashes(psbt, facts, book), ((RECEIVE, 0),), (pubkey,))
        signatures += sign_and_drop(lambda name=node: bitcoin_seed(name), Network.REGTEST, cleared)  # type: ignore[misc]
    stolen = finalize(psbt, facts, book, accept(psbt, facts, book, signatures))
    assert await there.chain.broadcast(stolen.serialize()) is None
    return stolen


async def test_spend_when_nothing_released_it_then_alarms_within_one_block(
    there: Organisation, watching: Watching
) -> None:
    """Two stolen keys and no RELEASE: one alarm with the wallet, the transaction and the coins; once."""
    stolen = await steal(there)
    await there.mine()

    for _ in range(2):
        await watching.look()

    ((kind, fields),) = await said(there)
    assert (kind, fields.text("wallet"), fields.text("txid")) == (ALARM, "treasury", stolen.txid_hex)
    assert fields.items("outpoints", 2) == (str(stolen.inputs[0].outpoint),)
    assert fields.integer("height") == await there.chain.height()


async def test_spend_when_nobody_watched_then_the_first_look_alarms(there: Organisation) -> None:
    """A coordinator that was down, or is new, says what happened before it came."""
    await steal(there)
    await there.mine(120)

    await Watching(there.parts).look()

    assert await kinds(there) == [ALARM]


async def test_spend_when_it_was_released_then_is_no_alarm(there: Organisation, watching: Watching) -> None:
    """A withdrawal goes out as it should; its change is no deposit."""
    asked = there.withdrawal()
    await there.propose(asked)
    await there.run(asked)
    await there.mine()

    await watching.look()

    assert await kinds(there) == []
    wallet_id = there.book.wallet.wallet_id
    assert watching.tracked is not None
    line = watching.tracked.lines(wallet_id)[-1]
    assert line.spent_sats - line.received_sats == 1_000_000 + line.fee_sats
    coins = await there.chain.coins([there.book.script(branch, n).script for branch in (0, 1) for n in range(30)])
    assert watching.tracked.balance_sats(wallet_id) == sum(coin.amount_sats for coin in coins)


async def test_withdrawal_when_its_block_is_undone_then_goes_out_again(there: Organisation, watching: Watching) -> None:
    """A mempool may forget what a reorganisation took back: the watch hands it in again and says so."""
    asked = there.withdrawal()
    await there.propose(asked)
    await there.run(asked)
    await there.mine()
    await watching.look()

    await there.chain.reorg(1, OPEN)
    await watching.look()

    txid = (await there.session(asked)).txid or b""
    assert await kinds(there) == ["transaction.undone"]
    assert (await there.chain.status(txid)).state is TxState.MEMPOOL


async def test_deposit_when_it_comes_then_is_seen_claimed_and_confirmed(there: Organisation) -> None:
    """Each state is said once, in order of time."""
    there.parts = replace(there.parts, confirmations=2)
    watching = Watching(there.parts)
    paid = await pay(there)
    await watching.look()
    assert await kinds(there) == ["deposit.seen"]
    await there.mine()
    await watching.look()
    assert await kinds(there) == ["deposit.seen", "deposit.claimed"]
    assert [coin.outpoint for coin in watching.claimed] == [OutPoint(paid.txid, 0)]
    await there.mine()

    for _ in range(2):
        await watching.look()

    assert await kinds(there) == ["deposit.seen", "deposit.claimed", "deposit.confirmed"]
    fields = (await said(there))[-1][1]
    assert (fields.integer("sats"), fields.integer("index")) == (paid.outputs[0].amount, 7)
    assert watching.claimed == ()


async def test_deposit_when_operators_do_not_agree_then_stays_claimed(
    there: Organisation, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deep in the blocks of one backend is not confirmed as long as the status of several says otherwise."""
    await pay(there)
    await there.mine(8)

    async def status(txid: bytes, outpoints: object = ()) -> TxStatus:
        return TxStatus(TxState.MEMPOOL)

    with monkeypatch.context() as patch:
        patch.setattr(there.chain, "status", status)
        await watching.look()
        assert await kinds(there) == ["deposit.claimed"]

    await watching.look()
    assert await kinds(there) == ["deposit.claimed", "deposit.confirmed"]


async def test_deposit_when_a_reorganisation_replaces_it_then_says_both(there: Organisation) -> None:
    """Undone with its block, then replaced by another spend of the payer's coin; the balance follows."""
    there.parts = replace(there.parts, confirmations=6)
    watching = Watching(there.parts)
    coin, *_ = await there.chain.coins([TRUE])
    await pay(there)
    await there.mine()
    await watching.look()
    before = _balance(there, watching)

    await there.chain.reorg(1, OPEN, [spend_open(coin, 900).serialize()])
    await watching.look()

    assert (await kinds(there))[-3:] == ["deposit.claimed", "deposit.undone", "deposit.replaced"]
    assert _balance(there, watching) == before - (coin.amount_sats - 1_000)


@pytest.mark.parametrize("depth", range(1, 7))
async def test_deposit_when_reorganised_at_any_depth_then_comes_back(there: Organisation, depth: int) -> None:
    """A deposit of a replaced block waits again, and is claimed again in its new one."""
    there.parts = replace(there.parts, confirmations=10)
    watching = Watching(there.parts)
    await pay(there)
    await there.mine(depth)
    await watching.look()

    await there.chain.reorg(depth, OPEN)
    await watching.look()
    await there.mine()
    await watching.look()

    assert await kinds(there) == ["deposit.claimed", "deposit.undone", "deposit.claimed"]


async def test_watch_when_it_is_made_anew_then_says_nothing_twice(there: Organisation) -> None:
    """The state is made again from the chain; a reorganisation meanwhile is noticed."""
    there.parts = replace(there.parts, confirmations=6)
    watching = Watching(there.parts)
    await pay(there)
    await there.mine(2)
    await watching.look()
    before = _balance(there, watching)

    again = Watching(there.parts)
    await again.look()
    assert await kinds(there) == ["deposit.claimed"]
    assert _balance(there, again) == before

    await there.chain.reorg(2, OPEN)
    third = Watching(there.parts)
    await third.look()
    assert (await kinds(there))[-1] == "deposit.undone"
    assert _balance(there, third) < before


async def test_look_when_the_store_fails_then_the_next_one_says_it(
    there: Organisation, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be written is not taken as said."""
    await steal(there)
    await there.mine()

    async def record(change: object) -> None:
        raise UnavailableError("STORE_UNWRITABLE", "expected room")

    with monkeypatch.context() as patch:
        patch.setattr(there.parts.store, "record", record)
        with pytest.raises(UnavailableError, match="STORE_UNWRITABLE"):
            await watching.look()

    await watching.look()
    assert await kinds(there) == [ALARM]


async def test_look_when_the_backend_has_headers_alone_then_alarms_too(
    there: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Electrum's protocol has no blocks: what touches our scripts is asked for."""
    whole = there.chain.block

    async def header(height: int) -> SeenBlock | None:
        found = await whole(height)
        return None if found is None else replace(found, transactions=None)

    monkeypatch.setattr(there.chain, "block", header)
    watching = Watching(there.parts)
    await watching.look()
    await steal(there)
    await pay(there)
    await there.mine()

    await watching.look()

    assert sorted(await kinds(there)) == sorted([ALARM, "deposit.claimed", "deposit.confirmed"])


def _balance(there: Organisation, watching: Watching) -> int:
    assert watching.tracked is not None
    return watching.tracked.balance_sats(there.book.wallet.wallet_id)
