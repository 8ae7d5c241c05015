"""Parcels cut into frames and put together again: every order, every loss, and every refusal by its code."""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Callable
from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custody.errors import MalformedError
from custody.frames import FrameKind, Joiner, Parcel, ParcelKind, bbqr, bytewords, cbor, fountain, frames_of, ur

CHARS = 195
KINDS = pytest.mark.parametrize("kind", list(FrameKind))


def parcel(size: int = 5_000, kind: ParcelKind = ParcelKind.DOCUMENT) -> Parcel:
    """Return a parcel that does not compress."""
    return Parcel(kind, Random(size).randbytes(size))  # noqa: S311  # a fixed order for a test


def joined(texts: list[str]) -> Parcel:
    """Return what the frames carry."""
    joiner = Joiner()
    for text in texts:
        joiner.add(text)
    return joiner.parcel()


def code_of(act: Callable[[], object]) -> str:
    """Return the code with which `act` is refused, or "TAKEN"."""
    try:
        act()
    except MalformedError as error:
        return error.code
    return "TAKEN"


def part_frame(number: int, count: int, size: int, checksum: int, data: bytes, prefix: str = "") -> str:
    """Return a frame of UR with these numbers, whatever they are."""
    numbers = (cbor.encode_uint(n) for n in (number, count, size, checksum))
    body = bytewords.encode(cbor.encode_array(*numbers, cbor.encode_bytes(data)))
    return f"ur:keyturn/{prefix or f'{number}-{count}'}/{body}"


@KINDS
@given(size=st.integers(1, 6_000), seed=st.integers(0, 999), what=st.sampled_from(ParcelKind))
@settings(max_examples=30, deadline=None)
def test_parcel_when_cut_shuffled_and_repeated_then_is_the_same(
    kind: FrameKind, size: int, seed: int, what: ParcelKind
) -> None:
    """Order and repetition do not matter."""
    sent = parcel(size, what)
    texts = list(frames_of(sent, kind, CHARS).first)
    Random(seed).shuffle(texts)  # noqa: S311  # a fixed order for a test

    assert all(len(text) <= CHARS for text in texts)
    assert joined(texts + texts[:3]) == sent


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [1_000, 5_552, 20_000])
def test_ur_when_any_frames_are_lost_then_few_more_than_its_fragments_are_needed(size: int, seed: int) -> None:
    """Four of ten frames never arrive; the reader needs at most half as many again as there are fragments, and 12."""
    sent, lost = parcel(size), Random(seed)  # noqa: S311  # a fixed order for a test
    frames = frames_of(sent, FrameKind.UR, CHARS)
    joiner, taken = Joiner(), 0
    while not joiner.is_complete:
        text = next(frames.endless)
        if lost.random() >= 0.4:
            joiner.add(text)
            taken += 1

    assert joiner.parcel() == sent
    assert taken <= 1.5 * frames.count + 12


def test_bbqr_when_frames_are_missing_then_names_them() -> None:
    """A reader is told which frames to wait for."""
    texts = frames_of(parcel(2_000), FrameKind.BBQR, CHARS).first
    joiner = Joiner()
    for at in (0, 3):
        joiner.add(texts[at])

    assert joiner.progress == (2, len(texts))
    assert joiner.missing[:3] == (2, 3, 5)
    with pytest.raises(MalformedError) as refused:
        joiner.parcel()
    assert refused.value.code == "FRAMES_INCOMPLETE"


def test_joiner_without_frames_then_has_nothing() -> None:
    """Nothing was seen: nothing is complete."""
    joiner = Joiner()

    assert (joiner.progress, joiner.missing, joiner.is_complete) == ((0, 0), (), False)
    with pytest.raises(MalformedError) as refused:
        joiner.parcel()
    assert refused.value.code == "FRAMES_INCOMPLETE"


def test_ur_that_newer_devices_write_then_is_a_psbt() -> None:
    """The type "psbt" took the place of "crypto-psbt"; both are read, in small letters too."""
    body = cbor.encode_bytes(b"psbt\xff\x00")
    for name in ("psbt", "crypto-psbt"):
        (text,) = {next(ur.frames(ur.Ur(name, body), 500))}
        assert joined([text.lower()]) == Parcel(ParcelKind.PSBT, b"psbt\xff\x00")


BROKEN = {
    "neither kind": ("https://example.com", "FRAME_FORMAT"),
    "an empty text": ("", "FRAME_FORMAT"),
    "BBQr, encoding": ("B$XP0100AAAA", "FRAME_HEADER"),
    "BBQr, type": ("B$2p0100AAAA", "FRAME_HEADER"),
    "BBQr, no parts": ("B$2P0000AAAA", "FRAME_HEADER"),
    "BBQr, number beyond": ("B$2P0101AAAA", "FRAME_HEADER"),
    "BBQr, cut": ("B$2P01", "FRAME_HEADER"),
    "UR, no body": ("ur:psbt", "UR"),
    "UR, type": ("ur:ps_bt/aeadaolazmjendeoti", "UR"),
    "UR, long path": ("ur:psbt/1-2/aeadaolazmjendeoti/x", "UR"),
    "UR, longer than a QR": ("ur:psbt/" + "ae" * 2_200, "UR"),
    "UR, letters": ("ur:psbt/zzzzzzzzzzzz", "BYTEWORDS"),
    "UR, half a word": ("ur:psbt/aeadaolazmjendeot", "BYTEWORDS"),
    "UR, only a checksum": ("ur:psbt/aeaeaeae", "BYTEWORDS"),
    "UR, one letter": ("ur:psbt/aeadaolazmjendeoto", "FRAME_CHECKSUM"),
    "UR, no list": ("ur:psbt/1-2/aeadaolazmjendeoti", "CBOR"),
    "UR, numbers differ": (part_frame(1, 2, 20, 0, bytes(10), "2-2"), "FRAME_HEADER"),
    "UR, number in front": (part_frame(1, 2, 20, 0, bytes(10), "1-x"), "FRAME_HEADER"),
    "UR, number zero": (part_frame(0, 2, 20, 0, bytes(10)), "FRAME_HEADER"),
    "UR, checksum of 33 bits": (part_frame(1, 2, 20, 2**32, bytes(10)), "FRAME_HEADER"),
    "UR, count": (part_frame(1, 3, 20, 0, bytes(10)), "FRAME_HEADER"),
    "UR, no data": (part_frame(1, 2, 20, 0, b""), "FRAME_HEADER"),
    "UR, no message": (part_frame(1, 1, 0, 0, bytes(10)), "FRAME_HEADER"),
    "UR, fragments": (part_frame(1, 2_001, 2_001, 0, bytes(1)), "FRAMES_TOO_LARGE"),
    "UR, length": (part_frame(1, 7, 7_000_000, 0, bytes(10)), "FRAMES_TOO_LARGE"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_frame_that_is_broken_then_is_refused_and_leaves_the_joiner_as_it_was(what: str) -> None:
    """One code each; the next good frame starts as if nothing had been there."""
    text, code = BROKEN[what]
    joiner = Joiner()
    with pytest.raises(MalformedError) as refused:
        joiner.add(text)

    assert refused.value.code == code
    assert joiner.progress == (0, 0)
    sent = parcel(50)
    joiner.add(frames_of(sent, FrameKind.BBQR, CHARS).first[0])
    assert joiner.parcel() == sent


BAD_CBOR = {
    "empty": "",
    "a number": "01",
    "cut head": "58",
    "cut string": "4300",
    "indefinite": "5f41004100ff",
    "reserved length": "5c00",
    "something behind": "410000",
}


@pytest.mark.parametrize("what", BAD_CBOR)
def test_cbor_that_is_no_byte_string_then_is_refused(what: str) -> None:
    """One definite byte string and nothing else."""
    with pytest.raises(MalformedError) as refused:
        cbor.read_bytes(bytes.fromhex(BAD_CBOR[what]))

    assert refused.value.code == "CBOR"


@pytest.mark.parametrize("raw", ["8401020340", "850102030405", "8501020304400", "85010203044000"])
def test_cbor_that_is_no_part_then_is_refused(raw: str) -> None:
    """Four numbers and a byte string."""
    with pytest.raises(MalformedError) as refused:
        cbor.read_part(bytes.fromhex(raw + "0" * (len(raw) % 2)))

    assert refused.value.code == "CBOR"


UNKNOWN = {
    "BBQr type": (list(bbqr.frames(bbqr.File("T", b"x"), CHARS)), "PARCEL_KIND"),
    "UR type": ([next(ur.frames(ur.Ur("crypto-seed", b"\x40"), 100))], "PARCEL_KIND"),
    "BBQr digest": (list(bbqr.frames(bbqr.File("B", bytes(40)), CHARS)), "PARCEL_DIGEST"),
    "UR digest": (
        [next(ur.frames(ur.Ur("keyturn", cbor.encode_bytes(bbqr.deflated(bytes(40)))), 100))],
        "PARCEL_DIGEST",
    ),
    "UR body": ([next(ur.frames(ur.Ur("psbt", b"\x00"), 100))], "CBOR"),
    "UR packing": ([next(ur.frames(ur.Ur("keyturn", cbor.encode_bytes(b"\x07")), 100))], "FRAMES_INFLATE"),
    "BBQr packing": (["B$ZB0100AAAAAAAA"], "FRAMES_INFLATE"),
    "BBQr behind the packing": (
        ["B$ZB0100" + b32encode(bbqr.deflated(bytes(40)) + b"\x00").decode().rstrip("=")],
        "FRAMES_INFLATE",
    ),
    "BBQr letters": (["B$2B01001111"], "FRAME_LETTERS"),
    "BBQr odd hex": (["B$HB0100ABC"], "FRAME_LETTERS"),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_frames_that_add_up_to_no_parcel_then_are_refused(what: str) -> None:
    """A type we do not carry, a digest of something else, packing that is none."""
    texts, code = UNKNOWN[what]
    with pytest.raises(MalformedError) as refused:
        joined(texts)

    assert refused.value.code == code


def test_psbt_larger_than_a_node_reads_then_is_refused() -> None:
    """The limit of a bundle's PSBT is the limit of a carried one."""
    texts = list(bbqr.frames(bbqr.File("P", bytes(2 * 1024 * 1024 + 1)), 2_000))
    with pytest.raises(MalformedError) as refused:
        joined(texts)

    assert refused.value.code == "PARCEL_TOO_LARGE"


@KINDS
def test_parcel_too_large_for_frames_then_is_refused(kind: FrameKind) -> None:
    """It goes by file."""
    with pytest.raises(MalformedError) as refused:
        frames_of(parcel(400_000), kind, CHARS)

    assert refused.value.code == "FRAMES_TOO_LARGE"


@KINDS
@pytest.mark.parametrize("chars", [195, 395, 758, 1249, 2132])
def test_frames_when_cut_then_fill_their_room_and_no_more(kind: FrameKind, chars: int) -> None:
    """Each frame fits the QR that it was cut for, and the frames of the middle use nearly all of it."""
    texts = frames_of(parcel(20_000), kind, chars).first

    assert max(map(len, texts)) <= chars
    assert len(texts[1]) > 0.85 * chars


def test_fountain_when_a_message_is_shorter_than_a_fragment_then_is_one() -> None:
    """Fragments are as equal as can be, and never longer than asked."""
    assert fountain.fragment_bytes(100, 100) == 100
    assert fountain.fragment_bytes(101, 100) == 51
    assert fountain.fragment_bytes(1, 100) == 1


@given(
    texts=st.lists(
        st.one_of(
            st.text(max_size=60),
            st.builds("B${}".format, st.text("HZ2PB0123ABCZ", max_size=40)),
            st.builds("ur:{}".format, st.text("abcdefghyz0123-/", max_size=60)),
        ),
        max_size=4,
    )
)
@settings(max_examples=150, deadline=None)
def test_joiner_given_any_text_then_refuses_by_code_alone(texts: list[str]) -> None:
    """A camera sees anything: nothing but MalformedError comes of it."""
    joiner = Joiner()
    said = [code for text in texts for code in (code_of(partial(joiner.add, text)), code_of(joiner.parcel))]

    assert all(code.isupper() for code in said)


@given(at=st.integers(0, 400), char=st.characters(codec="ascii"), kind=st.sampled_from(FrameKind))
@settings(max_examples=200, deadline=None)
def test_frames_with_one_character_changed_then_are_refused_or_the_same(at: int, char: str, kind: FrameKind) -> None:
    """A misread that a camera lets through never becomes another document."""
    sent = parcel(300)
    texts = list(frames_of(sent, kind, CHARS).first[:8])
    number, place = at % len(texts), at % len(texts[at % len(texts)])
    texts[number] = texts[number][:place] + char + texts[number][place + 1 :]
    found: list[Parcel] = []
    code = code_of(lambda: found.append(joined(texts)))

    assert found == [sent] or (not found and code.isupper())


FIRST = part_frame(1, 2, 20, 7, bytes(10))
TOGETHER = {
    "another length of fragment": ([FIRST, part_frame(2, 2, 20, 7, bytes(11))], "FRAME_OTHER_SESSION"),
    "another checksum": ([FIRST, part_frame(2, 2, 20, 8, bytes(10))], "FRAME_OTHER_SESSION"),
    "other content": ([FIRST, part_frame(1, 2, 20, 7, bytes(9) + b"1")], "FRAME_CONFLICT"),
    "a wrong checksum": ([FIRST, part_frame(2, 2, 20, 7, bytes(10))], "FRAME_CHECKSUM"),
    "half of a UR": ([FIRST], "FRAMES_INCOMPLETE"),
    "a whole UR behind a part": ([FIRST, next(ur.frames(ur.Ur("keyturn", b"1"), 50))], "FRAME_OTHER_SESSION"),
    "two whole URs": ([next(ur.frames(ur.Ur("psbt", raw), 50)) for raw in (b"1", b"2")], "FRAME_OTHER_SESSION"),
    "BBQr, other content": (["B$2B0200AAAAAAAA", "B$2B0200BAAAAAAA"], "FRAME_CONFLICT"),
    "BBQr, another count": (["B$2B0200AAAAAAAA", "B$2B0301AAAAAAAA"], "FRAME_OTHER_SESSION"),
}


@pytest.mark.parametrize("what", TOGETHER)
def test_frames_that_do_not_go_together_then_are_refused(what: str) -> None:
    """One code each."""
    texts, code = TOGETHER[what]

    assert code_of(lambda: joined(texts)) == code


def test_fountain_of_as_many_fragments_as_are_allowed_then_is_cut_and_one_more_is_refused() -> None:
    """The bound itself is inside."""
    most = fountain.MAX_FRAGMENTS
    assert next(fountain.parts(bytes(10 * most), 10)).count == most
    assert code_of(lambda: next(fountain.parts(bytes(10 * most + 1), 10))) == "FRAMES_TOO_LARGE"


def test_whole_ur_larger_than_asked_for_then_is_refused() -> None:
    """The reader's limit holds for one frame too."""
    (text,) = {next(ur.frames(ur.Ur("psbt", bytes(5)), 50))}

    assert code_of(lambda: ur.UrJoiner(4).add(text)) == "FRAMES_TOO_LARGE"
    assert code_of(lambda: ur.UrJoiner(5).add(text)) == "TAKEN"
