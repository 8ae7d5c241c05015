"""`keyturn bundle` and `psbt` by frames: pictures out, pictures or a camera in, and who carried what in the log."""

from __future__ import annotations

import io
import json
import os
import pty
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image

from console import frames as frames_here
from console.frames import Carriers, hand_out
from coordinator.store.port import Change, MoneyBody
from custody.audit import Log
from custody.bundle import MAX_ENTRIES_IN_BUNDLE_BYTES
from custody.entries import EntryKind, Notice
from custody.errors import CustodyError
from custody.frames import FrameKind, Parcel, ParcelKind, digest_of, frames_of, pictures, sizes
from custody.psbt import parse
from tests.desk import Desk, desk
from tests.fakes.rules import SUPPLIER, address

COLD = 60_000_000  # two people


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One organisation for the module; each test uses a withdrawal of its own."""
    with desk(tmp_path_factory.mktemp("desk")) as found:
        yield found


def released(office: Desk, name: str, amount: int) -> str:
    """Propose and approve a withdrawal that waits for signers; return its digest. Nodes online say nothing."""
    office.organisation.silent.update(("alpha", "beta"))
    ran = office.keyturn(
        "alice", "propose", "--to", f"{address(SUPPLIER)}={amount}", "--id", name, "--yes", "-o", "json"
    )
    assert ran.code == 0, ran.err
    for person in ("bob", "carol"):
        assert office.keyturn(person, "approve", name, "--yes").code == 0
    digest: str = ran.json["digest"]
    return digest


def hand_overs(office: Desk, digest: str) -> list[tuple[str, str, str]]:
    """Return (kind, who carried it, SHA-256) of a withdrawal's hand-overs in the event log."""
    store = office.organisation.parts.store
    entries = office.do(store.entries(Log.EVENT, 0, 100_000, 64 * 1024 * 1024))
    found = [json.loads(raw) for raw in entries]
    return [
        (event["kind"], event["fields"]["carried_by"], event["fields"]["sha256"])
        for event in found
        if "carried_by" in event["fields"] and event["fields"].get("withdrawal") == digest
    ]


@pytest.mark.slow
def test_bundle_out_as_pictures_and_answer_back_as_pictures_then_counts(office: Desk, tmp_path: Path) -> None:
    """UR frames in a folder and in a GIF to the node, BBQr frames back; both ends of the way are in the log."""
    digest = released(office, "pictures", COLD)
    out, gif, file = tmp_path / "out", tmp_path / "out.gif", tmp_path / "bundle"
    exported = office.keyturn(
        "alice", "bundle", "export", digest, "--node", "cold", "--pictures", str(out), "--gif", str(gif),
        "--out", str(file), "--frames", "ur", "--carrier", "carla", "-o", "json",
    )  # fmt: skip
    assert exported.code == 0, exported.err
    bundle = file.read_bytes()
    for found in ([path.read_bytes() for path in out.iterdir()], [gif.read_bytes()]):
        assert pictures.read_parcel(found) == Parcel(ParcelKind.DOCUMENT, bundle)

    answer = office.do(office.organisation.nodes["cold"].answer(bundle)).to_bytes()
    hand_out(Parcel(ParcelKind.DOCUMENT, answer), Carriers(folder=tmp_path / "back"))
    imported = office.keyturn("alice", "bundle", "import", str(tmp_path / "back"), "--carrier", "dora", "-o", "json")

    assert (imported.code, imported.json["said"]) == (0, "cold signed 1 input(s)")
    assert exported.json["sha256"] == digest_of(bundle).hex()
    assert hand_overs(office, digest) == [
        ("bundle.exported", "carla", digest_of(bundle).hex()),
        ("answer.imported", "dora", digest_of(answer).hex()),
    ]


@pytest.mark.slow
def test_bundle_for_a_node_far_behind_then_comes_with_its_delta_as_a_second_file(office: Desk, tmp_path: Path) -> None:
    """More log than a bundle may carry: the delta is written beside it, and the node that follows it signs."""
    digest = released(office, "behind", COLD + 2)
    parts, cold = office.organisation.parts, office.organisation.nodes["cold"]
    asked = office.do(parts.store.load(bytes.fromhex(digest)))
    assert asked is not None
    notice = MoneyBody(EntryKind.NOTICE, Notice(asked.value.digest))
    many = (notice,) * (MAX_ENTRIES_IN_BUNDLE_BYTES // 200)
    office.do(parts.store.record(Change(office.organisation.clock.now(), many, bodies=(asked.value.withdrawal,))))
    out = tmp_path / "bundle"
    lacking = office.keyturn("alice", "bundle", "export", digest, "--node", "cold", "--gif", str(tmp_path / "gif"))
    assert (lacking.code, "NODE_BEHIND" in lacking.err) == (3, True)

    ran = office.keyturn("alice", "bundle", "export", digest, "--node", "cold", "--out", str(out), "-o", "json")

    assert ran.code == 0, ran.err
    assert ran.json["deltas"] == [f"{out}.delta"]
    office.do(cold.take_delta(Path(f"{out}.delta").read_bytes()))
    answer = tmp_path / "answer"
    answer.write_bytes(office.do(cold.answer(out.read_bytes())).to_bytes())
    imported = office.keyturn("alice", "bundle", "import", str(answer), "-o", "json")
    assert imported.json["said"] == "cold signed 1 input(s)"


@pytest.mark.slow
def test_psbt_for_a_device_that_reads_ur_then_leaves_as_ur_and_comes_back_as_pictures(
    office: Desk, tmp_path: Path
) -> None:
    """The device's kind of frames is the default; what comes back unsigned brings nobody new, by whom is logged."""
    digest = released(office, "device", COLD + 1)
    out = tmp_path / "out"
    ran = office.keyturn("alice", "psbt", "export", digest, "--pictures", str(out), "--device", "passport")
    assert ran.code == 0, ran.err
    texts = [text for path in sorted(out.iterdir()) for text in pictures.read_texts(path.read_bytes())]
    assert all(text.startswith("UR:CRYPTO-PSBT/") for text in texts)
    parse(pictures.read_parcel([path.read_bytes() for path in out.iterdir()]).content)

    back = office.keyturn("alice", "psbt", "import", digest, str(out), "--carrier", "dora", "-o", "json")

    assert (back.code, back.json["new"]) == (0, [])
    assert ("psbt.imported", "dora") in [found[:2] for found in hand_overs(office, digest)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["bundle", "export", "w", "--node", "cold"], 2),
        (["bundle", "export", "w", "--node", "cold", "--qr"], 2),
        (["bundle", "import"], 2),
        (["bundle", "import", "x", "--capture", "true"], 2),
        (["bundle", "import", "--capture", "true"], 5),
        (["bundle", "import", "--capture", "/no/such/program"], 5),
    ],
    ids=["nothing to leave on", "no terminal", "nothing to read", "two things to read", "no picture", "no camera"],
)
def test_carrier_that_is_none_then_is_said_before_anything_is_asked(
    office: Desk, arguments: list[str], code: int
) -> None:
    """Usage is 2; a camera that shows nothing is 5."""
    assert office.keyturn("alice", *arguments).code == code


def test_camera_whose_screen_changes_then_reads_the_second_message(tmp_path: Path) -> None:
    """A stream of JPEGs with noise between them: first some frames of an older screen, then the one that is meant."""
    old, new = (
        Parcel(ParcelKind.DOCUMENT, b"".join(map(digest_of, (b"%d" % n for n in range(at, at + 12))))) for at in (0, 99)
    )
    shown = [*frames_of(old, FrameKind.BBQR, 195).first[:2]]
    shown += islice(frames_of(new, FrameKind.UR, 195).endless, 1, 60)
    stream = b"noise"
    for text in shown:
        with Image.open(io.BytesIO(pictures.png(text, sizes.SMALL))) as picture:
            out = io.BytesIO()
            picture.convert("L").save(out, "JPEG")
        stream += out.getvalue() + b"\xff\x00noise"
    (tmp_path / "stream").write_bytes(stream)

    assert frames_here.capture(f"cat {tmp_path / 'stream'}", ParcelKind.DOCUMENT) == new.content


def test_folder_with_frames_of_two_sessions_then_is_refused(tmp_path: Path) -> None:
    """ATK-115 on a stick: nothing is taken from a folder that holds two messages."""
    for number, content in enumerate((b"one", b"two" * 300)):
        hand_out(Parcel(ParcelKind.DOCUMENT, content), Carriers(folder=tmp_path / str(number)))
    for path in (tmp_path / "1").iterdir():
        path.rename(tmp_path / "0" / f"a-{path.name}")
    with pytest.raises(CustodyError) as refused:
        frames_here.read_carried(tmp_path / "0", ParcelKind.DOCUMENT)

    assert refused.value.code in ("FRAME_OTHER_SESSION", "FRAME_CONFLICT")


def test_frames_on_a_terminal_then_are_shown_until_a_key_is_pressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real pseudo-terminal: frames come again and again, a key ends it, and the screen is as before."""
    ours, theirs = pty.openpty()
    read: list[bytes] = []

    def watch() -> None:
        while b"frame 3," not in b"".join(read):
            read.append(os.read(ours, 65_536))
        os.write(ours, b"\x03")
        while b"\x1b[?1049l" not in b"".join(read):
            read.append(os.read(ours, 65_536))

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    with os.fdopen(theirs, "r+b", buffering=0) as raw, io.TextIOWrapper(raw, "utf-8", write_through=True) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(sys, "stdout", terminal)
        frames_here.show(frames_of(Parcel(ParcelKind.DOCUMENT, bytes(range(256))), FrameKind.UR, 195), sizes.SMALL)
        watching.join(30)
    os.close(ours)

    said = b"".join(read)
    assert said.index(b"\x1b[?1049h") < said.index(b"frame 1,") < said.index(b"\x1b[?1049l")
