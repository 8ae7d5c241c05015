"""The units that people install: systemd's own judgement of them, and a real process under what they take away."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.confined import allowed_calls, settings

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "deploy" / "systemd"
NAMES = ("signer", "coordinator", "witness")
MAX_EXPOSURE = 1.5
CONFINED = str(ROOT / "tests" / "fakes" / "confined.py")


@pytest.fixture(autouse=True)
def systemd() -> None:
    """Where there is no systemd-analyze and none could be installed, that is said."""
    if shutil.which("systemd-analyze") is None:
        reason = os.environ.get("KEYTURN_MISSING_SYSTEMD-ANALYZE")
        if reason:
            pytest.fail(reason)
        pytest.skip("no systemd-analyze: `python3 dev.py test` installs it, as root on Debian")


@pytest.mark.parametrize("name", NAMES)
def test_unit_when_systemd_judges_it_exposes_little(name: str) -> None:
    """At most 1.5 of 10, whatever this machine runs."""
    unit = UNITS / f"keyturn-{name}.service"
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)

    found = re.search(r"exposure level for \S+: ([0-9.]+)", told.stdout)
    assert found, told.stdout + told.stderr
    assert float(found[1]) <= MAX_EXPOSURE


@pytest.mark.parametrize("name", NAMES)
def test_unit_when_read_runs_as_its_own_user_and_reaches_nobody_unless_told(name: str) -> None:
    """No unit shares a user with another one, and addresses are for the operator to allow."""
    unit = UNITS / f"keyturn-{name}.service"

    assert settings(unit, "User") == settings(unit, "Group") == [f"keyturn-{name}"]
    assert settings(unit, "IPAddressDeny") == ["any"]
    assert settings(unit, "IPAddressAllow") == []
    assert settings(unit, "SocketBindDeny") == (["any"] if name == "signer" else [])


def test_unit_when_its_command_is_run_by_hand_is_one_that_the_program_has() -> None:
    """Each ExecStart is a command of ours with the options that it takes."""
    for name in NAMES:
        (command,) = settings(UNITS / f"keyturn-{name}.service", "ExecStart")
        module, *arguments = command.partition(" -m ")[2].split()
        words = [word for word in arguments if not word.startswith("/")]
        ran = subprocess.run(
            [sys.executable, "-m", module, *words[:-1], "--help"], capture_output=True, text=True, check=True
        )
        assert words[-1] == "--config"
        assert "--config" in ran.stdout


# What a confined process may and may not do; each is run under the signer's unit.
FORBIDDEN = {
    "memory-writable-and-executable": "import mmap; mmap.mmap(-1, 4096, prot=7)",
    "memory-executable-later": "import ctypes, mmap; m = mmap.mmap(-1, 4096); a = ctypes.addressof("
    "ctypes.c_char.from_buffer(m)); c = ctypes.CDLL(None); raise SystemExit(c.mprotect(ctypes.c_void_p(a), 4096, 5))",
    "netlink-socket": "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "being-traced": "import ctypes; raise SystemExit(ctypes.CDLL(None).ptrace(0, 0, 0, 0))",
    "another-user": "import os; os.setuid(os.getuid())",
    "another-owner": "import os; os.chown('.', os.getuid(), os.getgid())",
    "priority": "import os; os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0))",
}
ALLOWED = {
    "nothing": "pass",
    "memory": "import mmap; mmap.mmap(-1, 4096, prot=3)",
    "sockets": "import socket; [socket.socket(f) for f in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)]",
    "no-core-dumps": "from signer_node.seed import forbid_core_dumps; forbid_core_dumps()",
}


def _run_confined(code: str) -> int:
    unit = str(UNITS / "keyturn-signer.service")
    command = [sys.executable, CONFINED, unit, sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, check=False, cwd=ROOT, env=_environment()).returncode


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_confined_process_when_it_tries_what_the_unit_forbids_fails(what: str) -> None:
    """The confinement that other tests run a node under is real: the same works without it."""
    assert _run_confined(FORBIDDEN[what]) != 0
    assert subprocess.run([sys.executable, "-c", FORBIDDEN[what]], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("what", ALLOWED)
def test_confined_process_when_it_does_what_a_node_does_works(what: str) -> None:
    """And it is not just everything that is refused."""
    assert _run_confined(ALLOWED[what]) == 0


def test_filter_when_expanded_leaves_out_what_is_for_privileged_programs() -> None:
    """A few of each kind, by name."""
    allowed = allowed_calls(UNITS / "keyturn-signer.service")

    assert {"read", "connect", "futex", "prlimit64", "mmap"} <= allowed
    assert not allowed & {"ptrace", "mount", "bpf", "setuid", "chown", "reboot", "kexec_load", "sched_setscheduler"}
