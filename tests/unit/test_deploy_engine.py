"""The plugin file beside its server: pinned by its hash, and said aloud where only a script could be made."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from custody.errors import UnavailableError
from deploy import engine


def test_install_engine_then_pins_the_very_file_that_the_server_will_run(tmp_path: Path) -> None:
    """A copy that nobody may write to, and its SHA-256 in the configuration."""
    made = tmp_path / "made"
    made.write_bytes(b"#!/bin/true\n")
    (tmp_path / "server").mkdir()

    stanza = engine.install_engine(tmp_path / "server", made)

    installed = tmp_path / "server" / "plugins" / engine.COMMAND
    assert installed.read_bytes() == made.read_bytes()
    assert installed.stat().st_mode & 0o777 == 0o555
    assert f'sha256sum = "{hashlib.sha256(made.read_bytes()).hexdigest()}"' in stanza
    assert f'plugin_directory = "{installed.parent}"' in stanza


def test_engine_file_where_pyinstaller_cannot_run_is_a_script_and_says_what_that_is_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo goes on; production's own way ends there."""
    monkeypatch.setattr(engine, "BUILD", tmp_path / "build")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(UnavailableError, match="ENGINE_FILE"):
            engine.one_file(lambda line: None)
    said: list[str] = []
    monkeypatch.setenv("PATH", str(tmp_path))  # no objdump

    found = engine.engine_file(said.append)

    ran = subprocess.run([found], capture_output=True, text=True, timeout=60, check=False)
    assert any("unsafe to keep money in" in line for line in said)
    assert (ran.returncode, ran.stderr.split(":")[0]) == (1, "NOT_A_PLUGIN")
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["script"]


def test_one_file_when_it_was_made_before_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what it depends on: sources, lock, this Python."""
    monkeypatch.setattr(engine, "BUILD", tmp_path)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    made = tmp_path / engine.sources_digest() / engine.COMMAND
    made.parent.mkdir()
    made.touch()

    assert engine.one_file(lambda line: None) == made
    monkeypatch.setattr(sys, "version", "another Python")
    assert engine.sources_digest() != made.parent.name
