"""Attacks on what crosses an air gap: frames of two sessions, bombs, stale answers, trapped media, text on a screen."""

from __future__ import annotations

import io
import os
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image

from coordinator.rpc.couriers import Couriers
from coordinator.session import Stage
from custody.bundle import MAX_BUNDLE_BYTES
from custody.canonical import Json, encode
from custody.errors import CustodyError, MalformedError
from custody.frames import FrameKind, Joiner, Parcel, ParcelKind, bbqr, bytewords, cbor, frames_of, pictures, ur
from custody.statements import Kind, sign
from custody.v1 import courier_pb2
from signer_node.medium import Carriers, give, read_carried, read_document, write_carried
from tests.fakes.rules import seed_of
from tests.integration.harness import OPERATOR, Organisation, close, genesis_of, organise

GENESIS = genesis_of()
CHARS = 195
LARGE = 120_000_000  # an offline node signs first
MIB = 1024 * 1024
KINDS = pytest.mark.parametrize("kind", list(FrameKind))


def frames(name: bytes, kind: FrameKind, what: ParcelKind = ParcelKind.DOCUMENT) -> tuple[str, ...]:
    """Return the frames of a document of 900 bytes."""
    content = b"".join(name + number.to_bytes(4, "big") for number in range(900 // (len(name) + 4)))
    return frames_of(Parcel(what, content), kind, CHARS).first


def code_of(texts: Sequence[str], joiner: Joiner | None = None) -> str:
    """Return the code with which these frames are refused, or JOINED."""
    joiner = joiner or Joiner()
    try:
        for text in texts:
            joiner.add(text)
        joiner.parcel()
    except MalformedError as error:
        return error.code
    return "JOINED"


@KINDS
def test_atk_115_frames_of_two_sessions_mixed_are_refused(kind: FrameKind) -> None:
    """Another message of the same kind, another kind, another type: the first frame fixed what belongs together."""
    mine = frames(b"mine", kind)
    other_kind = FrameKind.UR if kind is FrameKind.BBQR else FrameKind.BBQR
    intruders = (frames(b"another's", kind), frames(b"mine", other_kind), frames(b"mine", kind, ParcelKind.PSBT))
    for intruder in intruders:
        joiner = Joiner()
        joiner.add(mine[0])
        if kind is FrameKind.BBQR and intruder[0][:6] == mine[0][:6]:
            assert code_of(intruder[:1], joiner) == "FRAME_CONFLICT"
        else:
            assert code_of(intruder[:1], joiner) == "FRAME_OTHER_SESSION"
        assert code_of(mine[1:], joiner) == "JOINED"  # what was refused changed nothing


def test_atk_115_bbqr_frames_whose_headers_agree_are_told_by_the_digest() -> None:
    """BBQr names no session: two files of one length mix, and the digest in front of a document tells."""
    mine, other = frames(b"mine", FrameKind.BBQR), frames(b"mind", FrameKind.BBQR)
    assert mine[0][:6] == other[0][:6]

    assert code_of((*mine[:1], *other[1:])) in ("PARCEL_DIGEST", "FRAMES_INFLATE")


@KINDS
def test_atk_115_one_number_with_two_contents_is_refused(kind: FrameKind) -> None:
    """The same frame twice is one frame; the same number with other content is an attack or a fault."""
    texts = frames(b"mine", kind)
    forged = texts[0][:-1] + ("A" if texts[0][-1] != "A" else "B")
    if kind is FrameKind.UR:
        _, numbers, body = texts[0].lower().split("/")
        (number, count, size, checksum), data = cbor.read_part(bytewords.decode(body))
        changed = bytes([data[0] ^ 1]) + data[1:]
        head = (cbor.encode_uint(n) for n in (number, count, size, checksum))
        forged = f"ur:keyturn/{numbers}/{bytewords.encode(cbor.encode_array(*head, cbor.encode_bytes(changed)))}"
    joiner = Joiner()
    for text in (texts[0], texts[0]):
        joiner.add(text)

    assert code_of([forged], joiner) == "FRAME_CONFLICT"
    assert code_of(texts[1:], joiner) == "JOINED"


def test_atk_116_missing_frame_or_other_header_joins_nothing() -> None:
    """Each frame of BBQr is needed, and all must have one header."""
    texts = frames(b"mine", FrameKind.BBQR)
    assert code_of(texts[:-1]) == "FRAMES_INCOMPLETE"
    for at, letter in ((2, "2"), (3, "P"), (4, "1")):
        other = texts[1][:at] + letter + texts[1][at + 1 :]
        assert code_of([texts[0], other]) == "FRAME_OTHER_SESSION"


def test_atk_116_decompression_bomb_is_refused_before_it_unpacks() -> None:
    """64 MiB in a few frames: neither format takes more memory than the largest bundle."""
    packed = bbqr.deflated(bytes(64 * MIB))
    file = bbqr.frames(bbqr.File("B", packed), 2132, bbqr.Encoding.BASE32)
    body = ur.Ur("keyturn", cbor.encode_bytes(packed))
    for texts in (["B$Z" + text[3:] for text in file], islice(ur.frames(body, 2_000), ur.frame_count(body, 2_000))):
        joiner = Joiner()
        for text in texts:
            joiner.add(text)
        tracemalloc.start()
        found = code_of([], joiner)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

        assert found == "FRAMES_TOO_LARGE"
        assert peak < 20 * MIB


def test_atk_116_picture_bomb_is_refused_before_it_unpacks() -> None:
    """A PNG of some KiB with 400 megapixels is told by its header."""
    out = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "PNG")
    with pytest.raises(MalformedError) as refused:
        list(pictures.read_texts(out.getvalue()))

    assert len(out.getvalue()) < MIB
    assert refused.value.code == "PICTURE_TOO_LARGE"


@pytest.mark.parametrize("type_", ["T", "J", "U", "X", "S"])
def test_atk_116_file_of_another_type_is_refused(type_: str) -> None:
    """A transaction, a text, a program: not what anyone asked for."""
    assert code_of(bbqr.frames(bbqr.File(type_, b"psbt\xff"), CHARS)) == "PARCEL_KIND"


@pytest.fixture
async def org(tmp_path: Path) -> AsyncIterator[Organisation]:
    """An organisation that just started, on a chain of its own."""
    found = await organise(GENESIS, tmp_path)
    yield found
    await close(found)


async def bring(org: Organisation, raw: bytes) -> str:
    """Import an answer by the courier's service; return the code of its refusal, or TAKEN."""
    try:
        await Couriers(org.parts).ImportAnswer(courier_pb2.ImportAnswerRequest(answer=raw), OPERATOR)
    except CustodyError as error:
        return error.code
    return "TAKEN"


@pytest.mark.slow
async def test_atk_117_stale_answer_imported_again_or_elsewhere_signs_nothing(org: Organisation) -> None:
    """The same answer once more changes nothing; renamed to another withdrawal, node or genesis it is refused."""
    first, second = org.withdrawal(LARGE), org.withdrawal()
    await org.propose(first)
    assert await org.approve(first, "bob", "carol") is Stage.SIGNING
    assert await org.propose(second) is Stage.SIGNING
    answer = await org.carry(first)
    signed = (await org.session(first)).signatures

    assert await bring(org, answer.to_bytes()) == "TAKEN"
    assert (await org.session(first)).signatures == signed
    renamed: dict[str, Json] = dict(answer_document(answer.to_bytes()))
    for field, value, code in (
        ("withdrawal_digest", second.digest.hex(), "RECEIPT_MISMATCH"),
        ("node", "alpha", "RECEIPT_SIGNATURE"),
        ("genesis", "00" * 32, "GENESIS_OTHER"),
        ("txid", "00" * 32, "RECEIPT_MISMATCH"),
    ):
        assert await bring(org, encode(renamed | {field: value})) == code, field
    assert (await org.session(second)).signatures == ()
    assert await org.run(first) is Stage.BROADCAST
    assert await bring(org, answer.to_bytes()) in ("TAKEN", "NOT_SIGNING", "LATE_SIGNATURE")
    assert (await org.session(first)).stage is Stage.BROADCAST


def answer_document(raw: bytes) -> dict[str, Json]:
    """Return the fields of an answer."""
    from custody.canonical import decode

    found = decode(raw)
    assert isinstance(found, dict)
    return found


def odd_files(medium: Path) -> dict[str, Path]:
    """Return what a hostile medium could hold in place of a bundle."""
    whole = medium / "whole"
    whole.write_bytes(b"{}")
    link, pipe, folder, large = (medium / name for name in ("link", "pipe", "folder", "large"))
    link.symlink_to(whole)
    os.mkfifo(pipe)
    folder.mkdir()
    with large.open("wb") as file:
        file.truncate(MAX_BUNDLE_BYTES + 1)
    return {"link": link, "pipe": pipe, "folder": folder, "large": large, "absent": medium / "absent"}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "large", "absent"])
def test_atk_118_file_that_is_no_small_regular_file_then_is_refused(kind: str, tmp_path: Path) -> None:
    """Links, pipes that would hang, directories and giants on a foreign medium are refused before they are read."""
    with pytest.raises(MalformedError) as refused:
        read_carried(odd_files(tmp_path)[kind])

    assert refused.value.code == "FILE_REFUSED"


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_atk_118_medium_with_a_trap_where_the_answer_goes_then_is_refused(kind: str, tmp_path: Path) -> None:
    """A link planted under the answer's name does not make the node overwrite a file of its own."""
    own = tmp_path / "own"
    own.write_bytes(b"keep me")
    trap = tmp_path / "answer.partial"
    if kind == "link":
        trap.symlink_to(own)
    elif kind == "pipe":
        os.mkfifo(trap)
    else:
        trap.mkdir()

    with pytest.raises(MalformedError) as refused:
        write_carried(tmp_path / "answer", b"answer")

    assert refused.value.code == "FILE_REFUSED"
    assert own.read_bytes() == b"keep me"


@pytest.mark.timeout(60)
def test_atk_118_folder_with_traps_then_gives_its_pictures_alone(tmp_path: Path) -> None:
    """Links, pipes, directories and odd names between the frames are left alone; frames behind a link do not count."""
    sent = Parcel(ParcelKind.DOCUMENT, b"mine" * 200)
    folder, elsewhere = tmp_path / "frames", tmp_path / "elsewhere"
    give(sent.content, Carriers(folder=folder))
    give(b"other", Carriers(folder=elsewhere))
    os.mkfifo(folder / "a-pipe.png")
    (folder / "b-link.png").symlink_to(elsewhere / "frame-0001.png")
    (folder / "c-folder.png").mkdir()
    (folder / "..\r\n\x1b[2J.png").write_bytes(b"")

    assert read_document(folder) == sent.content


def test_atk_118_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """The medium's own root may be named, nothing that points elsewhere."""
    give(b"other", Carriers(folder=tmp_path / "elsewhere"))
    (tmp_path / "frames").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MalformedError) as refused:
        read_document(tmp_path / "frames")

    assert refused.value.code == "FILE_REFUSED"


ESCAPES = (
    "\x1b]0;owned\x07",
    "\u202egnp.exe",
    "\u0430lice",
    "\x9b2J",
    "B$2B0100\x1b[2J",
    "UR:KEYTURN/\x1b[2J",
    "B$2\u0430\u202e",
    "UR:PSBT/1-\u0430/AEAE",
)


@pytest.mark.parametrize("text", ESCAPES)
def test_atk_119_text_of_a_qr_is_never_repeated_to_a_terminal(text: str) -> None:
    """What a refusal says of a QR holds no control character, no right-to-left mark and no letter beyond ASCII."""
    joiner, said = Joiner(), []
    for act in (lambda: joiner.add(text), joiner.parcel):
        try:
            act()
        except MalformedError as error:
            said.append(error.message)

    assert said
    assert all(message.isascii() and message.isprintable() for message in said)


def test_atk_119_label_with_control_characters_is_no_withdrawal() -> None:
    """Free text of a requester reaches a screen only where every character is printable."""
    from custody.withdrawal import read_withdrawal
    from tests.world import World

    document = World(GENESIS).withdrawal().to_json()
    assert isinstance(document, dict)
    for label in ("\x1b[2J", "a\rb", "\u202e", "\u2066x"):
        payment = {**document["payments"][0], "label": label}
        signed = sign(Kind.WITHDRAWAL, {**document, "payments": [payment]}, seed_of("alice"))
        with pytest.raises(MalformedError) as refused:
            read_withdrawal(signed)
        assert refused.value.code == "LABEL_UNPRINTABLE"
