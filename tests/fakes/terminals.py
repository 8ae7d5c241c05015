"""A program in a real pseudo-terminal: its screen is read, its keys are pressed."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.fakes.vt import Vt

PATIENCE_SECONDS = 90.0  # a busy machine


class Session:
    """A running program and its terminal."""

    def __init__(self, process: subprocess.Popen[bytes], handle: int, columns: int, rows: int) -> None:
        self._process, self._handle = process, handle
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.vt = Vt(columns, rows)
        self.written = ""

    @property
    def printed(self) -> str:
        """What was written outside the program's own screen, at the end."""
        return self.written.rpartition("\x1b[?1049l")[2].replace("\r\n", "\n").strip()

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._handle, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Give the window another size; its screen begins empty."""
        fcntl.ioctl(self._handle, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.vt = Vt(columns, rows)

    def until(self, text: str) -> str:
        """Return the screen once `text` is on it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in self.vt.text:
            assert time.monotonic() < deadline, f"expected {text!r} on the screen:\n{self.vt.text}"
            if not self._read():
                assert text in self.vt.text, f"expected {text!r} before it ended:\n{self.vt.text}"
        return self.vt.text

    def until_changed(self, before: str) -> str:
        """Return the screen once it is another than `before`, and whole."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.vt.text == before or not self.vt.lines[-1]:
            assert time.monotonic() < deadline, f"expected another screen:\n{before}"
            self._read()
        return self.vt.text

    def end(self) -> int:
        """Return the exit code once the program has ended and all it wrote was read."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._read():
            assert time.monotonic() < deadline, f"expected the program to end:\n{self.vt.text}"
        return self._process.wait(PATIENCE_SECONDS)

    def _read(self) -> bool:
        """Take in what there is; return whether more can come."""
        if not is_readable(self._handle, PATIENCE_SECONDS):
            raise AssertionError(f"expected the program to write or end:\n{self.vt.text}")
        try:
            raw = os.read(self._handle, 65_536)
        except OSError:  # EIO: nobody holds the other side
            return False
        text = self._decoder.decode(raw)
        self.written += text
        self.vt.feed(text)
        return bool(raw)


def is_readable(handle: int, seconds: float) -> bool:
    """Return whether there is something to read, or an end, before `seconds` are over."""
    poll = select.poll()  # select() knows no handle above 1,023
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(seconds * 1_000))


@contextlib.contextmanager
def running(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str], columns: int = 100, rows: int = 46
) -> Iterator[Session]:
    """Run `command` in a terminal of its own; it is ended with the block."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        command, cwd=cwd, env={**environment, "TERM": "xterm-256color"}, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Session(process, ours, columns, rows)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
