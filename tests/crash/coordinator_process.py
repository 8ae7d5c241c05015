"""`python -m tests.crash.coordinator_process --config F`: the real coordinator, with a fuse beside its file."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from coordinator.app import run
from coordinator.config import load_config
from tests.crash.fuse import Fuse

if __name__ == "__main__":
    path = Path(sys.argv[sys.argv.index("--config") + 1])
    sys.exit(asyncio.run(run(load_config(path), Fuse(path.parent / "fuse"))))
