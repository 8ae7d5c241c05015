"""Choose the coins of a withdrawal and make its change. Pure; the updater (`custody.psbt.build`) does the rest.

The set of least waste among `coordinator.selecting`'s. Sizes are upper bounds, so the fee rate paid is never below the
one asked for. It does not reserve coins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.chain.port import ChainCoin
from coordinator.chain.relay import MAX_STANDARD_WEIGHT, check_outputs
from coordinator.selecting import LONG_TERM_SAT_VB, Wanted, candidates
from custody.errors import Refused
from custody.reader import compact_size
from custody.scripts import Template, spend_weight
from custody.transaction import TxOut
from custody.units import Sats, SatsPerVByte, VBytes

CHANGE_FLOOR_SATS = 10_000  # protocol.md "Shape": signers refuse smaller change
_BASE_WEIGHT = 4 * 8 + 2  # version and locktime; witness marker and flag
_INPUT_BYTES = 41  # outpoint 36, empty scriptSig 1, sequence 4


@dataclass(frozen=True, slots=True)
class OwnCoin:
    """A coin of the wallet and where its script stands in it. label: whom its owner had it from, "" where unsaid."""

    coin: ChainCoin
    branch: int
    index: int
    label: str = ""


@dataclass(frozen=True, slots=True)
class Multisig:
    """The shape of a wallet's inputs."""

    threshold: int
    key_count: int
    template: Template = Template.WSH

    @property
    def input_weight(self) -> int:
        """Weight of one signed input, at most."""
        return 4 * _INPUT_BYTES + spend_weight(self.template, self.threshold, self.key_count)


@dataclass(frozen=True, slots=True)
class Change:
    """The next unused change script. index: on branch 1."""

    script: bytes
    index: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What the transaction has to keep to.

    max_fee_sats: what the withdrawal allows.  apart: whether coins of different labels may not be inputs together.
    """

    rate_sat_vb: SatsPerVByte
    max_fee_sats: Sats
    shape: Multisig
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Spending:
    """A transaction to be.

    coins, outputs: in the order of the transaction (BIP-69, so that the place of the change tells nothing).
    change_index: on branch 1, None for no change.  vsize_vb: at most, once signed.
    """

    coins: tuple[OwnCoin, ...]
    outputs: tuple[TxOut, ...]
    change_index: int | None
    fee_sats: Sats
    vsize_vb: VBytes


def choose(
    coins: Sequence[OwnCoin], payments: Sequence[TxOut], change: Change, terms: Terms, required: Sequence[OwnCoin] = ()
) -> Spending | Refused:
    """Return the spending of least waste, or why there is none.

    What is left over becomes change of at least 10,000 sats, or is added to the fee where `max_fee_sats` allows that,
    or other coins are taken. The same coins in any order give the same answer.

    Args:
        coins: what may be used, any order.
        payments: outputs to make; none for a self-transfer, which is all change.
        change: where change would go.
        terms: rate, largest fee, input shape, whether labels stay apart.
        required: coins that must be among the inputs (a replacement conflicts with what it replaces).

    Returns:
        Refused: INSUFFICIENT_FUNDS, FEE_ABOVE_MAX, TX_WEIGHT, TX_DUST, TX_NONSTANDARD, or LABELS_APART where only coins
            of different labels together would do.
    """
    if refused := check_outputs(payments):
        return refused
    fixed = {own.coin.outpoint for own in required}
    free = [own for own in coins if own.coin.outpoint not in fixed]
    if not terms.apart:
        return _cheapest(free, payments, change, terms, required)
    labels = {own.label for own in required} or {own.label for own in free}
    groups = [[own for own in free if own.label == label] for label in sorted(labels)]
    answers = [_cheapest(group, payments, change, terms, required) for group in groups]
    found = [one for one in answers if isinstance(one, Spending)]
    if found:
        return min(found, key=lambda one: waste_sats(one, terms))
    together = _cheapest(free, payments, change, terms, required)
    if isinstance(together, Spending):
        return Refused("LABELS_APART", "coins of one label that are enough", "enough only with those of another")
    return together


def waste_sats(spending: Spending, terms: Terms) -> int:
    """Return what `spending` costs beyond the payments and their own share of the fee, against spending later.

    Each input at the difference between this rate and the long-term one; change at what making it costs now and
    spending it costs later; without change what went to the fee above the rate.
    """
    rate, shape = terms.rate_sat_vb, terms.shape
    inputs = len(spending.coins) * shape.input_weight * (rate - LONG_TERM_SAT_VB) // 4
    if spending.change_index is None:
        return inputs + spending.fee_sats - spending.vsize_vb * rate
    return inputs + (4 * _change_bytes(spending) * rate + shape.input_weight * LONG_TERM_SAT_VB) // 4


def _change_bytes(spending: Spending) -> int:
    """Return the size of the change output: the same script as the coins, so the longest there may be."""
    return max(len(output.serialize()) for output in spending.outputs)


def _cheapest(
    free: Sequence[OwnCoin], payments: Sequence[TxOut], change: Change, terms: Terms, required: Sequence[OwnCoin]
) -> Spending | Refused:
    """Return the spending of least waste with all of `required` and any of `free`."""
    cost = terms.shape.input_weight * terms.rate_sat_vb  # of one input, in quarter sats
    worth = _worth_most(free, above_sats=cost // 4)
    values = [4 * own.coin.amount_sats - cost for own in worth]
    wanted = _wanted(payments, change, terms, required)
    best: Spending | None = None
    answer: Refused | None = None
    for places in candidates(values, wanted) if wanted.with_change > 0 else ((),):
        found = _spending((*required, *(worth[at] for at in places)), payments, change, terms)
        if isinstance(found, Spending):
            best = min(best or found, found, key=lambda one: (waste_sats(one, terms), len(one.coins)))
        elif answer is None or answer.code == "INSUFFICIENT_FUNDS":
            answer = found
    paid, most = sum(payment.amount for payment in payments), sum(own.coin.amount_sats for own in (*required, *worth))
    return best or answer or Refused("INSUFFICIENT_FUNDS", f"coins of at least {paid} sats and the fee", f"{most} sats")


def _worth_most(free: Sequence[OwnCoin], above_sats: int) -> list[OwnCoin]:
    """Return the coins above what spending one costs, largest first, equals by outpoint."""
    amounts = [own.coin.amount_sats for own in free]
    order = [at for at, amount in enumerate(amounts) if amount > above_sats]
    order.sort(key=amounts.__getitem__, reverse=True)  # numbers alone: few of 100,000 outpoints need comparing
    start = 0
    for at in range(1, len(order) + 1):
        if at == len(order) or amounts[order[at]] != amounts[order[start]]:
            if at - start > 1:
                order[start:at] = sorted(order[start:at], key=lambda one: free[one].coin.outpoint)
            start = at
    return [free[at] for at in order]


def _wanted(payments: Sequence[TxOut], change: Change, terms: Terms, required: Sequence[OwnCoin]) -> Wanted:
    """Return what the coins beside `required` must be worth, in quarter sats; rounding is on the safe side."""
    rate, shape = terms.rate_sat_vb, terms.shape
    unset = TxOut(Sats(0), change.script)
    have = sum(4 * own.coin.amount_sats for own in required) - len(required) * shape.input_weight * rate
    paid = 4 * sum(payment.amount for payment in payments)
    body, with_change = _weight(0, payments, shape), _weight(0, [*payments, unset], shape)
    rounding = 3 * rate  # a begun vbyte counts whole
    target = paid + body * rate + rounding - have
    made = (with_change - body) * rate + shape.input_weight * LONG_TERM_SAT_VB  # what change costs, now and later
    most_fee = max(0, 4 * terms.max_fee_sats - body * rate)
    floor = paid + with_change * rate + rounding + 4 * CHANGE_FLOOR_SATS - have
    slack, each = min(made, most_fee), shape.input_weight * (rate - LONG_TERM_SAT_VB)
    return Wanted(target if payments else floor, slack if payments else 0, floor, each)


def _spending(coins: Sequence[OwnCoin], payments: Sequence[TxOut], change: Change, terms: Terms) -> Spending | Refused:
    """Return the transaction that spends exactly `coins`, or what stands against it."""
    total = sum(own.coin.amount_sats for own in coins)
    found = _with_inputs(len(coins), total, payments, change, terms)
    if isinstance(found, _Outputs):
        chosen = sorted(coins, key=lambda own: (own.coin.outpoint.txid[::-1], own.coin.outpoint.vout))
        return Spending(tuple(chosen), found.outputs, found.change_index, found.fee_sats, found.vsize_vb)
    paid = sum(payment.amount for payment in payments)
    return found or Refused("INSUFFICIENT_FUNDS", f"coins of at least {paid} sats and the fee", f"{total} sats")


@dataclass(frozen=True, slots=True)
class _Outputs:
    outputs: tuple[TxOut, ...]
    change_index: int | None
    fee_sats: Sats
    vsize_vb: VBytes


def _with_inputs(
    count: int, total: int, payments: Sequence[TxOut], change: Change, terms: Terms
) -> _Outputs | Refused | None:
    """Return what `count` inputs of `total` sats can pay, None when they are too little, or what stands against it."""
    left = total - sum(payment.amount for payment in payments)
    unset_change = TxOut(Sats(0), change.script)
    lean_vsize = _vsize(_weight(count, payments or [unset_change], terms.shape))
    lean_fee = lean_vsize * terms.rate_sat_vb
    weight = _weight(count, [*payments, unset_change], terms.shape)
    fee = _vsize(weight) * terms.rate_sat_vb
    if left < lean_fee:
        return None
    if weight > MAX_STANDARD_WEIGHT:
        return Refused("TX_WEIGHT", f"weight of at most {MAX_STANDARD_WEIGHT}", f"{weight} with {count} inputs")
    if left - fee >= CHANGE_FLOOR_SATS and fee <= terms.max_fee_sats:
        outputs = (*payments, TxOut(Sats(left - fee), change.script))
        return _Outputs(_in_order(outputs), change.index, Sats(fee), _vsize(weight))
    if payments and left <= terms.max_fee_sats:
        return _Outputs(_in_order(payments), None, Sats(left), lean_vsize)
    if lean_fee > terms.max_fee_sats or left - fee >= CHANGE_FLOOR_SATS:
        return Refused("FEE_ABOVE_MAX", f"a fee of at most {terms.max_fee_sats} sats", f"{fee}")
    return Refused(
        "INSUFFICIENT_FUNDS", f"{CHANGE_FLOOR_SATS} sats of change or a fee that takes them", f"{left} sats left over"
    )


def _in_order(outputs: Sequence[TxOut]) -> tuple[TxOut, ...]:
    return tuple(sorted(outputs, key=lambda output: (output.amount, output.script)))


def _weight(input_count: int, outputs: Sequence[TxOut], shape: Multisig) -> int:
    counts = len(compact_size(input_count)) + len(compact_size(len(outputs)))
    body = sum(len(output.serialize()) for output in outputs)
    return _BASE_WEIGHT + 4 * (counts + body) + input_count * shape.input_weight


def _vsize(weight: int) -> VBytes:
    return VBytes((weight + 3) // 4)
