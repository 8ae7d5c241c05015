"""Check many signatures of this node's own backend in another process, so that a large PSBT does not stop its stream.

Only what leaves the node anyway goes there: public keys, digests, signatures. No key and no seed does. A worker that
dies takes the call with it and never stands for a yes: no signature leaves.
"""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from custody.curve import SecondVerifier, schnorr_verify_second
from custody.errors import UnavailableError

MANY_SIGNATURES = 256  # about 12 ms of the second library, as long as the stream may well wait
_PR_SET_PDEATHSIG = 1  # prctl(2)

Claim = tuple[bytes, bytes, bytes]


def all_signed(claims: Sequence[Claim]) -> bool:
    """Return whether the second library takes every (pubkey, digest, signature). Pure.

    pubkey: 33 bytes, then the signature is DER with SIGHASH_ALL; or 32 bytes, then it is of BIP-340.
    """
    verify = SecondVerifier().verify
    return all(
        schnorr_verify_second(pubkey, digest, made)
        if len(pubkey) == 32
        else made[-1:] == b"\x01" and verify(pubkey, digest, made[:-1])
        for pubkey, digest, made in claims
    )


class Checking:
    """`all_signed` for PSBTs of any size. Its worker starts with the first large one.

    Args:
        many: from how many signatures on a worker checks them.
    """

    def __init__(self, many: int = MANY_SIGNATURES) -> None:
        self._many = many
        self._pool: ProcessPoolExecutor | None = None

    async def all_signed(self, claims: Sequence[Claim]) -> bool:
        """Return what `all_signed` returns.

        Raises:
            UnavailableError: WORKER_DIED; nothing is known, and the next call has a new worker.
        """
        if len(claims) < self._many:
            return all_signed(claims)
        pool = self._pool
        try:
            if pool is None:  # spawn: a fork would copy this process's secrets
                spawn = multiprocessing.get_context("spawn")
                pool = self._pool = ProcessPoolExecutor(1, mp_context=spawn, initializer=_end_with_parent)
            return await asyncio.get_running_loop().run_in_executor(pool, all_signed, list(claims))
        except (BrokenProcessPool, OSError) as error:  # OSError: no process or no semaphore to be had
            if self._pool is pool:
                self._pool = None
            raise UnavailableError("WORKER_DIED", "expected a verdict on signatures, found a dead worker") from error

    async def close(self) -> None:
        """End the worker, and what it was asked."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)


def _end_with_parent() -> None:
    """Leave signals of the terminal to the node, and do not outlive it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
