"""A backend that tells the truth about a served chain, but for one lie: the port faked, never our own code."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from coordinator.chain.outside import Place, RawBlock, Source, Unspent
from coordinator.chain.port import Tip
from custody.errors import Refused, UnavailableError
from custody.transaction import OutPoint


@dataclass
class LyingSource:
    """Answers as `honest` does, with what is set here in its place.

    amount_sats, vout, script: of every coin.  raw: of every transaction.  height: what every transaction's block is
    said to be, -1 for none, None for the truth.  spent_by: who is said to spend every coin.  whole: of every block
    behind its header.  rate: of fees.
    pause_s: before each answer.
    """

    honest: Source
    amount_sats: int | None = None
    vout: int | None = None
    script: bytes | None = None
    raw: bytes | None = None
    height: int | None = None
    spent_by: Place | None = None
    whole: bytes | None = None
    rate: int | None = None
    genesis: str = ""
    pause_s: float = 0.0
    is_down: bool = False
    sent: list[bytes] = field(default_factory=list)

    async def _pause(self) -> None:
        if self.is_down:
            raise UnavailableError("CHAIN_HTTP", "expected an answer, found none")
        await asyncio.sleep(self.pause_s)

    async def close(self) -> None:
        """See `Source.close`."""
        await self.honest.close()

    async def genesis_hash(self) -> str:
        """See `Source.genesis_hash`."""
        await self._pause()
        return self.genesis or await self.honest.genesis_hash()

    async def tip(self) -> Tip:
        """See `Source.tip`."""
        await self._pause()
        return await self.honest.tip()

    async def lag_blocks(self) -> int | None:
        """See `Source.lag_blocks`."""
        return await self.honest.lag_blocks()

    async def unspent(self, scripts: Sequence[bytes]) -> tuple[Unspent, ...]:
        """See `Source.unspent`."""
        await self._pause()
        return tuple(self._changed(one) for one in await self.honest.unspent(scripts))

    def _changed(self, one: Unspent) -> Unspent:
        vout = one.outpoint.vout if self.vout is None else self.vout
        return replace(
            one,
            outpoint=OutPoint(one.outpoint.txid, vout),
            amount_sats=one.amount_sats if self.amount_sats is None else self.amount_sats,
            script=one.script if self.script is None else self.script,
        )

    async def transaction(self, txid: bytes) -> bytes | None:
        """See `Source.transaction`."""
        await self._pause()
        return await self.honest.transaction(txid) if self.raw is None else self.raw

    async def place(self, txid: bytes) -> Place | None:
        """See `Source.place`."""
        await self._pause()
        if self.height is None:
            return await self.honest.place(txid)
        return None if self.height < 0 else Place(txid, self.height)

    async def spender(self, outpoint: OutPoint) -> Place | None:
        """See `Source.spender`."""
        await self._pause()
        return await self.honest.spender(outpoint) if self.spent_by is None else self.spent_by

    async def block(self, height: int) -> RawBlock | None:
        """See `Source.block`."""
        await self._pause()
        found = await self.honest.block(height)
        return found if self.whole is None or found is None else RawBlock(found.header, self.whole)

    async def history(self, scripts: Sequence[bytes]) -> tuple[Place, ...]:
        """See `Source.history`."""
        await self._pause()
        return await self.honest.history(scripts)

    async def send(self, raw: bytes) -> Refused | None:
        """See `Source.send`."""
        await self._pause()
        self.sent.append(raw)
        return await self.honest.send(raw)

    async def fee_rate_sat_vb(self) -> int:
        """See `Source.fee_rate_sat_vb`."""
        await self._pause()
        return await self.honest.fee_rate_sat_vb() if self.rate is None else self.rate
