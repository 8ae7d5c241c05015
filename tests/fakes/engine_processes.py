"""The plugin processes of a real server: its children, and theirs, where a one-file program has a loader above it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from deploy.openbao import Server

WAIT_S = 20.0  # for what takes milliseconds on an idle machine


def engine_pids(server: Server) -> list[int]:
    """Return the processes below the server's own, parents first."""
    found, wanted = [], [server.process.pid]
    children = _children()
    while wanted:
        below = children.get(wanted.pop(0), [])
        found += below
        wanted += below
    return found


def signal_engines(server: Server, number: signal.Signals) -> list[int]:
    """Send `number` to every plugin process of this server; return their pids."""
    pids = engine_pids(server)
    for pid in pids:
        os.kill(pid, number)
    return pids


def wait_until_gone(pids: list[int]) -> bool:
    """Return whether all of `pids` end within `WAIT_S`."""
    return wait_until(lambda: not any(_runs(pid) for pid in pids))


def wait_until(holds: Callable[[], bool]) -> bool:
    """Return whether `holds` comes true within `WAIT_S`."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _runs(pid: int) -> bool:
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended while we looked
        found.setdefault(parent, []).append(int(path.parent.name))
    return found
