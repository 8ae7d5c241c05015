"""An air-gapped node installed from one folder, and signing, where there is no interface but an lo that is down."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest

from custody.bundle import parse_answer
from deploy.wheelhouse import install
from tests.contracts.test_offline_closure import cold_node
from tests.fakes.terminals import running
from tests.fakes.today import genesis_of_today
from tests.world import World

ROOT = Path(__file__).parents[2]
LIST = install.LIST
NOWHERE = """
import errno, socket
assert [name for _, name in socket.if_nameindex()] == ["lo"], socket.if_nameindex()
for address in ("127.0.0.1", "192.0.2.1"):
    with socket.socket() as probe:
        assert probe.connect_ex((address, 53)) == errno.ENETUNREACH, address
print("nowhere to go")
"""
pytestmark = pytest.mark.slow


@cache
def apart() -> tuple[str, ...]:
    """Return the command prefix that runs a program without any network.

    Root makes a namespace at once; others, and root without CAP_SYS_ADMIN, by a user namespace. Where neither is
    allowed the test fails: an air gap that was not there shows nothing.
    """
    ways = [("unshare", "--net"), ("unshare", "--user", "--map-root-user", "--net")]
    said = []
    for way in ways:
        tried = subprocess.run([*way, sys.executable, "-c", NOWHERE], capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            return way
        said.append(tried.stderr.strip())
    pytest.fail(f"expected a network namespace, by CAP_SYS_ADMIN or unprivileged user namespaces: {said}")


def bare() -> dict[str, str]:
    """Return an environment without anything of this one."""
    return {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": "/nonexistent"}


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the one command makes, and the SHA-256 that it prints."""
    folder = tmp_path_factory.mktemp("stick") / "wheelhouse"
    made = subprocess.run(
        [sys.executable, "dev.py", "wheelhouse", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr[-2000:]
    (line,) = (line for line in made.stdout.splitlines() if line.startswith("SHA-256"))
    return folder, line.split()[-1]


def run_install(folder: Path, digest: str, target: Path) -> subprocess.CompletedProcess[str]:
    """Run the folder's own installer without a network."""
    command = [*apart(), sys.executable, "-I", str(folder / "install.py"), "--list", digest, str(target)]
    return subprocess.run(command, cwd=target.parent, env=bare(), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def program(wheelhouse: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as installed in a namespace without a network."""
    target = tmp_path_factory.mktemp("cold") / "keyturn"
    ran = run_install(*wheelhouse, target)
    assert ran.returncode == 0, ran.stderr
    return target / "bin" / "keyturn-node"


def test_program_when_installed_apart_then_holds_nothing_of_a_network(program: Path) -> None:
    """No gRPC, no Vault client, no web framework, no coordinator, no console, no wire code."""
    wanted = [*install.NEVER, "custody.v1", "structlog", "typer"]
    code = f"import importlib.util as u; print([n for n in {wanted!r} if u.find_spec(n)])"
    found = subprocess.run(
        [program.with_name("python"), "-I", "-c", code], env=bare(), capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == "[]"


def test_program_when_given_a_bundle_apart_then_shows_it_and_signs(program: Path, tmp_path: Path) -> None:
    """From the bundle on the stick to the answer, at a terminal: the signature that any node of the key makes."""
    genesis = genesis_of_today()
    world = World(genesis, now=int(time.time()))
    spend = world.spend(world.withdrawal())
    (tmp_path / "bundle").write_bytes(spend.bundle(node="cold").to_bytes())
    config = cold_node(genesis, tmp_path)
    command = [*apart(), str(program), "offline", "--config", str(config), "bundle", "--out", "answer"]

    with running([*command, "--pictures", "back"], tmp_path, bare()) as session:
        screen = session.until("To sign, type")
        session.press(screen.split("SCREENS")[1].split("│")[6].split()[-1] + "\r")  # the last of three rows of words
        assert session.end() == 0, session.vt.text

    assert parse_answer((tmp_path / "answer").read_bytes()).outcome == spend.signatures("cold")
    assert (tmp_path / "back" / "frame-0001.png").is_file()


def changed(stick: Path, how: str) -> None:
    """Do to a copy of the folder what somebody who had the stick for a night could do."""
    wheel = next((stick / "wheels").glob("segno-*.whl"))
    if how == "a wheel":
        wheel.write_bytes(wheel.read_bytes() + b"\x00")
    elif how == "a wheel and the list":
        wheel.write_bytes(wheel.read_bytes() + b"\x00")
        lines = [line for line in (stick / LIST).read_text().splitlines() if wheel.name not in line]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        (stick / LIST).write_text("\n".join([*lines, f"{digest}  wheels/{wheel.name}"]) + "\n")
    elif how == "one more":
        shutil.copyfile(wheel, wheel.with_name("evil-1.0-py3-none-any.whl"))
    elif how == "one less":
        wheel.unlink()
    elif how == "a link":
        wheel.rename(stick.parent / "elsewhere")
        wheel.symlink_to(stick.parent / "elsewhere")
    else:
        (stick / "made-for.json").write_text(json.dumps({"python": "3.9", "platform": "linux-x86_64"}))


@pytest.mark.parametrize("how", ["a wheel", "a wheel and the list", "one more", "one less", "a link", "another Python"])
def test_folder_that_was_changed_then_installs_nothing(how: str, wheelhouse: tuple[Path, str], tmp_path: Path) -> None:
    """Whatever was done to the stick, the hash that people compared tells, and there is no program."""
    folder, digest = wheelhouse
    stick = tmp_path / "stick"
    shutil.copytree(folder, stick)
    changed(stick, how)
    ran = run_install(stick, digest, tmp_path / "keyturn")

    assert ran.returncode == 1
    assert "install.py: expected" in ran.stderr
    assert not (tmp_path / "keyturn").exists()


@pytest.mark.parametrize("name", ["/etc/cron.d/x", "../x.py", "a/../../x.py", "a\\..\\x.py"])
def test_wheel_whose_path_leads_out_then_is_refused(name: str) -> None:
    """A zip may name any path; only those inside site-packages are written."""
    with pytest.raises(install.Refused):
        install.place_of(name)
