"""BBQr (Coinkite's Better Bitcoin QR): a file in numbered frames, compressed, each with the same header in front.

It has no checksum. What a damaged frame did is found by what reads the file: a digest, a signature.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from dataclasses import dataclass
from enum import Enum

from custody.errors import MalformedError

MAX_FRAMES = 36 * 36 - 1  # two digits in base 36; the count itself must fit
HEADER_CHARS = 8
_WINDOW_BITS = -10  # the specification: raw deflate, a window that small devices can hold
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_HEADER = re.compile("B[$]([HZ2])([A-Z])([0-9A-Z]{2})([0-9A-Z]{2})")


class Encoding(Enum):
    """How bytes become letters; the letter is the one in the header."""

    HEX = "H"
    BASE32 = "2"
    ZLIB = "Z"


@dataclass(frozen=True, slots=True)
class File:
    """One file. type: one letter, "P" for a PSBT."""

    type: str
    content: bytes


def frames(file: File, frame_chars: int, encoding: Encoding = Encoding.ZLIB) -> tuple[str, ...]:
    """Return the frames of `file`, each of at most `frame_chars` characters.

    Raises:
        MalformedError: FRAMES_TOO_LARGE.
    """
    encoding, text = _encoded(file.content, encoding)
    step = 2 if encoding is Encoding.HEX else 8  # each frame but the last ends at a whole byte
    room = frame_chars - HEADER_CHARS
    room -= room % step
    count = max(1, -(-len(text) // room))
    if count > MAX_FRAMES:
        raise MalformedError("FRAMES_TOO_LARGE", f"expected at most {MAX_FRAMES} frames, found {count}")
    header = f"B${encoding.value}{file.type}{_base36(count)}"
    return tuple(f"{header}{_base36(at)}{text[at * room : (at + 1) * room]}" for at in range(count))


def _encoded(content: bytes, encoding: Encoding) -> tuple[Encoding, str]:
    if encoding is Encoding.HEX:
        return encoding, content.hex().upper()
    if encoding is Encoding.ZLIB:
        packed = deflated(content)
        if len(packed) < len(content):
            return encoding, base64.b32encode(packed).decode().rstrip("=")
    return Encoding.BASE32, base64.b32encode(content).decode().rstrip("=")


class BbqrJoiner:
    """Puts the frames of one file together, in any order.

    Args:
        max_bytes: what the file may have at most, unpacked; nothing beyond it is ever unpacked.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._session: tuple[str, str, int] | None = None
        self._texts: dict[int, str] = {}

    @property
    def progress(self) -> tuple[int, int]:
        """Frames that are here, and how many there are; (0, 0) before the first one."""
        return len(self._texts), 0 if self._session is None else self._session[2]

    @property
    def missing(self) -> tuple[int, ...]:
        """Numbers of the frames that are not here, from 1 on."""
        return tuple(at + 1 for at in range(self.progress[1]) if at not in self._texts)

    def add(self, text: str) -> None:
        """Take in one frame.

        Raises:
            MalformedError: FRAME_HEADER; FRAME_OTHER_SESSION (another header), FRAME_CONFLICT (this number has other
                content). Nothing changed.
        """
        found = _HEADER.fullmatch(text[:HEADER_CHARS])
        if found is None:
            raise MalformedError("FRAME_HEADER", f"expected a BBQr header, found {text[:HEADER_CHARS]!a}")
        session, at, body = (found[1], found[2], int(found[3], 36)), int(found[4], 36), text[HEADER_CHARS:]
        if not 0 <= at < session[2]:
            raise MalformedError("FRAME_HEADER", f"expected a number below {session[2]}, found {at}")
        if self._session not in (None, session):
            raise MalformedError("FRAME_OTHER_SESSION", "expected a frame of the same file, found another's")
        if self._texts.get(at, body) != body:
            raise MalformedError("FRAME_CONFLICT", "expected the same content, found another under the same number")
        self._session = session
        self._texts[at] = body

    def joined(self) -> File:
        """Return the file.

        Raises:
            MalformedError: FRAMES_INCOMPLETE, FRAME_LETTERS, FRAMES_TOO_LARGE (before it is unpacked), FRAMES_INFLATE.
        """
        if self._session is None or self.missing:
            raise MalformedError("FRAMES_INCOMPLETE", f"expected frames {', '.join(map(str, self.missing)) or 'of it'}")
        encoding, type_, count = self._session
        packed = b"".join(_decoded(self._texts[at], Encoding(encoding)) for at in range(count))
        content = inflated(packed, self._max_bytes) if encoding == Encoding.ZLIB.value else packed
        if len(content) > self._max_bytes:
            raise MalformedError("FRAMES_TOO_LARGE", f"expected at most {self._max_bytes} bytes")
        return File(type_, content)


def deflated(content: bytes) -> bytes:
    """Return `content` packed as BBQr packs it: raw deflate with a window of 1 KiB."""
    packed = zlib.compressobj(wbits=_WINDOW_BITS)
    return packed.compress(content) + packed.flush()


def inflated(packed: bytes, max_bytes: int) -> bytes:
    """Return what was packed, unpacking at most one byte more than `max_bytes` (ATK-116).

    Raises:
        MalformedError: FRAMES_TOO_LARGE, FRAMES_INFLATE.
    """
    unpacker = zlib.decompressobj(wbits=_WINDOW_BITS)
    try:
        content = unpacker.decompress(packed, max_bytes + 1)
    except zlib.error as error:
        raise MalformedError("FRAMES_INFLATE", "expected a raw deflate stream") from error
    if len(content) > max_bytes:
        raise MalformedError("FRAMES_TOO_LARGE", f"expected at most {max_bytes} bytes, unpacked")
    if not unpacker.eof or unpacker.unused_data:
        raise MalformedError("FRAMES_INFLATE", "expected one whole deflate stream and nothing behind it")
    return content


def _decoded(text: str, encoding: Encoding) -> bytes:
    try:
        if encoding is Encoding.HEX:
            return binascii.unhexlify(text)
        return base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError as error:
        raise MalformedError("FRAME_LETTERS", "expected the letters of its encoding in every frame") from error


def _base36(number: int) -> str:
    return _DIGITS[number // 36] + _DIGITS[number % 36]
