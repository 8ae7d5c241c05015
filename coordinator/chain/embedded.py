"""The `Chain` port over a regtest chain in this process, on a thread of its own so that the event loop never waits.

Durable: blocks, and every transaction that `broadcast` accepted, survive SIGKILL and power loss. Trusted like this
process itself: the kernel checks each block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from coordinator.chain.port import ChainCoin, SeenBlock, Tip, Touch, TxStatus
from coordinator.chain.regtest import Regtest
from coordinator.clock import Clock
from custody.errors import Refused, UnavailableError
from custody.transaction import OutPoint, TxOut
from custody.units import SatsPerVByte

_Answer = TypeVar("_Answer")
_DEFAULT_RATE_SAT_VB = SatsPerVByte(2)  # twice the relay floor, so that a replacement has room on both sides


class EmbeddedChain:
    """Implements `MineableChain`. Make it with `open`, inside the event loop that uses it.

    Attributes:
        cut_bytes: length of an incomplete last record that was cut when the chain was opened, 0 for none.
    """

    def __init__(self, regtest: Regtest, thread: ThreadPoolExecutor, rate: SatsPerVByte) -> None:
        self.cut_bytes = regtest.cut_bytes
        self._regtest = regtest
        self._thread = thread
        self._rate = rate
        self._loop = asyncio.get_running_loop()
        self._version = 1
        self._changed = asyncio.Event()
        self._is_closed = False
        self._failure: UnavailableError | None = None

    @staticmethod
    async def open(directory: Path, clock: Clock, rate: SatsPerVByte = _DEFAULT_RATE_SAT_VB) -> EmbeddedChain:
        """Return the chain that `directory` holds, replayed to what was acknowledged last.

        Args:
            directory: made when missing.
            clock: gives block times.
            rate: what `fee_rate_sat_vb` answers, since a regtest has no fee market.

        Raises:
            IntegrityError: BLOCKLOG_DAMAGED.
            UnavailableError: BLOCKLOG_IN_USE, BLOCKLOG_IO or KERNEL_DIRECTORY.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chain")
        try:
            regtest = await asyncio.get_running_loop().run_in_executor(thread, Regtest, directory, clock)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return EmbeddedChain(regtest, thread, rate)

    async def close(self) -> None:
        """Finish what runs and let go of files and lock. Idempotent; later calls raise UnavailableError."""
        if not self._is_closed:
            self._is_closed = True
            await self._loop.run_in_executor(self._thread, self._regtest.close)
            self._thread.shutdown(wait=False)
            self._announce()

    async def __aenter__(self) -> EmbeddedChain:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def tip(self) -> Tip:
        """See `Chain.tip`."""
        return await self._run(lambda: self._regtest.tip)

    async def height(self) -> int:
        """See `Chain.height`."""
        return (await self.tip()).height

    async def lag_blocks(self) -> int | None:
        """See `Chain.lag_blocks`: every header is of a block that was made here."""
        await self.tip()  # a closed chain knows nothing
        return 0

    async def coins(self, scripts: Sequence[bytes]) -> tuple[ChainCoin, ...]:
        """See `Chain.coins`."""
        return await self._run(lambda: self._regtest.coins(scripts))

    async def block(self, height: int) -> SeenBlock | None:
        """See `Chain.block`."""
        found = await self._run(lambda: self._regtest.block_at(height))
        return None if found is None else SeenBlock(height, found.block_hash, found.parent, found.transactions)

    async def history(self, scripts: Sequence[bytes]) -> tuple[Touch, ...]:
        """See `Chain.history`."""
        return await self._run(lambda: self._regtest.touches(scripts))

    async def check(self, raw: bytes, spent: Sequence[TxOut]) -> Refused | None:
        """See `Chain.check`."""
        return await self._run(lambda: self._regtest.check(raw, spent))

    async def broadcast(self, raw: bytes) -> Refused | None:
        """See `Chain.broadcast`. Durable when it returns None."""
        return await self._run(self._changing(lambda: self._regtest.broadcast(raw)))

    async def status(self, txid: bytes, outpoints: Sequence[OutPoint] = ()) -> TxStatus:
        """See `Chain.status`. Tells CONFLICTED without `outpoints` for what it took itself."""
        return await self._run(lambda: self._regtest.status(txid, outpoints))

    async def fee_rate_sat_vb(self) -> SatsPerVByte:
        """See `Chain.fee_rate_sat_vb`. Always the configured rate."""
        return self._rate

    async def wait_for_change(self, seen: int) -> int:
        """See `Chain.wait_for_change`."""
        while self._version == seen:
            await self._changed.wait()
        if self._is_closed:
            raise UnavailableError("CHAIN_CLOSED", "expected an open chain, found it closed")
        return self._version

    async def mine(self, count: int, script: bytes) -> tuple[bytes, ...]:
        """See `MineableChain.mine`."""
        return await self._run(self._changing(lambda: self._regtest.mine(count, script)))

    async def reorg(self, depth: int, script: bytes, transactions: Sequence[bytes] = ()) -> tuple[bytes, ...]:
        """See `MineableChain.reorg`."""
        return await self._run(self._changing(lambda: self._regtest.reorg(depth, script, transactions)))

    async def ask(self, question: Callable[[Regtest], _Answer]) -> _Answer:
        """Return what `question`, which changes nothing, reads from the chain; on the chain's own thread."""
        return await self._run(lambda: question(self._regtest))

    async def _run(self, call: Callable[[], _Answer]) -> _Answer:
        if self._is_closed:
            raise UnavailableError("CHAIN_CLOSED", "expected an open chain, found it closed")
        return await self._loop.run_in_executor(self._thread, self._while_durable, call)

    def _while_durable(self, call: Callable[[], _Answer]) -> _Answer:
        """Answer nothing after a failed write, since memory may hold what the disk does not, until opened anew."""
        if self._failure:
            raise UnavailableError(self._failure.code, self._failure.message)
        try:
            return call()
        except UnavailableError as failure:
            self._failure = failure
            raise

    def _changing(self, call: Callable[[], _Answer]) -> Callable[[], _Answer]:
        """Announce from the chain's thread, so that a caller who gave up waiting takes no announcement with him."""

        def announced() -> _Answer:
            try:
                return call()
            finally:
                self._loop.call_soon_threadsafe(self._announce)

        return announced

    def _announce(self) -> None:
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()
