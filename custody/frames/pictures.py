"""Frames as pictures, and pictures back as frames: PNG, GIF, SVG or a terminal's half blocks; bytes in, bytes out.

Pictures come from strangers. Only a few formats are opened, and their size is known before a pixel is unpacked. What a
QR says goes to `Joiner`, which knows two formats; it is never shown to anybody.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence

import segno
import zxingcpp
from PIL import Image

from custody.errors import MalformedError
from custody.frames.parcel import Joiner, Parcel
from custody.frames.sizes import FRAME_MILLISECONDS, TERMINAL_QUIET

MAX_PICTURE_BYTES = 16 * 1024 * 1024  # a large photograph
MAX_PICTURE_PIXELS = 32 * 1024 * 1024  # a camera of 32 megapixels; unpacked 96 MiB
MAX_ANIMATION_FRAMES = 4_000  # twice what a fountain may have fragments
_JPEG_BEGIN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_MAGIC = (b"\x89PNG", b"GIF8", _JPEG_BEGIN, b"P4", b"P5", b"P6", b"BM")
_FORMATS = ("PNG", "GIF", "JPEG", "PPM", "BMP", "WEBP")
_QR = zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode)
_QUIET_MODULES = 4  # ISO/IEC 18004: the white margin
_BLACK_ON_WHITE, _PLAIN = "\x1b[38;2;0;0;0;48;2;255;255;255m", "\x1b[0m"
_HALVES = {(False, False): " ", (True, False): "\N{UPPER HALF BLOCK}", (False, True): "\N{LOWER HALF BLOCK}"}


def png(frame: str, version: int | None = None, scale: int = 4) -> bytes:
    """Return one frame as a PNG of `scale` pixels a module."""
    out = io.BytesIO()
    _picture(frame, version, scale).save(out, "PNG")
    return out.getvalue()


def svg(frame: str, version: int | None = None) -> str:
    """Return one frame as an SVG element for a page."""
    text: str = _qr(frame, version).svg_inline(border=_QUIET_MODULES, light="#fff", omitsize=True)
    return text


def gif(frames: Sequence[str], version: int | None = None, scale: int = 4) -> bytes:
    """Return frames as one GIF that repeats for ever, FRAME_MILLISECONDS each; all of the first one's size."""
    first, *rest = (_picture(frame, version, scale) for frame in frames)
    out = io.BytesIO()
    first.save(out, "GIF", save_all=True, append_images=rest, duration=FRAME_MILLISECONDS, loop=0, optimize=False)
    return out.getvalue()


def terminal(frame: str, version: int | None = None) -> tuple[str, ...]:
    """Return one frame as lines of half blocks, black on white whatever the terminal's colours are."""
    modules = _modules(frame, version, TERMINAL_QUIET)
    if len(modules) % 2:
        modules.append([False] * len(modules[0]))
    return tuple(
        _BLACK_ON_WHITE
        + "".join(_HALVES.get(pair, "\N{FULL BLOCK}") for pair in zip(upper, lower, strict=True))
        + _PLAIN
        for upper, lower in zip(modules[::2], modules[1::2], strict=True)
    )


def read_texts(picture: bytes) -> Iterator[str]:
    """Yield the text of every QR in `picture`, which may have many frames; nothing where there is none.

    Raises:
        MalformedError: PICTURE (no picture of a known format), PICTURE_TOO_LARGE (before it is unpacked).
    """
    if len(picture) > MAX_PICTURE_BYTES:
        raise MalformedError("PICTURE_TOO_LARGE", f"expected at most {MAX_PICTURE_BYTES} bytes, found {len(picture)}")
    try:
        with Image.open(io.BytesIO(picture), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PICTURE_PIXELS:
                raise MalformedError("PICTURE_TOO_LARGE", f"expected at most {MAX_PICTURE_PIXELS} pixels")
            for number in range(MAX_ANIMATION_FRAMES):
                try:
                    image.seek(number)
                except EOFError:
                    return
                yield from _texts(image.convert("L"))
            raise MalformedError("PICTURE_TOO_LARGE", f"expected at most {MAX_ANIMATION_FRAMES} frames")
    except Image.DecompressionBombError as error:  # Pillow's own limit is above ours and comes first
        raise MalformedError("PICTURE_TOO_LARGE", f"expected at most {MAX_PICTURE_PIXELS} pixels") from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for garbage
        raise MalformedError("PICTURE", f"expected a picture ({', '.join(_FORMATS)})") from error


def read_parcel(pictures: Iterable[bytes], *, restart: bool = False) -> Parcel:
    """Return the parcel that `pictures` carry.

    Args:
        pictures: in any order, some without a QR; all are looked at, so that two parcels in one folder are told.
        restart: a camera: only as many as are needed are taken, a frame of another session begins anew with it, and
            what cannot be read is passed over.

    Raises:
        MalformedError: FRAMES_INCOMPLETE, saying which are missing, or as `Joiner` and `read_texts`.
    """
    joiner = Joiner()
    for picture in pictures:
        try:
            for text in read_texts(picture):
                joiner = _taken(joiner, text, restart)
            if restart and joiner.is_complete:
                return joiner.parcel()
        except MalformedError:
            if not restart:
                raise
            joiner = Joiner() if joiner.is_complete else joiner  # what it added up to was damaged
    if joiner.is_complete:
        return joiner.parcel()
    have, of = joiner.progress
    which = f", missing {', '.join(map(str, joiner.missing[:20]))}" if joiner.missing else ""
    raise MalformedError("FRAMES_INCOMPLETE", f"expected more frames: have {have} of {of or 'any'}{which}")


def _taken(joiner: Joiner, text: str, restart: bool) -> Joiner:
    try:
        joiner.add(text)
    except MalformedError as error:
        if not restart or error.code not in ("FRAME_OTHER_SESSION", "FRAME_CONFLICT"):
            raise
        joiner = Joiner()
        joiner.add(text)
    return joiner


def jpegs(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pictures of a stream of JPEGs, as camera programs write it (MJPEG); what is between them is dropped.

    Raises:
        MalformedError: PICTURE_TOO_LARGE where one does not end.
    """
    held = b""
    for chunk in chunks:
        held += chunk
        while (begin := held.find(_JPEG_BEGIN)) >= 0 and (end := held.find(_JPEG_END, begin + 2)) >= 0:
            yield held[begin : end + 2]
            held = held[end + 2 :]
        if len(held) > MAX_PICTURE_BYTES:
            raise MalformedError("PICTURE_TOO_LARGE", f"expected a picture of at most {MAX_PICTURE_BYTES} bytes")


def is_picture(head: bytes) -> bool:
    """Return whether a file that begins with `head` (12 bytes) is a picture of a format that is opened."""
    return head.startswith(_MAGIC) or (head[:4], head[8:12]) == (b"RIFF", b"WEBP")


def _texts(grey: Image.Image) -> list[str]:
    found = zxingcpp.read_barcodes(grey, formats=_QR, text_mode=zxingcpp.TextMode.Plain)
    return [barcode.text for barcode in found]


def _qr(frame: str, version: int | None) -> segno.QRCode:
    return segno.make_qr(frame, mode="alphanumeric", error="l", boost_error=False, version=version)


def _modules(frame: str, version: int | None, border: int) -> list[list[bool]]:
    return [[bool(module) for module in row] for row in _qr(frame, version).matrix_iter(border=border)]


def _picture(frame: str, version: int | None, scale: int) -> Image.Image:
    modules = _modules(frame, version, _QUIET_MODULES)
    side = len(modules)
    pixels = bytes(0 if dark else 255 for row in modules for dark in row)
    image = Image.frombytes("L", (side, side), pixels)
    return image.resize((side * scale, side * scale), Image.Resampling.NEAREST).convert("1")
