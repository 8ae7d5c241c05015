"""`python3 dev.py bench chain`: coin selection with more coins and beside bdk's, and blocks with more wallets.

CPU time of one process, interleaved. The sets are random but seeded; waste is `coordinator.spending.waste_sats` of
both. Histories of wallets are measured too.
"""

from __future__ import annotations

import argparse
import base64
import random
import sys
from collections.abc import Sequence
from functools import partial

import bdkpython

from benchmarks._measure import Goal, machine, medians, report
from coordinator.chain.port import ChainCoin, SeenBlock
from coordinator.spending import Change, Multisig, OwnCoin, Spending, Terms, choose, waste_sats
from coordinator.tracked import Place, Tracked
from custody.psbt import parse
from custody.scripts import Template
from custody.transaction import OutPoint, Transaction, TxIn, TxOut
from custody.units import Sats, SatsPerVByte, VBytes
from custody.wallet import CHANGE, RECEIVE, ScriptBook, Wallet
from tests.fakes.psbts import wallet_of

FEW, MANY = 1_000, 100_000
CASES = 100
MOST_COINS = 60  # of one case: bdk is given each as a transaction of its own
PAYEE = b"\x00\x14" + b"\x07" * 20
MAX_FEE = Sats(10_000_000)
SEED = 20_261
SCRIPTS = 4  # of each wallet: what counts is how many there are in all
BLOCK_TRANSACTIONS = 2_000
PAGE = 100


def coins_of(amounts: Sequence[int], book: ScriptBook) -> list[tuple[OwnCoin, Transaction]]:
    """Return a coin of each amount, each made by a transaction of its own."""
    found = []
    for number, amount in enumerate(amounts):
        script = book.script(RECEIVE, number % 20).script
        txin = TxIn(OutPoint(bytes([7]) * 28 + number.to_bytes(4, "little"), 0))
        made = Transaction(2, (txin,), (TxOut(Sats(amount), script),))
        found.append((OwnCoin(ChainCoin(OutPoint(made.txid, 0), Sats(amount), script, 1, b""), 0, number % 20), made))
    return found


def amount(chance: random.Random) -> int:
    """Return an amount as wallets have them: most of them small, few large."""
    return int(min(50_000_000, max(1_000, chance.lognormvariate(11.5, 1.4))))


def selection_goal(book: ScriptBook) -> Goal:
    """Measure one selection among 10^5 coins over one among 10^3."""
    chance = random.Random(SEED)  # noqa: S311  # the same sets on every run
    change = Change(book.script(CHANGE, 0).script, 0)
    terms = Terms(SatsPerVByte(12), MAX_FEE, Multisig(2, 3))
    jobs = {}
    for name, count in (("few", FEW), ("many", MANY)):
        coins = [
            OwnCoin(ChainCoin(OutPoint(number.to_bytes(32), 0), Sats(amount(chance)), b"", 1, b""), 0, 0)
            for number in range(count)
        ]
        jobs[name] = partial(choose, coins, [TxOut(Sats(3_333_333), PAYEE)], change, terms)
    took = medians(jobs, rounds=5, budget_s=20)
    print(f"one selection among {MANY:,} coins: {took['many'] * 1000:.0f} ms", file=sys.stderr)
    return Goal(f"selection among {MANY:,} coins, over among {FEW:,}", took["many"] / took["few"], "<= 20")


def waste_goal(book: ScriptBook) -> Goal:
    """Count the cases of 100 in which we waste no more than bdk does with the same coins, payment and rate."""
    chance = random.Random(SEED)  # noqa: S311  # the same sets on every run
    won = measured = 0
    while measured < CASES:
        found = coins_of([amount(chance) for _ in range(chance.randint(3, MOST_COINS))], book)
        total = sum(own.coin.amount_sats for own, _ in found)
        payment = TxOut(Sats(max(1_000, int(total * chance.uniform(0.02, 0.8)))), PAYEE)
        terms = Terms(SatsPerVByte(chance.choice((1, 2, 5, 12, 20, 45, 80))), MAX_FEE, Multisig(2, 3))
        change = Change(book.script(CHANGE, 0).script, 0)
        ours = choose([own for own, _ in found], [payment], change, terms)
        theirs = chosen_by_bdk(book.wallet, found, payment, terms)
        if not isinstance(ours, Spending) or theirs is None:
            continue
        measured += 1
        won += waste_sats(ours, terms) <= waste_sats(theirs, terms)
    return Goal(f"cases of {CASES} in which we waste no more than bdk", float(won), ">= 95")


def chosen_by_bdk(
    wallet: Wallet, found: Sequence[tuple[OwnCoin, Transaction]], payment: TxOut, terms: Terms
) -> Spending | None:
    """Return what bdk's own selection makes of the same coins, or None where it finds nothing."""
    receive, change = (
        bdkpython.Descriptor(wallet.descriptor.partition("#")[0].replace("<0;1>", str(at)), bdkpython.NetworkKind.TEST)
        for at in (RECEIVE, CHANGE)
    )
    theirs = bdkpython.Wallet(receive, change, bdkpython.Network.REGTEST, bdkpython.Persister.new_in_memory())
    theirs.reveal_addresses_to(bdkpython.KeychainKind.EXTERNAL, 20)
    theirs.apply_unconfirmed_txs(
        [bdkpython.UnconfirmedTx(tx=bdkpython.Transaction(made.serialize()), last_seen=1) for _, made in found]
    )
    rate = bdkpython.FeeRate.from_sat_per_vb(int(terms.rate_sat_vb))
    builder = bdkpython.TxBuilder().add_recipient(
        bdkpython.Script(payment.script), bdkpython.Amount.from_sat(payment.amount)
    )
    try:
        psbt = builder.fee_rate(rate).finish(theirs)
    except bdkpython.CreateTxError:
        return None
    transaction = parse(base64.b64decode(psbt.serialize())).transaction
    by_outpoint = {own.coin.outpoint: own for own, _ in found}
    coins = tuple(by_outpoint[txin.outpoint] for txin in transaction.inputs)
    has_change = len(transaction.outputs) > 1
    fee = sum(own.coin.amount_sats for own in coins) - sum(output.amount for output in transaction.outputs)
    weight = (
        4 * (8 + 2 + sum(len(o.serialize()) for o in transaction.outputs)) + 2 + len(coins) * terms.shape.input_weight
    )
    return Spending(coins, transaction.outputs, 0 if has_change else None, Sats(fee), VBytes((weight + 3) // 4))


def script_of(wallet: int, index: int) -> bytes:
    """Return a script that stands for one of a wallet's: its bytes are all that is looked at."""
    return b"\x00\x20" + wallet.to_bytes(16) + index.to_bytes(16)


def tracked_of(wallets: int) -> Tracked:
    """Return the watch of that many wallets, each with the same few scripts and a coin on the first."""
    tracked = Tracked()
    for wallet in range(wallets):
        for index in range(SCRIPTS):
            tracked.watch(script_of(wallet, index), Place(wallet.to_bytes(32), RECEIVE, index))
    txin = TxIn(OutPoint(bytes([8]) * 32, 0))
    outputs = tuple(TxOut(Sats(50_000), script_of(wallet, 0)) for wallet in range(wallets))
    tracked.connect(SeenBlock(1, b"", b"", (Transaction(2, (txin,), outputs),)))
    return tracked


def full_block(height: int) -> SeenBlock:
    """Return a block of BLOCK_TRANSACTIONS, one in fifty of which pays wallet 3; the others are strangers'."""
    found = []
    for number in range(BLOCK_TRANSACTIONS):
        txin = TxIn(OutPoint(height.to_bytes(16) + number.to_bytes(16), 0))
        script = script_of(3, number % SCRIPTS) if number % 50 == 0 else b"\x00\x14" + number.to_bytes(20)
        found.append(Transaction(2, (txin,), (TxOut(Sats(9_000), script), TxOut(Sats(7_000), PAYEE))))
    return SeenBlock(height, height.to_bytes(32), (height - 1).to_bytes(32), tuple(found))


def blocks_goal() -> Goal:
    """Measure one block among 20,000 watched wallets over one among 10."""
    block = full_block(2)
    for transaction in block.transactions or ():
        _ = transaction.txid  # hashed once: the same work for both

    def step(tracked: Tracked) -> None:
        tracked.connect(block)
        tracked.disconnect()

    jobs = {name: partial(step, tracked_of(count)) for name, count in (("few", 10), ("many", 20_000))}
    took = medians(jobs, rounds=25, budget_s=20)
    print(f"one block of {BLOCK_TRANSACTIONS:,} transactions: {took['many'] * 1000:.1f} ms", file=sys.stderr)
    return Goal("CPU of a block with 20,000 wallets, over with 10", took["many"] / took["few"], "<= 1.3")


def history_goal() -> Goal:
    """Measure balance and newest page of a wallet with 10^5 deposits over one with 10^3."""

    def page(tracked: Tracked) -> None:
        for _ in range(100):
            tracked.balance_sats(bytes(32))
            tracked.history(bytes(32), PAGE)

    jobs = {}
    for name, count in (("few", FEW), ("many", MANY)):
        tracked = tracked_of(1)
        for number in range(count):
            txin = TxIn(OutPoint(number.to_bytes(32), 1))
            paid = Transaction(2, (txin,), (TxOut(Sats(9_000), script_of(0, number % SCRIPTS)),))
            tracked.connect(SeenBlock(number + 2, number.to_bytes(32), b"", (paid,)))
        jobs[name] = partial(page, tracked)
    took = medians(jobs, rounds=25, budget_s=20)
    return Goal(
        f"balance and history after {MANY:,} deposits, over after {FEW:,}", took["many"] / took["few"], "<= 1.3"
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return the exit code: 0 every goal is met, 1 one is missed."""
    parser = argparse.ArgumentParser(prog="bench chain", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    args = parser.parse_args(arguments)
    where = machine()
    if not args.json:
        print(where)
    book = ScriptBook(wallet_of(2, 3, template=Template.WSH))
    goals = [selection_goal(book), waste_goal(book), blocks_goal(), history_goal()]
    return report("chain", goals, as_json=args.json, where=where)


if __name__ == "__main__":
    sys.exit(main())
