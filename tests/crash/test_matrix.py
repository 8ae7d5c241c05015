"""The crash matrix: SIGKILL a real part before and after each of its effects; money and log come out whole.

After the restart the withdrawal is paid by exactly one transaction, or ended and paid by none; both logs verify, hold
everything that was acknowledged, and continue what was exported before; no key ever signed one digest in two ways.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import pytest

from console.channel import CallRefusedError
from console.statements import write_signed
from coordinator.effects import Effect, Side
from custody.audit import Log
from custody.bundle import Answer, parse_answer
from custody.entries import Freeze, StopCause, StopStatement, Unfreeze
from custody.errors import ConflictError
from custody.genesis import with_endorsement
from custody.statements import Kind, endorse, sign
from custody.v1 import policy_pb2, policy_pb2_grpc, withdrawal_pb2, withdrawal_pb2_grpc
from custody.withdrawal import Withdrawal
from signer_node.effects import Effect as NodeEffect
from signer_node.effects import Side as NodeSide
from tests.crash.fuse import arm
from tests.crash.light_stack import COLD, DELAYED, PEOPLE_TOO, TOO_MUCH, Light, script_paid_by

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
Story = Callable[[Light], Withdrawal]


def pay(light: Light) -> Withdrawal:
    """A small withdrawal that policy alone allows, until it is confirmed."""
    return _paid(light, light.withdrawal())


def pay_with_people(light: Light) -> Withdrawal:
    """One that two people approve."""
    asked = light.withdrawal(PEOPLE_TOO)
    light.propose(asked)
    light.approve(asked, "bob", "carol")
    light.settle(asked)
    return asked


def pay_after_delay(light: Light) -> Withdrawal:
    """One that waits for a second after its NOTICE."""
    return _paid(light, light.withdrawal(DELAYED))


def pay_with_cold(light: Light) -> Withdrawal:
    """One that the offline node signs first; its answer comes in once more after the end."""
    asked = light.withdrawal(COLD)
    light.propose(asked)
    light.until(asked, "SIGNING")
    answer = _answer_of_cold(light, asked)
    light.import_answer(answer)
    light.settle(asked)
    with pytest.raises(ConflictError) as late:
        light.import_answer(answer)
    assert late.value.code == "LATE_SIGNATURE"
    return asked


def pay_after_a_no(light: Light) -> Withdrawal:
    """One whose operator says no first, and yes afterwards."""
    asked = light.withdrawal(COLD)
    light.propose(asked)
    light.until(asked, "SIGNING")
    home = light.stack.node("cold")
    (home / "bundle").write_bytes(light.export_bundle(asked, "cold"))
    light.stack.signer("cold", "offline", str(home / "bundle"), "--out", str(home / "no"))
    light.import_answer((home / "no").read_bytes())
    light.import_answer(_answer_of_cold(light, asked))
    light.settle(asked)
    return asked


def pay_after_a_freeze(light: Light) -> Withdrawal:
    """One that is asked for after a freeze was logged and lifted."""
    genesis, freeze_id = light.stack.genesis.hash, os.urandom(16)
    freeze = sign(Kind.FREEZE, Freeze(genesis, freeze_id, "dave", int(time.time())).to_json(), light.seed("dave"))
    frozen = policy_pb2.FreezeRequest(freeze=write_signed(freeze))
    light.insist(lambda c: policy_pb2_grpc.PolicyServiceStub(c).Freeze, frozen, "dave")
    lift = sign(Kind.UNFREEZE, Unfreeze(genesis, (freeze_id,), int(time.time())).to_json(), light.seed("erin"))
    lift = with_endorsement(lift, endorse(Kind.UNFREEZE, lift.raw, light.seed("frank")))
    lifted = policy_pb2.UnfreezeRequest(unfreeze=write_signed(lift))
    light.insist(lambda c: policy_pb2_grpc.PolicyServiceStub(c).Unfreeze, lifted, "erin")
    return pay(light)


def cancel(light: Light) -> Withdrawal:
    """One that its initiator takes back while it waits for people."""
    asked = light.withdrawal(PEOPLE_TOO)
    light.propose(asked)
    said = StopStatement(asked.genesis, asked.digest, StopCause.CANCEL, "alice", int(time.time()))
    signed = write_signed(sign(Kind.STOP, said.to_json(), light.seed("alice")))
    request = withdrawal_pb2.CancelWithdrawalRequest(stop=signed)
    light.insist(lambda c: withdrawal_pb2_grpc.WithdrawalServiceStub(c).CancelWithdrawal, request)
    light.acknowledged["withdrawal.cancel", asked.digest.hex()] = 1
    light.until(asked, "CANCELLED")
    return asked


def be_denied(light: Light) -> Withdrawal:
    """One that the rules deny."""
    asked = light.withdrawal(TOO_MUCH)
    light.propose(asked)
    light.until(asked, "DENIED")
    return asked


def be_refused(light: Light) -> Withdrawal:
    """One that pays again what a released one pays, without saying so: it is not even taken in."""
    paid = pay(light)
    again = light.withdrawal(script=script_paid_by(paid))
    with pytest.raises(CallRefusedError):
        light.propose(again)
    return paid


COORDINATOR: Mapping[Effect, tuple[Story, str]] = {
    Effect.PROPOSE: (pay, "CONFIRMED"),
    Effect.REFUSE: (be_refused, "CONFIRMED"),
    Effect.APPROVE: (pay_with_people, "CONFIRMED"),
    Effect.STOP: (cancel, "CANCELLED"),
    Effect.NOTICE: (pay_after_delay, "CONFIRMED"),
    Effect.RELEASE: (pay, "CONFIRMED"),
    Effect.COSIGN: (pay, "CONFIRMED"),
    Effect.VOUCH: (pay, "CONFIRMED"),
    Effect.ASK: (pay, "CONFIRMED"),
    Effect.HAND_OUT: (pay, "CONFIRMED"),
    Effect.EXPORT: (pay_with_cold, "CONFIRMED"),
    Effect.IMPORT: (pay_with_cold, "CONFIRMED"),
    Effect.TAKE: (pay, "CONFIRMED"),
    Effect.RECORD_LATE: (pay_with_cold, "CONFIRMED"),
    Effect.FILE_REFUSAL: (pay_after_a_no, "CONFIRMED"),
    Effect.FINALISE: (pay, "CONFIRMED"),
    Effect.BROADCAST: (pay, "CONFIRMED"),
    Effect.RECORD_BROADCAST: (pay, "CONFIRMED"),
    Effect.CONFIRM: (pay, "CONFIRMED"),
    Effect.END: (be_denied, "DENIED"),
    Effect.LOG_STATEMENT: (pay_after_a_freeze, "CONFIRMED"),
}
NODE: Mapping[NodeEffect, Story] = {
    NodeEffect.FOLLOW: pay,
    NodeEffect.JOURNAL: pay,
    NodeEffect.SIGN: pay,
    NodeEffect.ANSWER: pay,
}
SIGNED_BEFORE = {
    (NodeEffect.SIGN, NodeSide.AFTER),
    (NodeEffect.ANSWER, NodeSide.BEFORE),
    (NodeEffect.ANSWER, NodeSide.AFTER),
}
"""Where the key has signed when the node dies."""


def _name(value: Enum | str) -> str:
    return value if isinstance(value, str) else value.value


def test_matrix_then_names_every_effect() -> None:
    """An effect without its two cases fails here; the sides are an enum too, so neither can be left out."""
    assert set(COORDINATOR) == set(Effect)
    assert set(NODE) == set(NodeEffect)
    assert {side.value for side in Side} == {side.value for side in NodeSide} == {"before", "after"}


@pytest.mark.parametrize("side", Side, ids=_name)
@pytest.mark.parametrize("effect", Effect, ids=_name)
def test_coordinator_killed_at_an_effect_then_all_comes_out_whole(light: Light, effect: Effect, side: Side) -> None:
    """The coordinator is killed once, there and nowhere else; what was asked ends as it would have."""
    story, stage = COORDINATOR[effect]
    before = light.logs()
    light.died.clear()
    arm(light.fuse("coordinator"), effect, side)

    asked = story(light)

    assert light.died == ["coordinator"]
    _assert_whole(light, asked, stage, before)


@pytest.mark.parametrize("side", NodeSide, ids=_name)
@pytest.mark.parametrize("effect", NodeEffect, ids=_name)
def test_online_node_killed_at_an_effect_then_all_comes_out_whole(
    light: Light, effect: NodeEffect, side: NodeSide
) -> None:
    """An online node is killed once; after its restart it gives the same signature as before, or another node signs."""
    before, made = light.logs(), len(light.signatures("alpha"))
    light.died.clear()
    arm(light.fuse("alpha"), effect, side)

    asked = NODE[effect](light)

    assert light.died == ["alpha"]
    _assert_whole(light, asked, "CONFIRMED", before)
    assert len(light.signatures("alpha")) - made == (2 if (effect, side) in SIGNED_BEFORE else 1)


@pytest.mark.parametrize("side", NodeSide, ids=_name)
@pytest.mark.parametrize("effect", NodeEffect, ids=_name)
def test_offline_node_killed_at_an_effect_then_all_comes_out_whole(
    light: Light, effect: NodeEffect, side: NodeSide
) -> None:
    """An offline node is killed over a bundle; the same bundle then gets the same signatures."""
    before, made = light.logs(), len(light.signatures("cold"))
    light.died.clear()
    arm(light.fuse("cold"), effect, side)

    asked = pay_with_cold(light)

    assert light.died == ["cold"]
    _assert_whole(light, asked, "CONFIRMED", before)
    assert len(light.signatures("cold")) - made == (2 if (effect, side) in SIGNED_BEFORE else 1)


def _paid(light: Light, asked: Withdrawal) -> Withdrawal:
    light.propose(asked)
    light.settle(asked)
    return asked


def _answer_of_cold(light: Light, asked: Withdrawal) -> bytes:
    bundle = light.export_bundle(asked, "cold")
    answer = light.answer_offline(bundle)
    left = light.stack.node("cold") / "answer"
    first = left.read_bytes() if answer is None and left.exists() else None  # it was out when the node died
    answer = answer or light.answer_offline(bundle)
    assert answer is not None
    parsed = parse_answer(answer)
    assert isinstance(parsed, Answer)
    assert first is None or parse_answer(first).outcome == parsed.outcome
    return answer


def _assert_whole(light: Light, asked: Withdrawal, stage: str, before: Mapping[Log, tuple[Any, ...]]) -> None:
    """Check what holds after every crash."""
    # Plan: 1 it ended as it should · 2 paid once or never · 3 both logs verify and only grew · 4 nothing that was
    # acknowledged is lost · 5 one RELEASE at most · 6 no key signed one digest in two ways.
    assert withdrawal_pb2.Stage.Name(light.view(asked).stage) == f"STAGE_{stage}"
    assert light.payments(asked) == ((1, 1) if stage == "CONFIRMED" else (0, 0))
    logs = light.logs()
    for log in Log:
        assert logs[log][: len(before[log])] == before[log]
    found = Counter((e["kind"], e["fields"].get("withdrawal", "")) for e in logs[Log.EVENT])
    lost = {ack: count for ack, count in light.acknowledged.items() if found[ack] < count}
    assert not lost
    bodies = [(e["kind"], e["body"].get("withdrawal_digest")) for e in logs[Log.MONEY]]
    assert bodies.count(("RELEASE", asked.digest.hex())) == int(stage == "CONFIRMED")
    assert bodies.count(("STOP", asked.digest.hex())) == int(stage == "CANCELLED")
    for node in light.stack.nodes:
        ways: dict[tuple[str, str], set[str]] = {}
        for digest, key, signature in light.signatures(node):
            ways.setdefault((digest, key), set()).add(signature)
        assert all(len(signatures) == 1 for signatures in ways.values())
