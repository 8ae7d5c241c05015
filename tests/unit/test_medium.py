"""What an air-gapped node takes from a medium or a camera, and what it leaves there."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from PIL import Image

from custody.bundle import MAX_BUNDLE_BYTES
from custody.errors import CustodyError
from custody.frames import FrameKind, Parcel, ParcelKind, frames_of, pictures, sizes
from signer_node.medium import MAX_CARRIED_BYTES, Carriers, capture, give, read_document

DOCUMENT = bytes(range(256)) * 4


@pytest.mark.parametrize("kind", list(FrameKind))
def test_answer_given_on_every_medium_then_is_read_from_each(kind: FrameKind, tmp_path: Path) -> None:
    """A file, a folder of pictures, an animated picture; given twice, the second is there."""
    carriers = Carriers(tmp_path / "file", tmp_path / "folder", tmp_path / "gif", kind=kind, version=sizes.SMALL)
    give(b"an older answer", carriers)
    give(DOCUMENT, carriers)

    for name in ("file", "folder", "gif"):
        assert read_document(tmp_path / name) == DOCUMENT, name


def test_answer_shorter_than_an_older_one_then_leaves_none_of_its_pictures(tmp_path: Path) -> None:
    """The folder is reused: what is left of a longer answer would be another message's frames."""
    carriers = Carriers(folder=tmp_path / "folder", version=sizes.SMALL)
    give(DOCUMENT, carriers)
    give(b"short", carriers)

    assert read_document(tmp_path / "folder") == b"short"


def test_folder_that_cannot_be_made_then_is_refused(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "folder").write_bytes(b"")
    with pytest.raises(CustodyError) as refused:
        give(DOCUMENT, Carriers(folder=tmp_path / "folder"))

    assert refused.value.code == "FILE_REFUSED"


def test_psbt_in_frames_then_is_no_bundle(tmp_path: Path) -> None:
    """A node judges bundles: a bare PSBT says nothing of rules and people."""
    (text,) = frames_of(Parcel(ParcelKind.PSBT, b"psbt\xff\x00"), FrameKind.UR, 195).first
    (tmp_path / "one.png").write_bytes(pictures.png(text))
    with pytest.raises(CustodyError) as refused:
        read_document(tmp_path / "one.png")

    assert refused.value.code == "PARCEL_KIND"


@pytest.mark.parametrize("size", [MAX_BUNDLE_BYTES + 1, MAX_CARRIED_BYTES + 1])
def test_file_larger_than_a_document_then_is_refused(size: int, tmp_path: Path) -> None:
    """Before it is parsed, and above a photograph's size before it is read."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(size)
    with pytest.raises(CustodyError) as refused:
        read_document(tmp_path / "large")

    assert refused.value.code == "FILE_REFUSED"


def stream(path: Path, texts: list[str]) -> str:
    """Write a camera's stream of these frames to `path`; return the command that plays it."""
    with path.open("wb") as file:
        for text in texts:
            with Image.open(io.BytesIO(pictures.png(text))) as picture:
                out = io.BytesIO()
                picture.convert("RGB").save(out, "JPEG")
            file.write(b"--boundary\r\n" + out.getvalue())
    return f"cat {path}"


def test_camera_that_sees_every_other_frame_then_gives_the_document(tmp_path: Path) -> None:
    """UR frames never come again; half of them are enough."""
    texts = list(frames_of(Parcel(ParcelKind.DOCUMENT, DOCUMENT), FrameKind.UR, 195).first)

    assert capture(stream(tmp_path / "film", texts[::2] + texts[1::4])) == DOCUMENT


@pytest.mark.parametrize("command", ["true", "/no/such/program", "'", f"{sys.executable} -c print('no_picture')"])
def test_camera_that_shows_nothing_then_is_unavailable(command: str) -> None:
    """Whatever the reason, it is said, and the node waits for nothing."""
    with pytest.raises(CustodyError) as refused:
        capture(command)

    assert refused.value.code == "CAMERA"
