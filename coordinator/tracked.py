"""What our scripts hold, block by block: coins, deposits, spends, and the history of each wallet; steps can be undone.

Pure; believes what it is given. The work of a block depends on the block and on what in it is ours, never on how many
wallets and scripts are watched: everything is found by script or by outpoint.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from coordinator.chain.port import SeenBlock
from custody.transaction import OutPoint, Transaction

MAX_UNDO = 100  # blocks that can be taken back: a coinbase is mature then, which is what consensus trusts to be deep


@dataclass(frozen=True, slots=True)
class Place:
    """Where a script stands. wallet_id: 32 bytes."""

    wallet_id: bytes
    branch: int
    index: int


@dataclass(frozen=True, slots=True)
class OurCoin:
    """An output on one of our scripts. height: of its block."""

    outpoint: OutPoint
    sats: int
    place: Place
    height: int


@dataclass(frozen=True, slots=True)
class OurTransaction:
    """A transaction that spends or makes coins of ours. spent, made: those, in its order."""

    transaction: Transaction
    height: int
    spent: tuple[OurCoin, ...]
    made: tuple[OurCoin, ...]

    @property
    def deposits(self) -> tuple[OurCoin, ...]:
        """What it brings to a wallet from outside: change of that wallet's own coins is none."""
        own = {coin.place.wallet_id for coin in self.spent}
        return tuple(coin for coin in self.made if coin.place.wallet_id not in own)


@dataclass(frozen=True, slots=True)
class Line:
    """One line in the history of a wallet. txid: 32 bytes, wire order.  balance_sats: after it.

    fee_sats: of a transaction that spends coins of this wallet alone; 0 for others, whose payer bears it.
    """

    height: int
    txid: bytes
    received_sats: int
    spent_sats: int
    fee_sats: int
    balance_sats: int


class Tracked:
    """Every watched script and what it holds, as of one block. height, block_hash: of it; b"" where nobody knows."""

    def __init__(self) -> None:
        self.height, self.block_hash = 0, b""
        self._scripts: dict[bytes, Place] = {}
        self._coins: dict[OutPoint, OurCoin] = {}
        self._by_wallet: dict[bytes, dict[OutPoint, OurCoin]] = {}
        self._lines: dict[bytes, list[Line]] = {}
        self._watched: dict[tuple[bytes, int], int] = {}
        self._highest: dict[tuple[bytes, int], int] = {}
        self._undo: deque[tuple[int, bytes, tuple[OurTransaction, ...]]] = deque(maxlen=MAX_UNDO)

    def watch(self, script: bytes, place: Place) -> None:
        """Watch one more script, from the next block on; of one branch in order of the indices."""
        self._scripts[script] = place
        self._watched[place.wallet_id, place.branch] = place.index + 1

    def watched(self, wallet_id: bytes, branch: int) -> int:
        """Return how many scripts of a branch are watched, from index 0 on."""
        return self._watched.get((wallet_id, branch), 0)

    @property
    def scripts(self) -> Mapping[bytes, Place]:
        """Every watched script."""
        return self._scripts

    def highest(self, wallet_id: bytes, branch: int) -> int:
        """Return the highest index that was ever paid, -1 for none; what was undone counts too."""
        return self._highest.get((wallet_id, branch), -1)

    def balance_sats(self, wallet_id: bytes) -> int:
        """Return what the wallet holds."""
        lines = self._lines.get(wallet_id)
        return lines[-1].balance_sats if lines else 0

    def coins(self, wallet_id: bytes) -> Mapping[OutPoint, OurCoin]:
        """Return the unspent coins of the wallet."""
        return self._by_wallet.get(wallet_id, {})

    def history(self, wallet_id: bytes, limit: int, newer: int = 0) -> tuple[Line, ...]:
        """Return the newest `limit` lines of the wallet behind the `newer` newest, newest first."""
        lines = self._lines.get(wallet_id, [])
        return tuple(islice(reversed(lines), newer, newer + limit)) if newer < len(lines) else ()

    def lines(self, wallet_id: bytes) -> Sequence[Line]:
        """Return every line of the wallet, oldest first."""
        return self._lines.get(wallet_id, ())

    def see(self, transaction: Transaction) -> None:
        """Count the places that `transaction`, which is in a block, pays as used; nothing else."""
        for output in transaction.outputs:
            if (place := self._scripts.get(output.script)) is not None:
                self._use(place)

    def waiting(self, transaction: Transaction) -> OurTransaction | None:
        """Return what `transaction`, which is in no block, would do; None where nothing of it is ours."""
        made = self._made(transaction, height=0)
        spent = tuple(self._coins[i.outpoint] for i in transaction.inputs if i.outpoint in self._coins)
        return OurTransaction(transaction, 0, spent, made) if made or spent else None

    def connect(self, block: SeenBlock) -> tuple[OurTransaction, ...]:
        """Apply the next block, or what of it is ours; return that, in the order given."""
        transactions = block.transactions or ()
        made = [self._made(transaction, block.height) for transaction in transactions]
        for coin in (coin for coins in made for coin in coins):  # first: parts of a block may come in any order
            self._add(coin)
            self._use(coin.place)
        found = []
        for transaction, coins in zip(transactions, made, strict=True):
            spent = self._take(transaction)
            if coins or spent:
                found.append(OurTransaction(transaction, block.height, spent, coins))
                self._write(found[-1])
        self._undo.append((self.height, self.block_hash, tuple(found)))
        self.height, self.block_hash = block.height, block.block_hash
        return tuple(found)

    def disconnect(self) -> tuple[OurTransaction, ...] | None:
        """Take back the last block; return what of it was ours, last first, or None where it is too deep."""
        if not self._undo:
            return None
        self.height, self.block_hash, found = self._undo.pop()
        for one in reversed(found):
            for coin in one.spent:
                self._add(coin)
            for wallet_id in _wallets(one):
                self._lines[wallet_id].pop()
        for coin in (coin for one in found for coin in one.made):  # last: one of them may have spent another's
            self._remove(coin)
        return found[::-1]

    def rest_on(self, height: int, block_hash: bytes) -> None:
        """Take the present state as that after this block; what led to it cannot be taken back."""
        self.height, self.block_hash = height, block_hash
        self._undo.clear()

    def blocks(self) -> tuple[tuple[int, bytes], ...]:
        """Return height and hash of the blocks that can be gone back to, the newest first."""
        known = [(self.height, self.block_hash), *((height, name) for height, name, _ in reversed(self._undo))]
        return tuple((height, name) for height, name in known if name)

    def _made(self, transaction: Transaction, height: int) -> tuple[OurCoin, ...]:
        scripts = self._scripts
        ours = [at for at, output in enumerate(transaction.outputs) if output.script in scripts]
        if not ours:
            return ()
        txid, outputs = transaction.txid, transaction.outputs  # hashed once, and only where something is ours
        return tuple(
            OurCoin(OutPoint(txid, at), outputs[at].amount, scripts[outputs[at].script], height) for at in ours
        )

    def _take(self, transaction: Transaction) -> tuple[OurCoin, ...]:
        spent = tuple(self._coins[i.outpoint] for i in transaction.inputs if i.outpoint in self._coins)
        for coin in spent:
            self._remove(coin)
        return spent

    def _write(self, one: OurTransaction) -> None:
        txid, input_count = one.transaction.txid, len(one.transaction.inputs)
        outputs_sats = sum(output.amount for output in one.transaction.outputs)
        spent, received = Counter[bytes](), Counter[bytes]()
        for coin in one.spent:
            spent[coin.place.wallet_id] += coin.sats
        for coin in one.made:
            received[coin.place.wallet_id] += coin.sats
        is_alone = len(one.spent) == input_count and len(spent) == 1  # else another payer bears some of the fee
        for wallet_id in _wallets(one):
            balance = self.balance_sats(wallet_id) + received[wallet_id] - spent[wallet_id]
            fee = spent[wallet_id] - outputs_sats if is_alone and wallet_id in spent else 0
            line = Line(one.height, txid, received[wallet_id], spent[wallet_id], fee, balance)
            self._lines.setdefault(wallet_id, []).append(line)

    def _use(self, place: Place) -> None:
        key = place.wallet_id, place.branch
        self._highest[key] = max(self._highest.get(key, -1), place.index)

    def _add(self, coin: OurCoin) -> None:
        self._coins[coin.outpoint] = coin
        self._by_wallet.setdefault(coin.place.wallet_id, {})[coin.outpoint] = coin

    def _remove(self, coin: OurCoin) -> None:
        self._coins.pop(coin.outpoint, None)
        self._by_wallet.get(coin.place.wallet_id, {}).pop(coin.outpoint, None)


def _wallets(one: OurTransaction) -> Iterable[bytes]:
    return dict.fromkeys(coin.place.wallet_id for coin in (*one.spent, *one.made))
