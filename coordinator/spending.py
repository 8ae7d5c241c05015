"""Choose the coins of a withdrawal and make its change. Pure; the updater (`custody.psbt.build`) does the rest.

Fewest inputs, largest coins first. Sizes are upper bounds, so the fee rate paid is never below the one asked for.
It does not look for the cheapest set, keep labels apart or reserve coins.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from coordinator.chain.port import ChainCoin
from coordinator.chain.relay import MAX_STANDARD_WEIGHT, check_outputs
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
    """A coin of the wallet and where its script stands in it."""

    coin: ChainCoin
    branch: int
    index: int


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
    """What the transaction has to keep to. max_fee_sats: what the withdrawal allows."""

    rate_sat_vb: SatsPerVByte
    max_fee_sats: Sats
    shape: Multisig


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
    """Return the spending with the fewest coins, or why there is none.

    What is left over becomes change of at least 10,000 sats, or is added to the fee where `max_fee_sats` allows that,
    or one more coin is taken.

    Args:
        coins: what may be used, any order.
        payments: outputs to make; none for a self-transfer, which is all change.
        change: where change would go.
        terms: rate, largest fee, input shape.
        required: coins that must be among the inputs (a replacement conflicts with what it replaces).

    Returns:
        Refused: INSUFFICIENT_FUNDS, FEE_ABOVE_MAX, TX_WEIGHT, TX_DUST or TX_NONSTANDARD.
    """
    if refused := check_outputs(payments):
        return refused
    fixed = {own.coin.outpoint for own in required}
    free = [own for own in coins if own.coin.outpoint not in fixed]
    free.sort(key=lambda own: (-own.coin.amount_sats, own.coin.outpoint))
    ordered = (*required, *free)
    totals = list(accumulate(own.coin.amount_sats for own in ordered))
    paid = sum(payment.amount for payment in payments)
    answer = Refused("INSUFFICIENT_FUNDS", f"coins of at least {paid} sats and the fee", f"{sum(totals[-1:])} sats")
    enough = bisect_left(totals, paid) + 1  # fewer inputs cannot even make the payments
    for count in range(max(enough, len(required)), len(ordered) + 1):
        found = _with_inputs(count, totals[count - 1], payments, change, terms)
        if isinstance(found, _Outputs):
            chosen = sorted(ordered[:count], key=lambda own: (own.coin.outpoint.txid[::-1], own.coin.outpoint.vout))
            return Spending(tuple(chosen), found.outputs, found.change_index, found.fee_sats, found.vsize_vb)
        if found is not None:
            answer = found
            if found.code != "INSUFFICIENT_FUNDS":
                break  # more coins only weigh and cost more
    return answer


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
