"""A real stack of nodes whose keys are in real Vaults that fail: others sign, and the node comes back.

Every part is its own process over mTLS. What a withdrawal needs is two of three signers.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from custody.v1 import signer_pb2, signer_pb2_grpc, withdrawal_pb2
from custody.wallet import ScriptBook
from custody.withdrawal import Withdrawal
from deploy.engine import COMMAND
from deploy.openbao import Server
from deploy.stack import build
from tests.crash.light_stack import Light
from tests.fakes.engine_processes import signal_engines
from tests.fakes.vault_cluster import full_audit_disk, kill
from tests.vault_faults import (
    AUDIT_FULL,
    FROZEN,
    KILLED,
    PLUGIN_CHANGED,
    PLUGIN_FROZEN,
    PLUGIN_ROUTED,
    ROUTED,
    SEALED,
    Fault,
)

pytestmark = pytest.mark.slow
NODES = {"alpha": "transit", "beta": "engine", "gamma": "sealed-online"}
PATIENCE_S = 90.0  # of a busy machine; a quiet one takes 10 s
COINS = 8
ROOT = Path(__file__).resolve().parents[2]
CONFINED, UNIT = (str(ROOT / path) for path in ("tests/fakes/confined.py", "deploy/systemd/keyturn-signer.service"))


@pytest.fixture(scope="module")
def vaulted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Light]:
    """The stack, with coins; alpha's key is in OpenBao, which it enters by its certificate; beta's in an engine there.

    Where systemd is, alpha runs under what its unit takes from it.
    """
    stack = build(tmp_path_factory.mktemp("vaulted") / "stack", lambda text: None, nodes=NODES)
    if shutil.which("systemd-analyze"):
        stack.commands = {"alpha": [sys.executable, CONFINED, UNIT, sys.executable, "-m", "signer_node", "online"]}
    light = Light(stack)
    try:
        stack.start()
        book = ScriptBook(stack.genesis.wallets[0].wallet)
        for index in range(COINS):
            light.mine(script=book.script(0, index).script)
        light.mine(101)
        yield light
    finally:
        stack.stop()
        light.loop.close()


@contextlib.contextmanager
def _sealed(server: Server) -> Iterator[None]:
    server.call("PUT", "sys/seal", server.operator_token, {})
    try:
        yield
    finally:
        server.restart()


@contextlib.contextmanager
def _killed(server: Server) -> Iterator[None]:
    kill(server)
    try:
        yield
    finally:
        server.restart()


@contextlib.contextmanager
def _frozen(server: Server) -> Iterator[None]:
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def _frozen_plugin(server: Server) -> Iterator[None]:
    signal_engines(server, signal.SIGSTOP)
    try:
        yield
    finally:
        signal_engines(server, signal.SIGKILL)


@contextlib.contextmanager
def _changed_plugin(server: Server) -> Iterator[None]:
    installed = server.directory / "plugins" / COMMAND
    kept = installed.with_suffix(".kept")
    installed.rename(kept)
    installed.write_bytes(kept.read_bytes() + b"\0")
    installed.chmod(0o555)
    signal_engines(server, signal.SIGKILL)
    try:
        yield
    finally:
        kept.rename(installed)


PLUGIN_INFLICTED = {PLUGIN_FROZEN.name: _frozen_plugin, PLUGIN_CHANGED.name: _changed_plugin}
INFLICTED: dict[str, Callable[[Server], AbstractContextManager[None]]] = {
    SEALED.name: _sealed,
    KILLED.name: _killed,
    FROZEN.name: _frozen,
    AUDIT_FULL.name: full_audit_disk,
}


@pytest.mark.parametrize("fault", ROUTED, ids=lambda fault: fault.code + "-" + fault.name.replace(" ", "-"))
def test_routing_when_its_vault_fails_then_others_sign_and_it_comes_back(vaulted: Light, fault: Fault) -> None:
    """Proposed the moment it fails: the others sign, the node says why it does not, and is READY once it is over."""
    _wait_until(vaulted, "alpha", "ready", "")
    with INFLICTED[fault.name](vaulted.stack.vaults["alpha"]):
        asked = vaulted.withdrawal()
        vaulted.propose(asked)
        assert _signed(_until_broadcast(vaulted, asked)) == {"beta", "gamma"}
        _wait_until(vaulted, "alpha", fault.state, fault.code)
    _wait_until(vaulted, "alpha", "ready", "")
    vaulted.mine()


@pytest.mark.parametrize("fault", PLUGIN_ROUTED, ids=lambda fault: fault.name.replace(" ", "-"))
def test_routing_when_its_engine_fails_then_others_sign_and_it_comes_back(vaulted: Light, fault: Fault) -> None:
    """The server itself is well; the node tells that what serves its mount is not, and the others sign."""
    _wait_until(vaulted, "beta", "ready", "")
    with PLUGIN_INFLICTED[fault.name](vaulted.stack.vaults["beta"]):
        asked = vaulted.withdrawal()
        vaulted.propose(asked)
        assert _signed(_until_broadcast(vaulted, asked)) == {"alpha", "gamma"}
        _wait_until(vaulted, "beta", fault.state, fault.code)
    _wait_until(vaulted, "beta", "ready", "")
    vaulted.mine()


def test_routing_when_the_engine_is_needed_then_it_follows_what_it_missed_and_signs(vaulted: Light) -> None:
    """It was asked for none of the withdrawals before: its node tells it the log since, and it judges this one."""
    vaulted.stack.processes["gamma"].stop()
    try:
        asked = vaulted.withdrawal()
        vaulted.propose(asked)
        assert _signed(_until_broadcast(vaulted, asked)) == {"alpha", "beta"}
    finally:
        vaulted.stack.start_node("gamma")
    vaulted.mine()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze to read a unit's filter with")
def test_node_under_the_filters_of_its_unit_then_signs(vaulted: Light) -> None:
    """gRPC, TLS, libsecp256k1 through cffi and ctypes, a worker process: nothing needs memory that is also code."""
    status = Path(f"/proc/{vaulted.stack.processes['alpha'].child.pid}/status").read_text()
    assert {"Seccomp:\t2", "NoNewPrivs:\t1", "CapBnd:\t0000000000000000"} <= set(status.splitlines())
    _wait_until(vaulted, "alpha", "ready", "")
    vaulted.stack.processes["beta"].stop()
    try:
        asked = vaulted.withdrawal()
        vaulted.propose(asked)
        assert _signed(_until_broadcast(vaulted, asked)) == {"alpha", "gamma"}
    finally:
        vaulted.stack.start_node("beta")
    vaulted.mine()


def _until_broadcast(light: Light, asked: Withdrawal) -> withdrawal_pb2.Withdrawal:
    """Return it once it is broadcast; a node that a test stopped stays stopped."""
    end = time.monotonic() + PATIENCE_S
    while (found := light.view(asked)).stage != withdrawal_pb2.STAGE_BROADCAST:
        assert time.monotonic() < end, found
        time.sleep(0.1)
    return found


def _signed(seen: withdrawal_pb2.Withdrawal) -> set[str]:
    return {signer.name for signer in seen.signers if signer.progress == withdrawal_pb2.SIGNER_PROGRESS_SIGNED}


def _wait_until(light: Light, node: str, state: str, code: str) -> None:
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
