"""An air-gapped node needs its own lock and nothing more: no gRPC, no Vault client, no database, no chain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dev
from custody.bundle import parse_answer
from custody.genesis import Genesis
from signer_node.backends.private_file import write_private_once
from signer_node.backends.sealed_file import Hardness, seal
from tests.fakes.rules import seed_of
from tests.fakes.today import genesis_of_today
from tests.world import World, bitcoin_seed

ROOT = Path(__file__).parents[2]
FORBIDDEN = ("grpc", "google", "hvac", "requests", "sqlalchemy", "alembic", "structlog", "pbk", "typer", "fastapi")
PASSPHRASE = b"a passphrase for the closure test"
LOADED = "import sys, signer_node.__main__, signer_node.offline; print(*sorted({m.split('.')[0] for m in sys.modules}))"
FOUND = f"import importlib.util as i; print(*[m for m in {FORBIDDEN!r} if i.find_spec(m)])"


@pytest.fixture(scope="session")
def offline_python() -> Path:
    """The Python of an environment that holds the offline lock alone; kept under build/ and made once per lock."""
    return dev.ensure("offline", ROOT / "build" / "offline-venv")


def run(python: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in our tree with nothing of this environment."""
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [str(python), *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_offline_modules_when_imported_then_load_nothing_of_a_network() -> None:
    """The import closure of the offline commands names none of the packages that an air gap leaves out."""
    found = run(sys.executable, "-c", LOADED)

    assert found.returncode == 0, found.stderr
    assert not set(found.stdout.split()) & {*FORBIDDEN, "coordinator", "console", "deploy"}


@pytest.mark.slow
def test_offline_environment_when_installed_then_holds_no_network_package(offline_python: Path) -> None:
    """What is not in the lock is not there."""
    found = run(offline_python, "-c", FOUND)

    assert (found.returncode, found.stdout.strip()) == (0, ""), found


@pytest.mark.slow
def test_offline_environment_when_asked_for_help_then_names_its_commands(offline_python: Path) -> None:
    """The program starts there."""
    found = run(offline_python, "-m", "signer_node", "--help")

    assert found.returncode == 0, found.stderr
    assert all(command in found.stdout for command in ("record", "endorse", "pin", "offline", "delta"))


@pytest.mark.slow
def test_offline_environment_when_given_a_bundle_then_signs_it(offline_python: Path, tmp_path: Path) -> None:
    """File in, judged, signed with a sealed key, file out: the same signature as any other node of that key makes."""
    genesis = genesis_of_today()
    world = World(genesis, now=int(time.time()))
    spend = world.spend(world.withdrawal())
    bundle = tmp_path / "bundle.json"
    bundle.write_bytes(spend.bundle(node="cold").to_bytes())
    config = cold_node(genesis, tmp_path)

    found = run(
        offline_python, "-m", "signer_node", "offline", "--config", str(config), str(bundle),
        "--out", str(tmp_path / "answer.json"), "--yes",
    )  # fmt: skip

    assert found.returncode == 0, found
    assert json.loads(found.stdout)["signed_inputs"] == 1
    assert parse_answer((tmp_path / "answer.json").read_bytes()).outcome == spend.signatures("cold")


def cold_node(genesis: Genesis, home: Path) -> Path:
    """Return the configuration of node cold, its state as a ceremony leaves it."""
    state = home / "state"
    state.mkdir(mode=0o700)
    cheap = Hardness(memory_kib=8 * 1024, passes=1, lanes=1)
    write_private_once(home / "seed", seal(bitcoin_seed("cold"), bytearray(PASSPHRASE), os.urandom, cheap))
    write_private_once(home / "passphrase", PASSPHRASE)
    write_private_once(state / "identity.key", seed_of("cold").hex().encode())
    write_private_once(state / "genesis.json", genesis.signed.to_bytes())
    config = home / "node.toml"
    config.write_text(
        'name = "cold"\nnetwork = "regtest"\nstate = "state"\n'
        f'backend = "sealed-file://{home}/seed"\npassphrase = "passphrase"\n'
    )
    return config
