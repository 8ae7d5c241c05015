"""Three real OpenBao servers that are one raft cluster, on one machine; and what a test does to a server's disk."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import requests

from deploy.ca import Ca
from deploy.openbao import Role, Server, initialise, launch_new

SERVERS = 3
PATIENCE_S = 60.0
# A server has a vote as soon as it was well for a second; without this it takes 20 s, and before that a leader's end is
# the end of the cluster.
AUTOPILOT = {"server_stabilization_time": "1s"}


def start_cluster(directory: Path, ca: Ca, roles: Sequence[Role], engine: Path | None = None) -> list[Server]:
    """Return the servers, the first one leading, each with a vote; about 6 s. engine: the plugin file of all three."""
    key = os.urandom(32)
    servers = [launch_new(directory / "n1", ca, name="n1", unseal_key=key, engine=engine)]
    try:
        initialise(servers[0], ca, roles)
        root = servers[0].root_token()
        servers[0].call("POST", "sys/storage/raft/autopilot/configuration", root, AUTOPILOT)
        for number in range(2, SERVERS + 1):
            name, join = f"n{number}", [servers[0].address]
            servers.append(launch_new(directory / name, ca, name=name, unseal_key=key, join=join, engine=engine))
        _wait_for_votes(servers[0], root)
        for server in servers[1:]:  # one cluster, so the same tokens everywhere
            server.role_ids, server.introducers = servers[0].role_ids, servers[0].introducers
            server.breakglass_token, server.recovery_key = servers[0].breakglass_token, servers[0].recovery_key
        servers[0].call("POST", "auth/token/revoke-self", root, {})
    except BaseException:
        for server in servers:
            server.stop()
        raise
    return servers


def leader_of(servers: Sequence[Server]) -> Server:
    """Return the one of `servers`, all of which run, that leads."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        for server in servers:
            with contextlib.suppress(requests.RequestException):
                url = f"{server.address}/v1/sys/health"
                if requests.get(url, verify=str(server.ca_path), timeout=2).status_code == 200:
                    return server
        time.sleep(0.1)
    raise AssertionError("expected a leader")


def kill(server: Server) -> None:
    """Take the server from the world without a word."""
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()


@contextlib.contextmanager
def full_audit_disk(server: Server) -> Iterator[None]:
    """Have the server log to a device that is always full: every write is answered ENOSPC, by the kernel.

    A server that cannot log does not answer; its storage is on another device and is well.
    """
    log, kept = server.audit_log, server.audit_log.with_suffix(".kept")
    log.rename(kept)
    log.symlink_to("/dev/full")
    server.process.send_signal(signal.SIGHUP)  # opens the name anew, as log rotation does
    try:
        yield
    finally:
        log.unlink()
        kept.rename(log)
        server.process.send_signal(signal.SIGHUP)


def _wait_for_votes(leader: Server, root: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = leader.call("GET", "sys/storage/raft/configuration", root)["data"]["config"]["servers"]
        if sum(1 for one in found if one["voter"]) == SERVERS:
            return
        time.sleep(0.2)
    raise AssertionError("expected three servers with a vote")
