"""Frames at this machine: written as pictures, shown on the terminal, read from pictures or a camera program.

Only what a document is carried by. What it means is for `console.carried` and for the coordinator.
"""

from __future__ import annotations

import os
import select
import shlex
import shutil
import subprocess
import sys
import termios
import tty
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from console.files import read_file, write_new
from custody.bundle import MAX_BUNDLE_BYTES
from custody.errors import MalformedError, UnavailableError
from custody.frames import FrameKind, Frames, Parcel, ParcelKind, frames_of, pictures, sizes

SIZES = {"small": sizes.SMALL, "medium": sizes.MEDIUM, "large": sizes.LARGE}
CAPTURE_SECONDS = 600  # ten minutes of holding a screen before a camera; then it is a file's turn
MAX_PICTURES = 5_000  # in one folder
_CHUNK_BYTES = 64 * 1024
_LOCAL_FLAGS = 3  # where tcgetattr has the flags of keys
_ENTER, _LEAVE, _HOME = "\x1b[?1049h\x1b[?25l\x1b[2J", "\x1b[?25h\x1b[?1049l", "\x1b[H"


@dataclass(frozen=True, slots=True)
class Carriers:
    """What a document leaves on. out: a file.  folder: a new one, for PNGs.  gif: a file.  show: this terminal."""

    out: Path | None = None
    folder: Path | None = None
    gif: Path | None = None
    show: bool = False
    kind: FrameKind = FrameKind.BBQR
    version: int = sizes.MEDIUM

    def check(self) -> None:
        """Raise MalformedError CARRIER where there is none, or no terminal to show frames on."""
        if not (self.out or self.folder or self.gif or self.show):
            raise MalformedError("CARRIER", "expected --out FILE, --pictures FOLDER, --gif FILE or --qr")
        if self.show and not (sys.stdout.isatty() and sys.stdin.isatty()):
            raise MalformedError("CARRIER", "expected a terminal for --qr")


def hand_out(parcel: Parcel, carriers: Carriers, file: bytes | None = None) -> list[str]:
    """Write `parcel` to every carrier that was asked for; return the names of what was written.

    Args:
        parcel: what is carried.
        carriers: on what.
        file: what stands in the file, where it is not the parcel's content.

    Raises:
        ConflictError: FILE_EXISTS.
        MalformedError: FRAMES_TOO_LARGE, FILE_UNWRITABLE.
    """
    written = []
    if carriers.out:
        write_new(carriers.out, parcel.content if file is None else file)
        written.append(str(carriers.out))
    if carriers.folder or carriers.gif:
        frames = frames_of(parcel, carriers.kind, sizes.frame_chars(carriers.version))
        written += _draw(frames, carriers)
    if carriers.show:
        size = shutil.get_terminal_size()
        version = sizes.version_for(size.columns, size.lines - 1)
        show(frames_of(parcel, carriers.kind, sizes.frame_chars(version)), version)
    return written


def _draw(frames: Frames, carriers: Carriers) -> list[str]:
    written = []
    if carriers.folder:
        try:
            carriers.folder.mkdir(mode=0o700)
        except OSError as error:
            raise MalformedError("FILE_UNWRITABLE", f"expected to make {carriers.folder}: {error.strerror}") from error
        for number, text in enumerate(frames.first, 1):
            write_new(carriers.folder / f"frame-{number:04}.png", pictures.png(text, carriers.version))
        written.append(f"{carriers.folder} ({len(frames.first)} pictures)")
    if carriers.gif:
        write_new(carriers.gif, pictures.gif(frames.first, carriers.version))
        written.append(str(carriers.gif))
    return written


def show(frames: Frames, version: int) -> None:
    """Show frames on the terminal, four a second, until a key is pressed."""
    keys, before = sys.stdin.fileno(), termios.tcgetattr(sys.stdin.fileno())
    sys.stdout.write(_ENTER)
    try:
        tty.setcbreak(keys)
        unbuffered = termios.tcgetattr(keys)
        unbuffered[_LOCAL_FLAGS] &= ~termios.ISIG  # Control-C is any key: asyncio would hold the signal back
        termios.tcsetattr(keys, termios.TCSANOW, unbuffered)
        for number, text in enumerate(frames.endless, 1):
            lines = "\r\n".join(pictures.terminal(text, version))
            sys.stdout.write(f"{_HOME}{lines}\r\nframe {number}, {frames.count} are needed; any key ends")
            sys.stdout.flush()
            if _is_readable(keys, sizes.FRAME_MILLISECONDS / 1000):
                os.read(keys, 64)
                return
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


def read_carried(path: Path, kind: ParcelKind, max_bytes: int = MAX_BUNDLE_BYTES) -> bytes:
    """Return the document in `path`: a file, a picture of frames, or a folder of them.

    Raises:
        MalformedError: FILE_UNREADABLE, FILE_TOO_LARGE, PARCEL_KIND, or why the frames do not add up.
    """
    if path.is_dir():
        return _content(pictures.read_parcel(_pictures_in(path)), kind)
    content = read_file(path, max(max_bytes, pictures.MAX_PICTURE_BYTES))
    if pictures.is_picture(content[:12]):
        return _content(pictures.read_parcel([content]), kind)
    if len(content) > max_bytes:
        raise MalformedError("FILE_TOO_LARGE", f"expected at most {max_bytes} bytes in {path}")
    return content


def capture(command: str, kind: ParcelKind) -> bytes:
    """Return the document that a camera sees. command: writes a stream of JPEGs to its stdout, until it is ended.

    Raises:
        UnavailableError: CAMERA: it cannot be started, or ended before the frames were complete.
    """
    try:
        camera = subprocess.Popen(shlex.split(command), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)  # noqa: S603 - the operator's own
    except (OSError, ValueError) as error:
        raise UnavailableError("CAMERA", f"expected a command that can be run: {error}") from error
    try:
        return _content(pictures.read_parcel(pictures.jpegs(_chunks(camera)), restart=True), kind)
    except MalformedError as error:
        if error.code != "FRAMES_INCOMPLETE":
            raise
        raise UnavailableError("CAMERA", f"the camera's command ended: {error.message}") from error
    finally:
        camera.kill()
        camera.wait()


def _chunks(camera: subprocess.Popen[bytes]) -> Iterator[bytes]:
    assert camera.stdout is not None  # noqa: S101 - asked for with PIPE
    pipe = camera.stdout.fileno()
    while _is_readable(pipe, CAPTURE_SECONDS):
        chunk = os.read(pipe, _CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


def _pictures_in(folder: Path) -> Iterator[bytes]:
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())
    for path in paths[:MAX_PICTURES]:
        content = read_file(path, pictures.MAX_PICTURE_BYTES)
        if pictures.is_picture(content[:12]):
            yield content


def _content(parcel: Parcel, kind: ParcelKind) -> bytes:
    if parcel.kind is not kind:
        raise MalformedError("PARCEL_KIND", f"expected a {kind.value}, found a {parcel.kind.value}")
    return parcel.content


def _is_readable(handle: int, seconds: float) -> bool:
    """Return whether there is something to read, or an end, before `seconds` are over."""
    poll = select.poll()  # select() knows no handle above 1,023
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(seconds * 1_000))
