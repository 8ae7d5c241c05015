"""The engine as a plugin file that tests can make in no time: a script that runs this tree, with a seed they know.

Only how it is packaged and where its seed comes from differ from the real file; `tests/integration/test_engine_file.py`
runs that one.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_SCRIPT = """\
#!{python} -I
import pathlib, sys
sys.path.insert(0, {root!r})
from signer_node.engine.__main__ import main
SEED = {seed!r}
sys.exit(main(**({{"entropy": lambda size: pathlib.Path(SEED).read_bytes()[:size]}} if SEED else {{}})))
"""


def engine_script(path: Path, seed: bytes | None = None) -> Path:
    """Write the plugin file to `path` and return it. seed: of every key that it makes; None for random ones."""
    seed_path = path.with_suffix(".seed")
    if seed is not None:
        seed_path.write_bytes(seed)
    known = "" if seed is None else str(seed_path)
    path.write_text(_SCRIPT.format(python=sys.executable, root=str(ROOT), seed=known))
    path.chmod(0o755)
    return path
