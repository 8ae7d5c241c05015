"""Our frames and those of npm `bbqr` and `@ngraveio/bc-ur` are the same letters, and each side reads the other's."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest

from custody.frames import FrameKind, Joiner, Parcel, ParcelKind, bbqr, cbor, frames_of, ur
from custody.frames.sizes import MEDIUM, frame_chars
from tests.interop import node_programs

PSBT = (Path(__file__).parents[1] / "vectors" / "bbqr" / "1in100out.psbt").read_bytes()
CONTENTS = (b"\x00", b"12345", b"ab" * 700, PSBT, Random(7).randbytes(20_000))  # noqa: S311  # a fixed order for a test
FRAGMENTS = (10, 100, 200, 333, 1_000)
MOST_FRAGMENTS = 300  # the other side's fountain is slow
pytestmark = pytest.mark.slow


def run_in_node(tasks: list[dict[str, Any]]) -> list[Any]:
    """Return the answers of the programs."""
    return node_programs.run(tasks)


def test_bbqr_frames_of_every_encoding_then_are_those_of_coinkite() -> None:
    """Five contents, three encodings, two sizes."""
    tasks, ours = [], []
    for content in CONTENTS:
        for encoding in bbqr.Encoding:
            for version, chars in ((10, 395), (27, 2132)):
                options = {"encoding": encoding.value, "minVersion": version, "maxVersion": version}
                tasks.append({"do": "bbqr.split", "content": content.hex(), "type": "P", "options": options})
                ours.append(list(bbqr.frames(bbqr.File("P", content), chars, encoding)))

    assert run_in_node(tasks) == ours


def test_ur_frames_simple_and_mixed_then_are_those_of_ngrave() -> None:
    """Three times as many frames as fragments: two thirds are mixtures that both sides must draw alike."""
    tasks, ours = [], []
    for content in CONTENTS:
        body = ur.Ur("crypto-psbt", cbor.encode_bytes(content))
        for fragment in FRAGMENTS:
            count = ur.frame_count(body, fragment)
            if count <= MOST_FRAGMENTS:
                tasks.append(
                    {"do": "ur.encode", "type": body.type, "cbor": body.cbor.hex(), "fragment": fragment}
                    | {"count": 3 * count}
                )
                ours.append(list(islice(ur.frames(body, fragment), 3 * count)))

    assert len(tasks) == 23
    assert run_in_node(tasks) == ours


def test_our_frames_shuffled_and_lost_then_are_read_by_the_others() -> None:
    """Coinkite's joiner gets ours shuffled; ngrave's decoder ours with every third frame lost."""
    parcel = Parcel(ParcelKind.PSBT, PSBT)
    of_bbqr = list(frames_of(parcel, FrameKind.BBQR, frame_chars(MEDIUM)).first)
    Random(3).shuffle(of_bbqr)  # noqa: S311  # a fixed order for a test
    of_ur = frames_of(parcel, FrameKind.UR, frame_chars(MEDIUM))
    kept = [text for at, text in enumerate(islice(of_ur.endless, 6 * of_ur.count)) if at % 3]

    joined, decoded = run_in_node([{"do": "bbqr.join", "parts": of_bbqr}, {"do": "ur.decode", "parts": kept}])

    assert joined == PSBT.hex()
    assert decoded == ["crypto-psbt", cbor.encode_bytes(PSBT).hex()]


def test_frames_of_the_others_shuffled_then_are_read_by_us() -> None:
    """As a device's screen would show them, beginning in the middle."""
    body = cbor.encode_bytes(PSBT)
    answers = run_in_node(
        [
            {"do": "bbqr.split", "content": PSBT.hex(), "type": "P", "options": {"maxVersion": 15}},
            {"do": "ur.encode", "type": "crypto-psbt", "cbor": body.hex(), "fragment": 150, "count": 80},
        ]
    )
    for texts in (answers[0], answers[1][20:]):
        Random(5).shuffle(texts)  # noqa: S311  # a fixed order for a test
        joiner = Joiner()
        for text in texts:
            joiner.add(text)
        assert joiner.parcel() == Parcel(ParcelKind.PSBT, PSBT)
