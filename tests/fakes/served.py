"""A chain seen through a server: the embedded regtest, served on loopback, asked by one of our adapters.

What an adapter sees goes over real sockets; mining and reorganisations happen behind the server's back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from coordinator.chain.embedded import EmbeddedChain
from coordinator.chain.outside import OutsideChain, Source
from coordinator.chain.serving.run import Places, serve
from custody.wallet import Network
from tests.fakes.clock import FakeClock

POLL_S = 0.02


class ServedChain(OutsideChain):
    """An adapter of ours over a served chain, whose blocks the test makes. Make it with `open`."""

    def __init__(self, source: Source, chain: EmbeddedChain, stack: AsyncExitStack) -> None:
        super().__init__("served", source, Network.REGTEST, POLL_S)
        self.chain, self._stack = chain, stack

    @staticmethod
    async def open(directory: Path, make_source: Callable[[Places], Source]) -> ServedChain:
        """Return an empty chain behind the server that `make_source` talks to."""
        stack = AsyncExitStack()
        chain = await stack.enter_async_context(await EmbeddedChain.open(directory, FakeClock()))
        places = await serve(chain, directory / "cookie", stack, (0, 0, 0))
        return ServedChain(make_source(places), chain, stack)

    async def close(self) -> None:
        """Close the adapter, then the servers and the chain."""
        await super().close()
        await self._stack.aclose()

    async def mine(self, count: int, script: bytes) -> tuple[bytes, ...]:
        """See `MineableChain.mine`."""
        return await self.chain.mine(count, script)

    async def reorg(self, depth: int, script: bytes, transactions: Sequence[bytes] = ()) -> tuple[bytes, ...]:
        """See `MineableChain.reorg`."""
        return await self.chain.reorg(depth, script, transactions)
