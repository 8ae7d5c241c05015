"""Attacks by saying a thing twice, against real processes: the same request, the same bundle, half an answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from console.statements import write_signed
from coordinator.chain.blocklog import RecordKind
from custody.audit import Log
from custody.bundle import parse_answer
from custody.errors import ConflictError
from custody.psbt import parse, serialize
from custody.signatures import InputSignature, with_signatures
from custody.statements import Kind, sign
from custody.transaction import OutPoint, TxOut, parse_transaction
from custody.units import Sats
from custody.updater import SpendableCoin, build
from custody.v1 import courier_pb2, courier_pb2_grpc, withdrawal_pb2, withdrawal_pb2_grpc
from custody.wallet import ScriptBook
from custody.withdrawal import Payment, Withdrawal
from signer_node.effects import Effect, Side
from tests.crash.fuse import arm
from tests.crash.light_stack import COLD, Light, script_paid_by

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
FEE = 2_000


def test_atk_095_same_withdrawal_id_end_to_end_is_one_withdrawal(light: Light) -> None:
    """The same request twice is one withdrawal and one payment; other content under its id is a conflict."""
    asked = light.withdrawal()
    other = replace(asked, payments=(Payment(asked.payments[0].address, Sats(2_000_000), "more"),))

    first, again = light.propose(asked), light.propose(asked)
    with pytest.raises(ConflictError) as conflict:
        light.propose(other)
    light.settle(asked)
    late = light.propose(asked)

    assert (first.created, again.created, late.created) == (True, False, False)
    assert again.withdrawal.digest == late.withdrawal.digest == asked.digest
    assert conflict.value.code == "WITHDRAWAL_ID_TAKEN"
    assert light.payments(asked) == (1, 1)
    logs = light.logs()
    names = [e["fields"].get("withdrawal") for e in logs[Log.EVENT] if e["kind"] == "withdrawal.proposed"]
    assert names.count(asked.digest.hex()) == 1
    assert other.digest.hex() not in names


def test_atk_097_same_release_in_other_bundles_gives_the_same_signatures(light: Light) -> None:
    """The same bundle twice, a fresh one over a longer log, and one after a SIGKILL: one set of signature bytes."""
    asked = light.withdrawal(COLD)
    light.propose(asked)
    light.until(asked, "SIGNING")
    bundle = light.export_bundle(asked, "cold")
    answers = [light.answer_offline(bundle), light.answer_offline(bundle)]

    between = light.withdrawal()
    light.propose(between)
    light.settle(between)
    fresh = light.export_bundle(asked, "cold")
    arm(light.fuse("cold"), Effect.ANSWER, Side.BEFORE)
    killed = light.answer_offline(fresh)
    answers += [light.answer_offline(fresh), light.answer_offline(bundle)]

    assert killed is None
    assert fresh != bundle
    # The first bundle was vouched for before the node's newest checkpoint: judged again in full, it may be refused.
    outcomes = [_signatures(answer) for answer in answers[:3] if answer is not None]
    assert len(outcomes) == 3
    assert len(set(outcomes)) == 1
    made = [tuple(signature) for signature in light.signatures("cold")]
    assert len({key for _, key, _ in made[-4:]}) == len(set(made[-4:])) == 1
    light.import_answer(answers[2] or b"")
    light.settle(asked)
    assert light.payments(asked) == (1, 1)


def test_atk_067_answer_that_signs_one_of_two_inputs_counts_nothing(light: Light) -> None:
    """A key counts when it signed EVERY input: half an answer lets nobody go on; the whole one does."""
    asked, psbt = _two_inputs(light)
    signed = write_signed(sign(Kind.WITHDRAWAL, asked.to_json(), light.seed("alice")))
    request = withdrawal_pb2.ProposePsbtRequest(withdrawal=signed, psbt=psbt)
    light.insist(lambda c: withdrawal_pb2_grpc.WithdrawalServiceStub(c).ProposePsbt, request)
    light.until(asked, "SIGNING")
    answer = light.answer_offline(light.export_bundle(asked, "cold"))
    signatures = _signatures(answer)
    made = len(light.signatures("alpha")) + len(light.signatures("beta"))

    half = serialize(with_signatures(parse(psbt), signatures[:1]))
    carried = courier_pb2.ImportPsbtRequest(withdrawal_digest=asked.digest, psbt=half)
    light.insist(lambda c: courier_pb2_grpc.CourierServiceStub(c).ImportPsbt, carried)
    found = light.view(asked)

    assert [s.input_index for s in signatures] == [0, 1]
    assert (withdrawal_pb2.Stage.Name(found.stage), found.signed) == ("STAGE_SIGNING", 0)
    assert len(light.signatures("alpha")) + len(light.signatures("beta")) == made
    light.import_answer(answer or b"")
    assert light.settle(asked).signed == 2
    assert light.payments(asked) == (1, 1)


def _signatures(answer: bytes | None) -> tuple[InputSignature, ...]:
    outcome = parse_answer(answer or b"").outcome
    assert isinstance(outcome, tuple), outcome
    return outcome


def _two_inputs(light: Light) -> tuple[Withdrawal, bytes]:
    """Return a withdrawal and its client's own PSBT that spends two coins mined for it."""
    book = ScriptBook(light.stack.genesis.wallets[0].wallet)
    places = (10, 11)
    for index in places:
        light.mine(script=book.script(0, index).script)
    light.mine(100)
    blocks = [record.body for record in light.chain() if record.kind is RecordKind.BLOCK]
    coins = []
    for index in places:
        (block,) = [raw for raw in blocks if book.script(0, index).script in raw]
        coinbase = parse_transaction(block[81:])  # a header and the count of its only transaction go before it
        coins.append(SpendableCoin(OutPoint(coinbase.txid, 0), coinbase, 0, index))
    asked = light.withdrawal(COLD)
    total = sum(coin.previous.outputs[0].amount for coin in coins)
    change = TxOut(Sats(total - COLD - FEE), book.script(1, 1).script)
    outputs = [TxOut(Sats(COLD), script_paid_by(asked)), change]
    return asked, serialize(build(book, coins, outputs, [(1, 1)]))
