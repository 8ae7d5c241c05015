"""What travels as frames: a PSBT, or a document of ours, with its SHA-256 in front so that a damaged frame is told.

Frames carry; they prove nothing. What a parcel means is for `custody.bundle`, `custody.psbt` and `judge`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import cycle

from custody.bundle import MAX_BUNDLE_BYTES, MAX_PSBT_BYTES
from custody.errors import MalformedError
from custody.frames import bbqr, cbor, ur
from custody.frames.bbqr import BbqrJoiner
from custody.frames.ur import Ur, UrJoiner

_DIGEST_BYTES = 32
_BBQR_PSBT, _BBQR_DOCUMENT = "P", "B"
_UR_PSBT, _UR_DOCUMENT = ("crypto-psbt", "psbt"), "keyturn"  # the first name of a PSBT is what most devices write
_MAX_BYTES = MAX_BUNDLE_BYTES + _DIGEST_BYTES


class ParcelKind(Enum):
    """What a parcel holds."""

    PSBT = "psbt"
    DOCUMENT = "document"


class FrameKind(Enum):
    """How a parcel is cut into frames."""

    BBQR = "bbqr"
    UR = "ur"


@dataclass(frozen=True, slots=True)
class Parcel:
    """One thing that is carried. content: a PSBT, or the canonical bytes of a bundle or an answer."""

    kind: ParcelKind
    content: bytes


@dataclass(frozen=True, slots=True)
class Frames:
    """A parcel as frames. count: how many a reader needs at least.  endless: shown one after another, again and again.

    first: what a file or folder of pictures should hold: for UR twice as many as are needed, since any will do.
    """

    count: int
    first: tuple[str, ...]
    endless: Iterator[str]


def frames_of(parcel: Parcel, kind: FrameKind, frame_chars: int) -> Frames:
    """Return `parcel` cut into frames of at most `frame_chars` characters of QR's alphanumeric alphabet.

    Raises:
        MalformedError: FRAMES_TOO_LARGE: it has to travel as a file.
    """
    if kind is FrameKind.BBQR:
        texts = bbqr.frames(_bbqr_file(parcel), frame_chars)
        return Frames(len(texts), texts, cycle(texts))
    body = _ur(parcel)
    room = ur.max_fragment(body.type, frame_chars)
    count = ur.frame_count(body, room)
    shown = 1 if count == 1 else 2 * count
    texts = tuple(text for text, _ in zip(ur.frames(body, room), range(shown), strict=False))
    return Frames(count, texts, cycle(texts) if count == 1 else ur.frames(body, room))


def open_file(file: bbqr.File) -> Parcel:
    """Return the parcel in a BBQr file. Raises MalformedError PARCEL_KIND, PARCEL_DIGEST, PARCEL_TOO_LARGE."""
    if file.type == _BBQR_PSBT:
        return _psbt(file.content)
    if file.type == _BBQR_DOCUMENT:
        return Parcel(ParcelKind.DOCUMENT, _unchecked(file.content))
    raise MalformedError("PARCEL_KIND", f"expected a PSBT (P) or a document of ours (B), found type {file.type}")


def open_ur(found: Ur) -> Parcel:
    """Return the parcel in a UR. Raises MalformedError PARCEL_KIND, PARCEL_DIGEST, PARCEL_TOO_LARGE, CBOR."""
    if found.type in _UR_PSBT:
        return _psbt(cbor.read_bytes(found.cbor))
    if found.type == _UR_DOCUMENT:
        return Parcel(ParcelKind.DOCUMENT, _unchecked(bbqr.inflated(cbor.read_bytes(found.cbor), _MAX_BYTES)))
    raise MalformedError("PARCEL_KIND", f"expected {', '.join(_UR_PSBT)} or {_UR_DOCUMENT}, found {found.type}")


class Joiner:
    """Puts frames of either kind together; the first one says which.

    All of them must be of one parcel: a frame of another is refused and changes nothing, so whoever reads a camera can
    begin anew with it, and whoever reads a folder stops (ATK-115).
    """

    def __init__(self) -> None:
        self._inner: BbqrJoiner | UrJoiner | None = None

    @property
    def progress(self) -> tuple[int, int]:
        """How much is here, and of how much; (0, 0) before the first frame."""
        return (0, 0) if self._inner is None else self._inner.progress

    @property
    def missing(self) -> tuple[int, ...]:
        """Numbers of the frames without which it cannot be read; empty where any others will do."""
        return () if self._inner is None else self._inner.missing

    @property
    def is_complete(self) -> bool:
        """Whether `parcel` will answer."""
        have, of = self.progress
        return 0 < of == have

    def add(self, text: str) -> None:
        """Take in the text of one QR.

        Raises:
            MalformedError: FRAME_FORMAT (neither BBQr nor UR), FRAME_OTHER_SESSION, FRAME_CONFLICT, or what a broken
                frame is. Nothing changed.
        """
        kind = _kind_of(text)
        inner = self._inner or (BbqrJoiner(_MAX_BYTES) if kind is FrameKind.BBQR else UrJoiner(_MAX_BYTES))
        if isinstance(inner, BbqrJoiner) is not (kind is FrameKind.BBQR):
            raise MalformedError("FRAME_OTHER_SESSION", f"expected a frame of the same kind, found {kind.value}")
        inner.add(text)
        self._inner = inner

    def parcel(self) -> Parcel:
        """Return what the frames carried.

        Raises:
            MalformedError: FRAMES_INCOMPLETE, FRAMES_TOO_LARGE, FRAMES_INFLATE; FRAME_LETTERS, FRAME_CHECKSUM; or as
                `open_file` and `open_ur`.
        """
        if self._inner is None:
            raise MalformedError("FRAMES_INCOMPLETE", "expected frames, found none")
        joined = self._inner.joined()
        return open_file(joined) if isinstance(joined, bbqr.File) else open_ur(joined)


def digest_of(content: bytes) -> bytes:
    """Return the SHA-256 of what is handed over, 32 bytes: what records of the way name it by."""
    return hashlib.sha256(content).digest()


def _kind_of(text: str) -> FrameKind:
    if text.startswith("B$"):
        return FrameKind.BBQR
    if text[:3].lower() == "ur:":
        return FrameKind.UR
    raise MalformedError("FRAME_FORMAT", "expected a QR of BBQr or UR, found another")  # never shown: ATK-119


def _bbqr_file(parcel: Parcel) -> bbqr.File:
    if parcel.kind is ParcelKind.PSBT:
        return bbqr.File(_BBQR_PSBT, parcel.content)
    return bbqr.File(_BBQR_DOCUMENT, digest_of(parcel.content) + parcel.content)


def _ur(parcel: Parcel) -> Ur:
    if parcel.kind is ParcelKind.PSBT:
        return Ur(_UR_PSBT[0], cbor.encode_bytes(parcel.content))
    checked = digest_of(parcel.content) + parcel.content
    return Ur(_UR_DOCUMENT, cbor.encode_bytes(bbqr.deflated(checked)))


def _psbt(content: bytes) -> Parcel:
    if len(content) > MAX_PSBT_BYTES:
        raise MalformedError("PARCEL_TOO_LARGE", f"expected a PSBT of at most {MAX_PSBT_BYTES} bytes")
    return Parcel(ParcelKind.PSBT, content)


def _unchecked(checked: bytes) -> bytes:
    digest, content = checked[:_DIGEST_BYTES], checked[_DIGEST_BYTES:]
    if digest != digest_of(content):
        raise MalformedError("PARCEL_DIGEST", "expected the digest in front to be of what follows: a frame is damaged")
    return content
