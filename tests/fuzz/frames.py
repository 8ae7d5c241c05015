"""Target: the texts of QR codes, one a line, as a camera reads them. Frames carry a document or are refused by code."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random

from custody.bundle import MAX_BUNDLE_BYTES
from custody.errors import MalformedError
from custody.frames import FrameKind, Joiner, Parcel, ParcelKind, bbqr, bytewords, frames_of
from tests.fuzz.refusal import attempt, listed
from tests.fuzz.target import ByteMutator

CODES = listed(
    "BYTEWORDS CBOR FRAME_CHECKSUM FRAME_CONFLICT FRAME_FORMAT FRAME_HEADER FRAME_LETTERS FRAME_OTHER_SESSION "
    "FRAMES_INCOMPLETE FRAMES_INFLATE FRAMES_TOO_LARGE PARCEL_DIGEST PARCEL_KIND PARCEL_TOO_LARGE UR"
)
NO_OFFSET = -1
CHARS = 120  # short frames: a document of a few hundred bytes has several
SENT = tuple(
    Parcel(kind, content)
    for kind in ParcelKind
    for content in (b"psbt\xff\x00", bytes(range(200)), b'{"format":"keyturn-answer"}' * 9)
)


def seeds() -> Iterator[bytes]:
    """Yield what both kinds of frames look like, whole and in part, simple frames and mixtures, and both packings."""
    for parcel in SENT:
        for kind in FrameKind:
            frames = frames_of(parcel, kind, CHARS)
            yield "\n".join(frames.first[:8]).encode()
            yield "\n".join(islice(frames.endless, frames.count, frames.count + 12)).encode()
        for encoding in bbqr.Encoding:
            yield "\n".join(bbqr.frames(bbqr.File("P", parcel.content), CHARS, encoding)).encode()


def mutate(raw: bytes, random: Random, mutate_bytes: ByteMutator) -> bytes:
    """Return `raw` with a line changed, dropped, repeated or moved, or what a UR line holds changed under its CRC."""
    lines = raw.split(b"\n")
    at, kind = random.randrange(len(lines)), random.randrange(5)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(random.randint(0, len(lines)), lines[at])
    elif kind == 2:
        random.shuffle(lines)
    elif kind == 3:
        lines[at] = mutate_bytes(lines[at])
    else:
        head, slash, body = lines[at].rpartition(b"/")
        try:
            changed = bytewords.encode(mutate_bytes(bytewords.decode(body.decode("ascii").lower()))).encode()
            lines[at] = head + slash + changed
        except (MalformedError, ValueError):
            lines[at] = mutate_bytes(lines[at])
    return b"\n".join(lines)


def check(raw: bytes) -> None:
    """Show each line to one joiner, and ask it for the parcel."""
    joiner = Joiner()
    for line in raw.decode("utf-8", "replace").split("\n"):
        before = (joiner.progress, joiner.missing)
        refused = attempt(lambda text=line: joiner.add(text), CODES, NO_OFFSET)  # type: ignore[misc]  # bound here
        assert refused is None or (joiner.progress, joiner.missing) == before, "a refused frame changed something"
    found = attempt(joiner.parcel, CODES, NO_OFFSET)
    if not isinstance(found, Parcel):
        return
    assert len(found.content) <= MAX_BUNDLE_BYTES
    if not found.content:
        return  # nothing to carry
    for kind in FrameKind:
        again = Joiner()
        for text in frames_of(found, kind, 2_000).first:
            again.add(text)
        assert again.parcel() == found, "a parcel that does not come back"
