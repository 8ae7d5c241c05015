"""A real stack of nodes whose keys are in real Vaults that fail: others sign, and the node comes back.

Two of three signers are enough; see tests/vaulted.py.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from deploy.engine import COMMAND
from deploy.openbao import Server
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
from tests.vaulted import signed_by, until_broadcast, wait_until

pytestmark = pytest.mark.slow


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
    wait_until(vaulted, "alpha", "ready", "")
    with INFLICTED[fault.name](vaulted.stack.vaults["alpha"]):
        asked = vaulted.withdrawal()
        vaulted.propose(asked)
        assert signed_by(until_broadcast(vaulted, asked)) == {"beta", "gamma"}
        wait_until(vaulted, "alpha", fault.state, fault.code)
    wait_until(vaulted, "alpha", "ready", "")
    vaulted.mine()


@pytest.mark.parametrize("fault", PLUGIN_ROUTED, ids=lambda fault: fault.name.replace(" ", "-"))
def test_routing_when_its_engine_fails_then_others_sign_and_it_comes_back(vaulted: Light, fault: Fault) -> None:
    """The server itself is well; the node tells that what serves its mount is not, and the others sign."""
    wait_until(vaulted, "beta", "ready", "")
    with PLUGIN_INFLICTED[fault.name](vaulted.stack.vaults["beta"]):
        asked = vaulted.withdrawal()
        vaulted.propose(asked)
        assert signed_by(until_broadcast(vaulted, asked)) == {"alpha", "gamma"}
        wait_until(vaulted, "beta", fault.state, fault.code)
    wait_until(vaulted, "beta", "ready", "")
    vaulted.mine()


def test_routing_when_the_engine_is_needed_then_it_follows_what_it_missed_and_signs(vaulted: Light) -> None:
    """It was asked for none of the withdrawals before: its node tells it the log since, and it judges this one."""
    vaulted.stack.processes["gamma"].stop()
    try:
        asked = vaulted.withdrawal()
        vaulted.propose(asked)
        assert signed_by(until_broadcast(vaulted, asked)) == {"alpha", "beta"}
    finally:
        vaulted.stack.start_node("gamma")
    vaulted.mine()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze to read a unit's filter with")
def test_node_under_the_filters_of_its_unit_then_signs(vaulted: Light) -> None:
    """gRPC, TLS, libsecp256k1 through cffi and ctypes, a worker process: nothing needs memory that is also code."""
    wait_until(vaulted, "alpha", "ready", "")
    status = Path(f"/proc/{vaulted.stack.processes['alpha'].child.pid}/status").read_text()
    taken = {"Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000"}
    assert taken <= set(status.splitlines())
    vaulted.stack.processes["beta"].stop()
    try:
        asked = vaulted.withdrawal()
        vaulted.propose(asked)
        assert signed_by(until_broadcast(vaulted, asked)) == {"alpha", "gamma"}
    finally:
        vaulted.stack.start_node("beta")
    vaulted.mine()
