"""dev.py: when it installs, what it hands on, and that every lock is complete and of one mind."""

import os
import re
import shutil
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

import dev

LOCK_NAMES = sorted(dev.LOCK_SETS)
ALL_LOCKS = sorted((*dev.LOCK_SETS, *dev.APART))


def pins(lock_set: str) -> dict[str, str]:
    """Return package -> version of one lock file."""
    text = (dev.LOCKS / f"{lock_set}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", text, flags=re.MULTILINE))


def venv_with_stamp(folder: Path, stamp: str) -> Path:
    """Return a folder that looks like a virtual environment in which `stamp` was written."""
    (folder / "bin").mkdir()
    (folder / "bin" / "python").touch()
    (folder / "keyturn.stamp").write_text(stamp)
    return folder


@pytest.mark.parametrize(
    ("wanted", "found"), [("demo", "demo"), ("demo", "dev"), ("dev", "dev"), ("offline", "offline")]
)
def test_is_installed_given_the_set_or_a_superset_says_yes(wanted: str, found: str, tmp_path: Path) -> None:
    """A stamp of the wanted set, or of one that contains it, is enough: nothing is installed again."""
    assert dev.is_installed(wanted, venv_with_stamp(tmp_path, dev.fingerprint(found)))


@pytest.mark.parametrize("stamp", ["", "dev", "dev " + "0" * 64, dev.fingerprint("demo"), dev.fingerprint("build")])
def test_is_installed_given_another_stamp_says_no(stamp: str, tmp_path: Path) -> None:
    """An empty, stale or smaller stamp does not count as the dev set."""
    assert not dev.is_installed("dev", venv_with_stamp(tmp_path, stamp))


def test_is_installed_given_no_python_says_no(tmp_path: Path) -> None:
    """A stamp alone, without a Python beside it, is not an environment."""
    venv = venv_with_stamp(tmp_path, dev.fingerprint("dev"))
    (venv / "bin" / "python").unlink()

    assert not dev.is_installed("dev", venv)


def test_fingerprint_given_another_python_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one Python installed does not count for another."""
    before = dev.fingerprint("dev")
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))

    assert dev.fingerprint("dev") != before


@pytest.mark.parametrize(
    ("arguments", "rest"),
    [
        (["test"], []),
        (["test", "--", "tests/unit", "-k", "dev", "--", "x"], ["tests/unit", "-k", "dev", "--", "x"]),
        (["demo", "--json", "--keep"], ["--json", "--keep"]),
        (["bench", "psbt", "--json"], ["--json"]),
    ],
)
def test_parse_given_more_arguments_hands_them_on(arguments: list[str], rest: list[str]) -> None:
    """What is not for dev.py goes, in order, to the program that it becomes."""
    assert dev.parse(arguments).rest == rest


def test_parse_given_more_arguments_for_check_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that hands nothing on does not swallow what it does not know."""
    with pytest.raises(SystemExit, match="2"):
        dev.parse(["check", "--fast"])
    assert "--fast" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["bench", "soak"])
def test_benchmark_given_an_unknown_name_exits_with_2(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A name without a benchmark is a usage error, answered before anything is installed."""
    assert dev.main([command, "no_such_name"]) == 2
    assert "no such name: no_such_name" in capsys.readouterr().err


def test_benchmark_names_given_both_kinds_tells_them_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """soak_NAME.py belongs to soak alone; _NAME.py and __init__.py are no benchmarks."""
    (tmp_path / "benchmarks").mkdir()
    for name in ("__init__", "_parts", "psbt", "soak_psbt", "audit"):
        (tmp_path / "benchmarks" / f"{name}.py").touch()
    monkeypatch.setattr(dev, "ROOT", tmp_path)

    assert dev.benchmark_names("") == ["audit", "psbt"]
    assert dev.benchmark_names("soak_") == ["psbt"]


@pytest.mark.parametrize("lock_set", ALL_LOCKS)
def test_lock_names_no_place(lock_set: str) -> None:
    """A lock holds names, versions and hashes; where packages come from is the business of the machine."""
    text = (dev.LOCKS / f"{lock_set}.txt").read_text()

    assert not re.search(r"https?:|file:|@|^\s*(-i|-f|--(?!hash))", text, flags=re.MULTILINE)


@pytest.mark.parametrize("lock_set", ALL_LOCKS)
def test_lock_gives_every_package_a_version_and_hashes(lock_set: str) -> None:
    """Each entry is name==version with at least one SHA-256, so that pip takes nothing else (ATK-134)."""
    entries = (dev.LOCKS / f"{lock_set}.txt").read_text().replace("\\\n", "").splitlines()

    assert entries
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9._-]+==[^\s;]+( ; [^#]*?)?(\s+--hash=sha256:[0-9a-f]{64})+", entry.strip()), entry


@pytest.mark.parametrize("lock_set", LOCK_NAMES)
def test_lock_agrees_with_dev(lock_set: str) -> None:
    """Every set is a subset of dev, version by version: what is tested is what is deployed."""
    assert pins(lock_set).items() <= pins("dev").items()


def test_lock_of_offline_holds_no_service_package() -> None:
    """An air-gapped signer installs neither grpc, hvac nor any web package."""
    service_packages = {"grpcio", "protobuf", "hvac", "requests", "urllib3", "sqlalchemy", "structlog", "fastapi"}

    assert not service_packages & pins("offline").keys()


def test_build_system_is_the_locked_setuptools() -> None:
    """What builds Keyturn from pyproject.toml is what builds embit from the locks."""
    project = tomllib.loads((dev.ROOT / "pyproject.toml").read_text())

    assert project["build-system"]["requires"] == [f"setuptools=={pins('build')['setuptools']}"]


def test_ensurepip_missing_given_no_root_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root nothing is tried with apt; the message names the package."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(dev.SetupError, match="apt-get install python3-venv"):
        dev.install_ensurepip()


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a PATH folder with nothing in it but an apt-get that notes its arguments and fails; root asks."""
    for program in dev.SYSTEM_PARTS:
        monkeypatch.setenv(f"KEYTURN_MISSING_{program.upper()}", "")  # so that it is put back, whatever a test leaves
        monkeypatch.delenv(f"KEYTURN_MISSING_{program.upper()}")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    put_program(tmp_path / "apt-get", f'echo "$@" >> {tmp_path}/asked; exit 100')
    return tmp_path


def put_program(path: Path, script: str) -> None:
    """Write a program."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def asked(folder: Path) -> list[str]:
    """Return what the folder's apt-get was asked for, its first word of each call."""
    path = folder / "asked"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def missing() -> list[str]:
    """Return what the tests will hear about programs that could not be installed."""
    return [value for name, value in os.environ.items() if name.startswith("KEYTURN_MISSING_")]


def test_system_parts_given_the_programs_asks_apt_for_nothing(apt: Path) -> None:
    """A second call starts at once."""
    for program in dev.SYSTEM_PARTS:
        put_program(apt / program, "true")

    dev.ensure_system_parts(dev.SYSTEM_PARTS)

    assert asked(apt) == []
    assert missing() == []


def test_system_parts_given_no_root_asks_apt_for_nothing(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the tests that need them are skipped, with their reason."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    dev.ensure_system_parts(dev.SYSTEM_PARTS)

    assert asked(apt) == []
    assert missing() == []


def test_system_parts_given_no_apt_goes_on(apt: Path) -> None:
    """Root on another distribution: no error either."""
    (apt / "apt-get").unlink()

    dev.ensure_system_parts(dev.SYSTEM_PARTS)

    assert missing() == []


def test_system_parts_given_an_apt_that_fails_tells_the_tests_and_goes_on(
    apt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lists are fetched before each gives up; the reason is printed and left for tests that need the program."""
    dev.ensure_system_parts(dev.SYSTEM_PARTS)

    assert asked(apt) == ["install", "update"] * len(dev.SYSTEM_PARTS)
    assert [reason.partition(":")[0] for reason in missing()] == [f"no {program}" for program in dev.SYSTEM_PARTS]
    assert missing()[0] in capsys.readouterr().err


def test_system_parts_given_an_apt_that_works_installs_only_what_is_needed(apt: Path) -> None:
    """One call for each program, nothing recommended."""
    put_program(apt / "apt-get", f'echo "$@" >> {apt}/asked')

    dev.ensure_system_parts(dev.SYSTEM_PARTS)

    assert len(asked(apt)) == len(dev.SYSTEM_PARTS)
    assert "--no-install-recommends" in (apt / "asked").read_text()
    assert missing() == []


def test_engine_parts_given_this_pythons_library_asks_apt_for_the_program_alone(
    apt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library is found where this Python keeps it, not on the PATH."""
    (apt / f"lib{dev.PYTHON}.so.1.0").touch()
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: str(apt))
    put_program(apt / "apt-get", f'echo "$@" >> {apt}/asked')

    dev.ensure_system_parts(dev.ENGINE_PARTS)

    assert len(asked(apt)) == 1
    assert "binutils" in (apt / "asked").read_text()


def test_lock_given_no_uv_says_where_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only `lock` needs uv, and says so instead of failing in the middle."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)

    assert dev.main(["lock"]) == 1
    assert "lock needs uv" in capsys.readouterr().err
