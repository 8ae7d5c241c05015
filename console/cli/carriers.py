"""The options that say on what a document leaves and in whose hands: the same for every command that exports."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from console.frames import Carriers


class Kind(Enum):
    """The kinds of frames."""

    BBQR = "bbqr"
    UR = "ur"


class Size(Enum):
    """How much a picture holds."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


Out = Annotated[Path | None, typer.Option(help="New file.")]
Pictures = Annotated[Path | None, typer.Option(help="New folder of QR pictures (PNG).")]
Gif = Annotated[Path | None, typer.Option(help="New animated picture of the QR frames.")]
Qr = Annotated[bool, typer.Option("--qr", help="Show QR frames in this terminal until a key is pressed.")]
Frames = Annotated[Kind | None, typer.Option(help="Kind of frames; BBQr, or what the device takes.")]
FrameSize = Annotated[Size, typer.Option("--size", help="How much each picture holds: for a phone, medium.")]
Carrier = Annotated[str, typer.Option(help="Who carries it, for the log; you, where it is left out.")]
Capture = Annotated[
    str | None, typer.Option(help="Command that writes a camera's JPEGs to its output: read frames from it.")
]


def carriers_of(
    out: Path | None, pictures: Path | None, gif: Path | None, *, show: bool, kind: Kind | None, size: Size
) -> Carriers:
    """Return on what a document leaves. Raises MalformedError CARRIER before anything is asked of the coordinator."""
    from console.frames import SIZES, Carriers
    from custody.frames import FrameKind

    found = Carriers(out, pictures, gif, show, FrameKind((kind or Kind.BBQR).value), SIZES[size.value])
    found.check()
    return found
