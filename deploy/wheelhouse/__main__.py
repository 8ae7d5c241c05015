"""`python -m deploy.wheelhouse FOLDER`: every wheel of the offline lock, checked against its hash, and our own.

Needs pip and the build lock, which `python3 dev.py wheelhouse` sees to. The folder is for the Python and the kind of
machine that it was made on. What is compared between machines is the SHA-256 of its list of hashes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "deploy" / "locks" / "offline.txt"
PACKAGES = ("custody", "signer_node")
LEFT_OUT = {"v1", "__pycache__"}  # custody/v1 is the wire of gRPC, which is not installed
LIST = "SHA256SUMS"


def make(folder: Path) -> str:
    """Fill the new `folder`; return the SHA-256 of its list of hashes, in hex.

    Raises:
        FileExistsError: the folder is there already.
        subprocess.CalledProcessError: pip has said why.
    """
    folder.mkdir(parents=True)
    wheels = folder / "wheels"
    pip_wheel(wheels, "--require-hashes", "-r", str(LOCK))
    with tempfile.TemporaryDirectory() as staging:
        stage(Path(staging))
        pip_wheel(wheels, staging)
    shutil.copyfile(Path(__file__).with_name("install.py"), folder / "install.py")
    (folder / "made-for.json").write_text(json.dumps(made_for(), sort_keys=True) + "\n")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}" for path in files]
    (folder / LIST).write_text("\n".join(lines) + "\n")
    return hashlib.sha256((folder / LIST).read_bytes()).hexdigest()


def pip_wheel(folder: Path, *what: str) -> None:
    """Put wheels of `what` and of nothing else into `folder`; an sdist is built by the locked setuptools."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--no-build-isolation", "--wheel-dir", str(folder), *what], check=True)


def stage(folder: Path) -> None:
    """Lay out a project of the packages that an offline node runs, and of nothing that serves a network."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=lambda _, names: LEFT_OUT & set(names))
    lines = ["[build-system]", 'requires = ["setuptools"]', 'build-backend = "setuptools.build_meta"', "[project]"]
    lines += [f'name = "{project["name"]}-offline"', f'version = "{project["version"]}"']
    lines += [f'requires-python = "{project["requires-python"]}"', "[tool.setuptools.packages.find]"]
    lines += [f"include = {json.dumps([f'{package}*' for package in PACKAGES])}"]
    (folder / "pyproject.toml").write_text("\n".join(lines) + "\n")


def made_for() -> dict[str, str]:
    """Return which Python and machine the wheels fit."""
    return {"python": f"{sys.version_info[0]}.{sys.version_info[1]}", "platform": sysconfig.get_platform()}


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    if target.exists():
        sys.exit(f"expected a new folder, found {target}")
    print(f"wheelhouse for {made_for()} in {target}\nSHA-256 of {LIST}: {make(target)}")
    print("On the offline machine: python3 install.py --list THAT_SHA256 FOLDER_OF_THE_PROGRAM")
