"""One node around its judge: what is written when, and what can leave it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from custody import ed25519
from custody.bundle import Answer, Behind, Bundle, Delta, LogPart, check_receipt, parse_answer
from custody.canonical import decode, encode
from custody.errors import CustodyError, IntegrityError, MalformedError, Refused, UnavailableError
from custody.scripts import Template
from custody.signatures import InputSignature
from signer_node.effects import Effect, Side
from signer_node.judge import Cleared
from signer_node.node import Node
from tests.fakes.clock import FakeClock
from tests.fakes.rules import DAY, NOW, seed_of
from tests.integration.harness import genesis_of, open_node
from tests.world import Spend, World

GENESIS = genesis_of()
TAPROOT = genesis_of(template=Template.TR)


class FallenError(Exception):
    """What a hook raises in place of a process that ends there."""


class Keys:
    """A key backend that says what it is told to say, and counts how often it is asked."""

    def __init__(self, answer: tuple[InputSignature, ...] | CustodyError) -> None:
        self.answer, self.asked = answer, 0

    async def sign(self, cleared: Cleared) -> tuple[InputSignature, ...]:
        """See the port."""
        self.asked += 1
        if isinstance(self.answer, CustodyError):
            raise self.answer
        return self.answer


@pytest.fixture
def world() -> World:
    """A log with nothing in it."""
    return World(GENESIS)


@pytest.fixture
def spend(world: World) -> Spend:
    """A transaction that rules allow."""
    return world.spend(world.withdrawal())


def journalled(home: Path) -> int:
    """Return how many transactions the node at `home` remembers."""
    node = open_node(GENESIS, "alpha", home, FakeClock(NOW))
    return len(node._journal.signed)


async def test_node_given_a_valid_bundle_then_answers_with_a_receipt(spend: Spend, tmp_path: Path) -> None:
    """The answer survives its bytes, holds this node's signatures, and its receipt speaks of exactly them."""
    node, index = open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW)), spend.release()

    answer = parse_answer((await node.answer(spend.bundle(index).to_bytes())).to_bytes())

    assert answer.outcome == spend.signatures("alpha")
    assert (answer.node, answer.txid) == ("alpha", spend.facts().txid)
    check_receipt(answer, index, ed25519.public_key(seed_of("alpha")))
    for wrong, code in ((index + 1, "RECEIPT_MISMATCH"), (index, "RECEIPT_SIGNATURE")):
        key = seed_of("beta") if code == "RECEIPT_SIGNATURE" else seed_of("alpha")
        with pytest.raises(MalformedError) as refused:
            check_receipt(answer, wrong, ed25519.public_key(key))
        assert refused.value.code == code


async def test_node_when_it_refuses_then_receipts_its_no_and_asks_no_key(world: World, tmp_path: Path) -> None:
    """A no is made by the judge alone, and is this node's word: nobody else can say it for it."""
    node = open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW))
    keys = Keys(())
    node._backend = keys  # type: ignore[assignment]  # a backend as far as the node uses it here

    bundle = world.spend(world.withdrawal(initiator="mallory")).bundle()
    answer = await node.answer(bundle.to_bytes())

    assert isinstance(answer.outcome, Refused)
    check_receipt(answer, bundle.release_index, ed25519.public_key(seed_of("alpha")))
    assert (keys.asked, journalled(tmp_path)) == (0, 0)


FALLS = {
    (Effect.FOLLOW, Side.BEFORE): (0, 0),
    (Effect.FOLLOW, Side.AFTER): (1, 0),
    (Effect.JOURNAL, Side.BEFORE): (1, 0),
    (Effect.JOURNAL, Side.AFTER): (1, 1),
    (Effect.SIGN, Side.BEFORE): (1, 1),
    (Effect.SIGN, Side.AFTER): (1, 1),
}


@pytest.mark.parametrize("fall", FALLS, ids=lambda fall: f"{fall[0].value}_{fall[1].value}")
async def test_node_that_ends_at_an_effect_then_signs_the_same_after_a_restart(
    fall: tuple[Effect, Side], spend: Spend, tmp_path: Path
) -> None:
    """Log before journal before signature; whatever was lost, the same bundle gives the same signature afterwards."""

    def hook(effect: Effect, side: Side) -> None:
        if (effect, side) == fall:
            raise FallenError

    raw = spend.bundle().to_bytes()
    node = open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW), hook=hook)
    with pytest.raises(FallenError):
        await node.answer(raw)

    again = open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW))
    assert (again.state.size, journalled(tmp_path)) == FALLS[fall]
    assert (await again.answer(raw)).outcome == spend.signatures("alpha")
    assert journalled(tmp_path) == 1


@pytest.mark.parametrize("code", ["VAULT_SEALED", "KEY_NOT_MINE"])
async def test_node_whose_key_is_away_then_has_journalled_and_can_be_asked_again(
    code: str, spend: Spend, tmp_path: Path
) -> None:
    """A broken backend is breakage, not a refusal; nothing left, and the next time counts as the same."""
    raw = spend.bundle().to_bytes()
    node = open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW))
    whole, node._backend = node._backend, Keys(UnavailableError(code, "expected a key"))  # type: ignore[assignment]

    with pytest.raises(UnavailableError):
        await node.answer(raw)
    node._backend = whole

    assert (await node.answer(raw)).outcome == spend.signatures("alpha")
    assert journalled(tmp_path) == 1


def lies(spend: Spend) -> dict[str, tuple[InputSignature, ...]]:
    """Return what a bad backend could answer."""
    (true,) = spend.signatures("alpha")
    return {
        "none": (),
        "of another node": spend.signatures("beta"),
        "twice": (true, true),
        "of another input": (replace(true, input_index=1),),
        "with another sighash byte": (replace(true, signature=true.signature[:-1] + b"\x03"),),
        "broken": (replace(true, signature=true.signature[:-2] + b"\x00\x01"),),
        "under another key": (replace(true, pubkey=spend.signatures("beta")[0].pubkey),),
    }


def taproot_lies(spend: Spend) -> dict[str, tuple[InputSignature, ...]]:
    """Return what a bad backend of a taproot wallet could answer."""
    (true,) = spend.signatures("alpha")
    return {
        "of another node": spend.signatures("beta"),
        "with a sighash byte": (replace(true, signature=true.signature + b"\x01"),),
        "broken": (replace(true, signature=true.signature[:-1] + bytes([true.signature[-1] ^ 1])),),
        "under its key of 33 bytes": (replace(true, pubkey=b"\x02" + true.pubkey),),
        "of the other kind": (replace(true, signature=b"\x30" + bytes(69) + b"\x01"),),
    }


@pytest.mark.parametrize("lie", [*taproot_lies(World(TAPROOT).spend(World(TAPROOT).withdrawal())), "none of them"])
async def test_node_of_a_taproot_wallet_whose_backend_lies_then_nothing_leaves(lie: str, tmp_path: Path) -> None:
    """One BIP-340 signature per input by the cleared x-only key; without a lie, exactly those leave."""
    world = World(TAPROOT)
    spend = world.spend(world.withdrawal())
    node = open_node(TAPROOT, "alpha", tmp_path, FakeClock(NOW))
    if lie == "none of them":
        assert (await node.answer(spend.bundle().to_bytes())).outcome == spend.signatures("alpha")
        return
    node._backend = Keys(taproot_lies(spend)[lie])  # type: ignore[assignment]  # as below

    with pytest.raises(IntegrityError) as refused:
        await node.answer(spend.bundle().to_bytes())

    assert refused.value.code == "BACKEND_LIED"


@pytest.mark.parametrize("lie", lies(World(GENESIS).spend(World(GENESIS).withdrawal())))
async def test_node_whose_backend_lies_then_nothing_leaves(lie: str, spend: Spend, tmp_path: Path) -> None:
    """Exactly one valid signature per input, by the cleared key, or none of them."""
    node = open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW))
    node._backend = Keys(lies(spend)[lie])  # type: ignore[assignment]  # a backend as far as the node uses it here

    with pytest.raises(IntegrityError) as refused:
        await node.answer(spend.bundle().to_bytes())

    assert refused.value.code == "BACKEND_LIED"


async def test_node_whose_log_cannot_be_written_then_does_not_sign(spend: Spend, tmp_path: Path) -> None:
    """What is not remembered is not signed."""
    node = open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW))
    keys = Keys(())
    node._backend = keys  # type: ignore[assignment]  # as above
    node._followed.close()

    with pytest.raises(UnavailableError) as refused:
        await node.answer(spend.bundle().to_bytes())

    assert refused.value.code == "RECORDS_UNWRITABLE"
    assert (keys.asked, node.state.size, journalled(tmp_path)) == (0, 0, 0)


async def test_node_whose_operator_thinks_for_too_long_then_judges_again(world: World, tmp_path: Path) -> None:
    """A yes given after the withdrawal's end signs nothing."""
    clock = FakeClock(NOW)
    spend = world.spend(world.withdrawal(expires_at=NOW + 100))

    def slowly(bundle: Bundle, cleared: Cleared) -> bool:
        clock.advance(100)
        return True

    node = open_node(GENESIS, "alpha", tmp_path, clock, confirm=slowly)
    answer = await node.answer(spend.bundle().to_bytes())

    assert isinstance(answer.outcome, Refused)
    assert answer.outcome.code == "WITHDRAWAL_EXPIRED"
    assert journalled(tmp_path) == 0


async def test_node_given_a_delta_then_follows_it_and_no_other(world: World, tmp_path: Path) -> None:
    """Deltas continue the node's own log under its own genesis; anything else changes nothing."""
    node = open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW + DAY))
    world.spend(world.withdrawal()).release()
    log = LogPart(0, tuple(world.entries), tuple(world.statements.values()), world.cosigned())

    for delta, code in (
        (Delta(bytes(32), log), "GENESIS_OTHER"),
        (Delta(GENESIS.hash, replace(log, statements=())), "MISSING_BODY"),
        (Delta(GENESIS.hash, replace(log, first=1)), "LOG_GAP"),
        (Delta(GENESIS.hash, replace(log, entries=())), "LOG_SIZE"),
    ):
        with pytest.raises(CustodyError) as refused:
            await node.take_delta(delta.to_bytes())
        assert (refused.value.code, node.state.size) == (code, 0)

    assert await node.take_delta(Delta(GENESIS.hash, log).to_bytes()) == 1
    assert await node.take_delta(Delta(GENESIS.hash, log).to_bytes()) == 1


async def test_node_given_a_bundle_beyond_its_log_then_is_behind(spend: Spend, tmp_path: Path) -> None:
    """It says how many entries it has, and changes nothing."""
    bundle = spend.bundle()
    node = open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW))

    answer = await node.answer(replace(bundle, log=replace(bundle.log, first=1, entries=())).to_bytes())

    assert answer.outcome == Behind(0)
    assert node.state.size == 0


async def test_node_given_its_log_before_then_needs_no_entry_in_the_bundle(spend: Spend, tmp_path: Path) -> None:
    """What it followed and a fresh checkpoint confirms needs no second copy; what it lacks does."""
    bundle = spend.bundle()
    node = open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW))
    await node.take_delta(Delta(GENESIS.hash, bundle.log).to_bytes())

    answer = await node.answer(replace(bundle, log=replace(bundle.log, first=1, entries=())).to_bytes())

    assert answer.outcome == spend.signatures("alpha")


async def test_node_given_many_bundles_at_once_then_answers_each_alone(world: World, tmp_path: Path) -> None:
    """Two releases that share no coin for one withdrawal: whichever comes first, only one is ever signed."""
    asked = world.withdrawal()
    first, second = world.spend(asked), world.spend(asked, (world.coin(1),), change_index=1)
    one, two = first.release(), second.release()
    node = open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW))

    answers = await asyncio.gather(
        *(node.answer(spend.bundle(index).to_bytes()) for spend, index in ((first, one), (second, two)) * 3)
    )

    assert all(isinstance(found, Answer) for found in answers)
    assert {found.outcome.code for found in answers if isinstance(found.outcome, Refused)} == {"SECOND_PAYMENT"}
    assert journalled(tmp_path) == 0


def test_answer_document_then_has_one_spelling(spend: Spend, tmp_path: Path) -> None:
    """An answer is canonical JSON: reading and writing it gives the same bytes."""
    raw = Answer(GENESIS.hash, "alpha", bytes(32), bytes(32), spend.signatures("alpha")).to_bytes()

    assert encode(decode(raw)) == raw == parse_answer(raw).to_bytes()


def test_node_then_shows_no_secret(tmp_path: Path) -> None:
    """Whoever prints a node sees no seed."""
    node: Node = open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW))

    assert seed_of("alpha").hex() not in repr(node)
    assert repr(seed_of("alpha")) not in repr(node)
