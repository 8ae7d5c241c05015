#!/usr/bin/env python3
"""Run Keyturn's demo, tests, checks and benchmarks from a bare machine.

Stands on the standard library alone (Python 3.11+), because it is what makes everything else available: it creates
`.venv`, installs the hash-locked sets of deploy/locks/ and hands over to the program that was asked for. It uses uv
when it finds it and never needs it. It installs nothing outside `.venv`, except, as root on Debian, python3-venv and,
for `test`, the programs of SYSTEM_PARTS; what ENGINE_PARTS names, also for `demo`.
"""

from __future__ import annotations

import argparse
import ctypes.util
import fcntl
import filecmp
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
HWI_VENV = ROOT / ".venv-hwi"  # HWI needs an older protobuf than we do: it is another program, with its own packages
LOCKS = ROOT / "deploy" / "locks"
# folder of generated code -> (root of its .proto files, folder below it, with gRPC services)
GENERATED = {
    "custody/v1": ("protos", ".", True),
    "signer_node/engine/wire": (".", "signer_node/engine/wire", False),  # another's contract: only its messages
}
BASELINE = "tests/protos/baseline.binpb"

OLDEST_PYTHON = (3, 11)  # what Debian 12 has; the locks are resolved from here upwards
# dev first: it pins the others
LOCK_SETS = ("dev", "build", "offline", "engine", "signer", "coordinator", "console", "demo")
SIDE_BY_SIDE = ["-n", "2", "--dist", "loadfile"]  # every test: on two cores, a file and its servers on one of them
APART = ("hwi",)  # locked without regard to the others
SUPERSETS = {"demo": ("demo", "dev"), "dev": ("dev",)}  # what may stand in for a set that is wanted
# program -> Debian package: what tests run and no lock can hold
SYSTEM_PARTS = {
    "chromium": "chromium",
    "electrum": "electrum",
    "ssh-keygen": "openssh-client",
    "systemd-analyze": "systemd",
}
SYSTEM_LIBRARIES = {"usb-1.0": "libusb-1.0-0"}  # the same for libraries: HWI looks for USB devices with this one
# what PyInstaller makes the engine's one file with, and Debian's python3 does not bring; `demo` wants it too
PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
ENGINE_PARTS = {"objdump": "binutils", PYTHON: f"lib{PYTHON}"}
USAGE_ERROR = 2


class SetupError(Exception):
    """This machine lacks something; the message says what to do about it."""


# --- The environment ---------------------------------------------------------------------------------------------


def fingerprint(lock_set: str) -> str:
    """Return what must be unchanged for `lock_set` to count as installed: its name, both lock files, this Python."""
    digest = hashlib.sha256(f"{sys.version_info[:2]}".encode())
    for name in ("build", lock_set):
        digest.update((LOCKS / f"{name}.txt").read_bytes())
    return f"{lock_set} {digest.hexdigest()}"


def is_installed(lock_set: str, venv: Path) -> bool:
    """Return whether `venv` holds `lock_set`, or a set that contains it, as locked today."""
    stamp = venv / "keyturn.stamp"
    if not stamp.is_file() or not (venv / "bin" / "python").exists():
        return False
    return stamp.read_text() in [fingerprint(name) for name in SUPERSETS.get(lock_set, (lock_set,))]


def ensure(lock_set: str, venv: Path = VENV) -> Path:
    """Install `lock_set` into `venv` unless it is there already; return the path of its Python."""
    python = venv / "bin" / "python"
    if is_installed(lock_set, venv):
        return python
    with (ROOT / "dev.py").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two calls at once: the second waits, then finds everything in place
        if not is_installed(lock_set, venv):
            install(lock_set, venv)
    return python


def install(lock_set: str, venv: Path) -> None:
    """Make `venv` and install `lock_set`. The stamp is written last: an interrupted install is done again."""
    began = time.monotonic()
    stamp = venv / "keyturn.stamp"
    stamp.unlink(missing_ok=True)
    uv = shutil.which("uv")
    make_venv(venv, with_pip=uv is None)
    say(f"installing {lock_set} into {venv} with {'uv' if uv else 'pip'}, each file checked against its locked hash")
    if uv:
        installer = [uv, "pip", "install", "--quiet", "--python", str(venv / "bin" / "python"), "--compile-bytecode"]
    else:
        installer = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # embit is the only sdist. Without isolation it is built by the setuptools of build.txt, which is locked too;
    # with isolation pip would fetch an unlocked one.
    for name in ("build", lock_set):
        lock_file = str(LOCKS / f"{name}.txt")
        run([*installer, "--no-deps", "--require-hashes", "--no-build-isolation", "-r", lock_file])
    if lock_set in {"demo", "dev"}:  # the `keyturn` command, running from this tree
        run([*installer, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])
    stamp.write_text(fingerprint(lock_set))
    say(f"installed {lock_set} in {time.monotonic() - began:.0f} s")


def make_venv(venv: Path, *, with_pip: bool) -> None:
    """Make `venv` for the running Python, keeping one that already fits; with pip when it is asked for."""
    site_packages = venv / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    if not ((venv / "bin" / "python").exists() and site_packages.is_dir()):
        # --clear: what another Python version left there cannot be used
        run([sys.executable, "-m", "venv", "--without-pip", "--clear", str(venv)])
    if with_pip and not (site_packages / "pip").is_dir():
        if importlib.util.find_spec("ensurepip") is None:
            install_ensurepip()
        run([str(venv / "bin" / "python"), "-m", "ensurepip"], stdout=subprocess.DEVNULL)


def install_ensurepip() -> None:
    """Install Debian's python3-venv, which holds ensurepip. Raises SetupError when that is for the user to do."""
    package = "python3-venv"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupError(
            f"This Python has no ensurepip. Install it (`apt-get install {package}`), or uv, and try again."
        )
    say(f"apt-get install {package}: this Python has no ensurepip")
    apt_install(package)


def ensure_system_parts(wanted: Mapping[str, str]) -> None:
    """Install programs and libraries of others, by Debian package, where root and apt-get are there and they are not.

    What fails is said and left in KEYTURN_MISSING_<PROGRAM>: the tests that need it fail with it, the others run.
    """
    for program, package in wanted.items():
        if is_there(program) or os.geteuid() != 0 or shutil.which("apt-get") is None:
            continue
        say(f"apt-get install {package}: it brings {program}")
        try:
            with (ROOT / "dev.py").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # as in `ensure`
                if not is_there(program):
                    apt_install(package)
        except subprocess.CalledProcessError as error:
            reason = f"no {program}: exit code {error.returncode} from: {' '.join(error.cmd)}"
            say(reason)
            os.environ[f"KEYTURN_MISSING_{program.upper()}"] = reason


def is_there(part: str) -> bool:
    """Return whether a program, or a library of SYSTEM_LIBRARIES or this Python's own, is on this machine."""
    if part == PYTHON and (Path(sysconfig.get_config_var("LIBDIR")) / f"lib{PYTHON}.so.1.0").exists():
        return True  # one that was built by hand: no package has it, and the linker may not know its place
    is_library = part in SYSTEM_LIBRARIES or part == PYTHON
    return bool(ctypes.util.find_library(part) if is_library else shutil.which(part))


def apt_install(package: str) -> None:
    """Install a Debian package and only what it depends on. Raises CalledProcessError, after apt-get has said why."""
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", package]
    first = subprocess.run(command, env=quiet, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if first.returncode != 0:  # most often: the package lists are old or were never fetched
        run(["apt-get", "update", "-qq"], env=quiet)
        run(command, env=quiet, stdout=subprocess.DEVNULL)


# --- Commands ----------------------------------------------------------------------------------------------------


def demo(arguments: argparse.Namespace) -> int:
    """Run the demo: install what it needs, then become deploy/demo."""
    python = ensure("demo")
    ensure_system_parts(ENGINE_PARTS)
    return become(python, "deploy.demo", arguments.rest)


def test(arguments: argparse.Namespace) -> int:
    """Run the tests; what stands after `--` goes to pytest."""
    python = ensure("dev")
    ensure("hwi", HWI_VENV)
    ensure_system_parts({**SYSTEM_PARTS, **SYSTEM_LIBRARIES, **ENGINE_PARTS})
    return become(python, "pytest", arguments.rest or SIDE_BY_SIDE)


def bench(arguments: argparse.Namespace) -> int:
    """Run benchmarks/NAME.py. Exit 0: all goals met; 1: some missed; 2: could not measure."""
    return run_benchmark(arguments.name, "", arguments.rest)


def soak(arguments: argparse.Namespace) -> int:
    """Run benchmarks/soak_NAME.py: a long run, made once and not on every change."""
    return run_benchmark(arguments.name, "soak_", arguments.rest)


def check(_: argparse.Namespace) -> int:
    """Run every static check, all of them even when one fails; return 0 when all pass."""
    bin_folder = ensure("dev").parent
    commands: dict[str, list[str]] = {
        "format": ["ruff", "format", "--check", "."],
        "lint": ["ruff", "check", "."],
        "types": ["mypy"],
        "imports": ["lint-imports"],
        "protos": ["buf", "lint"],
        "wire compatibility": ["buf", "breaking", "--against", BASELINE],
    }
    steps: dict[str, Callable[[], bool]] = {
        name: partial(passes, [str(bin_folder / program), *rest]) for name, (program, *rest) in commands.items()
    }
    steps["generated code"] = generated_code_is_current
    failed = []
    for name, step in steps.items():
        began = time.monotonic()
        if not step():
            failed.append(name)
        say(f"{name}: {'FAILED' if name in failed else 'ok'} ({time.monotonic() - began:.1f} s)")
    say(f"check: {'FAILED: ' + ', '.join(failed) if failed else 'ok'}")
    return 1 if failed else 0


def wheelhouse(arguments: argparse.Namespace) -> int:
    """Put what an air-gapped node needs into a new folder: wheels by their locked hashes, our own, an installer."""
    venv = ROOT / "build" / "wheelhouse-venv"
    python = ensure("build", venv)
    make_venv(venv, with_pip=True)  # uv, where it is found, makes environments without pip and has no `pip wheel`
    return become(python, "deploy.wheelhouse", [str(Path(arguments.folder).resolve())])


def protos(_: argparse.Namespace) -> int:
    """Regenerate custody/v1 and signer_node/engine/wire from their .proto files."""
    python = ensure("dev")
    with tempfile.TemporaryDirectory() as folder:
        for target in GENERATED:
            fresh, here = generate(python, Path(folder), target), ROOT / target
            for name in generated_files(here) - generated_files(fresh):
                (here / name).unlink()
            here.mkdir(exist_ok=True)
            for name in generated_files(fresh):
                shutil.copyfile(fresh / name, here / name)
    return 0


def hwi(_: argparse.Namespace) -> int:
    """Install the Hardware Wallet Interface into .venv-hwi and print its command."""
    print(ensure("hwi", HWI_VENV).with_name("hwi"))
    return 0


def lock(arguments: argparse.Namespace) -> int:
    """Recompile deploy/locks from pyproject.toml; keeps today's versions unless --upgrade is given. Needs uv."""
    uv = shutil.which("uv", path=f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    if uv is None:
        raise SetupError("lock needs uv, in .venv or on the PATH: `.venv/bin/python -m pip install uv`.")
    for name in (*LOCK_SETS, *APART):
        target = f"deploy/locks/{name}.txt"
        command = [uv, "pip", "compile", "--quiet", "--python-version", ".".join(map(str, OLDEST_PYTHON))]
        command += ["--universal", "--generate-hashes", "--no-annotate", "--no-header", "--no-emit-index-url"]
        command += ["--no-emit-find-links", "--extra", name, "pyproject.toml", "--output-file", target]
        if name not in ("dev", *APART):  # one version of everything, whichever set is installed
            command += ["--constraint", "deploy/locks/dev.txt"]
        if arguments.upgrade:
            command.append("--upgrade")
        run(command)
        say(f"locked {target}")
    return 0


# --- Parts -------------------------------------------------------------------------------------------------------


def run_benchmark(name: str, prefix: str, rest: Sequence[str]) -> int:
    """Become benchmarks/PREFIX+NAME.py, or say which names there are."""
    names = benchmark_names(prefix)
    if name not in names:
        print(f"dev.py: no such name: {name}. There are: {', '.join(names) or 'none yet'}", file=sys.stderr)
        return USAGE_ERROR
    return become(ensure("dev"), f"benchmarks.{prefix}{name}", rest)


def benchmark_names(prefix: str) -> list[str]:
    """Return the names that `bench` (prefix "") or `soak` (prefix "soak_") takes, sorted."""
    stems = [path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py")]
    if prefix:
        return sorted(stem.removeprefix(prefix) for stem in stems if stem.startswith(prefix))
    return sorted(stem for stem in stems if not stem.startswith("soak_"))


def generate(python: Path, folder: Path, target: str) -> Path:
    """Generate the code of `target`, with its type stubs, under `folder`; return where it is in it."""
    root, below, has_services = GENERATED[target]
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / root / below).rglob("*.proto"))
    if not sources:
        raise SetupError(f"{root}/{below} holds no .proto file.")
    kinds = ("python", "grpc_python") if has_services else ("python",)
    stubs = ("mypy", "mypy_grpc") if has_services else ("mypy",)
    outputs = [f"--{kind}_out={folder}" for kind in kinds] + [f"--{kind}_out=quiet:{folder}" for kind in stubs]
    environment = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    run([str(python), "-m", "grpc_tools.protoc", f"--proto_path={root}", *outputs, *sources], env=environment)
    return folder / target


def generated_files(folder: Path) -> set[str]:
    """Return the names of the generated files in `folder`; its __init__.py is written by hand."""
    return {path.name for path in folder.glob("*_pb2*.py*")}


def generated_code_is_current() -> bool:
    """Return whether the generated code is what its .proto files give today; print what differs."""
    stale = []
    with tempfile.TemporaryDirectory() as folder:
        for target in GENERATED:
            try:
                fresh = generate(VENV / "bin" / "python", Path(folder), target)
            except (SetupError, subprocess.CalledProcessError) as error:
                say(str(error))
                return False
            names = sorted(generated_files(fresh) | generated_files(ROOT / target))
            _, differing, missing = filecmp.cmpfiles(fresh, ROOT / target, names, shallow=False)
            stale += [f"{target}/{name}" for name in differing + missing]
    for name in stale:
        say(f"{name} is not what its .proto file generates: run `python3 dev.py protos`")
    return not stale


def passes(command: Sequence[str]) -> bool:
    """Run `command` in the project's folder and return whether it succeeded."""
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode == 0


def run(command: Sequence[str], env: dict[str, str] | None = None, stdout: int | None = None) -> None:
    """Run `command` in the project's folder. Raises CalledProcessError when it fails."""
    subprocess.run(command, cwd=ROOT, env=env, stdout=stdout, stdin=subprocess.DEVNULL, check=True)


def become(python: Path, module: str, rest: Sequence[str]) -> int:
    """Replace this process by `python -m module rest`, so that signals and the exit code are its own."""
    sys.stdout.flush()
    os.chdir(ROOT)
    os.execv(python, [str(python), "-m", module, *rest])  # noqa: S606  # no shell is the point


def say(line: str) -> None:
    """Print a progress line on stderr: stdout belongs to the program that runs."""
    print(f"dev.py: {line}", file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """Return the command line of dev.py."""
    top = argparse.ArgumentParser(prog="dev.py", description="Demo, tests, checks and benchmarks.", allow_abbrev=False)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for function in (demo, test, check, bench, soak, hwi, wheelhouse, protos, lock):
        summary = (function.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(function.__name__, help=summary, description=summary, allow_abbrev=False)
        command.set_defaults(function=function)
        if function in {bench, soak}:
            command.add_argument(
                "name", help="one of: " + ", ".join(benchmark_names("soak_" if function is soak else ""))
            )
        if function is wheelhouse:
            command.add_argument("folder", help="new folder, for the Python and kind of machine that this runs on")
        if function is lock:
            command.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    return top


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; `rest` is what goes to the program that dev.py becomes, with the `--` removed."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    known, unknown = parser().parse_known_args(arguments[:cut])
    known.rest = [*unknown, *arguments[cut + 1 :]]
    if known.rest and known.function not in {demo, test, bench, soak}:
        parser().error(f"unexpected arguments: {' '.join(known.rest)}")
    return known


def main(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code: 1 when something broke, 2 for wrong usage."""
    if sys.version_info < OLDEST_PYTHON:
        say(f"expected Python {'.'.join(map(str, OLDEST_PYTHON))} or later, found {sys.version.split()[0]}")
        return USAGE_ERROR
    known = parse(arguments)
    try:
        return int(known.function(known))
    except SetupError as error:
        say(str(error))
    except subprocess.CalledProcessError as error:
        say(f"exit code {error.returncode} from: {' '.join(error.cmd)}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
