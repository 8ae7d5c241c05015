"""PSBTs and bundles through real pictures: segno draws them, zxing reads them; shuffled, with four of ten lost."""

from __future__ import annotations

import io
from functools import lru_cache
from itertools import islice
from random import Random

import pytest
from PIL import Image

from custody.bundle import parse_bundle
from custody.errors import MalformedError
from custody.frames import FrameKind, Frames, Joiner, Parcel, ParcelKind, frames_of, pictures, sizes
from custody.psbt import parse
from custody.transaction import OutPoint, Transaction, TxIn, TxOut
from custody.units import Sats
from custody.updater import SpendableCoin
from tests.integration.harness import genesis_of
from tests.world import World

LOSS = 0.4
VERSIONS = {1: sizes.MEDIUM, 5: sizes.MEDIUM, 20: sizes.LARGE, 60: sizes.LARGE}
WORLD = World(genesis_of())


def draws(seed: int) -> Random:
    """Return numbers that are the same in every run."""
    return Random(seed)  # noqa: S311  # a fixed order, no key


@lru_cache
def parcels(inputs: int) -> dict[ParcelKind, Parcel]:
    """Return the PSBT of a 2-of-3 spend of `inputs` coins, each at its own address, and the bundle for node cold."""
    asked = WORLD.withdrawal(withdrawal_id=f"w-{inputs}")
    spend = WORLD.spend(asked, [coin(number) for number in range(inputs)], fee=8_000)
    return {
        ParcelKind.PSBT: Parcel(ParcelKind.PSBT, spend.psbt),
        ParcelKind.DOCUMENT: Parcel(ParcelKind.DOCUMENT, spend.bundle(node="cold").to_bytes()),
    }


def coin(number: int) -> SpendableCoin:
    """Return a coin whose previous transaction looks like one of the network: a random input, a change output."""
    random = draws(number)
    outputs = (
        TxOut(Sats(1_000_000 + number), WORLD.book.script(0, number).script),
        TxOut(Sats(random.randrange(10**9)), b"\x00\x14" + random.randbytes(20)),
    )
    previous = Transaction(2, (TxIn(OutPoint(random.randbytes(32), 1), b""),), outputs)
    return SpendableCoin(OutPoint(previous.txid, 0), previous, 0, number)


def photographed(frames: Frames, kind: FrameKind, version: int, random: Random) -> Parcel:
    """Return what a camera makes of frames on a screen: in any order, four of ten lost, until it has all.

    A screen shows BBQr frames in rounds, the same ones again; UR frames never come again.
    """
    drawn: dict[str, bytes] = {}
    joiner = Joiner()
    while not joiner.is_complete:
        batch = list(frames.first if kind is FrameKind.BBQR else islice(frames.endless, frames.count))
        random.shuffle(batch)
        for text in (text for text in batch if random.random() >= LOSS):
            if text not in drawn:
                drawn[text] = pictures.png(text, version, scale=2)
                (read,) = pictures.read_texts(drawn[text])
                assert read == text
            joiner.add(text)
    return joiner.parcel()


@pytest.mark.slow
@pytest.mark.parametrize("inputs", VERSIONS)
@pytest.mark.parametrize("kind", list(FrameKind))
@pytest.mark.parametrize("what", list(ParcelKind))
def test_parcel_when_photographed_with_losses_then_is_the_same(what: ParcelKind, kind: FrameKind, inputs: int) -> None:
    """1, 5, 20 and 60 inputs, both kinds of frames, PSBT and bundle."""
    sent = parcels(inputs)[what]
    frames = frames_of(sent, kind, sizes.frame_chars(VERSIONS[inputs]))

    assert photographed(frames, kind, VERSIONS[inputs], draws(inputs)) == sent
    if what is ParcelKind.PSBT:
        assert len(parse(sent.content).inputs) == inputs
    else:
        assert len(parse(parse_bundle(sent.content).psbt).inputs) == inputs


@pytest.mark.parametrize("kind", list(FrameKind))
def test_gif_when_read_then_holds_every_frame(kind: FrameKind) -> None:
    """One file on a stick instead of a folder."""
    sent = parcels(5)[ParcelKind.PSBT]
    texts = frames_of(sent, kind, sizes.frame_chars(sizes.MEDIUM)).first
    joiner = Joiner()
    for text in pictures.read_texts(pictures.gif(texts, sizes.MEDIUM)):
        joiner.add(text)

    assert joiner.parcel() == sent


def test_photograph_when_turned_and_grainy_then_is_read() -> None:
    """A camera held at an angle, in poor light, as JPEG."""
    (text,) = frames_of(Parcel(ParcelKind.DOCUMENT, b"x" * 300), FrameKind.UR, 395).first
    with Image.open(io.BytesIO(pictures.png(text, 10))) as drawn:
        turned = drawn.convert("L").rotate(7, expand=True, fillcolor=255)
    grains = Image.frombytes("L", turned.size, draws(4).randbytes(turned.width * turned.height))
    out = io.BytesIO()
    Image.blend(turned, grains, 0.3).save(out, "JPEG", quality=60)

    assert list(pictures.read_texts(out.getvalue())) == [text]


def test_terminal_when_photographed_then_is_read() -> None:
    """The half blocks of a terminal, each cell one module wide and two high."""
    (text,) = frames_of(Parcel(ParcelKind.DOCUMENT, b"x" * 100), FrameKind.BBQR, 195).first
    lines = [line.split("m", 1)[1].removesuffix("\x1b[0m") for line in pictures.terminal(text, sizes.SMALL)]
    upper, lower = " \N{LOWER HALF BLOCK}", " \N{UPPER HALF BLOCK}"  # cells whose half is white
    rows = [[cell in white for cell in line] for line in lines for white in (upper, lower)]
    pixels = bytes(255 if white else 0 for row in rows for white in row)
    image = Image.frombytes("L", (len(rows[0]), len(rows)), pixels).resize((4 * len(rows[0]), 4 * len(rows)))
    out = io.BytesIO()
    image.save(out, "PNG")

    assert (len(lines), len(lines[0])) == (23, 45)  # a screen of 80 x 24
    assert list(pictures.read_texts(out.getvalue())) == [text]


def test_svg_of_a_frame_then_is_one_element_of_two_colours() -> None:
    """For a page, which scales it."""
    drawn = pictures.svg("UR:PSBT/AEAD")

    assert drawn.startswith("<svg ")
    assert "viewBox" in drawn
    assert "#fff" in drawn


@pytest.mark.parametrize(
    ("columns", "rows", "version"),
    [(80, 24, 6), (40, 10, 6), (80, 40, 10), (120, 50, 15), (120, 51, 20), (200, 70, 27)],
)
def test_version_for_a_terminal_then_is_the_largest_that_fits(columns: int, rows: int, version: int) -> None:
    """Fewer frames where there is room, and never none."""
    assert sizes.version_for(columns, rows) == version


BAD = {
    "nothing": (b"", "PICTURE"),
    "text": (b"ur:psbt/aeae", "PICTURE"),
    "a cut PNG": (pictures.png("UR:PSBT/AEAD")[:200], "PICTURE"),
    "a format we do not open": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "PICTURE"),
    "more bytes than a photograph": (bytes(pictures.MAX_PICTURE_BYTES + 1), "PICTURE_TOO_LARGE"),
}


@pytest.mark.parametrize("what", BAD)
def test_picture_that_is_none_then_is_refused(what: str) -> None:
    """By code, whatever the decoder said."""
    picture, code = BAD[what]
    with pytest.raises(MalformedError) as refused:
        list(pictures.read_texts(picture))

    assert refused.value.code == code


def test_picture_without_a_qr_then_holds_nothing() -> None:
    """A camera's picture of the table is no error."""
    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, "PNG")

    assert list(pictures.read_texts(out.getvalue())) == []
