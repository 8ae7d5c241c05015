"""A real stack whose nodes keep their keys in real Vaults, for the tests of what happens to them there.

Every part is its own process over mTLS. A withdrawal needs two of three signers. Where systemd is, `alpha` runs under
what its unit takes from it.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from custody.v1 import signer_pb2, signer_pb2_grpc, withdrawal_pb2
from custody.wallet import ScriptBook
from custody.withdrawal import Withdrawal
from deploy.stack import build
from tests.crash.light_stack import Light

NODES = {"alpha": "transit", "beta": "engine", "gamma": "sealed-online"}
PATIENCE_S = 90.0  # of a busy machine; a quiet one takes 10 s
COINS = 10
ROOT = Path(__file__).resolve().parents[1]
CONFINED, UNIT = (str(ROOT / path) for path in ("tests/fakes/confined.py", "deploy/systemd/keyturn-signer.service"))


def start(directory: Path) -> Light:
    """Return the stack, running, with coins; alpha enters OpenBao by its certificate, beta's key is in an engine."""
    stack = build(directory, lambda text: None, nodes=NODES)
    try:
        stack.commands = {"alpha": command_of_alpha()}
        stack.start()
        light = Light(stack)
        book = ScriptBook(stack.genesis.wallets[0].wallet)
        for index in range(COINS):
            light.mine(script=book.script(0, index).script)
        light.mine(101)
    except BaseException:
        stack.stop()
        raise
    return light


def command_of_alpha() -> list[str]:
    """Return what runs the node alpha."""
    online = [sys.executable, "-m", "signer_node", "online"]
    return [sys.executable, CONFINED, UNIT, *online] if shutil.which("systemd-analyze") else online


def until_broadcast(light: Light, asked: Withdrawal) -> withdrawal_pb2.Withdrawal:
    """Return it once it is broadcast; a node that a test stopped stays stopped."""
    end = time.monotonic() + PATIENCE_S
    while (found := light.view(asked)).stage != withdrawal_pb2.STAGE_BROADCAST:
        assert time.monotonic() < end, found
        time.sleep(0.1)
    return found


def signed_by(seen: withdrawal_pb2.Withdrawal) -> set[str]:
    """Return the names of those whose signatures are there."""
    return {signer.name for signer in seen.signers if signer.progress == withdrawal_pb2.SIGNER_PROGRESS_SIGNED}


def wait_until(light: Light, node: str, state: str, code: str) -> None:
    """Return when the coordinator shows `node` with this state and code, heard since now."""
    since, end = int(time.time()), time.monotonic() + PATIENCE_S
    found: Any = None
    while time.monotonic() < end:
        answer = light.insist(
            lambda c: signer_pb2_grpc.SignerServiceStub(c).ListSigners, signer_pb2.ListSignersRequest()
        )
        shown = next(view for view in answer.nodes if view.node == node)
        found = (signer_pb2.BackendState.Name(shown.backend).removeprefix("BACKEND_STATE_").lower(), shown.backend_code)
        if shown.connected and shown.heard_at >= since and found == (state, code):
            return
        time.sleep(0.2)
    raise AssertionError(f"expected {node} to be {state} {code}, found {found}")


def stop(light: Light) -> None:
    """End every process of the stack."""
    light.stack.stop()
    light.loop.close()
