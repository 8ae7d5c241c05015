"""Level full of an audit: releases that the rules, a stop, a freeze or an earlier payment forbid are named."""

from typing import Any

import pytest

from console.replay import replay
from custody.audit import Export, Log, VerdictKind
from custody.entries import StopCause
from custody.units import Sats
from tests.fakes.rules import EXCHANGE, PAY, STRANGER, rule
from tests.world import World, make_genesis

TWO_EYES = rule("two-eyes", "require", {}, {"approvals": {"group": "ops", "threshold": 1}})


def export_of(world: World) -> Export:
    """Return the world's log as an export holds it."""
    return Export(
        genesis=world.genesis.signed,
        entries={Log.MONEY: tuple(world.entries), Log.EVENT: ()},
        leaves={Log.MONEY: (), Log.EVENT: ()},
        bodies=world.statements,
        checkpoints={Log.MONEY: world.cosigned(), Log.EVENT: ""},
    )


def found(world: World) -> tuple[str, int] | None:
    """Return the verdict's kind and index."""
    verdict = replay(export_of(world))
    return None if verdict is None else (verdict.kind.value, verdict.index)


def test_replay_of_an_honest_log_finds_nothing() -> None:
    """Releases, a stop, a freeze and its end, in an order that is allowed."""
    world = World(make_genesis())
    world.spend(world.withdrawal((EXCHANGE, 50_000))).approved_by("bob").release()
    world.stop(world.withdrawal((STRANGER, 1_000), withdrawal_id="w-2"), "bob", StopCause.VETO)
    world.freeze()
    world.unfreeze("erin", "frank")
    again = world.withdrawal((EXCHANGE, 60_000), withdrawal_id="w-3")
    world.spend(again, [world.coin(1)]).release()
    assert found(world) is None
    assert found(World(make_genesis())) is None


@pytest.mark.parametrize("lie", [{"max_fee_sats": Sats(999)}, {"initiator": "bob"}, {"withdrawal_id": "other"}])
def test_replay_of_a_release_that_says_other_than_its_withdrawal_is_a_violation(lie: dict[str, Any]) -> None:
    """What signers count as nothing is named by its withdrawal."""
    world = World(make_genesis())
    asked = world.withdrawal()
    world.spend(asked).release(**lie)
    verdict = replay(export_of(world))
    assert verdict is not None
    assert (verdict.kind, verdict.withdrawal) == (VerdictKind.POLICY_VIOLATION, asked.digest.hex())


def test_replay_of_a_release_with_an_approver_who_is_the_initiator_is_a_violation() -> None:
    """People are judged as at the release."""
    world = World(make_genesis(PAY, TWO_EYES))
    world.spend(world.withdrawal()).approved_by("alice").release()
    assert found(world) == ("POLICY_VIOLATION", 0)


def test_replay_of_a_release_after_a_stop_is_a_violation() -> None:
    """A stop is for ever."""
    world = World(make_genesis())
    asked = world.withdrawal()
    world.stop(asked, "bob", StopCause.REJECT)
    world.spend(asked).release()
    assert found(world) == ("POLICY_VIOLATION", 2)


def test_replay_of_a_release_during_a_freeze_is_a_violation() -> None:
    """From the freeze's entry on nothing may be released."""
    world = World(make_genesis())
    world.freeze()
    world.spend(world.withdrawal()).release()
    assert found(world) == ("POLICY_VIOLATION", 2)


def test_replay_of_a_second_payment_is_a_violation() -> None:
    """Two releases of one withdrawal must share a coin."""
    world = World(make_genesis())
    asked = world.withdrawal()
    world.spend(asked, [world.coin(0)]).release()
    world.spend(asked, [world.coin(1)]).release()
    assert found(world) == ("POLICY_VIOLATION", 2)


def test_replay_of_two_withdrawals_under_one_name_is_a_violation() -> None:
    """One (initiator, id) has one digest for ever."""
    world = World(make_genesis())
    world.spend(world.withdrawal((EXCHANGE, 50_000)), [world.coin(0)]).release()
    world.spend(world.withdrawal((EXCHANGE, 70_000)), [world.coin(1)]).release()
    assert found(world) == ("POLICY_VIOLATION", 2)
