"""UR and BBQr as their authors' own tests and a real device's screen have them (tests/vectors/bc-ur, bbqr)."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from custody.errors import MalformedError
from custody.frames import bbqr, bytewords, cbor, fountain, ur

VECTORS = Path(__file__).parents[1] / "vectors"
UR = json.loads((VECTORS / "bc-ur" / "vectors.json").read_text())


def wolf(size: int) -> bytes:
    """Return the message that the vectors are of: bytes of the shared generator, seeded with "Wolf"."""
    random = fountain._Xoshiro(b"Wolf")
    return bytes(random.below(256) for _ in range(size))


def test_bytewords_of_the_vectors_when_encoded_then_are_the_same_letters() -> None:
    """Minimal style, with the checksum; back again too."""
    pairs = [(UR["bytewords"]["input_hex"], UR["bytewords"]["minimal"])]
    pairs += [(UR["bytewords_2"]["input_hex"], UR["bytewords_2"]["encoded"][1])]
    for content, letters in pairs:
        assert bytewords.encode(bytes.fromhex(content)) == letters
        assert bytewords.decode(letters).hex() == content


@pytest.mark.parametrize("letters", [text for style, text in UR["bytewords"]["invalid"] if style == "minimal"])
def test_bytewords_that_the_vectors_call_invalid_then_are_refused(letters: str) -> None:
    """A letter changed is told."""
    with pytest.raises(MalformedError) as refused:
        bytewords.decode(letters)

    assert refused.value.code in ("BYTEWORDS", "FRAME_CHECKSUM")


def test_fountain_parts_of_the_vectors_when_made_then_are_the_same_bytes() -> None:
    """Twenty parts of 256 bytes in fragments of at most 30: simple ones and mixtures."""
    made = [
        cbor.encode_array(*map(cbor.encode_uint, (p.number, *p.session)), cbor.encode_bytes(p.data)).hex()
        for p in islice(fountain.parts(wolf(256), 30), 20)
    ]

    assert made == UR["fountain_cbor_parts_hex"]


def test_ur_frames_of_the_vectors_when_made_then_are_the_same_letters() -> None:
    """One frame of 50 bytes; twenty of 256 bytes."""
    whole = ur.Ur("bytes", cbor.encode_bytes(wolf(50)))
    parts = ur.Ur("bytes", cbor.encode_bytes(wolf(256)))

    assert next(ur.frames(whole, 100)) == UR["single_part_ur_50_bytes"].upper()
    assert list(islice(ur.frames(parts, 30), 20)) == [t.upper() for t in UR["multipart_ur_256_bytes_fragment30"]]


def test_ur_frames_of_the_vectors_when_only_mixtures_are_seen_then_give_the_message() -> None:
    """Four of the nine simple parts are lost: those behind them are enough."""
    joiner = ur.UrJoiner(1_000)
    for text in UR["multipart_ur_256_bytes_fragment30"][4:]:
        joiner.add(text)

    assert joiner.joined() == ur.Ur("bytes", cbor.encode_bytes(wolf(256)))


def test_bbqr_frames_scanned_from_a_screen_when_joined_then_are_the_text() -> None:
    """A real device's scans, each frame several times and out of order."""
    texts = (VECTORS / "bbqr" / "real-scan.txt").read_text().split()
    joiner = bbqr.BbqrJoiner(100_000)
    for text in texts:
        joiner.add(text)
    file = joiner.joined()

    assert len(texts) == 26
    assert file.type == "U"
    assert file.content.startswith(b"# The BBQr Protocol")


@pytest.mark.parametrize("name", ["1in2out.psbt", "1in100out.psbt"])
@pytest.mark.parametrize("encoding", list(bbqr.Encoding))
def test_bbqr_frames_of_coinkite_psbts_when_joined_in_any_order_then_are_the_file(
    name: str, encoding: bbqr.Encoding
) -> None:
    """Each encoding, cut small."""
    file = bbqr.File("P", (VECTORS / "bbqr" / name).read_bytes())
    texts = list(bbqr.frames(file, 200, encoding))
    Random(1).shuffle(texts)  # noqa: S311  # a fixed order for a test
    joiner = bbqr.BbqrJoiner(100_000)
    for text in texts:
        joiner.add(text)

    assert joiner.joined() == file
