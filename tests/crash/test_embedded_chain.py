"""SIGKILL the process that holds the embedded chain: nothing it acknowledged is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coordinator.chain.blocklog import BlockLog, RecordKind
from coordinator.chain.blocks import read_header
from coordinator.chain.port import TxState
from coordinator.chain.regtest import Regtest
from coordinator.clock import SystemClock
from tests.fakes.spends import p2wsh

OTHER = p2wsh(b"\x51\x51")
ROUNDS = 5

# Acknowledges on stdout, one line each, only after the call returned.
WORKER = """
import itertools, sys
from pathlib import Path
from coordinator.chain.regtest import Regtest
from coordinator.clock import SystemClock
from tests.fakes.spends import OPEN, p2wsh, spend_open

chain = Regtest(Path(sys.argv[1]), SystemClock())
if chain.tip.height == 0:
    chain.mine(130, OPEN)
for step in itertools.count():
    coins = chain.coins([OPEN])
    if coins:
        transaction = spend_open(coins[0], 1_000)
        assert chain.broadcast(transaction.serialize()) is None
        print("tx", transaction.txid.hex(), flush=True)
    if step % 4 == 3:
        (block_hash,) = chain.mine(1, p2wsh(b"\\x51\\x51"))
        print("block", chain.tip.height, block_hash.hex(), flush=True)
    if step % 20 == 19:
        block_hash = chain.reorg(2, p2wsh(b"\\x51\\x51"))[-1]
        print("reorg", chain.tip.height, block_hash.hex(), flush=True)
"""


def _run_until_killed(directory: Path, seconds: float) -> list[list[str]]:
    """Run the worker, kill it `seconds` after its first acknowledgement, return what it acknowledged."""
    acknowledged = directory / "acknowledged"
    with acknowledged.open("wb") as out:
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(directory)],
            stdout=out,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )
        deadline = time.monotonic() + 20
        while acknowledged.stat().st_size == 0 and time.monotonic() < deadline and worker.poll() is None:
            time.sleep(0.005)
        time.sleep(seconds)
        worker.send_signal(signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL
    whole = acknowledged.read_text().rpartition("\n")[0]
    return [line.split() for line in whole.splitlines()]


@pytest.mark.slow
def test_chain_when_killed_at_any_moment_then_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """Five times: the tip is at least the acknowledged one, and no acknowledged transaction is unknown."""
    moments = random.Random(20)  # noqa: S311 (moments to kill at, not keys)
    for _ in range(ROUNDS):
        lines = _run_until_killed(tmp_path, moments.uniform(0, 0.25))
        assert lines, "the worker acknowledged nothing"

        with BlockLog(tmp_path / "chain.log") as log:
            bodies = [record.body for record in log.take_records() if record.kind is RecordKind.BLOCK]
        made = {bytes.fromhex(line[2]) for line in lines if line[0] != "tx"}
        assert made <= {read_header(body)[0] for body in bodies}

        chain = Regtest(tmp_path, SystemClock())

        tips = [(int(line[1]), bytes.fromhex(line[2])) for line in lines if line[0] != "tx"]
        if tips:
            height, block_hash = tips[-1]
            assert chain.tip.height >= height
            assert chain.tip.height > height or chain.tip.block_hash == block_hash
        for line in lines:
            if line[0] == "tx":
                assert chain.status(bytes.fromhex(line[1])).state in (TxState.MEMPOOL, TxState.CONFIRMED)
        chain.mine(1, OTHER)
        chain.close()
