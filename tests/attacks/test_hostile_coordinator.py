"""The coordinator, its log key and all its other keys are in hostile hands; the nodes are real and hold real keys.

Each lie is one change to a bundle that a node would have signed. Whatever it is told, a node answers with a code (or
CustodyError), writes nothing but the followed log, and its journal stays empty: no signature was ever made.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from custody.audit import cosign
from custody.bundle import Bundle
from custody.entries import StopCause
from custody.errors import CustodyError, Refused
from custody.psbt import PsbtInput, parse, serialize
from custody.psbt_fields import IN_WITNESS_UTXO, Field
from custody.statements import Endorsement, Kind, Signed, endorse, sign
from custody.transaction import TxOut
from custody.units import Sats
from custody.updater import build
from custody.withdrawal import Payment
from signer_node.node import Node
from signer_node.review import address_groups, review
from tests.fakes.clock import FakeClock
from tests.fakes.rules import DAY, NOW, PAY, address, rule, script
from tests.integration.harness import genesis_of, open_node
from tests.world import COIN_SATS, EXCHANGE, LOG_SEED, Spend, World, signed_by_initiator

STRANGER = script(66)
TWO_EYES = rule(
    "two-eyes", "require", {"amount": {"min_sats": 10_000_000}}, {"approvals": {"group": "ops", "threshold": 2}}
)
COLD = rule("cold", "require", {"amount": {"min_sats": 30_000_000}}, {"signers": {"min_offline": 1}})
GENESIS = genesis_of(PAY, TWO_EYES, COLD)
LARGE = ((EXCHANGE, 15_000_000),)


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


def to_stranger(spend: Spend, output: int) -> Spend:
    """Return the same transaction with one output's script replaced; what describes that output goes with it."""
    psbt = parse(spend.psbt)
    outputs = list(psbt.transaction.outputs)
    outputs[output] = replace(outputs[output], script=STRANGER)
    coin = spend.world.coin()
    return replace(spend, psbt=serialize(build(spend.world.book, [coin], outputs)))


def released_as(world: World, asked_spend: Spend, carried: Spend) -> Bundle:
    """Return a bundle whose RELEASE is true for `asked_spend` while the PSBT is that of `carried`."""
    return asked_spend.bundle(psbt=carried.psbt)


def change_to_a_stranger(world: World) -> Bundle:
    """Send the change elsewhere, with a true RELEASE of the honest transaction."""
    honest = world.spend(world.withdrawal())
    return released_as(world, honest, to_stranger(honest, 1))


def change_to_a_stranger_and_released(world: World) -> Bundle:
    """Send the change elsewhere and log a RELEASE that says the stranger was to be paid."""
    honest = world.spend(world.withdrawal())
    lie = to_stranger(honest, 1)
    outputs = parse(lie.psbt).transaction.outputs
    index = honest.release(payments=tuple(outputs), change=())
    return honest.bundle(index, psbt=lie.psbt)


def payment_to_a_stranger(world: World) -> Bundle:
    """Pay somebody else than the initiator signed for."""
    honest = world.spend(world.withdrawal())
    return released_as(world, honest, to_stranger(honest, 0))


def false_amount(world: World) -> Bundle:
    """Say in witness_utxo that the coin is smaller than it is: the rest would be fee (CVE-2020-14199)."""
    honest = world.spend(world.withdrawal())
    psbt = parse(honest.psbt)
    told = TxOut(Sats(COIN_SATS - 1_000_000), world.book.script(0, 0).script)
    lie = Field(bytes([IN_WITNESS_UTXO]), told.serialize())
    fields = tuple(lie if field.type == IN_WITNESS_UTXO else field for field in psbt.inputs[0].fields)
    return honest.bundle(psbt=serialize(replace(psbt, inputs=(PsbtInput(fields),))))


def release_of_another_transaction(world: World) -> Bundle:
    """Carry the RELEASE of one transaction with the PSBT of another, for the same withdrawal."""
    asked = world.withdrawal()
    return released_as(world, world.spend(asked), world.spend(asked, (world.coin(1),)))


def approvals_of_another_withdrawal(world: World) -> Bundle:
    """Use what people said of one withdrawal for another."""
    first = world.spend(world.withdrawal(*LARGE)).approved_by("bob", "carol")
    second = world.withdrawal(*LARGE, withdrawal_id="w-2")
    spend = world.spend(second)
    index = spend.release(approvals=tuple(a.digest for a in first.approvals))
    world.statements.update({a.digest: a for a in first.approvals})
    return spend.bundle(index, approvals=first.approvals)


def approvals_missing(world: World) -> Bundle:
    """Leave out people whom the rules ask for."""
    return world.spend(world.withdrawal(*LARGE)).approved_by("bob").bundle()


def approval_made_up(world: World) -> Bundle:
    """Sign an approval with a key of the coordinator's own."""
    spend = world.spend(world.withdrawal(*LARGE)).approved_by("bob", "carol")
    forged = tuple(replace(signed, endorsements=(_by_the_log(signed),)) for signed in spend.approvals)
    index = spend.release()
    world.statements.update({a.digest: a for a in forged})
    return spend.bundle(index, approvals=forged)


def _by_the_log(signed: Signed) -> Endorsement:
    return endorse(signed.kind, signed.raw, LOG_SEED)


def withdrawal_made_up(world: World) -> Bundle:
    """Mint a withdrawal in alice's name, signed by a key of the coordinator's own."""
    spend = world.spend(world.withdrawal())
    forged = sign(Kind.WITHDRAWAL, spend.asked.to_json(), LOG_SEED)
    index = spend.release()
    world.statements[forged.digest] = forged
    return spend.bundle(index, withdrawal=forged)


def withdrawal_grown(world: World) -> Bundle:
    """Raise the amount of a signed withdrawal and keep its signature."""
    asked = world.withdrawal()
    payments = (Payment(address(EXCHANGE), Sats(9_000_000)),)
    grown = replace(asked, payments=payments)
    signed = replace(signed_by_initiator(grown), endorsements=signed_by_initiator(asked).endorsements)
    spend = world.spend(grown)
    index = spend.release()
    world.statements[signed.digest] = signed
    return spend.bundle(index, withdrawal=signed)


def replayed(world: World) -> Bundle:
    """Hand out an old bundle, whole, when its cosignatures are no longer fresh."""
    world.now = NOW - 301
    return world.spend(world.withdrawal(created_at=NOW - 1_000, expires_at=NOW + DAY)).bundle()


def checkpoint_without_witness(world: World) -> Bundle:
    """Sign a checkpoint that no witness saw, with the log key."""
    spend = world.spend(world.withdrawal())
    bundle = spend.bundle()
    bare = "\n".join(bundle.log.note.split("\n")[:-2]) + "\n"
    return replace(bundle, log=replace(bundle.log, note=bare))


def checkpoint_with_a_witness_of_its_own(world: World) -> Bundle:
    """Cosign with a key of the coordinator's own, under the witness's name."""
    bundle = world.spend(world.withdrawal()).bundle()
    lines = bundle.log.note.split("\n")
    bare = "\n".join(lines[:-2]) + "\n"
    return replace(bundle, log=replace(bundle.log, note=bare + cosign(bare, "witness", LOG_SEED, NOW) + "\n"))


def frozen(world: World) -> Bundle:
    """Go on although dave froze everything."""
    spend = world.spend(world.withdrawal())
    index = spend.release()
    world.freeze()
    return spend.bundle(index)


def stopped(world: World) -> Bundle:
    """Go on although bob vetoed it."""
    spend = world.spend(world.withdrawal())
    index = spend.release()
    world.stop(spend.asked, "bob", StopCause.VETO)
    return spend.bundle(index)


def cold_left_out(world: World) -> Bundle:
    """Ask an online node before the offline one signed."""
    return world.spend(world.withdrawal((EXCHANGE, 30_000_000))).approved_by("bob", "carol").bundle()


def second_payment(world: World) -> Bundle:
    """Release one withdrawal twice, from different coins."""
    asked = world.withdrawal()
    world.spend(asked).release()
    return world.spend(asked, (world.coin(1),), change_index=1).bundle()


LIES: dict[str, tuple[Callable[[World], Bundle], str]] = {
    "change_to_a_stranger": (change_to_a_stranger, "OUTPUT_NOT_ASKED"),
    "change_to_a_stranger_and_released": (change_to_a_stranger_and_released, "RELEASE_INADMISSIBLE"),
    "payment_to_a_stranger": (payment_to_a_stranger, "OUTPUT_NOT_ASKED"),
    "false_amount": (false_amount, "AMOUNT_LIE"),
    "release_of_another_transaction": (release_of_another_transaction, "RELEASE_MISMATCH"),
    "approvals_of_another_withdrawal": (approvals_of_another_withdrawal, "RELEASE_INADMISSIBLE"),
    "approvals_missing": (approvals_missing, "APPROVALS_MISSING"),
    "approval_made_up": (approval_made_up, "RELEASE_INADMISSIBLE"),
    "withdrawal_made_up": (withdrawal_made_up, "RELEASE_INADMISSIBLE"),
    "withdrawal_grown": (withdrawal_grown, "RELEASE_INADMISSIBLE"),
    "replayed": (replayed, "CHECKPOINT_STALE"),
    "checkpoint_without_witness": (checkpoint_without_witness, "CHECKPOINT_UNDERSIGNED"),
    "checkpoint_with_a_witness_of_its_own": (checkpoint_with_a_witness_of_its_own, "CHECKPOINT_UNDERSIGNED"),
    "frozen": (frozen, "FROZEN"),
    "stopped": (stopped, "STOPPED"),
    "cold_left_out": (cold_left_out, "COLD_FIRST"),
    "second_payment": (second_payment, "SECOND_PAYMENT"),
}


async def refusal(node: Node, raw: bytes) -> str:
    """Return the code with which a node refuses `raw`, or what else it answered."""
    try:
        outcome = (await node.answer(raw)).outcome
    except CustodyError as error:
        return error.code
    return outcome.code if isinstance(outcome, Refused) else f"{type(outcome).__name__}, not a refusal"


@pytest.mark.parametrize("lie", LIES)
async def test_hostile_coordinator_given_one_lie_then_no_key_is_used(
    lie: str, world: World, node: Node, tmp_path: Path
) -> None:
    """One lie, one code; the seed, the identity and the empty journal stay as they were."""
    make, code = LIES[lie]
    before = files(tmp_path)

    assert await refusal(node, make(world).to_bytes()) == code
    assert files(tmp_path) == before


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
        pages.append(review(bundle, world.state(), cleared.release))  # type: ignore[attr-defined]  # the judge's Cleared
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
        pages.append(review(bundle, world.state(), cleared.release))  # type: ignore[attr-defined]  # as above
        return False

    await open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW), confirm=confirm).answer(spend.bundle().to_bytes())

    lines = [line.strip() for line in pages[0].splitlines()]
    for tag in (EXCHANGE, 12):
        at = lines.index(address_groups(address(tag)))
        assert lines[at + 1] == f'requester says: "label of {tag}"'
        assert "requester" not in lines[at + 2]


async def test_hostile_backend_that_signs_something_else_then_nothing_leaves(world: World, tmp_path: Path) -> None:
    """A key backend that answers with a signature over other bytes is found out before the answer is made."""
    other = world.spend(world.withdrawal(withdrawal_id="w-9"), (world.coin(5),))
    node = open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW))

    class Liar:
        async def sign(self, cleared: object) -> object:
            return other.signatures("alpha")

    node._backend = Liar()  # type: ignore[assignment]  # a backend as far as the node uses it here

    assert await refusal(node, world.spend(world.withdrawal()).bundle().to_bytes()) == "BACKEND_LIED"
