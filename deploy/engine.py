"""The engine's plugin file: made, installed beside a server, and pinned there by its SHA-256.

    python3 -m deploy.engine OUT

makes the one file of this tree with PyInstaller: interpreter, libraries and our code, so that the hash covers all but
the C library.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import embit

from custody.errors import UnavailableError
from signer_node.engine.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "engine"
ENGINE_TYPE = "keyturn"  # the plugin's name in the server's catalogue, and so the type of its mounts
COMMAND = "keyturn-engine"
SOURCES = ("custody/**/*.py", "signer_node/**/*.py", "deploy/locks/engine.txt", "deploy/engine.py")
UNUSED = ("tkinter", "unittest", "pydoc", "doctest", "setuptools", "distutils", "lib2to3", "sqlite3", "xmlrpc")
EMBIT_LIBRARIES = "embit/util/prebuilt"
BUILD_TIMEOUT_S = 600

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


def engine_file(say: Callable[[str], None]) -> Path:
    """Return the plugin file of this tree: PyInstaller's one file, or a script where that cannot be made here."""
    try:
        return one_file(say)
    except UnavailableError as error:
        say(f"the engine's one file cannot be made here ({error.message}): a script stands in for it,")
        say("whose SHA-256 does not pin the tree that it runs: fine to look at, unsafe to keep money in")
        return script(BUILD / "script" / COMMAND)


def one_file(say: Callable[[str], None]) -> Path:
    """Return the plugin file of this tree, made by PyInstaller unless it was before; it depends on nothing but libc.

    Raises:
        UnavailableError: ENGINE_FILE: it cannot be made here; PyInstaller's last words are in the message.
    """
    made = BUILD / sources_digest() / COMMAND
    if made.exists():
        return made
    say("making the engine's one file, once for this tree: PyInstaller, about 20 s")
    work = made.parent.with_name(f"{made.parent.name}.{os.getpid()}")
    work.mkdir(parents=True)
    try:
        _run_pyinstaller(work)
        made.parent.mkdir(exist_ok=True)
        (work / "dist" / COMMAND).rename(made)  # whole or not there
    finally:
        shutil.rmtree(work)
    return made


def script(path: Path) -> Path:
    """Write a plugin file that runs this tree with this Python to `path` and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable} -I\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n{_MAIN}")
    path.chmod(0o755)
    return path


_MAIN = "import sys\nfrom signer_node.engine.__main__ import main\nsys.exit(main())\n"


def _run_pyinstaller(work: Path) -> None:
    entry = work / "entry.py"
    entry.write_text(_MAIN)
    command = [sys.executable, "-m", "PyInstaller", "--onefile", "--strip", "--noconfirm", "--log-level", "ERROR"]
    command += ["--name", COMMAND, "--paths", str(ROOT), "--distpath", str(work / "dist")]
    command += ["--workpath", str(work / "work"), "--specpath", str(work)]
    command += ["--collect-all", "coincurve", "--add-data", f"{native_embit()}:{EMBIT_LIBRARIES}"]  # loaded by path
    command += [part for name in UNUSED for part in ("--exclude-module", name)]
    fixed = {"PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": "1700000000"}  # the same tree gives the same file
    environment = {**os.environ, **fixed, "PYTHONPATH": str(ROOT), "PYINSTALLER_CONFIG_DIR": str(work / "config")}
    try:
        ran = subprocess.run(
            [*command, str(entry)],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=BUILD_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError("ENGINE_FILE", f"nothing made in {BUILD_TIMEOUT_S} s") from error
    if ran.returncode != 0 or not (work / "dist" / COMMAND).exists():
        last = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UnavailableError("ENGINE_FILE", last[:300])


def native_embit() -> Path:
    """Return the libsecp256k1 that embit brings for this machine; without it, embit takes whatever the system has.

    Raises:
        UnavailableError: ENGINE_FILE: it brings none.
    """
    name = f"libsecp256k1_{platform.system().lower()}_{platform.machine().lower()}.so"
    found = Path(embit.__file__).parents[1] / EMBIT_LIBRARIES / name
    if not found.is_file():
        raise UnavailableError("ENGINE_FILE", f"expected embit's {name}")
    return found


def sources_digest() -> str:
    """Return what the file depends on, as a name: our sources, the lock, this Python."""
    digest = hashlib.sha256(sys.version.encode())
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:32]


def main() -> int:
    """Make the one file; print its SHA-256 and version, as a registration names them."""
    parser = argparse.ArgumentParser(prog="deploy.engine", description="Make the engine's plugin file.")
    parser.add_argument("out", type=Path, help="where to put it")
    args = parser.parse_args()
    shutil.copyfile(one_file(lambda line: print(line, file=sys.stderr)), args.out)
    args.out.chmod(0o555)
    sha256 = hashlib.sha256(args.out.read_bytes()).hexdigest()
    print(json.dumps({"file": str(args.out), "sha256": sha256, "version": VERSION}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
