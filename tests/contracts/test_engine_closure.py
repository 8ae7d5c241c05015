"""The engine needs its own lock and nothing more, and the plugin's program loads nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dev

ROOT = Path(__file__).parents[2]
FORBIDDEN = (
    "grpc",
    "hvac",
    "requests",
    "structlog",
    "sqlalchemy",
    "alembic",
    "argon2",
    "rich",
    "pbk",
    "typer",
    "fastapi",
)
LOADED = "import sys, signer_node.engine.__main__; print(*sorted({m.split('.')[0] for m in sys.modules}))"
NEEDED = {"embit", "coincurve", "cryptography", "grpclib", "google", "custody", "signer_node"}
FOUND = f"import importlib.util as i; print(*[m for m in {FORBIDDEN!r} if i.find_spec(m)])"


def run(python: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in our tree with nothing of this environment."""
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [str(python), *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_engine_when_imported_then_loads_its_own_packages_alone() -> None:
    """The import closure of the plugin's program: what it needs is there, what it must not have is not."""
    found = run(sys.executable, "-c", LOADED)

    loaded = set(found.stdout.split())
    assert found.returncode == 0, found.stderr
    assert not loaded & {*FORBIDDEN, "coordinator", "console", "deploy"}
    assert loaded >= NEEDED


@pytest.mark.slow
def test_engine_environment_when_installed_then_starts_the_program_and_holds_no_more() -> None:
    """What is not in the lock is not there, and the program starts: it says that no server started it."""
    python = dev.ensure("engine", ROOT / "build" / "engine-venv")

    found, started = run(python, "-c", FOUND), run(python, "-m", "signer_node.engine")

    assert (found.returncode, found.stdout.strip()) == (0, ""), found
    assert (started.returncode, started.stderr.split(":")[0]) == (1, "NOT_A_PLUGIN"), started
