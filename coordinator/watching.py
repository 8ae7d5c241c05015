"""Follow the chain and say what it does to our wallets: deposits as they are, and every spend that nothing released.

What is said stands in the event log; the state can be lost: it is made again from the chain, and nothing is said twice
but what was said in the moment of a crash. Backends are believed as `coordinator.chain` says: a deposit is claimed
until the operators agree that it is deep enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from coordinator.chain.port import SeenBlock, Touch, TxState
from coordinator.drafting import SCRIPTS_WATCHED
from coordinator.parts import Parts
from coordinator.store.port import Change, Event
from coordinator.tracked import MAX_UNDO, OurCoin, OurTransaction, Place, Tracked
from custody.canonical import Json, decode, encode
from custody.errors import CustodyError
from custody.fields import Fields
from custody.transaction import OutPoint, Transaction
from custody.units import MAX_TIME_S
from custody.wallet import CHANGE, RECEIVE

ACTOR = "chain"
ALARM = "coin.spent_unreleased"  # the event that `keyturn watch` alarms on
LOOK_SECONDS = 10.0  # a block comes every ten minutes; public servers count requests
EXPECTED = 20  # next deposit addresses of a wallet that are looked for before they are in a block
EXPECTED_A_LOOK = 20  # of them in one look, in turn: a question each, to some backends
MAX_OPEN = 100_000  # deposits that are not confirmed, 20 MB: whoever floods us is told of no further
MAX_NAMED = 20  # outpoints in one event
_CURSOR = "watching/cursor"
log = structlog.get_logger("coordinator")


@dataclass(frozen=True, slots=True)
class Deposit:
    """A deposit that is not confirmed. coin.height: 0 while it is in no block.  spends: what its transaction spends."""

    coin: OurCoin
    spends: tuple[OutPoint, ...]


class Watching:
    """Follows one chain for one coordinator. Call `look` again and again; a look that fails changes nothing for good.

    tracked: what every wallet holds, as of the last look; None before the first, and after a deep reorganisation.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.tracked: Tracked | None = None
        self._known: tuple[bytes, ...] = ()
        self._open: dict[OutPoint, Deposit] = {}
        self._turn = 0

    @property
    def claimed(self) -> tuple[OurCoin, ...]:
        """The deposits that no two operators call deep enough, those in no block too."""
        return tuple(deposit.coin for deposit in self._open.values())

    async def look(self) -> None:
        """Take in what the chain did since the last look, and say it.

        Raises:
            CustodyError: a backend or the store did not answer; the next look goes on where this one stopped.
        """
        known = tuple(self._parts.books)
        if self.tracked is None or known != self._known:
            await self._begin()
            self._known = known
        await self._follow()
        if self.tracked is not None:
            await self._settle()
            await self._look_at_waiting(self.tracked)

    # --- The beginning -----------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Make the state of the block that was said last, or of one that is deep; what follows is said."""
        chain, tracked = self._parts.chain, Tracked()
        cursor = await self._cursor()
        touches = await self._everything(tracked)
        height, block_hash = await self._fork(cursor, (await chain.tip()).height)
        found: list[OurTransaction] = []
        for at, transactions in _by_height(touches, height).items():
            found += tracked.connect(SeenBlock(at, b"", b"", transactions))
        tracked.rest_on(height, block_hash)
        if cursor is None:  # what was spent before anybody watched is judged too, once
            await self._say([event for one in found for event in await self._judge(one)])
        self._open = {} if cursor is None else {deposit.coin.outpoint: deposit for deposit in cursor.open}
        gone = [d for d in self._open.values() if d.coin.height > height]
        await self._say([_deposit_event("deposit.undone", self._name(d.coin), d.coin) for d in gone])
        self._open |= {d.coin.outpoint: replace(d, coin=replace(d.coin, height=0)) for d in gone}
        self.tracked = tracked

    async def _everything(self, tracked: Tracked) -> tuple[Touch, ...]:
        """Return all that ever touched our scripts; more scripts are watched as used ones are found."""
        found: dict[bytes, Touch] = {}
        while new := self._widen(tracked, self._parts.books):
            for touch in await self._parts.chain.history(new):
                found[touch.transaction.txid] = touch
                if touch.height is not None:
                    tracked.see(touch.transaction)
        return tuple(found.values())

    async def _fork(self, cursor: _Cursor | None, tip: int) -> tuple[int, bytes]:
        """Return the newest block that was said and still stands; where there is none, one as deep as can be undone."""
        chain = self._parts.chain
        for height, block_hash in () if cursor is None else cursor.blocks:
            block = await chain.block(height)
            if block is not None and block.block_hash == block_hash:
                return height, block_hash
        height = max(0, tip - MAX_UNDO)
        block = await chain.block(height) if height else None
        return height, b"" if block is None else block.block_hash

    def _widen(self, tracked: Tracked, wallets: Iterable[bytes]) -> tuple[bytes, ...]:
        """Watch SCRIPTS_WATCHED scripts above the highest used one of each branch; return those that are new."""
        new = []
        for wallet_id in wallets:
            book = self._parts.books[wallet_id]
            for branch in (RECEIVE, CHANGE):
                end = tracked.highest(wallet_id, branch) + 1 + SCRIPTS_WATCHED
                for index in range(tracked.watched(wallet_id, branch), end):
                    new.append(book.script(branch, index).script)
                    tracked.watch(new[-1], Place(wallet_id, branch, index))
        return tuple(new)

    # --- Blocks ------------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Go from our block to the tip: back where ours was replaced, then on, block by block."""
        chain = self._parts.chain
        touches: Mapping[int, tuple[Transaction, ...]] | None = None
        tip = await chain.tip()
        while (tracked := self.tracked) is not None and tracked.block_hash != tip.block_hash:
            block = await chain.block(tracked.height + 1)
            if block is not None and block.parent == (tracked.block_hash or block.parent):
                if block.transactions is None:  # this backend has no blocks: what touches us, by its own word
                    if touches is None:
                        touches = _by_height(await chain.history(tuple(tracked.scripts)), None)
                    block = replace(block, transactions=touches.get(block.height, ()))
                await self._said(self._connect(tracked, block))
                continue
            here = None if tracked.height == 0 else await chain.block(tracked.height)
            if here is None or here.block_hash == tracked.block_hash:
                return  # at the tip, or the backend is behind, or moves while we look
            await self._said(self._disconnect(tracked))

    async def _said(self, step: Awaitable[None]) -> None:
        """Take one step; where it could not be said, begin again at what was."""
        try:
            await step
        except CustodyError:
            self.tracked = None
            raise

    async def _connect(self, tracked: Tracked, block: SeenBlock) -> None:
        """Take in one block. Said before it is remembered: a crash says it twice, never not at all."""
        found = tracked.connect(block)
        events: list[Event] = []
        for one in found:
            events += await self._judge(one)
            spends = tuple(txin.outpoint for txin in one.transaction.inputs)
            for coin in one.deposits:
                if len(self._open) < MAX_OPEN or coin.outpoint in self._open:
                    self._open[coin.outpoint] = Deposit(coin, spends)
                events.append(_deposit_event("deposit.claimed", self._name(coin), coin))
        await self._say(events)
        await self._keep(tracked)
        self._widen(tracked, {coin.place.wallet_id for one in found for coin in one.made})

    async def _disconnect(self, tracked: Tracked) -> None:
        """Take back one block: its deposits wait again, and what we released goes out again."""
        height, found = tracked.height, tracked.disconnect()
        if found is None:
            log.error("chain.reorganised_deep", height=height)
            self.tracked = None
            return
        events: list[Event] = []
        for one in found:
            for coin in one.deposits:
                spends = tuple(txin.outpoint for txin in one.transaction.inputs)
                self._open[coin.outpoint] = Deposit(replace(coin, height=0), spends)
                events.append(_deposit_event("deposit.undone", self._name(coin), coin))
            if one.spent:
                events.append(Event("transaction.undone", ACTOR, {"txid": one.transaction.txid_hex, "height": height}))
        await self._say(events)
        await self._keep(tracked)
        for one in reversed(found):
            if one.spent and await self._is_released(one.transaction):
                await self._parts.chain.broadcast(one.transaction.serialize())

    async def _judge(self, one: OurTransaction) -> list[Event]:
        """Return the alarm, one for each wallet, where `one` spends coins of ours and the money log released it not."""
        if not one.spent or await self._is_released(one.transaction):
            return []
        events = []
        for wallet_id in dict.fromkeys(coin.place.wallet_id for coin in one.spent):
            coins = [coin for coin in one.spent if coin.place.wallet_id == wallet_id]
            fields: dict[str, Json] = {
                "wallet": self._name(coins[0]),
                "txid": one.transaction.txid_hex,
                "height": one.height,
                "sats": sum(coin.sats for coin in coins),
                "outpoints": [str(coin.outpoint) for coin in coins[:MAX_NAMED]],
            }
            log.error(ALARM, wallet=fields["wallet"], txid=fields["txid"], sats=fields["sats"], height=one.height)
            events.append(Event(ALARM, ACTOR, fields))
        return events

    async def _is_released(self, transaction: Transaction) -> bool:
        """Return whether the money log holds an admissible RELEASE of this very transaction."""
        state = await self._parts.followed.state(self._parts.clock.now())
        txid = transaction.unsigned().txid  # how releases name it, also where scriptSigs change its own
        return any(released.release.txid == txid for released in state.releases)

    # --- Deposits ----------------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Say which deposits are confirmed, which were replaced, and which nobody knows any more."""
        tip = await self._parts.chain.height()
        due = [d for d in self._open.values() if d.coin.height <= tip + 1 - self._parts.confirmations]
        events = []
        for deposit in due:
            kind = await self._became(deposit)
            if kind is not None:
                events.append(_deposit_event(kind, self._name(deposit.coin), deposit.coin))
                del self._open[deposit.coin.outpoint]
        await self._say(events)
        if events and self.tracked is not None:
            await self._keep(self.tracked)

    async def _became(self, deposit: Deposit) -> str | None:
        """Return the event that ends the wait for `deposit`, or None."""
        coin = deposit.coin
        status = await self._parts.chain.status(coin.outpoint.txid, deposit.spends)
        if status.state is TxState.CONFIRMED:
            is_deep = coin.height and status.depth_blocks >= self._parts.confirmations
            return "deposit.confirmed" if is_deep else None
        if coin.height:
            return None  # our block says otherwise than the others: claimed, until they agree
        return {TxState.CONFLICTED: "deposit.replaced", TxState.UNKNOWN: "deposit.gone"}.get(status.state)

    async def _look_at_waiting(self, tracked: Tracked) -> None:
        """Say deposits to the next addresses before they are in a block; some wallets in each look, in turn."""
        scripts = self._expected(tracked)
        events = []
        for touch in await self._parts.chain.history(scripts):
            one = tracked.waiting(touch.transaction) if touch.height is None else None
            for coin in () if one is None else one.deposits:
                if coin.outpoint not in self._open and len(self._open) < MAX_OPEN:
                    spends = tuple(txin.outpoint for txin in touch.transaction.inputs)
                    self._open[coin.outpoint] = Deposit(coin, spends)
                    events.append(_deposit_event("deposit.seen", self._name(coin), coin))
        await self._say(events)
        if events:
            await self._keep(tracked)

    def _expected(self, tracked: Tracked) -> tuple[bytes, ...]:
        wallets = tuple(self._parts.books)
        count = len(wallets) * EXPECTED
        places = [(self._turn + step) % count for step in range(min(EXPECTED_A_LOOK, count))] if count else []
        self._turn += len(places)
        found = []
        for place in places:
            wallet_id, step = wallets[place // EXPECTED], place % EXPECTED
            index = tracked.highest(wallet_id, RECEIVE) + 1 + step
            found.append(self._parts.books[wallet_id].script(RECEIVE, index).script)
        return tuple(found)

    # --- What is kept ------------------------------------------------------------------------------------------------

    async def _say(self, events: Sequence[Event]) -> None:
        if events:
            await self._parts.store.record(Change(self._parts.clock.now(), events=tuple(events)))

    def _name(self, coin: OurCoin) -> str:
        wallet = self._parts.wallet(coin.place.wallet_id)
        return coin.place.wallet_id.hex() if wallet is None else wallet.name

    async def _keep(self, tracked: Tracked) -> None:
        await self._parts.store.remember(_CURSOR, _Cursor(tracked.blocks(), tuple(self._open.values())).to_bytes())

    async def _cursor(self) -> _Cursor | None:
        raw = await self._parts.store.recall(_CURSOR)
        return None if raw is None else _Cursor.from_bytes(raw)


async def watch_for_ever(watching: Watching, parts: Parts) -> None:
    """Look at every change of the chain that its backend tells, and at least every LOOK_SECONDS."""
    seen = 0
    while True:
        try:
            await watching.look()
            async with asyncio.timeout(LOOK_SECONDS):
                seen = await parts.chain.wait_for_change(seen)
        except TimeoutError:
            continue
        except CustodyError as error:
            log.warning("watching.failed", code=error.code, message=error.message)
            await asyncio.sleep(LOOK_SECONDS)


@dataclass(frozen=True, slots=True)
class _Cursor:
    """What was said. blocks: up to which, newest first, for when the newest are replaced.  open: deposits that wait."""

    blocks: tuple[tuple[int, bytes], ...]
    open: tuple[Deposit, ...]

    def to_bytes(self) -> bytes:
        return encode(
            {
                "blocks": [{"height": height, "hash": name.hex()} for height, name in self.blocks],
                "open": [_deposit_json(deposit) for deposit in self.open],
            }
        )

    @staticmethod
    def from_bytes(raw: bytes) -> _Cursor:
        fields = Fields(decode(raw), "cursor")
        blocks = [Fields(one, "block") for one in fields.items("blocks", MAX_UNDO + 1)]
        deposits = [_read_deposit(Fields(one, "deposit")) for one in fields.items("open", MAX_OPEN)]
        fields.done()
        return _Cursor(
            tuple((one.integer("height", 0, MAX_TIME_S), one.hex("hash", 32)) for one in blocks), tuple(deposits)
        )


def _deposit_json(deposit: Deposit) -> Json:
    coin = deposit.coin
    return {
        "outpoint": str(coin.outpoint),
        "sats": coin.sats,
        "wallet": coin.place.wallet_id.hex(),
        "branch": coin.place.branch,
        "index": coin.place.index,
        "height": coin.height,
        "spends": [str(outpoint) for outpoint in deposit.spends],
    }


def _read_deposit(fields: Fields) -> Deposit:
    place = Place(fields.hex("wallet", 32), fields.integer("branch", 0, 1), fields.integer("index", 0, 2**31 - 1))
    height = fields.integer("height", 0, MAX_TIME_S)
    coin = OurCoin(OutPoint.parse(fields.text("outpoint")), fields.sats("sats"), place, height)
    spends = tuple(OutPoint.parse(str(one)) for one in fields.items("spends", 100_000))
    return Deposit(coin, spends)


def _deposit_event(kind: str, wallet: str, coin: OurCoin) -> Event:
    fields: dict[str, Json] = {
        "wallet": wallet,
        "outpoint": str(coin.outpoint),
        "sats": coin.sats,
        "branch": coin.place.branch,
        "index": coin.place.index,
    }
    return Event(kind, ACTOR, fields | ({"height": coin.height} if coin.height else {}))


def _by_height(touches: Iterable[Touch], up_to: int | None) -> Mapping[int, tuple[Transaction, ...]]:
    """Return the confirmed transactions by height, ascending, up to a height or all."""
    found: dict[int, list[Transaction]] = {}
    for touch in touches:
        if touch.height is not None and (up_to is None or touch.height <= up_to):
            found.setdefault(touch.height, []).append(touch.transaction)
    return {height: tuple(found[height]) for height in sorted(found)}
