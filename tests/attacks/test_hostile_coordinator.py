"""The coordinator, its log key and all its other keys are in hostile hands; the nodes are real and hold real keys.

The lies that are one change to a bundle stand in tests/lies, and tests/contracts tells them over every backend. Here is
what needs more than one: histories, flipped bits, a review page, a backend that lies.
"""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import pytest

from custody.bundle import Bundle
from custody.entries import StopCause
from custody.errors import CustodyError, Refused
from custody.units import Sats
from custody.withdrawal import Payment
from signer_node.judge import Moment, Pinned, prove
from signer_node.node import Node
from signer_node.review import address_groups, review
from tests.fakes.clock import FakeClock
from tests.fakes.rules import NOW, PAY, address, rule
from tests.integration.harness import genesis_of, open_node
from tests.world import EXCHANGE, World

TWO_EYES = rule(
    "two-eyes", "require", {"amount": {"min_sats": 10_000_000}}, {"approvals": {"group": "ops", "threshold": 2}}
)
COLD = rule("cold", "require", {"amount": {"min_sats": 30_000_000}}, {"signers": {"min_offline": 1}})
GENESIS = genesis_of(PAY, TWO_EYES, COLD)


@pytest.fixture
def world() -> World:
    """The organisation's log, which the hostile coordinator writes as it likes."""
    return World(GENESIS)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Node alpha with its key in a sealed file."""
    return open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW))


def files(directory: Path) -> dict[str, bytes]:
    """Return every file of the node but the log that it follows, by name."""
    found = (path for path in directory.rglob("*") if path.is_file() and path.name != "followed.log")
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


async def refusal(node: Node, raw: bytes) -> str:
    """Return the code with which a node refuses `raw`, or what else it answered."""
    try:
        outcome = (await node.answer(raw)).outcome
    except CustodyError as error:
        return error.code
    return outcome.code if isinstance(outcome, Refused) else f"{type(outcome).__name__}, not a refusal"


async def test_hostile_coordinator_given_no_lie_then_the_node_signs(world: World, node: Node) -> None:
    """The bundle that all lies start from is one that a node signs."""
    answer = await node.answer(world.spend(world.withdrawal()).bundle().to_bytes())

    assert isinstance(answer.outcome, tuple)


async def test_hostile_coordinator_that_forks_the_log_then_is_refused(world: World, node: Node, tmp_path: Path) -> None:
    """A node that followed one history takes no other, even with the log's and the witness's own signatures."""
    fork = World(GENESIS)
    fork.spend(fork.withdrawal(withdrawal_id="w-fork")).release()
    await node.answer(world.spend(world.withdrawal()).bundle().to_bytes())
    before, followed = files(tmp_path), (tmp_path / "alpha" / "followed.log").read_bytes()

    lie = fork.spend(fork.withdrawal(withdrawal_id="w-2"), (fork.coin(1),)).bundle()

    assert await refusal(node, lie.to_bytes()) in {"LOG_FORK", "WITNESS_ENTRY"}
    assert (files(tmp_path), (tmp_path / "alpha" / "followed.log").read_bytes()) == (before, followed)


async def test_hostile_coordinator_that_rolls_the_log_back_then_is_refused(
    world: World, node: Node, tmp_path: Path
) -> None:
    """A node that knows of a veto is not made to forget it by the shorter log in front of it."""
    spend = world.spend(world.withdrawal())
    old = spend.bundle()
    world.stop(spend.asked, "bob", StopCause.VETO)
    assert await refusal(node, spend.bundle(old.release_index).to_bytes()) == "STOPPED"
    before = files(tmp_path)

    assert await refusal(node, old.to_bytes()) == "ROLLED_BACK"
    assert files(tmp_path) == before


@pytest.mark.slow
async def test_hostile_coordinator_that_flips_any_byte_then_gets_no_other_signature(
    world: World, tmp_path: Path
) -> None:
    """300 places of a small bundle, one bit each: refused, or in a hint that proves nothing, signed as if untouched."""
    raw = world.spend(world.withdrawal()).bundle().to_bytes()
    honest = await open_node(GENESIS, "alpha", _made(tmp_path / "honest"), FakeClock(NOW)).answer(raw)
    hints = range(raw.index(b'"psbt":"'), raw.index(b'"release_index"'))  # key origins in it only say where to look
    draw, home, signed = random.Random(7), _made(tmp_path / "lied_to"), 0  # noqa: S311 - the same on every run

    for at in sorted(draw.sample(range(len(raw)), 300)):
        flipped = raw[:at] + bytes([raw[at] ^ (1 << draw.randrange(8))]) + raw[at + 1 :]
        node = open_node(GENESIS, "alpha", home, FakeClock(NOW))  # from nothing: what it followed needs no proof again
        unsigned = files(home)
        try:
            outcome = (await node.answer(flipped)).outcome
        except CustodyError as error:
            outcome = Refused(error.code, "", "")
        if isinstance(outcome, Refused):
            assert files(home) == unsigned
        else:
            assert (outcome, at in hints) == (honest.outcome, True), f"byte {at}: {raw[at - 40 : at + 40]!r}"
            signed += 1
        for name in ("followed.log", "journal.log"):
            (home / "alpha" / name).unlink()

    assert signed < 30


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def reviewed(bundle: Bundle, world: World) -> str:
    """Return the page that node alpha shows its operator."""
    case = prove(bundle, Pinned(GENESIS, "alpha"), world.state(), Moment(NOW, 0), (), world.book)
    assert not isinstance(case, Refused)
    return review(case, NOW).text


async def test_atk_100_review_page_then_shows_what_the_bytes_do_and_nothing_that_anybody_says(
    world: World, tmp_path: Path
) -> None:
    """What the operator reads comes from proven bytes: address, amount, change, fee; a label is quoted as a label."""
    pages: list[str] = []
    asked = world.withdrawal()
    labelled = replace(asked, payments=(replace(asked.payments[0], label=f"really {address(66)}"),))
    spend = world.spend(labelled)
    home = _made(tmp_path / "op")

    def confirm(bundle: Bundle, cleared: object) -> bool:
        pages.append(reviewed(bundle, world))
        return False

    node = open_node(GENESIS, "alpha", home, FakeClock(NOW), confirm=confirm)

    assert await refusal(node, spend.bundle().to_bytes()) == "OPERATOR_DECLINED"
    (page,) = pages
    assert address_groups(address(EXCHANGE)) in page
    assert address_groups(address(66)) not in page
    assert f'requester says: "really {address(66)}"' in page
    assert "pay 0.00050000 BTC" in page
    assert "fee 0.00002000 BTC (at most 0.00020000)" in page
    assert not any(found.name == "journal.log" and found.stat().st_size > 200 for found in home.rglob("*"))


async def test_atk_100_labels_of_equal_amounts_then_stand_under_their_own_payee(world: World, tmp_path: Path) -> None:
    """Two payees of the same amount: each address has its own label, so that neither vouches for the other."""
    pages: list[str] = []
    payments = tuple(Payment(address(tag), Sats(50_000), f"label of {tag}") for tag in (EXCHANGE, 12))
    spend = world.spend(replace(world.withdrawal(), payments=payments))

    def confirm(bundle: Bundle, cleared: object) -> bool:
        pages.append(reviewed(bundle, world))
        return False

    await open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW), confirm=confirm).answer(spend.bundle().to_bytes())

    lines = [line.strip() for line in pages[0].splitlines()]
    for tag in (EXCHANGE, 12):
        at = lines.index(address_groups(address(tag)))
        below = takewhile(lambda line: line.startswith(("on pinned list", "requester")), lines[at + 1 :])
        assert [line for line in below if "requester" in line] == [f'requester says: "label of {tag}"']


async def test_hostile_backend_that_signs_something_else_then_nothing_leaves(world: World, tmp_path: Path) -> None:
    """A key backend that answers with a signature over other bytes is found out before the answer is made."""
    other = world.spend(world.withdrawal(withdrawal_id="w-9"), (world.coin(5),))
    node = open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW))

    class Liar:
        async def sign(self, cleared: object) -> object:
            return other.signatures("alpha")

    node._backend = Liar()  # type: ignore[assignment]  # a backend as far as the node uses it here

    assert await refusal(node, world.spend(world.withdrawal()).bundle().to_bytes()) == "BACKEND_LIED"
