"""The air-gapped node in a real pseudo-terminal: from bundle to answer, read from its screen, signed by typed words."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console.frames import Carriers, hand_out
from custody.bundle import parse_answer
from custody.errors import Refused
from custody.frames import FrameKind, Parcel, ParcelKind, digest_of, pictures
from custody.local_code import local_code
from custody.words import words
from signer_node.review import address_groups
from tests.contracts.test_offline_closure import cold_node
from tests.fakes.rules import PAY, address, rule
from tests.fakes.terminals import running
from tests.fakes.today import genesis_of_today
from tests.world import Spend, World

ROOT = Path(__file__).parents[2]
PAYEES = [(11, 50_000), *[(20 + number, 10_000 + number) for number in range(12)]]
PICTURE = ROOT / "docs" / "offline-signing.md"
pytestmark = pytest.mark.slow


def spend_of(*rules: Mapping[str, Any], many: bool = False) -> tuple[World, Spend]:
    """Return a world of today and a payment that its rules allow."""
    world = World(genesis_of_today(*rules), now=int(time.time()))
    asked = world.withdrawal(*(PAYEES if many else PAYEES[:1]))
    labelled = replace(asked.payments[0], label="invoice 7")
    return world, world.spend(replace(asked, payments=(labelled, *asked.payments[1:])))


def command(config: Path, *arguments: str) -> list[str]:
    """Return the command line of the offline node."""
    return [sys.executable, "-m", "signer_node", "offline", "--config", str(config), *arguments]


def environment() -> dict[str, str]:
    """Return what the program gets of this environment."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}


def test_bundle_as_pictures_when_read_to_its_end_and_confirmed_then_is_answered_as_pictures(tmp_path: Path) -> None:
    """Frames in a folder in, a page of several screens read, the last word typed, frames in a folder and a file out."""
    world, spend = spend_of(many=True)
    bundle = spend.bundle(node="cold").to_bytes()
    hand_out(Parcel(ParcelKind.DOCUMENT, bundle), Carriers(folder=tmp_path / "in", kind=FrameKind.UR))
    config = cold_node(world.genesis, tmp_path)
    last = words(spend.asked.digest)[-1]
    arguments = [str(tmp_path / "in"), "--out", str(tmp_path / "answer"), "--pictures", str(tmp_path / "back")]

    with running(command(config, *arguments), tmp_path, environment(), columns=80, rows=24) as session:
        first = session.until("Space or Down: read on")
        session.press(last + "\r")  # before the page was read: nothing is taken
        seen = [session.until("lines read")]
        while "To sign, type" not in session.vt.text:
            before = session.vt.text
            session.press(" ")
            session.until_changed(before)
            seen.append(session.vt.text)
        session.press("abandon\r")
        session.until("not that word, 2 left")
        session.press(last + "\r")
        assert session.end() == 0
        printed = json.loads(session.printed)

    page = "\n".join((first, *seen, session.written))  # a screen may come in two parts
    flat = "".join(page.split())
    for tag, _ in PAYEES:
        assert address_groups(address(tag)).replace(" ", "") in flat.replace("│", "")
    for said in ("invoice 7", "COMES BACK, AND FEE", "ALLOW under rules", "witness witness:", "COMPARE THESE WORDS"):
        assert said in page
    answer = (tmp_path / "answer").read_bytes()
    assert parse_answer(answer).outcome == spend.signatures("cold")
    assert printed["signed_inputs"] == 1
    assert printed["answer_sha256"] == digest_of(answer).hex()
    back = pictures.read_parcel(path.read_bytes() for path in sorted((tmp_path / "back").iterdir()))
    assert back == Parcel(ParcelKind.DOCUMENT, answer)


@pytest.mark.parametrize("keys", ["\x1b", "wrong\rwrong\rwrong\r"], ids=["escape", "three wrong words"])
def test_operator_who_does_not_confirm_then_answers_no(keys: str, tmp_path: Path) -> None:
    """The node's signed refusal leaves, with the code that every node uses, and no signature was made."""
    world, spend = spend_of()
    (tmp_path / "bundle").write_bytes(spend.bundle(node="cold").to_bytes())
    config = cold_node(world.genesis, tmp_path)

    with running(command(config, "bundle", "--out", "answer"), tmp_path, environment()) as session:
        session.until("To sign, type")
        assert session.vt.is_alternate
        session.press(keys)
        assert session.end() == 3
        assert not session.vt.is_alternate

    outcome = parse_answer((tmp_path / "answer").read_bytes()).outcome
    assert outcome == Refused("OPERATOR_DECLINED", "the operator's confirmation", "a no")


def test_operator_who_interrupts_then_leaves_no_answer(tmp_path: Path) -> None:
    """Control-C is neither yes nor no: the screen is given back, nothing is written, and it can be asked again."""
    world, spend = spend_of()
    (tmp_path / "bundle").write_bytes(spend.bundle(node="cold").to_bytes())
    config = cold_node(world.genesis, tmp_path)

    with running(command(config, "bundle", "--out", "answer"), tmp_path, environment()) as session:
        session.until("To sign, type")
        session.press("\x03")
        assert session.end() == 1
        assert json.loads(session.printed)["error"] == "INTERRUPTED"

    assert not (tmp_path / "answer").exists()


def test_window_that_is_made_smaller_then_has_to_be_read_again(tmp_path: Path) -> None:
    """What was on a large screen is cut into other lines on a small one: nothing is typed before its end was shown."""
    world, spend = spend_of()
    (tmp_path / "bundle").write_bytes(spend.bundle(node="cold").to_bytes())
    config = cold_node(world.genesis, tmp_path)

    with running(command(config, "bundle", "--out", "answer"), tmp_path, environment()) as session:
        session.until("To sign, type")
        session.resize(60, 20)
        session.until("14 of ")
        session.press(words(spend.asked.digest)[-1] + "\r")
        session.press("\x1b[F")
        session.until("Enter: _")
        session.press(words(spend.asked.digest)[-1] + "\r")
        assert session.end() == 0

    assert parse_answer((tmp_path / "answer").read_bytes()).outcome == spend.signatures("cold")


def test_rules_that_want_a_code_typed_here_then_ask_for_it_before_the_page(tmp_path: Path) -> None:
    """The code on its own screen, then the page, then the answer as QR frames on the same terminal."""
    world, spend = spend_of(PAY, rule("code", "require", {}, {"local_conf": True}))
    (tmp_path / "bundle").write_bytes(spend.bundle(node="cold").to_bytes())
    config = cold_node(world.genesis, tmp_path)
    code = local_code(world.genesis.hash, spend.asked.digest, "cold")

    with running(command(config, "bundle", "--qr", "--out", "answer"), tmp_path, environment(), rows=60) as session:
        session.until("a code typed at this machine")
        session.press(code + "\r")
        session.until("To sign, type")
        session.press(words(spend.asked.digest)[-1] + "\r")
        session.until("any key ends")
        session.press("\x03")
        assert session.end() == 0

    assert parse_answer((tmp_path / "answer").read_bytes()).outcome == spend.signatures("cold")


def test_bundle_that_is_refused_then_is_never_shown(tmp_path: Path) -> None:
    """What rules forbid reaches no operator: same code, no screen."""
    world, spend = spend_of()
    world.freeze()
    (tmp_path / "bundle").write_bytes(spend.bundle(node="cold").to_bytes())
    config = cold_node(world.genesis, tmp_path)

    with running(command(config, "bundle", "--out", "answer"), tmp_path, environment()) as session:
        assert session.end() == 3
        assert "\x1b[?1049h" not in session.written

    outcome = parse_answer((tmp_path / "answer").read_bytes()).outcome
    assert isinstance(outcome, Refused)
    assert outcome.code == "FROZEN"


def test_handovers_then_hold_what_came_and_what_left(tmp_path: Path) -> None:
    """Bundle and answer with their digests, in order, on this machine too."""
    world, spend = spend_of()
    bundle = spend.bundle(node="cold").to_bytes()
    (tmp_path / "bundle").write_bytes(bundle)
    config = cold_node(world.genesis, tmp_path)
    with running(command(config, "bundle", "--out", "answer", "--yes"), tmp_path, environment()) as session:
        assert session.end() == 0
    with running(
        [sys.executable, "-m", "signer_node", "handovers", "--config", str(config)], tmp_path, environment()
    ) as session:
        assert session.end() == 0
        records = [json.loads(line) for line in session.printed.splitlines()]

    answer = (tmp_path / "answer").read_bytes()
    assert [(r["way"], r["what"], r["sha256"]) for r in records] == [
        ("taken", "bundle", digest_of(bundle).hex()),
        ("given", "answer", digest_of(answer).hex()),
    ]


def test_picture_in_the_docs_then_has_the_headings_of_the_screen(tmp_path: Path) -> None:
    """What people are shown beforehand is what they will see: the same sections in the same order."""
    world, spend = spend_of()
    (tmp_path / "bundle").write_bytes(spend.bundle(node="cold").to_bytes())
    config = cold_node(world.genesis, tmp_path)
    with running(command(config, "bundle", "--out", "answer"), tmp_path, environment()) as session:
        screen = session.until("To sign, type")
        session.press("\x1b")
        session.end()

    (drawn,) = (block for block in PICTURE.read_text().split("```") if "┌" in block)
    assert headings(drawn) == headings(screen)
    assert len(headings(screen)) == 6


def headings(screen: str) -> list[str]:
    """Return the lines in capitals."""
    bare = [line.strip("│ ") for line in screen.splitlines()]
    return [line for line in bare if line and line == line.upper() and any(c.isalpha() for c in line)]
