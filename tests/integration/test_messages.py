"""Messages at the coordinator: what moves one on, what ends it, and what a restart or a dishonest node changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator import messages
from coordinator.exporting import export_lines
from coordinator.message_store import Kept, find, listed, load, open_digests
from coordinator.posted import take_in
from coordinator.store.port import Change, Event, MoneyBody
from custody.approval import Approval, Decision
from custody.audit import read_export
from custody.bundle import Answer, receipt_statement
from custody.canonical import decode
from custody.entries import EntryKind, Freeze, Notice
from custody.errors import CustodyError, Refused
from custody.message import Message
from custody.replay import verify
from custody.statements import Kind, Signed, sign
from tests.fakes.rules import DAY, NOW, PAY, rule, seed_of
from tests.integration.harness import Organisation, close, genesis_of, organise
from tests.world import signed_by_initiator

SPEAK = rule("speak", "allow", {"message": {"max_len": 200}}, operations=["message"])
ASK = rule("ask", "require", {}, {"approvals": {"group": "ops", "threshold": 1}}, operations=["message"])
GENESIS = genesis_of(PAY, SPEAK, ASK)


@pytest.fixture
async def organisation(tmp_path: Path) -> AsyncIterator[Organisation]:
    """A running organisation whose rules speak of messages."""
    found = await organise(GENESIS, tmp_path, coins=1)
    yield found
    await close(found)


def message(name: str = "m-1", **changes: Any) -> Message:
    """Return a message by alice."""
    wallet_id = GENESIS.wallets[0].wallet.wallet_id
    return replace(Message(GENESIS.hash, name, wallet_id, 0, "We hold it", "alice", NOW - 10, NOW + DAY), **changes)


def asked(said: Message) -> Signed:
    """Return the statement of `said`."""
    return sign(Kind.MESSAGE, said.to_json(), seed_of(said.initiator))


def vote(said: Message, person: str = "bob", at: int = NOW, decision: Decision = Decision.APPROVE) -> Signed:
    """Return a vote on `said`."""
    approval = Approval(said.genesis, said.digest, decision, person, at, at + DAY)
    return sign(Kind.APPROVAL, approval.to_json(), seed_of(person))


async def taken(organisation: Organisation, said: Message, *people: str) -> Kept:
    """Propose `said`, approve it, and move on as far as it goes without an answer."""
    proposed = await messages.propose(organisation.parts, asked(said), "operator/ops")
    assert not isinstance(proposed, Refused), proposed
    for person in people:
        filed = await messages.approve(organisation.parts, vote(said, person, organisation.clock.now()), person)
        assert not isinstance(filed, Refused), filed
    organisation.beat()
    return await messages.advance(organisation.parts, said.digest)


async def signed(organisation: Organisation, said: Message) -> Kept:
    """Carry bundles and answers until nothing moves."""
    for _ in range(6):
        organisation.beat()
        await messages.advance_all(organisation.parts)
        if not await organisation._deliver():
            break
    return await load(organisation.parts, said.digest)


async def test_message_given_approvals_is_logged_signed_and_proven(organisation: Organisation) -> None:
    """No entry before people agreed; then one entry, two signatures, one proof; and it is open no more."""
    said = message()
    waiting = await taken(organisation, said)
    assert (await organisation.parts.followed.state(NOW)).messages == ()
    assert await open_digests(organisation.parts) == (said.digest,)
    assert waiting.is_open

    await messages.approve(organisation.parts, vote(said), "bob")
    kept = await signed(organisation, said)
    assert [entry.digest for entry in (await organisation.parts.followed.state(NOW)).messages] == [said.digest]
    assert kept.proof.startswith("smp")
    assert await open_digests(organisation.parts) == ()
    assert [each.digest for each in await listed(organisation.parts)] == [said.digest]


async def test_message_on_its_way_survives_a_restart(organisation: Organisation) -> None:
    """What was agreed and logged before the machine went down is signed after it came back."""
    said = message()
    await taken(organisation, said, "bob")
    await organisation.restart()
    assert (await signed(organisation, said)).proof


async def test_message_proposed_or_approved_again_is_one(organisation: Organisation) -> None:
    """The same statements again change nothing; another one under the same name is a conflict."""
    said = message()
    await taken(organisation, said, "bob")
    again = await messages.propose(organisation.parts, asked(said), "operator/ops")
    assert isinstance(again, tuple)
    assert again[1] is False
    once_more = await messages.approve(organisation.parts, vote(said), "bob")
    assert isinstance(once_more, Kept)
    assert len(once_more.approvals) == 1
    with pytest.raises(CustodyError, match="MESSAGE_ID_TAKEN"):
        await messages.propose(organisation.parts, asked(message(text="other")), "operator/ops")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (message(text="x" * 201), "NO_RULE_ALLOWS"),
        (message(expires_at=NOW), "MESSAGE_EXPIRED"),
        (message(initiator="mallory"), "MESSAGE_SIGNATURE"),
        (message(genesis=bytes(32)), "GENESIS_OTHER"),
        (message(wallet_id=bytes(32)), "WALLET_OTHER"),
    ],
)
async def test_message_that_may_not_be_is_not_taken_in(organisation: Organisation, said: Message, code: str) -> None:
    """It is refused by its code, logged as refused, and kept nowhere."""
    found = await messages.propose(organisation.parts, asked(said), "operator/ops")
    assert isinstance(found, Refused)
    assert found.code == code
    assert await find(organisation.parts, said.digest) is None


async def test_messages_above_the_limit_are_not_taken_in(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One who may propose cannot fill the store."""
    monkeypatch.setattr(messages, "MAX_OPEN", 2)
    for name in ("m-1", "m-2"):
        await taken(organisation, message(name))
    found = await messages.propose(organisation.parts, asked(message("m-3")), "operator/ops")
    assert isinstance(found, Refused)
    assert found.code == "MESSAGES_MANY"


async def test_message_that_expires_before_it_is_signed_ends(organisation: Organisation) -> None:
    """Time ends it like anything else."""
    said = message(expires_at=NOW + 100)
    await taken(organisation, said)
    organisation.clock.advance(100)
    kept = await messages.advance(organisation.parts, said.digest)
    assert kept.ended is not None
    assert kept.ended.code == "MESSAGE_EXPIRED"
    assert not isinstance(await messages.approve(organisation.parts, vote(said), "bob"), Kept) or kept.proof == ""


async def test_message_rejected_by_one_ends_and_stops_every_signer(organisation: Organisation) -> None:
    """The reject is a STOP in the money log, and a later yes changes nothing."""
    said = message()
    await taken(organisation, said)
    kept = await messages.approve(organisation.parts, vote(said, decision=Decision.REJECT), "bob")
    assert isinstance(kept, Kept)
    assert kept.ended is not None
    assert kept.ended.code == "REJECTED"
    stops = (await organisation.parts.followed.state(NOW)).stops
    assert [(stop.withdrawal_digest, stop.by) for stop in stops] == [(said.digest, "bob")]


async def test_message_while_frozen_waits(organisation: Organisation) -> None:
    """A freeze holds the bundle back; nothing is lost."""
    freeze = sign(Kind.FREEZE, Freeze(GENESIS.hash, b"\x01" * 16, "dave", NOW).to_json(), seed_of("dave"))
    assert await take_in(organisation.parts, freeze, "dave") is None
    said = message()
    await taken(organisation, said, "bob")
    kept = await signed(organisation, said)
    assert kept.is_open
    assert kept.signatures == ()


async def test_message_whose_entry_grew_too_old_is_logged_anew(organisation: Organisation) -> None:
    """Nobody answered for longer than signers take an entry: another one is written, and signed."""
    said = message(expires_at=NOW + 30 * DAY)
    organisation.silent = {"alpha", "beta"}
    await taken(organisation, said, "bob")
    await signed(organisation, said)
    kept = await load(organisation.parts, said.digest)
    carried = await messages.bundle_for(organisation.parts, kept, "cold", 0)
    assert carried is not None
    late = await organisation.nodes["cold"].answer(carried.to_bytes())
    organisation.clock.advance(GENESIS.policy.limits.bundle_max_age_s + 1)
    organisation.silent = set()
    kept = await signed(organisation, said)
    now = organisation.clock.now()
    assert kept.is_open
    assert len((await organisation.parts.followed.state(now)).messages) == 1  # bob's word ran out: nothing to log
    await messages.approve(organisation.parts, vote(said, "bob", now), "bob")
    assert (await messages.advance(organisation.parts, said.digest)).is_open
    assert len((await organisation.parts.followed.state(now)).messages) == 2
    kept = await messages.take_answer(organisation.parts, late, "courier")  # of the first entry: it signed the same
    assert kept.signatures == late.outcome
    assert (await signed(organisation, said)).proof


async def test_answer_that_lies_is_filed_nowhere(organisation: Organisation) -> None:
    """A signature of another digest, another node's receipt, an unknown node, another message."""
    said = message()
    organisation.silent = {"alpha", "beta"}
    await taken(organisation, said, "bob")
    kept = await messages.advance(organisation.parts, said.digest)
    bundle = await messages.bundle_for(organisation.parts, kept, "alpha", 0)
    assert bundle is not None
    honest = await organisation.nodes["alpha"].answer(bundle.to_bytes())
    assert isinstance(honest.outcome, tuple)
    forged = replace(honest.outcome[0], signature=honest.outcome[0].signature[:-3] + b"\0\0\x01")

    def receipted(answer: Answer, by: str) -> Answer:
        statement = receipt_statement(answer, bundle.release_index, NOW)
        return replace(answer, receipt=sign(Kind.RECEIPT, statement, seed_of(by)))

    for answer, code in (
        (receipted(honest, "beta"), "RECEIPT_SIGNATURE"),
        (receipted(replace(honest, txid=bytes(32)), "alpha"), "RECEIPT_MISMATCH"),
        (replace(honest, node="mallory"), "NODE_UNKNOWN"),
        (replace(honest, genesis=bytes(32)), "GENESIS_OTHER"),
        (replace(honest, withdrawal_digest=bytes(32)), "MESSAGE_UNKNOWN"),
    ):
        with pytest.raises(CustodyError) as refused:
            await messages.take_answer(organisation.parts, answer, "test")
        assert refused.value.code == code
    after = await messages.take_answer(
        organisation.parts, receipted(replace(honest, outcome=(forged,)), "alpha"), "test"
    )
    assert after.signatures == ()
    after = await messages.take_answer(organisation.parts, honest, "test")
    assert after.signatures == honest.outcome


async def test_node_that_refuses_is_passed_over(organisation: Organisation) -> None:
    """Two of three: one no leaves two who can, the offline one among them by its courier."""
    said = message()
    organisation.silent = {"alpha", "beta"}
    await taken(organisation, said, "bob")
    refused = Answer(GENESIS.hash, "alpha", said.digest, bytes(32), Refused("POLICY", "a yes", "a no"))
    index = (await organisation.parts.followed.state(NOW)).messages[0].index
    statement = receipt_statement(refused, index, NOW)
    no = replace(refused, receipt=sign(Kind.RECEIPT, statement, seed_of("alpha")))
    kept = await messages.take_answer(organisation.parts, no, "alpha")
    assert kept.refused == (("alpha", "POLICY"),)
    organisation.lose()
    organisation.silent = set()
    organisation.clock.advance(20)
    await signed(organisation, said)
    kept = await load(organisation.parts, said.digest)
    bundle = await messages.bundle_for(organisation.parts, kept, "cold", 0)
    assert bundle is not None
    await messages.take_answer(
        organisation.parts, await organisation.nodes["cold"].answer(bundle.to_bytes()), "courier"
    )
    assert (await signed(organisation, said)).proof


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "OK"),
    "another entry": ({"release_index": 99}, "RECEIPT_RELEASE"),
    "an entry of something else": ({"release_index": 0}, "RECEIPT_RELEASE"),
    "another message": ({"withdrawal_digest": "11" * 32}, "RECEIPT_OTHER"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_verify_given_a_receipt_for_a_message_holds_it_to_the_log(organisation: Organisation, lie: str) -> None:
    """What a node signed for a message is compared with the entry that it names."""
    changes, code = LIES[lie]
    await organisation.parts.store.record(  # entry 0 is no message
        Change(
            NOW,
            money=(MoneyBody(EntryKind.NOTICE, Notice(organisation.withdrawal().digest)),),
            bodies=(signed_by_initiator(organisation.withdrawal()),),
        )
    )
    said = message()
    await taken(organisation, said, "bob")
    assert (await signed(organisation, said)).proof
    raw = b"".join([line async for line in export_lines(organisation.parts)])
    bodies = [
        body for body in read_export(raw).bodies.values() if isinstance(body, Signed) and body.kind is Kind.RECEIPT
    ]
    document = decode(bodies[0].raw)
    assert isinstance(document, dict)
    if changes:
        false = sign(Kind.RECEIPT, {**document, **changes}, seed_of(str(document["node"])))
        event = Event("signature.accepted", "alpha", {"message": said.digest.hex(), "bodies": [false.digest.hex()]})
        await organisation.parts.store.record(Change(NOW, events=(event,), bodies=(false,)))
        raw = b"".join([line async for line in export_lines(organisation.parts)])

    verdict = verify(raw, GENESIS.hash)
    assert (str(verdict) if code == "OK" else verdict.detail.partition(":")[0]) == code
