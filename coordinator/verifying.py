"""Verify many signatures in another process, so that one very large PSBT does not hold up every other call.

Only curve work goes there: public keys, digests and signatures in, yes or no out; nothing that leaves this machine's
memory is secret. Whose signature it is, and over what, is settled here. A worker that dies takes the call with it and
never stands for a yes.
"""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import signal
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from custody import curve
from custody.errors import UnavailableError
from custody.facts import Facts
from custody.psbt import Psbt
from custody.signatures import Accepted, InputSignature, accept
from custody.wallet import ScriptBook

# About 10 ms of curve work, as long as other calls may well wait; copying as many to a worker takes less than 1 ms.
MANY_SIGNATURES = 256
WORKERS = 1  # the event loop has the other core; withdrawals of this size come one at a time
_PR_SET_PDEATHSIG = 1  # prctl(2)

Claim = tuple[bytes, bytes, bytes]


def verdicts(claims: Sequence[Claim], is_taproot: bool) -> list[bool]:
    """Return for each (point, digest, signature), as `curve.Verifier` takes them, whether it is valid. Pure."""
    verifier = curve.Verifier()
    verify = verifier.verify_schnorr if is_taproot else verifier.verify
    return [verify(*claim) for claim in claims]


class Verifying:
    """`custody.signatures.accept` for PSBTs of any size. Its worker starts with the first large one.

    Args:
        many: from how many signatures on a worker verifies them.
    """

    def __init__(self, many: int = MANY_SIGNATURES) -> None:
        self._many = many
        self._pool: ProcessPoolExecutor | None = None

    async def accept(
        self, psbt: Psbt, facts: Facts, book: ScriptBook, signatures: Iterable[InputSignature]
    ) -> Accepted:
        """Return what `accept` returns.

        Raises:
            UnavailableError: WORKER_DIED; nothing was accepted, and the next call has a new worker.
        """
        asked = tuple(signatures)
        if len(asked) < self._many:
            return accept(psbt, facts, book, asked)
        claims: list[Claim] = []

        def note(point: bytes, digest: bytes, signature: bytes) -> bool:
            claims.append((point, digest, signature))
            return False

        accept(psbt, facts, book, asked, note)
        said = dict(zip(claims, await self._ask(claims, book.wallet.template.is_taproot), strict=True))
        return accept(psbt, facts, book, asked, lambda point, digest, signature: said[point, digest, signature])

    async def close(self) -> None:
        """End the worker, and what it was asked."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)

    async def _ask(self, claims: list[Claim], is_taproot: bool) -> list[bool]:
        pool = self._pool
        try:
            if pool is None:  # spawn: a fork would copy this process's secrets, locks and threads
                spawn = multiprocessing.get_context("spawn")
                pool = self._pool = ProcessPoolExecutor(WORKERS, mp_context=spawn, initializer=_end_with_parent)
            return await asyncio.get_running_loop().run_in_executor(pool, verdicts, claims, is_taproot)
        except (BrokenProcessPool, OSError) as error:  # OSError: no process or no semaphore to be had
            if self._pool is pool:
                self._pool = None
            raise UnavailableError("WORKER_DIED", "expected verdicts on signatures, found a dead worker") from error


def _end_with_parent() -> None:
    """Leave signals of the terminal to the coordinator, and do not outlive it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
