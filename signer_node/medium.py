"""Foreign media: files, pictures of frames and cameras, read and written without trusting what is on them (ATK-118)."""

from __future__ import annotations

import os
import select
import shlex
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from custody.bundle import MAX_BUNDLE_BYTES
from custody.errors import MalformedError, UnavailableError
from custody.frames import FrameKind, Parcel, ParcelKind, frames_of, sizes

SIZES = {"small": sizes.SMALL, "medium": sizes.MEDIUM, "large": sizes.LARGE}
CAPTURE_SECONDS = 600  # ten minutes of holding a screen before a camera; then it is a file's turn
MAX_PICTURES = 5_000  # in one folder
MAX_CARRIED_BYTES = 16 * 1024 * 1024  # a photograph; a document has less
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Carriers:
    """What an answer leaves on. file, gif: written over.  folder: for PNGs.  show: the terminal."""

    file: Path | None = None
    folder: Path | None = None
    gif: Path | None = None
    show: bool = False
    kind: FrameKind = FrameKind.BBQR
    version: int = sizes.MEDIUM

    @property
    def is_none(self) -> bool:
        """Whether an answer would go nowhere."""
        return not (self.file or self.folder or self.gif or self.show)


def read_document(path: Path) -> bytes:
    """Return the document that `path` holds: a file, a picture of frames, or a folder of them.

    Raises:
        MalformedError: FILE_REFUSED, PICTURE..., or why the frames do not add up.
    """
    from custody.frames import pictures  # loaded where there are pictures: other commands need no decoder

    if path.is_dir() and not path.is_symlink():
        return _document(pictures.read_parcel(_pictures_in(path)))
    content = read_carried(path, MAX_CARRIED_BYTES)
    if pictures.is_picture(content[:12]):
        return _document(pictures.read_parcel([content]))
    if len(content) > MAX_BUNDLE_BYTES:
        raise MalformedError("FILE_REFUSED", f"{path.name}: expected a file of at most {MAX_BUNDLE_BYTES} bytes")
    return content


def capture(command: str) -> bytes:
    """Return the document that a camera sees. command: writes a stream of JPEGs to its stdout, until it is ended.

    Raises:
        UnavailableError: CAMERA: it cannot be started, or ended before the frames were complete.
    """
    from custody.frames import pictures

    try:
        camera = subprocess.Popen(shlex.split(command), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)  # noqa: S603  # given by the operator
    except (OSError, ValueError) as error:
        raise UnavailableError("CAMERA", f"expected a command that can be run: {error}") from error
    try:
        return _document(pictures.read_parcel(pictures.jpegs(_chunks(camera)), restart=True))
    except MalformedError as error:
        if error.code != "FRAMES_INCOMPLETE":
            raise
        raise UnavailableError("CAMERA", f"the camera's command ended: {error.message}") from error
    finally:
        camera.kill()
        camera.wait()


def give(answer: bytes, carriers: Carriers) -> None:
    """Write `answer` to every medium that was asked for; the terminal is for `screen.show_frames`.

    Raises:
        MalformedError: FILE_REFUSED, FRAMES_TOO_LARGE.
    """
    from custody.frames import pictures

    if carriers.file:
        write_carried(carriers.file, answer)
    if not (carriers.folder or carriers.gif):
        return
    frames = frames_of(Parcel(ParcelKind.DOCUMENT, answer), carriers.kind, sizes.frame_chars(carriers.version))
    if carriers.gif:
        write_carried(carriers.gif, pictures.gif(frames.first, carriers.version))
    if carriers.folder:
        try:
            carriers.folder.mkdir(exist_ok=True)
            for old in carriers.folder.glob("frame-*.png"):  # a longer answer's last frames would be another message's
                old.unlink()
        except OSError as error:
            raise MalformedError("FILE_REFUSED", f"{carriers.folder.name}: {error.strerror}") from error
        for number, text in enumerate(frames.first, 1):
            write_carried(carriers.folder / f"frame-{number:04}.png", pictures.png(text, carriers.version))


def read_carried(path: Path, max_bytes: int = MAX_BUNDLE_BYTES) -> bytes:
    """Return a file from a foreign medium: opened once, no link followed, size first (ATK-118).

    Raises:
        MalformedError: FILE_REFUSED.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not hang us
    except OSError as error:
        raise MalformedError("FILE_REFUSED", f"{path.name}: {error.strerror}") from error
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_size > max_bytes:
        os.close(handle)
        raise MalformedError("FILE_REFUSED", f"{path.name}: expected a file of at most {max_bytes} bytes")
    with os.fdopen(handle, "rb") as file:
        return file.read(max_bytes + 1)


def write_carried(path: Path, content: bytes) -> None:
    """Write `content` to a foreign medium, whole and flushed, under its own name only when it is complete.

    Raises:
        MalformedError: FILE_REFUSED: the medium cannot be written, or holds a link where the file would stand.
    """
    partial = path.with_name(path.name + ".partial")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(partial, flags, 0o644)  # public: what leaves here is signatures
    except OSError as error:
        raise MalformedError("FILE_REFUSED", f"{partial.name}: {error.strerror}") from error
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _pictures_in(folder: Path) -> Iterator[bytes]:
    """Yield the pictures of a folder by name; whatever else is there, links too, is left alone."""
    from custody.frames import pictures

    paths = sorted(path for path in folder.iterdir() if stat.S_ISREG(path.lstat().st_mode))
    for path in paths[:MAX_PICTURES]:
        content = read_carried(path, MAX_CARRIED_BYTES)
        if pictures.is_picture(content[:12]):
            yield content


def _chunks(camera: subprocess.Popen[bytes]) -> Iterator[bytes]:
    assert camera.stdout is not None  # noqa: S101  # asked for with PIPE
    pipe = camera.stdout.fileno()
    while is_readable(pipe, CAPTURE_SECONDS):
        chunk = os.read(pipe, _CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


def is_readable(handle: int, seconds: float) -> bool:
    """Return whether there is something to read, or an end, before `seconds` are over."""
    poll = select.poll()  # select() knows no handle above 1,023
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(seconds * 1_000))


def _document(parcel: Parcel) -> bytes:
    if parcel.kind is not ParcelKind.DOCUMENT:
        raise MalformedError("PARCEL_KIND", "expected a bundle, found a PSBT: this node judges bundles alone")
    return parcel.content
