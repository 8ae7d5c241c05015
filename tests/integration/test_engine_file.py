"""The engine as production runs it: PyInstaller's one file, pinned by its hash, in a real server."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import dev
from deploy.ca import make_ca
from deploy.engine import COMMAND, EMBIT_LIBRARIES, native_embit, one_file
from deploy.openbao import Server, start
from signer_node.backends import make_key, open_backend
from signer_node.backends.port import State
from signer_node.engine.handshake import PID_FILE, UNPACKED_PREFIX
from tests.fakes.engine_processes import engine_pids, signal_engines, wait_until_gone
from tests.fakes.vault_nodes import VaultNode, roles

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that runs the one file of this tree, made here unless it was before, for node alpha."""
    missing = [os.environ.get(f"KEYTURN_MISSING_{part.upper()}") for part in dev.ENGINE_PARTS]
    assert not any(missing), missing
    packed, directory = one_file(lambda line: None), tmp_path_factory.mktemp("packed")
    running = start(directory / "bao", make_ca(directory), roles=roles("engine", ("alpha",)), engine=packed)
    yield running
    running.stop()


def test_one_file_when_registered_then_makes_a_key_and_survives_its_own_death(server: Server, tmp_path: Path) -> None:
    """It mounts and bears a key; killed, it is started again by the server, and still has that key."""
    node = VaultNode(server, "engine", "alpha", tmp_path)
    born = asyncio.run(make_key(node.uri, node.access("keysmith")))
    killed = signal_engines(server, signal.SIGKILL)
    assert wait_until_gone(killed)

    again = asyncio.run(open_backend(node.uri, node.access()).public())

    assert born == again
    assert not set(killed) & set(engine_pids(server))


def test_one_file_brings_the_curve_of_both_libraries_with_it(server: Server) -> None:
    """On a machine where nobody installed libsecp256k1, embit's own is the second opinion; it is found by path."""
    listing = subprocess.run(
        [sys.executable, "-m", "PyInstaller.utils.cliutils.archive_viewer", "--list", str(one_file(lambda line: None))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert str(Path(EMBIT_LIBRARIES) / native_embit().name) in listing
    assert "_libsecp256k1" in listing  # coincurve's


def test_one_file_when_its_loader_or_its_server_ends_then_ends_too_and_leaves_nothing_for_long(server: Server) -> None:
    """The loader that the server knows takes the program with it; what both unpacked is gone after the next start."""
    loader, *programs = engine_pids(server)
    assert programs
    os.kill(loader, signal.SIGKILL)
    assert wait_until_gone(programs)
    server.restart()
    running = engine_pids(server)
    server.process.kill()
    server.process.wait()
    assert wait_until_gone(running)

    server.restart()

    left = Path(tempfile.gettempdir()).glob(f"{UNPACKED_PREFIX}*/{PID_FILE}")
    assert not [path for path in left if int(path.read_text()) in (*programs, *running)]


def test_one_file_when_changed_on_disk_then_is_not_started_again(server: Server, tmp_path: Path) -> None:
    """One byte behind the end of the program is enough: the server refuses it, and health says so."""
    node = VaultNode(server, "engine", "alpha", tmp_path)
    installed = server.directory / "plugins" / COMMAND
    content = installed.read_bytes()
    installed.unlink()  # a running file cannot be written to
    installed.write_bytes(content + b"\0")
    installed.chmod(0o555)
    assert wait_until_gone(signal_engines(server, signal.SIGKILL))

    found = asyncio.run(open_backend(node.uri, node.access()).health())

    assert found.state is State.ENGINE_DOWN
