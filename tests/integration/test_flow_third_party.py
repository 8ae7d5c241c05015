"""A wallet whose third key is other people's software: our PSBT out, theirs back, through the courier's services.

A declared key has no node and no judge: all that is ever taken from it are signatures, verified on our own bytes.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.asking import standing_of
from coordinator.rpc.couriers import Couriers
from coordinator.session import Stage
from custody.audit import Log
from custody.errors import ConflictError, MalformedError
from custody.psbt import PsbtInput, parse, serialize
from custody.psbt_fields import IN_PARTIAL_SIGNATURE, Field, FieldMap
from custody.scripts import Template
from custody.transaction import parse_transaction
from custody.v1 import courier_pb2
from custody.withdrawal import Withdrawal
from tests.fakes.cleared import descriptor_key
from tests.fakes.rules import rule, seed_of
from tests.integration.harness import OPERATOR, Organisation, close, genesis_of, organise
from tests.integration.test_third_party_cosigners import PEERS, TEMPLATES, THEIRS, THEIRS_AT

PAY = rule("pay", "allow", {"wallet": {"names": ["treasury"]}})
DECLARED = (descriptor_key(seed_of(THEIRS)),)
GENESES = {
    template: genesis_of(PAY, nodes=("alpha", "beta"), declared=DECLARED, template=template)
    for template in dict.fromkeys(template for _, template in TEMPLATES)
}
TWO_COINS_SATS = 6_000_000_000  # more than one coin of 50 BTC


@pytest.fixture
async def org(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Organisation]:
    """Alpha answers, beta is away, the third key is declared. The template is WSH where no parameter says another."""
    found = await organise(GENESES[getattr(request, "param", Template.WSH)], tmp_path)
    found.silent = {"beta"}
    yield found
    await close(found)


async def export_psbt(org: Organisation, asked: Withdrawal) -> bytes:
    """Return the PSBT that the operator carries away."""
    request = courier_pb2.ExportPsbtRequest(withdrawal_digest=asked.digest)
    return (await Couriers(org.parts).ExportPsbt(request, OPERATOR)).psbt


async def import_psbt(org: Organisation, asked: Withdrawal, raw: bytes) -> Stage:
    """Carry a PSBT back; return the stage then."""
    request = courier_pb2.ImportPsbtRequest(withdrawal_digest=asked.digest, psbt=raw)
    await Couriers(org.parts).ImportPsbt(request, OPERATOR)
    return (await org.session(asked)).stage


def signed_by_peer(org: Organisation, raw: bytes, name: str = "wally") -> bytes:
    """Return what the other software makes of `raw`."""
    peer = PEERS[name](org.book.wallet)
    return base64.b64decode(peer.sign(base64.b64encode(raw).decode()))


async def signers(org: Organisation, asked: Withdrawal) -> frozenset[int]:
    """Return whose keys count."""
    session = await org.session(asked)
    return (await standing_of(org.parts, session, asked, org.clock.now()))[2].signed


@pytest.mark.parametrize("device_first", [False, True], ids=["node_first", "device_first"])
@pytest.mark.parametrize(
    ("name", "org"), TEMPLATES, indirect=["org"], ids=[f"{name}-{template.name}" for name, template in TEMPLATES]
)
async def test_withdrawal_with_a_declared_key_then_is_confirmed(
    org: Organisation, name: str, device_first: bool
) -> None:
    """Node and device sign two inputs; the kernel accepts what we finalise from their signatures, a block confirms."""
    asked = org.withdrawal(TWO_COINS_SATS)
    await org.propose(asked)
    if not device_first:
        assert await org.run(asked) is Stage.SIGNING
    psbt = await export_psbt(org, asked)
    for found in parse(psbt).inputs:
        assert bool(found.partial_signatures or found.tap_signatures) is not device_first

    stage = await import_psbt(org, asked, signed_by_peer(org, psbt, name))

    assert stage is (Stage.SIGNING if device_first else Stage.BROADCAST)
    assert await org.run(asked) is Stage.BROADCAST
    await org.mine()
    assert await org.advance(asked) is Stage.CONFIRMED
    assert await signers(org, asked) == {0, THEIRS_AT}
    session = await org.session(asked)
    assert len(parse_transaction(session.transaction or b"").inputs) == 2


async def test_declared_key_that_signed_one_of_two_inputs_then_does_not_count(org: Organisation) -> None:
    """Its signature is kept; the key counts once every input has one."""
    asked = org.withdrawal(TWO_COINS_SATS)
    await org.propose(asked)
    await org.run(asked)
    whole = parse(signed_by_peer(org, await export_psbt(org, asked)))
    first, second = whole.inputs
    unsigned = PsbtInput(tuple(f for f in second.fields if f.type != IN_PARTIAL_SIGNATURE))

    assert await import_psbt(org, asked, serialize(replace(whole, inputs=(first, unsigned)))) is Stage.SIGNING
    assert await signers(org, asked) == {0}
    assert await import_psbt(org, asked, serialize(whole)) is Stage.BROADCAST


async def test_psbt_that_came_back_with_other_outputs_then_is_refused(org: Organisation) -> None:
    """A device's PSBT about another transaction is refused whole, and nothing of it is kept."""
    asked = org.withdrawal()
    await org.propose(asked)
    ours = parse(await export_psbt(org, asked))
    outputs = (replace(ours.transaction.outputs[0], script=b"\x00\x14" + bytes(20)), *ours.transaction.outputs[1:])
    other = replace(ours.transaction, outputs=outputs)
    forged = FieldMap((Field(b"\0", other.serialize_stripped()),))
    changed = replace(ours, transaction=other, globals=forged)

    with pytest.raises(MalformedError) as refused:
        await import_psbt(org, asked, serialize(changed))

    assert refused.value.code == "FOREIGN_TRANSACTION"
    assert (await org.session(asked)).signatures == ()


async def test_psbt_that_came_back_with_a_wrong_signature_then_it_is_logged_and_does_not_count(
    org: Organisation,
) -> None:
    """A signature over something else is rejected by name of its input; the withdrawal waits on."""
    asked, other = org.withdrawal(), org.withdrawal(payee=12)
    await org.propose(asked)
    await org.propose(other)
    theirs = parse(signed_by_peer(org, await export_psbt(org, other))).inputs[0].partial_signatures[0][1]
    ours = parse(await export_psbt(org, asked))
    pubkey = parse(signed_by_peer(org, await export_psbt(org, asked))).inputs[0].partial_signatures[0][0]
    wrong = PsbtInput((*ours.inputs[0].fields, Field(bytes([IN_PARTIAL_SIGNATURE]) + pubkey, theirs)))

    assert await import_psbt(org, asked, serialize(replace(ours, inputs=(wrong,)))) is Stage.SIGNING

    size = org.parts.store.head(Log.EVENT).size
    events = await org.parts.store.entries(Log.EVENT, 0, size, 1_000_000)
    assert any(b"signature.rejected" in raw and b"SIGNATURE_INVALID" in raw for raw in events)
    assert await signers(org, asked) == frozenset()


async def test_atk_068_signature_that_comes_after_the_end_is_recorded_and_never_combined(org: Organisation) -> None:
    """A device that signs what has expired adds one event and nothing else."""
    asked = org.withdrawal(expires_at=org.clock.now() + 100)
    await org.propose(asked)
    assert await org.run(asked) is Stage.SIGNING
    signed = signed_by_peer(org, await export_psbt(org, asked))
    org.clock.advance(100)
    assert await org.advance(asked) is Stage.EXPIRED
    before = await org.session(asked)

    with pytest.raises(ConflictError) as late:
        await import_psbt(org, asked, signed)

    assert late.value.code == "LATE_SIGNATURE"
    assert await org.session(asked) == before
    size = org.parts.store.head(Log.EVENT).size
    (last,) = await org.parts.store.entries(Log.EVENT, size - 1, size, 1_000_000)
    assert b"signature.late" in last
