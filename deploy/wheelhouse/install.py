#!/usr/bin/env python3
"""Install an air-gapped node from the folder that this file is in: no network, no pip, each file by its hash.

    python3 install.py --list SHA256 TARGET        then TARGET/bin/keyturn-node offline ...

SHA256 is what `python3 dev.py wheelhouse` printed, brought on paper or by voice: it is what makes the stick in between
harmless. Stands on the standard library alone. A wheel is a zip of what goes into site-packages.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import io
import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path, PurePosixPath

HERE = Path(__file__).resolve().parent
LIST = "SHA256SUMS"
NEVER = ("grpc", "google", "hvac", "requests", "httpx", "sqlalchemy", "fastapi", "uvicorn", "coordinator", "console")
_INTO_SITE = ("purelib", "platlib")  # the parts of NAME.data that are modules; scripts and headers are left out
_LAUNCHER = """#!{python}
import sys
from signer_node.__main__ import main
sys.exit(main())
"""


class Refused(Exception):
    """The folder or this machine is not what it should be; nothing was installed."""


def install(folder: Path, target: Path, expected_list: str) -> int:
    """Make the virtual environment `target` of the wheels in `folder`; return how many wheels it holds.

    Raises:
        Refused: a hash, a file or this Python is another than expected.
    """
    # Plan: 1 the list is the one that people compared · 2 every file is on it, with its hash, and no other is there
    #       · 3 made for this Python · 4 unpack · 5 nothing that speaks to a network is there.
    listed = read_list(folder, expected_list)
    check_files(folder, listed)
    check_machine(json.loads((folder / "made-for.json").read_text()))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(target)], check=True)
    site = target / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    wheels = sorted(name for name in listed if name.endswith(".whl"))
    for name in wheels:
        unpack((folder / name).read_bytes(), listed[name], site)
    found = [name for name in NEVER if (site / name).exists()]
    if found:
        raise Refused(f"expected nothing of a network, found {', '.join(found)}")
    launcher = target / "bin" / "keyturn-node"
    launcher.write_text(_LAUNCHER.format(python=target.resolve() / "bin" / "python"))
    launcher.chmod(0o755)
    return len(wheels)


def read_list(folder: Path, expected: str) -> dict[str, str]:
    """Return name -> SHA-256 of the folder's list, which must itself have the SHA-256 `expected`."""
    raw = (folder / LIST).read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if not hmac.compare_digest(found, expected.strip().lower()):
        raise Refused(f"expected the list {expected}, found {found}")
    return {name: digest for digest, _, name in (line.partition("  ") for line in raw.decode().splitlines())}


def check_files(folder: Path, listed: dict[str, str]) -> None:
    """Refuse a file that is missing, changed, a link, or not on the list."""
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}
    if there - {LIST} != set(listed):
        raise Refused(f"expected the files of the list, found others: {sorted(there - {LIST} ^ set(listed))}")
    for name, digest in listed.items():
        path = folder / name
        if path.is_symlink() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise Refused(f"expected {name} as it was made, found another")


def check_machine(made_for: dict[str, str]) -> None:
    """Refuse a Python or a kind of machine that the wheels do not fit."""
    here = {"python": f"{sys.version_info[0]}.{sys.version_info[1]}", "platform": sysconfig.get_platform()}
    if made_for != here:
        raise Refused(f"expected {made_for}, found {here}: make the wheelhouse with this Python, on such a machine")


def unpack(content: bytes, digest: str, site: Path) -> None:
    """Unpack one wheel into `site`: no path may lead out of it, no file may be there already."""
    if hashlib.sha256(content).hexdigest() != digest:  # the bytes that are unpacked, not those that were looked at
        raise Refused("expected a wheel as it was listed, found another")
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        for entry in wheel.infolist():
            place = place_of(entry.filename)
            if place is None or entry.is_dir():
                continue
            path = site / place
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(wheel.read(entry))


def place_of(name: str) -> PurePosixPath | None:
    """Return where in site-packages a file of a wheel belongs; None where it is no module."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise Refused(f"expected a path inside the wheel, found {name!r}")
    if not path.parts[0].endswith(".data"):
        return path
    return PurePosixPath(*path.parts[2:]) if path.parts[1] in _INTO_SITE else None


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Install an air-gapped Keyturn node from this folder.")
    parser.add_argument("target", type=Path, help="new folder for the program")
    parser.add_argument("--list", required=True, metavar="SHA256", help="of SHA256SUMS, as `dev.py wheelhouse` said it")
    args = parser.parse_args()
    try:
        if args.target.exists():
            raise Refused(f"expected a new folder, found {args.target}")
        count = install(HERE, args.target, args.list)
    except Refused as refused:
        print(f"install.py: {refused}", file=sys.stderr)
        return 1
    print(f"installed {count} wheels into {args.target}; run {args.target / 'bin' / 'keyturn-node'} --help")
    return 0


if __name__ == "__main__":
    sys.exit(main())
