"""Run a command under what a systemd unit takes from it, without systemd: `confined.py UNIT COMMAND...`.

The same system call filter (expanded by systemd itself), address families, refusal of memory that is both writable and
executable (by filter, as systemd does it, and by prctl where the kernel has it), no new privileges and no capability.
Not imitated: name spaces, mounts and addresses, which need a running systemd.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 38, 24, 65, 1
LAST_CAPABILITY = 63  # more than any kernel has; those that it lacks are refused and skipped
SCMP_ACT_ALLOW, SCMP_ACT_ERRNO, SCMP_CMP_MASKED_EQ, SCMP_CMP_EQ = 0x7FFF0000, 0x00050000, 7, 4
PROT_WRITE, PROT_EXEC, SHM_EXEC = 0x2, 0x4, 0o100000


class Compared(ctypes.Structure):
    """libseccomp's scmp_arg_cmp: argument `arg`, masked by `a`, equals `b` (or equals `a`)."""

    _fields_ = (
        ("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)
    )  # fmt: skip


def settings(unit: Path, name: str) -> list[str]:
    """Return the values of every line `NAME=` in a unit file, in order."""
    lines = unit.read_text(encoding="utf-8").splitlines()
    return [line.partition("=")[2].strip() for line in lines if line.startswith(f"{name}=")]


def allowed_calls(unit: Path) -> set[str]:
    """Return the system calls that a unit allows, as systemd reads its filter lines: later lines add or take away."""
    allowed: set[str] = set()
    for line in settings(unit, "SystemCallFilter"):
        names = {call for word in line.lstrip("~").split() for call in _expanded(word)}
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed


def _expanded(word: str) -> set[str]:
    if not word.startswith("@"):
        return {word}
    listed = subprocess.run(["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True)
    words = [line.strip() for line in listed.stdout.splitlines()[1:]]
    return {call for found in words if found and not found.startswith("#") for call in _expanded(found)}


def confine(unit: Path) -> None:
    """Take from this process, and from all that it starts, what `unit` takes. Raises OSError where that fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    families = {getattr(socket, name) for line in settings(unit, "RestrictAddressFamilies") for name in line.split()}
    calls = allowed_calls(unit)
    for capability in range(LAST_CAPABILITY + 1):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    if settings(unit, "MemoryDenyWriteExecute") == ["yes"]:
        libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)  # kernels before 6.3 lack it; the filter stands
    _filter(calls, families)


def _filter(calls: Iterable[str], families: Iterable[int]) -> None:
    seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(SCMP_ACT_ERRNO | errno.EPERM))
    special = {"mmap", "mprotect", "pkey_mprotect", "shmat", "socket"}

    def allow(call: str, *compared: Compared) -> None:
        number = seccomp.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:  # else of another architecture
            array = (Compared * max(1, len(compared)))(*compared)
            failed = seccomp.seccomp_rule_add_array(context, SCMP_ACT_ALLOW, number, len(compared), array)
            if failed:
                raise OSError(-failed, f"rule for {call}")

    for call in sorted(set(calls) - special):
        allow(call)
    # systemd's own rules of MemoryDenyWriteExecute: not both at once, never executable later, no such shared memory.
    allow("mmap", Compared(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0))
    allow("mmap", Compared(2, SCMP_CMP_MASKED_EQ, PROT_EXEC | PROT_WRITE, PROT_EXEC))
    allow("mprotect", Compared(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0))
    allow("pkey_mprotect", Compared(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0))
    allow("shmat", Compared(2, SCMP_CMP_MASKED_EQ, SHM_EXEC, 0))
    for family in families:
        allow("socket", Compared(0, SCMP_CMP_EQ, family, 0))
    failed = seccomp.seccomp_load(context)
    if failed:
        raise OSError(-failed, "seccomp_load")


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the command that the test gives
