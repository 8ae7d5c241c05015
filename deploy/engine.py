"""The engine's plugin file: made, installed beside a server, and pinned there by its SHA-256."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from signer_node.engine.version import VERSION

ENGINE_TYPE = "keyturn"  # the plugin's name in the server's catalogue, and so the type of its mounts
COMMAND = "keyturn-engine"

STANZA = """\
plugin_directory = "{directory}"
plugin_auto_register = true
plugin "secret" "{type}" {{
  command = "{command}"
  version = "{version}"
  sha256sum = "{sha256}"
}}
"""


def engine_mount(node: str) -> str:
    """Return the mount of `node`'s engine."""
    return f"{ENGINE_TYPE}-{node}"


def install_engine(server: Path, engine: Path) -> str:
    """Copy the plugin file into the server's directory and return the configuration that pins it.

    The server compares the file with this hash at each start of the plugin, and starts nothing else.
    """
    plugins = server / "plugins"
    plugins.mkdir(mode=0o755)
    installed = plugins / COMMAND
    shutil.copyfile(engine, installed)
    installed.chmod(0o555)
    sha256 = hashlib.sha256(installed.read_bytes()).hexdigest()
    return STANZA.format(directory=plugins, type=ENGINE_TYPE, command=COMMAND, version=VERSION, sha256=sha256)
