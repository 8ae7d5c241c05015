"""Several backends as one `Chain`: no single operator can say that a payment is confirmed, or keep one from going out.

Confirmed is what two backends of different operators call confirmed, at the lesser depth of the two; where they
contradict each other it is said in the log, and the cautious answer counts. Coins and fees are asked of whoever
answers.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from coordinator.chain.outside import in_order
from coordinator.chain.port import Chain, ChainCoin, SeenBlock, Tip, Touch, TxState, TxStatus
from custody.errors import CustodyError, IntegrityError, MalformedError, Refused, UnavailableError
from custody.transaction import OutPoint, TxOut
from custody.units import SatsPerVByte

OPERATORS_FOR_CREDIT = 2  # protocol.md "Receiving"
FIRST_REST_S, MAX_REST_S = 5.0, 300.0  # a backend that failed is left alone, twice as long each time
MAX_TIP_GAP_BLOCKS = 2  # two blocks within seconds happen; three behind is a backend that hangs, or lies
_Answer = TypeVar("_Answer")
log = structlog.get_logger("coordinator")


@dataclass(slots=True)
class Backend:
    """One of them. operator: who runs it; two of one operator count once. rest_s, until: while it is left alone."""

    name: str
    operator: str
    chain: Chain
    rest_s: float = 0.0
    until: float = 0.0


class SeveralChains:
    """Implements `Chain` over one backend or more.

    Args:
        backends: in order of preference.
        needed: how many operators must agree on a confirmation; fewer exist only where the operator asked for it.
        monotonic: seconds that never step back; for rests alone.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        needed: int = OPERATORS_FOR_CREDIT,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if len({one.operator for one in backends}) < needed:
            raise MalformedError("CHAIN_OPERATORS", f"expected backends of at least {needed} operators")
        self._backends, self._needed, self._monotonic = tuple(backends), needed, monotonic

    async def tip(self) -> Tip:
        """See `Chain.tip`: the highest of those that answer. A backend that is far behind is said in the log."""
        tips = await self._everyone(lambda chain: chain.tip())
        best = max(tips.values(), key=lambda tip: tip.height)
        for name, tip in tips.items():
            if best.height - tip.height > MAX_TIP_GAP_BLOCKS:
                log.warning("chain.behind", backend=name, height=tip.height, best=best.height)
            elif tip.height == best.height and tip.block_hash != best.block_hash:
                log.warning("chain.fork", backend=name, height=tip.height)
        return best

    async def height(self) -> int:
        """See `Chain.height`."""
        return (await self.tip()).height

    async def lag_blocks(self) -> int | None:
        """See `Chain.lag_blocks`: behind its own headers, or behind the best of the others, whichever is more."""
        own = await self._first(lambda chain: chain.lag_blocks())
        tips = await self._everyone(lambda chain: chain.tip())
        if len(tips) < len(self._backends) or len(tips) == 1:
            return own
        behind = max(tip.height for tip in tips.values()) - next(iter(tips.values())).height
        return max(behind, own or 0)

    async def coins(self, scripts: Sequence[bytes]) -> tuple[ChainCoin, ...]:
        """See `Chain.coins`: of the first backend that answers. What it leaves out costs time, never money."""
        return await self._first(lambda chain: chain.coins(scripts))

    async def block(self, height: int) -> SeenBlock | None:
        """See `Chain.block`: of the first backend that has it whole, else of the first that has its header."""
        header: SeenBlock | None = None
        for one in self._awake():
            try:
                found = await one.chain.block(height)
            except (UnavailableError, IntegrityError) as error:
                self._failed(one, error)
                continue
            if found is not None and found.transactions is not None:
                return found
            header = header or found
        return header

    async def history(self, scripts: Sequence[bytes]) -> tuple[Touch, ...]:
        """See `Chain.history`: what any backend knows; in a block where one says so, at the height said first."""
        answers = await self._everyone(lambda chain: chain.history(scripts))
        found: dict[bytes, Touch] = {}
        for touch in (touch for touches in answers.values() for touch in touches):
            known = found.get(touch.transaction.txid)
            if known is None or known.height is None:
                found[touch.transaction.txid] = touch
        return in_order(found.values())

    async def check(self, raw: bytes, spent: Sequence[TxOut]) -> Refused | None:
        """See `Chain.check`. Computed here."""
        return await self._first(lambda chain: chain.check(raw, spent))

    async def broadcast(self, raw: bytes) -> Refused | None:
        """See `Chain.broadcast`: handed to all; one that takes it is enough, all that answer must refuse it."""
        answers = await self._everyone(lambda chain: _boxed(chain.broadcast(raw)))
        refusals = {name: refused for name, (refused,) in answers.items() if refused is not None}
        if len(refusals) < len(answers):
            for name, refused in refusals.items():
                log.warning("chain.disagrees", backend=name, about="broadcast", code=refused.code)
            return None
        return next(iter(refusals.values()))

    async def status(self, txid: bytes, outpoints: Sequence[OutPoint] = ()) -> TxStatus:
        """See `Chain.status`. CONFIRMED where enough operators say so; the cautious answer where they differ."""
        answers = await self._everyone(lambda chain: chain.status(txid, outpoints))
        states = {status.state for status in answers.values()}
        if {TxState.CONFIRMED, TxState.CONFLICTED} <= states:
            log.error("chain.disagrees", about="status", txid=txid[::-1].hex(), says=_said(answers))
        confirmed = self._by_operator(answers, TxState.CONFIRMED)
        if len(confirmed) >= self._needed:
            return sorted(confirmed.values(), key=lambda status: -status.depth_blocks)[self._needed - 1]
        conflicted = self._by_operator(answers, TxState.CONFLICTED)
        if len(conflicted) >= self._needed:
            return min(conflicted.values(), key=lambda status: status.depth_blocks)
        if TxState.CONFIRMED in states or TxState.MEMPOOL in states:
            return TxStatus(TxState.MEMPOOL)
        return TxStatus(TxState.UNKNOWN)

    async def fee_rate_sat_vb(self) -> SatsPerVByte:
        """See `Chain.fee_rate_sat_vb`: the median, so that one backend alone moves nothing far."""
        rates = await self._everyone(lambda chain: chain.fee_rate_sat_vb())
        return SatsPerVByte(int(statistics.median_high(rates.values())))

    async def wait_for_change(self, seen: int) -> int:
        """See `Chain.wait_for_change`: of the first backend that answers; its numbers mean nothing for another."""
        return await self._first(lambda chain: chain.wait_for_change(seen))

    def _by_operator(self, answers: dict[str, TxStatus], state: TxState) -> dict[str, TxStatus]:
        """Return for each operator that says `state` the least of its depths."""
        found: dict[str, TxStatus] = {}
        for one in self._backends:
            status = answers.get(one.name)
            if status is not None and status.state is state:
                known = found.get(one.operator)
                found[one.operator] = min(known or status, status, key=lambda s: s.depth_blocks)
        return found

    def _awake(self) -> list[Backend]:
        """Return those that are not left alone; all of them where none would be left."""
        now = self._monotonic()
        return [one for one in self._backends if one.until <= now] or list(self._backends)

    async def _first(self, call: Callable[[Chain], Awaitable[_Answer]]) -> _Answer:
        """Return the first answer in order of preference. Raises what the last backend raised."""
        failure: CustodyError = UnavailableError("CHAIN_NONE", "expected a backend that answers")
        for one in self._awake():
            try:
                answer = await call(one.chain)
            except (UnavailableError, IntegrityError) as error:
                self._failed(one, error)
                failure = error
            else:
                one.rest_s = one.until = 0.0
                return answer
        raise failure

    async def _everyone(self, call: Callable[[Chain], Awaitable[_Answer]]) -> dict[str, _Answer]:
        """Return what each backend that answers says, by name. Raises UnavailableError where none does."""
        asked = self._awake()
        answers = await asyncio.gather(*(call(one.chain) for one in asked), return_exceptions=True)
        found: dict[str, _Answer] = {}
        for one, answer in zip(asked, answers, strict=True):
            if isinstance(answer, UnavailableError | IntegrityError):
                self._failed(one, answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                one.rest_s = one.until = 0.0
                found[one.name] = answer
        if not found:
            raise UnavailableError("CHAIN_NONE", "expected a backend that answers")
        return found

    def _failed(self, one: Backend, error: CustodyError) -> None:
        one.rest_s = min(MAX_REST_S, one.rest_s * 2 or FIRST_REST_S)
        one.until = self._monotonic() + one.rest_s
        log.warning("chain.failed", backend=one.name, code=error.code, rest_s=one.rest_s)


async def _boxed(call: Awaitable[_Answer]) -> tuple[_Answer]:
    """Return an answer that may be None in a box, so that it is told from no answer."""
    return (await call,)


def _said(answers: dict[str, TxStatus]) -> str:
    return ", ".join(f"{name} {status.state.value}" for name, status in sorted(answers.items()))
