"""The import contracts of .importlinter hold, and each of them catches a planted violation."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("custody", "coordinator", "signer_node", "console")

PLANTS = {
    "a node that imports the coordinator": ("signer_node", "import coordinator"),
    "a coordinator that imports a node": ("coordinator", "import signer_node"),
    "a console that imports the coordinator": ("console", "from coordinator import __doc__"),
    "custody that reads the clock": ("custody", "import time"),
    "custody that reads a file": ("custody", "import pathlib"),
    "custody that draws random numbers": ("custody", "import secrets"),
    "custody that logs": ("custody", "import structlog"),
    "custody that imports a service": ("custody", "import coordinator"),
    "custody that imports the wire": ("custody", "import custody.v1"),
    "an engine that imports a Vault client": ("signer_node.engine", "import hvac"),
    "an engine that imports grpcio by way of the node": ("signer_node.engine", "import signer_node.online"),
}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter over the packages in `folder`."""
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([program, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False)


def test_imports_keep_every_contract() -> None:
    """The tree as it stands breaks no contract."""
    result = lint_imports(ROOT)

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("plant", PLANTS)
def test_imports_given_a_planted_violation_fail(plant: str, tmp_path: Path) -> None:
    """One forbidden import, planted into a copy of the tree, is found and named."""
    package, statement = PLANTS[plant]
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    (tmp_path / package.replace(".", "/") / "planted.py").write_text(f'"""Planted."""\n\n{statement}\n')

    result = lint_imports(tmp_path)

    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{package}.planted ->" in result.stdout
