"""The ceremony as it is held: `python3 -m signer_node` in a real pseudo-terminal, words read off the screen."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from custody.genesis import read_key_record
from custody.statements import Signed
from signer_node.terminal import CLEAR
from tests.fakes.terminals import is_readable

PATIENCE_S = 120  # other work makes the machine slow; what is waited for comes in a second
PASSPHRASE = "a passphrase of the key file"
SECRET_FILE = "another passphrase"


@dataclass
class Screen:
    """A program in a terminal: everything it wrote, and a way to type."""

    process: subprocess.Popen[bytes]
    handle: int
    text: str = ""
    seen: int = 0

    def wait_for(self, words: str) -> str:
        """Return what was written up to and with `words`, behind what was waited for before."""
        deadline = time.monotonic() + PATIENCE_S
        while (at := self.text.find(words, self.seen)) < 0:
            ready = is_readable(self.handle, max(0, deadline - time.monotonic()))
            assert ready, f"waited for {words!r}, found {self.text[self.seen :]!r}"
            try:
                self.text += os.read(self.handle, 65_536).decode()
            except OSError:  # the program ended
                pytest.fail(f"waited for {words!r}, found the end behind {self.text[self.seen :]!r}")
        part, self.seen = self.text[self.seen : at + len(words)], at + len(words)
        return part

    def type(self, question: str, answer: str, *, hidden: bool = False) -> None:
        """Wait for `question` and answer it; `hidden`: only once the terminal no longer shows what is typed."""
        self.wait_for(question)
        deadline = time.monotonic() + PATIENCE_S
        while hidden and termios.tcgetattr(self.handle)[3] & termios.ECHO and time.monotonic() < deadline:
            time.sleep(0.01)
        os.write(self.handle, f"{answer}\n".encode())

    def end(self) -> int:
        """Read to the end and return the exit code."""
        while True:
            try:
                part = os.read(self.handle, 65_536)
            except OSError:
                break
            if not part:
                break
            self.text += part.decode()
        os.close(self.handle)
        return self.process.wait(PATIENCE_S)


def start(*arguments: str) -> Screen:
    """Start a command of the node in a terminal of its own; its result goes there too."""
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "signer_node", *arguments],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
    )
    os.close(inner)
    return Screen(process, outer)


def node(home: Path) -> Path:
    """Return the configuration of a node with nothing in it yet."""
    home.mkdir(mode=0o700)
    (home / "passphrase").write_text(PASSPHRASE)
    (home / "passphrase").chmod(0o600)
    config = home / "node.toml"
    config.write_text(
        'name = "cold"\nnetwork = "regtest"\nstate = "state"\n'
        f'backend = "sealed-file://{home}/seed"\npassphrase = "passphrase"\n'
    )
    assert tomllib.loads(config.read_text())["name"] == "cold"
    return config


@pytest.mark.slow
def test_ceremony_in_a_terminal_shows_the_words_once_and_restores_from_them(tmp_path: Path) -> None:
    """Made with dice, written down, asked back, typed again, sealed; then another machine gets the key back."""
    record = tmp_path / "cold.record"
    screen = start("ceremony", "--config", str(node(tmp_path / "old")), "--out", str(record))
    screen.type("How many words?", "12")
    screen.type("Thrown besides?", "dice")
    screen.type("50 throws or more", "162534" * 9, hidden=True)
    screen.type("BIP-39 passphrase, empty for none", "", hidden=True)
    sheet = screen.wait_for("Written down?")
    words = [
        word
        for _, word in sorted((int(n), w) for n, w in re.findall(r"(\d+) ([a-z]+)", sheet.partition("regtest:")[2]))
    ]
    assert len(words) == 12
    os.write(screen.handle, b"\n")
    screen.wait_for(CLEAR)
    for _ in range(3):
        screen.wait_for("Word ")
        place = int(screen.wait_for(": ").rstrip(": "))
        screen.seen -= 2
        screen.type(": ", words[place - 1], hidden=True)
    screen.type("Who keeps the words?", "anna")
    screen.type("All words", " ".join(words), hidden=True)
    screen.wait_for("The same key: ")
    fingerprint = screen.wait_for(".").rstrip(".")
    screen.type("Another backup?", "sealed")
    screen.type("Passphrase of the file", SECRET_FILE, hidden=True)
    screen.type("The same again", SECRET_FILE, hidden=True)
    screen.type("Who can open it?", "bert")
    screen.type("New file for it", str(tmp_path / "backup.sealed"))
    screen.type("Another backup?", " ".join(words))  # the wrong window: refused, and asked again
    screen.type("Another backup?", "no")
    assert screen.end() == 0

    shown = screen.text[screen.text.index(CLEAR) :]
    assert "SECRET_PASTED" in shown
    assert SECRET_FILE not in shown
    making = read_key_record(Signed.from_bytes(record.read_bytes())).making
    assert making is not None
    assert (making.sources, [b.form.value for b in making.backups]) == (("os", "dice:54"), ["words", "sealed"])

    restored = restore(tmp_path, "words", ["All words", " ".join(words)])
    assert fingerprint in restored
    assert " ".join(words) not in restored
    assert fingerprint in restore(tmp_path, "sealed", ["Passphrase of the file", SECRET_FILE])
    assert "SEAL_BROKEN" in restore(tmp_path, "sealed", ["Passphrase of the file", "not this one"], code=1)


def restore(home: Path, form: str, answer: list[str], code: int = 0) -> str:
    """Restore onto a new machine; return what its terminal showed."""
    config = node(home / f"{form}-{code}-{len(list(home.iterdir()))}")
    file = ["--file", str(home / "backup.sealed")] if form == "sealed" else []
    screen = start("restore", "--config", str(config), "--record", str(home / "cold.record"), "--from", form, *file)
    screen.type(*answer, hidden=True)
    assert screen.end() == code, screen.text
    return screen.text
