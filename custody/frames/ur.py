"""UR (BCR-2020-005, BCR-2024-001): typed CBOR as text frames that a camera can start to read anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from custody.errors import MalformedError
from custody.frames import bytewords, cbor
from custody.frames.fountain import Part, Solver, fragment_bytes, parts

MAX_FRAME_CHARS = 4_296  # what a QR of version 40 holds
_TYPE = re.compile("[a-z0-9-]{1,40}")
_SEQUENCE = re.compile("([1-9][0-9]{0,9})-([1-9][0-9]{0,3})")
_OVERHEAD_BYTES = 1 + 5 + 3 + 5 + 5 + 3 + bytewords.CHECKSUM_BYTES  # list, number, count, length, CRC, string, checksum
_SEQUENCE_CHARS = len("ur:") + len("/10000-2000/")


@dataclass(frozen=True, slots=True)
class Ur:
    """What frames add up to. type: "crypto-psbt" and the like.  cbor: its body, not believed yet."""

    type: str
    cbor: bytes


def max_fragment(type_: str, frame_chars: int) -> int:
    """Return how many bytes of a message fit into one frame of `frame_chars` characters."""
    return (frame_chars - _SEQUENCE_CHARS - len(type_)) // 2 - _OVERHEAD_BYTES


def frame_count(ur: Ur, max_fragment_bytes: int) -> int:
    """Return how many fragments `ur` has; a reader needs about that many frames, whichever they are."""
    return -(-len(ur.cbor) // fragment_bytes(len(ur.cbor), max_fragment_bytes))


def frames(ur: Ur, max_fragment_bytes: int) -> Iterator[str]:
    """Yield frames of `ur` without end, in upper case as the alphanumeric mode of QR wants them.

    Raises:
        MalformedError: FRAMES_TOO_LARGE.
    """
    whole = frame_count(ur, max_fragment_bytes) == 1
    for part in parts(ur.cbor, max_fragment_bytes):
        yield (f"ur:{ur.type}/{bytewords.encode(ur.cbor)}" if whole else _frame(ur.type, part)).upper()


def _frame(type_: str, part: Part) -> str:
    numbers = (cbor.encode_uint(n) for n in (part.number, part.count, part.message_bytes, part.checksum))
    body = cbor.encode_array(*numbers, cbor.encode_bytes(part.data))
    return f"ur:{type_}/{part.number}-{part.count}/{bytewords.encode(body)}"


class UrJoiner:
    """Puts the frames of one UR together.

    Args:
        max_bytes: what the body may have at most.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._type = ""
        self._whole: bytes | None = None
        self._solver: Solver | None = None

    @property
    def progress(self) -> tuple[int, int]:
        """Fragments' worth that is known, and how many there are; (0, 0) before the first frame."""
        if self._whole is not None:
            return 1, 1
        return (0, 0) if self._solver is None else (self._solver.have, self._solver.count)

    @property
    def missing(self) -> tuple[int, ...]:
        """No frame of a fountain is needed more than another: always empty."""
        return ()

    def add(self, text: str) -> None:
        """Take in one frame.

        Raises:
            MalformedError: UR, BYTEWORDS, CBOR, FRAME_HEADER, FRAME_CHECKSUM, FRAMES_TOO_LARGE; FRAME_OTHER_SESSION,
                FRAME_CONFLICT. Nothing changed.
        """
        type_, content = _read_frame(text)
        if isinstance(content, bytes):
            if self._solver is not None or (self._whole is not None and (self._type, self._whole) != (type_, content)):
                raise MalformedError("FRAME_OTHER_SESSION", "expected a frame of the same message, found another's")
            if len(content) > self._max_bytes:
                raise MalformedError("FRAMES_TOO_LARGE", f"expected at most {self._max_bytes} bytes")
            self._whole = content
        else:
            if self._whole is not None or (self._solver is not None and type_ != self._type):
                raise MalformedError("FRAME_OTHER_SESSION", "expected a frame of the same message, found another's")
            solver = self._solver or Solver(content, self._max_bytes)
            solver.add(content)
            self._solver = solver
        self._type = type_

    def joined(self) -> Ur:
        """Return what the frames add up to. Raises MalformedError FRAMES_INCOMPLETE, FRAME_CHECKSUM."""
        if self._whole is not None:
            return Ur(self._type, self._whole)
        if self._solver is None:
            raise MalformedError("FRAMES_INCOMPLETE", "expected frames, found none")
        return Ur(self._type, self._solver.message())


def _read_frame(text: str) -> tuple[str, bytes | Part]:
    """Return the type of a frame and its content: the whole body, or a part of it."""
    lowered = text.lower()
    scheme, _, path = lowered.partition(":")
    type_, *rest = path.split("/")
    if scheme != "ur" or not _TYPE.fullmatch(type_) or len(rest) not in (1, 2) or len(text) > MAX_FRAME_CHARS:
        raise MalformedError("UR", "expected ur:TYPE/LETTERS or ur:TYPE/NUMBER-COUNT/LETTERS")
    if len(rest) == 1:
        return type_, bytewords.decode(rest[0])
    sequence = _SEQUENCE.fullmatch(rest[0])
    numbers, data = cbor.read_part(bytewords.decode(rest[1]))
    if sequence is None or numbers[:2] != (int(sequence[1]), int(sequence[2])) or max(numbers) >= 2**32:
        raise MalformedError("FRAME_HEADER", f"expected numbers {numbers[:2]} in front, found {rest[0][:24]!a}")
    return type_, Part(*numbers, data=data)
