"""A freeze past a coordinator that hides it, over real processes: witness, two nodes that witness, mTLS between all."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from console.channel import Address, call, open_channel
from console.posting import post_everywhere
from console.tls import TlsFiles
from custody.entries import Freeze
from custody.statements import Kind, sign
from custody.v1 import policy_pb2, policy_pb2_grpc
from deploy.stack import build, seed_of

pytestmark = pytest.mark.slow
NODES = {"alpha": "sealed-online", "beta": "sealed-online", "cold": "sealed"}
PATIENCE_SECONDS = 30.0


def test_freeze_posted_while_the_coordinator_is_silent_is_held_by_all_and_logged_later(tmp_path: Path) -> None:
    """The coordinator is stopped: witness and nodes hold the freeze all the same; it goes on and has to log it."""
    stack = build(tmp_path / "stack", say=lambda line: None, nodes=NODES)
    try:
        stack.start()
        home, genesis = stack.person("dave"), stack.genesis
        files = TlsFiles(home / "dave.pem", home / "dave.key", stack.ca.certificate_path)
        freeze_id = os.urandom(16)
        freeze = Freeze(genesis.hash, freeze_id, "dave", int(time.time()))
        signed = sign(Kind.FREEZE, freeze.to_json(), seed_of(home / "dave.ed25519"))
        coordinator = stack.processes["coordinator"].child.pid
        os.kill(coordinator, signal.SIGSTOP)

        witness = Address(f"127.0.0.1:{stack.witness_port}", files)
        delivery = asyncio.run(post_everywhere(signed, [witness], genesis.policy.roots, genesis.hash))
        held = {node: len(list((stack.node(node) / "state" / "held").glob("*.json"))) for node in ("alpha", "beta")}
        os.kill(coordinator, signal.SIGCONT)

        assert delivery.is_done, delivery
        assert len(delivery.posted.by) >= 2
        assert sum(held.values()) >= len(delivery.posted.by) - 1
        assert freeze_id.hex() in asyncio.run(_frozen(Address(stack.address, files)))

        told = stack.keyturn("bob", "veto", "ab" * 32, "--yes")["delivery"]
        assert (told["done"], told["coordinator"]) == (True, "WITHDRAWAL_UNKNOWN"), told
        assert len(told["receipts"]) >= 2, "by the witness of bob's own settings, for a withdrawal that nobody shows"
    finally:
        stack.stop()


async def _frozen(address: Address) -> list[str]:
    """Return the ids of the freezes in the coordinator's log, as soon as there is one."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    async with open_channel(address) as channel:
        while True:
            rules = await call(policy_pb2_grpc.PolicyServiceStub(channel).GetRules, policy_pb2.GetRulesRequest())
            if rules.freezes or time.monotonic() > deadline:
                return [freeze.freeze_id for freeze in rules.freezes]
            await asyncio.sleep(0.2)
