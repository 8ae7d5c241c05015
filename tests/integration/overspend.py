"""Rounds of 64 withdrawals at once against one budget and one set of coins: does anything above the budget get through?

Honest coordinator, all in one process: proposals run at the same time, reserve the same coins, are released and signed.
What was released inside the window, and what any signer signed of it, all signers taken together, are added up.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from coordinator import flow
from coordinator.session import Stage
from custody.errors import ConflictError
from custody.follow import Released
from custody.withdrawal import Withdrawal
from tests.fakes.rules import rule
from tests.integration.harness import DAY, Organisation, close, genesis_of, organise

PARALLEL, COINS, ROOM = 64, 6, 3
AMOUNT_SATS, FEE_SATS = 1_000_000, 20_000
BUDGET_SATS = ROOM * (AMOUNT_SATS + FEE_SATS) + AMOUNT_SATS - 1  # room for three, and a sat short of a fourth
ROUNDS_OF_ONE = 15  # of one organisation: its rules last thirty days, and a round takes one
RULES = (
    rule("pay", "allow", {"amount": {"max_sats": 500_000_000}}),
    rule("cap", "limit", {}, {"window": "day", "max_sats": BUDGET_SATS, "on_exceed": "deny"}),
)


@dataclass(frozen=True)
class Round:
    """What one round let through. released, signed: sats with the largest fees; by anybody, counted once."""

    proposed: int
    released: int
    signed: int

    @property
    def is_within(self) -> bool:
        """Whether neither the coordinator nor the signers together went above the budget."""
        return max(self.released, self.signed) <= BUDGET_SATS


async def rounds(count: int) -> AsyncIterator[Round]:
    """Yield `count` rounds."""
    genesis = genesis_of(*RULES)
    for begin in range(0, count, ROUNDS_OF_ONE):
        with tempfile.TemporaryDirectory() as name:
            org = await organise(genesis, Path(name), coins=COINS)
            try:
                for number in range(min(ROUNDS_OF_ONE, count - begin)):
                    yield await one_round(org, number)
                    await org.mine()  # what was paid confirms, and its change is a coin of the next round
                    org.clock.advance(DAY)
            finally:
                await close(org)


async def one_round(org: Organisation, number: int) -> Round:
    """Run one round and add up."""
    asked = [org.withdrawal(AMOUNT_SATS - at, withdrawal_id=f"r{number}-{at}") for at in range(PARALLEL)]
    before = {name: len(node._journal.signed) for name, node in org.nodes.items()}
    org.beat()
    taken = await _propose(org, asked)
    while await org._deliver():
        await asyncio.gather(*(flow.advance(org.parts, each.digest) for each in taken))
    now = org.clock.now()
    state = await org.parts.followed.state(now)
    recent = [released for released in state.releases if released.t > now - DAY]
    signed = {own.withdrawal_digest for name, node in org.nodes.items() for own in node._journal.signed[before[name] :]}
    return Round(len(taken), _total(recent), sum(_cost(each) for each in asked if each.digest in signed))


async def _propose(org: Organisation, asked: list[Withdrawal]) -> list[Withdrawal]:
    """Propose all at once, and again who lost a race for a coin, until the budget was full for a whole try."""
    taken: list[Withdrawal] = []
    is_full = False
    while True:
        waiting = [each for each in asked if each not in taken]
        begun = await asyncio.gather(*(org.propose(each) for each in waiting), return_exceptions=True)
        won = [each for each, stage in zip(waiting, begun, strict=True) if isinstance(stage, Stage)]
        strange = [e for e in begun if isinstance(e, BaseException) and not isinstance(e, ConflictError)]
        if strange:
            raise strange[0]
        taken += won
        if is_full or not won:
            return taken
        is_full = Stage.DENIED in begun


def _total(releases: list[Released]) -> int:
    return sum({r.release.family: r.release.total_sats for r in releases}.values())


def _cost(asked: Withdrawal) -> int:
    return asked.amount_sats
