"""Which sets of coins are worth a look for one payment. Pure; `coordinator.spending` makes each into a transaction.

Branch and bound looks for a set that needs no change (Murch, "An Evaluation of Coin Selection Strategies", 2016; Core's
coinselection.cpp). Beside it: the smallest coin that is enough, the fewest coins, the smallest coins. What is
compared in the end is waste: what the inputs cost more now than later, and what change costs or the lack of it.

Amounts are in quarter sats: a coin's value less what spending it costs, so that weights need no rounding.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import neg

LONG_TERM_SAT_VB = 10  # what spending a coin later is taken to cost: Core's DEFAULT_CONSOLIDATE_FEERATE
MAX_TRIES = 50_000  # steps of branch and bound, about 30 ms; more find hardly more (Core: 100,000)
MAX_GATHERED = 4  # times the fewest coins: gathering small ones saves later, but every input is signed now
MAX_SEARCHED = 2_000  # coins that it looks at: deeper ones are never reached in so many steps


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a set must be worth, in quarter sats. target: payments and the fee without inputs, without change.

    slack: how much more a set without change may hold.  with_change: what one with change must hold.
    each: what an input costs more now than later; below zero while fees are low.
    """

    target: int
    slack: int
    with_change: int
    each: int


def candidates(values: Sequence[int], wanted: Wanted) -> Iterator[tuple[int, ...]]:
    """Yield sets of places in `values` (quarter sats, all positive, largest first), each worth enough.

    The first is the one with the fewest coins; none where all of them together are too little.
    """
    fewest = 0
    for goal in (wanted.target, wanted.with_change):
        if fewest := _count(values, goal):
            yield tuple(range(fewest))
    exact = without_change(values, wanted)
    if exact is not None:
        yield exact
    single = _smallest_enough(values, wanted.with_change)
    if single is not None:
        yield (single,)
    small = _count(reversed(values), wanted.with_change, MAX_GATHERED * fewest)
    if small:  # many inputs, which is cheap while fees are low
        yield tuple(range(len(values) - small, len(values)))


def without_change(values: Sequence[int], wanted: Wanted) -> tuple[int, ...] | None:
    """Return the set within `slack` above `target` that wastes least, as far as MAX_TRIES steps find one.

    Depth first, each coin in before out, on coins in falling order. A branch is cut where what is left cannot reach the
    target, where it is above the slack, and where more inputs can only be worse than the best so far. A coin of the
    same value as the one just left out is left out too.
    """
    values = values[:MAX_SEARCHED]
    rest, target, limit, each = sum(values), wanted.target, wanted.target + wanted.slack, wanted.each
    chosen: list[int] = []
    best: tuple[int, ...] | None = None
    least, total, at = 0, 0, 0
    for _ in range(MAX_TRIES):
        waste = len(chosen) * each + total - target
        is_set = target <= total <= limit
        if is_set and (best is None or waste < least):
            best, least = tuple(chosen), waste
        is_worse = best is not None and each > 0 and len(chosen) * each > least
        if is_set or total > limit or total + rest < target or at == len(values) or is_worse:
            if not chosen:
                break
            last = chosen.pop()
            rest += sum(values[last + 1 : at])
            total -= values[last]
            at = last + 1
            continue
        value = values[at]
        rest -= value
        if not (at and value == values[at - 1] and (not chosen or chosen[-1] != at - 1)):
            chosen.append(at)
            total += value
        at += 1
    return best


def _smallest_enough(values: Sequence[int], goal: int) -> int | None:
    """Return the place of the smallest value of at least `goal`."""
    count = bisect_left(values, -goal + 1, key=neg)  # how many are at least `goal`
    return count - 1 if count else None


def _count(values: Iterable[int], goal: int, most: int | None = None) -> int:
    """Return how many of `values`, in their order, reach `goal`; 0 where all of them, or `most`, do not."""
    total = 0
    for count, value in enumerate(islice(values, most), 1):
        total += value
        if total >= goal:
            return count
    return 0
