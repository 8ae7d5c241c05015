"""The path of a withdrawal through real parts: by policy alone, with people, cold first, and every way it can end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator import flow
from coordinator.chain.port import TxState
from coordinator.rpc.policies import Policies
from coordinator.rpc.statements import write_signed
from coordinator.session import Stage
from coordinator.store.port import Change, MoneyBody
from custody.approval import Approval, Decision
from custody.audit import Log
from custody.entries import EntryKind, Freeze, Stop, StopCause, Unfreeze, parse_entry
from custody.errors import ConflictError, Refused
from custody.genesis import with_endorsement
from custody.statements import Kind, Signed, endorse, sign
from custody.transaction import OutPoint, parse_transaction
from custody.units import Sats
from custody.v1 import policy_pb2
from custody.withdrawal import Withdrawal
from tests.fakes.rules import PAY, rule, seed_of
from tests.integration.harness import DAY, OPERATOR, Organisation, close, genesis_of, organise
from tests.world import supersedes

GENESIS = genesis_of()
SLOW = rule("slow", "require", {"amount": {"min_sats": 1_000_000}}, {"delay": {"seconds": 3600}})


@pytest.fixture
async def org(tmp_path: Path) -> AsyncIterator[Organisation]:
    """An organisation that just started."""
    found = await organise(GENESIS, tmp_path)
    yield found
    await close(found)


async def kinds(org: Organisation) -> list[EntryKind]:
    """Return the kinds of the money log's entries, WITNESS ones left out."""
    size = org.parts.store.head(Log.MONEY).size
    entries = await org.parts.store.entries(Log.MONEY, 0, size, 10_000_000) if size else ()
    return [kind for raw in entries if (kind := parse_entry(raw).kind) is not EntryKind.WITNESS]


async def events(org: Organisation) -> list[str]:
    """Return the event log as text, one entry each."""
    size = org.parts.store.head(Log.EVENT).size
    return [raw.decode() for raw in await org.parts.store.entries(Log.EVENT, 0, size, 10_000_000)]


async def outpoints(org: Organisation, asked: Withdrawal) -> frozenset[OutPoint]:
    """Return the coins that a withdrawal's draft spends."""
    return flow._coins(await org.session(asked))


async def test_withdrawal_small_when_rules_ask_for_nobody_then_is_confirmed(org: Organisation) -> None:
    """Two online nodes sign by policy alone, the kernel accepts, a block confirms; the cold node is left alone."""
    asked = org.withdrawal()

    assert await org.propose(asked) is Stage.SIGNING
    assert await org.run(asked) is Stage.BROADCAST
    await org.mine()

    assert await org.advance(asked) is Stage.CONFIRMED
    assert org.handed == ["alpha bundle", "beta bundle"]
    session = await org.session(asked)
    assert session.txid is not None
    assert (await org.chain.status(session.txid)).state is TxState.CONFIRMED


async def test_withdrawal_proposed_twice_when_content_is_equal_then_is_one(org: Organisation) -> None:
    """The same statement again changes nothing; another one under its id is a conflict."""
    asked = org.withdrawal()
    await org.propose(asked)
    before = await events(org)

    assert await org.propose(asked) is Stage.SIGNING
    with pytest.raises(ConflictError) as refused:
        await org.propose(replace(asked, max_fee_sats=Sats(asked.max_fee_sats - 1)))

    assert refused.value.code == "WITHDRAWAL_ID_TAKEN"
    assert await events(org) == before
    assert await kinds(org) == [EntryKind.RELEASE]


async def test_withdrawal_above_the_limit_of_one_when_two_approve_then_is_signed(org: Organisation) -> None:
    """Nothing is released before the second person agrees; the same approval twice is one."""
    asked = org.withdrawal(20_000_000)

    assert await org.propose(asked) is Stage.APPROVING
    assert await org.approve(asked, "bob", "bob") is Stage.APPROVING
    assert await kinds(org) == []
    assert await org.approve(asked, "carol") is Stage.SIGNING
    assert await org.run(asked) is Stage.BROADCAST


async def test_withdrawal_large_when_cold_has_not_signed_then_no_online_node_is_asked(org: Organisation) -> None:
    """The offline node signs first, by file; only then does one online node get a bundle."""
    asked = org.withdrawal(150_000_000)
    await org.propose(asked)

    assert await org.approve(asked, "bob", "carol") is Stage.SIGNING
    assert await org.run(asked) is Stage.SIGNING
    assert org.handed == []
    await org.carry(asked)
    assert await org.run(asked) is Stage.BROADCAST
    assert org.handed == ["alpha bundle"]


@pytest.mark.parametrize("when", ["approving", "signing"])
async def test_withdrawal_rejected_when_a_person_says_no_then_has_ended(org: Organisation, when: str) -> None:
    """A reject is in the money log and ends the withdrawal, before and after its release; its coins are free again."""
    asked = org.withdrawal(20_000_000)
    await org.propose(asked)
    if when == "signing":
        await org.approve(asked, "bob", "carol")
    said = Approval(org.genesis.hash, asked.digest, Decision.REJECT, "dave", org.clock.now(), org.clock.now() + DAY)

    ended = await flow.stop(org.parts, sign(Kind.APPROVAL, said.to_json(), seed_of("dave")))

    assert not isinstance(ended, Refused)
    assert ended.value.stage is Stage.REJECTED
    assert EntryKind.STOP in await kinds(org)
    assert not await org.parts.store.reserved(org.clock.now())
    assert await org.run(asked) is Stage.REJECTED


async def test_stop_said_twice_when_it_is_logged_then_is_logged_once(org: Organisation) -> None:
    """The same words again add nothing to the log that every signer follows whole."""
    asked = org.withdrawal(20_000_000)
    await org.propose(asked)
    veto = org.stop_of(asked, "dave", StopCause.VETO)

    for _ in range(2):
        assert not isinstance(await flow.stop(org.parts, veto), Refused)

    assert await kinds(org) == [EntryKind.STOP]


@pytest.mark.parametrize("when", ["waiting", "signing"])
async def test_veto_when_fewer_than_the_rules_say_then_goes_on(when: str, tmp_path: Path) -> None:
    """Two of security may end it: one veto is logged and waits, the second ends it, before the release and after."""
    veto = {"delay": {"seconds": 3600, "veto": {"group": "security", "threshold": 2}}}
    cold = {"signers": {"min_offline": 1}}
    large = {"amount": {"min_sats": 1_000_000}}
    org = await organise(
        genesis_of(PAY, rule("slow", "require", large, veto), rule("cold", "require", large, cold)), tmp_path
    )
    try:
        asked = org.withdrawal(20_000_000)
        assert await org.propose(asked) is Stage.APPROVING
        if when == "signing":
            org.clock.advance(3_600)
            assert await org.run(asked) is Stage.SIGNING  # the cold node has not signed yet
        before = (await org.session(asked)).stage
        for person in ("dave", "dave", "carol"):
            assert not isinstance(await flow.stop(org.parts, org.stop_of(asked, person, StopCause.VETO)), Refused)
            assert await org.advance(asked) is before

        ended = await flow.stop(org.parts, org.stop_of(asked, "bob", StopCause.VETO))

        assert not isinstance(ended, Refused)
        assert ended.value.stage is Stage.REJECTED
        assert (await kinds(org)).count(EntryKind.STOP) == 3
        assert not await org.parts.store.reserved(org.clock.now())
    finally:
        await close(org)


async def test_veto_when_it_came_past_the_coordinator_then_ends_it_all_the_same(tmp_path: Path) -> None:
    """Vetoes that a witness held count like those that were posted here, once as many are in the log."""
    veto = {"delay": {"seconds": 3600, "veto": {"group": "security", "threshold": 2}}}
    org = await organise(genesis_of(PAY, rule("slow", "require", {}, veto)), tmp_path)
    try:
        asked = org.withdrawal(20_000_000)
        assert await org.propose(asked) is Stage.APPROVING
        for person in ("dave", "bob"):
            signed = org.stop_of(asked, person, StopCause.VETO)
            said = MoneyBody(EntryKind.STOP, Stop(asked.digest, StopCause.VETO, person, signed.digest))
            await org.parts.store.record(Change(org.clock.now(), money=(said,), bodies=(signed,)))

        assert await org.advance(asked) is Stage.REJECTED
    finally:
        await close(org)


async def test_stop_after_broadcast_when_logged_then_keeps_the_coins_held(org: Organisation) -> None:
    """Too late to end it: the word is logged, the stage stays, and no other withdrawal gets its coins."""
    asked = org.withdrawal()
    await org.propose(asked)
    assert await org.run(asked) is Stage.BROADCAST

    stored = await flow.stop(org.parts, org.stop_of(asked, "dave", StopCause.VETO))

    assert not isinstance(stored, Refused)
    assert stored.value.stage is Stage.BROADCAST
    assert set(await org.parts.store.reserved(org.clock.now())) == await outpoints(org, asked)


async def test_stop_by_a_stranger_when_posted_then_is_refused(org: Organisation) -> None:
    """Whoever signs for somebody else stops nothing."""
    asked = org.withdrawal(20_000_000)
    await org.propose(asked)
    forged = sign(Kind.STOP, {**org.stop_of(asked, "dave", StopCause.VETO).to_json()["statement"]}, seed_of("mallory"))  # type: ignore[index,dict-item,call-overload]  # a JSON object

    refused = await flow.stop(org.parts, forged)

    assert isinstance(refused, Refused)
    assert refused.code == "STOP_SIGNATURE"
    assert await kinds(org) == []


async def test_cancel_before_the_release_then_ends_it(org: Organisation) -> None:
    """The initiator takes back what nobody may sign yet."""
    asked = org.withdrawal(20_000_000)
    await org.propose(asked)

    ended = await flow.stop(org.parts, org.stop_of(asked, "alice"))

    assert not isinstance(ended, Refused)
    assert ended.value.stage is Stage.CANCELLED
    assert not await org.parts.store.reserved(org.clock.now())


async def test_cancel_after_the_release_then_needs_a_superseding_withdrawal(org: Organisation) -> None:
    """Signatures may be out, so a cancel would promise what it cannot keep; by another person it is none."""
    asked, waiting = org.withdrawal(), org.withdrawal(20_000_000, payee=12)
    await org.propose(asked)
    await org.propose(waiting)

    late = await flow.stop(org.parts, org.stop_of(asked, "alice"))
    other = await flow.stop(org.parts, org.stop_of(waiting, "bob"))

    assert isinstance(late, Refused)
    assert late.code == "NEEDS_SUPERSEDE"
    assert isinstance(other, Refused)
    assert other.code == "STOP_NOT_INITIATOR"
    assert await kinds(org) == [EntryKind.RELEASE]


@pytest.mark.parametrize("amount", [1_000_000, 20_000_000], ids=["signing", "approving"])
async def test_withdrawal_when_its_time_is_over_then_expires_and_frees_its_coins(
    org: Organisation, amount: int
) -> None:
    """Nobody is asked to sign what ran out of time."""
    asked = org.withdrawal(amount)
    await org.propose(asked)
    org.lose()
    org.clock.advance(DAY)

    assert await org.run(asked) is Stage.EXPIRED
    assert org.handed == []
    assert not await org.parts.store.reserved(org.clock.now())


@pytest.mark.parametrize(("amount", "code"), [(500_000_001, "NO_RULE"), (200_000_001, "LIMIT_EXCEEDED")])
async def test_withdrawal_when_rules_say_no_then_is_denied(org: Organisation, amount: int, code: str) -> None:
    """A denial ends it with its code in the event log, and gives the coins back."""
    assert await org.propose(org.withdrawal(amount)) is Stage.DENIED
    assert any(code in event for event in await events(org)), await events(org)
    assert not await org.parts.store.reserved(org.clock.now())


async def test_withdrawals_racing_one_budget_then_only_what_fits_is_released(org: Organisation) -> None:
    """Three that fit alone and not together: two releases, one denial, whoever comes first."""
    asked = [org.withdrawal(90_000_000, payee=payee) for payee in (11, 12, 13)]
    for one in asked:
        await org.propose(one)

    stages = await asyncio.gather(*(org.approve(one, "bob", "carol") for one in asked))

    assert sorted(stage.value for stage in stages) == ["denied", "signing", "signing"]
    assert await kinds(org) == [EntryKind.RELEASE] * 2


async def test_withdrawals_at_the_same_time_then_share_no_coin(org: Organisation) -> None:
    """A coin is held by one withdrawal; when none is left, the next one is refused."""
    asked = [org.withdrawal(1_000_000, payee=payee) for payee in (11, 12, 13, 14)]
    for one in asked:
        assert await org.propose(one) is Stage.SIGNING

    spent = [outpoint for one in asked for outpoint in await outpoints(org, one)]
    refused = await org.propose(org.withdrawal(1_000_000, payee=15))

    assert len(spent) == len(set(spent)) == 4
    assert isinstance(refused, Refused)
    assert refused.code == "INSUFFICIENT_FUNDS"


async def test_withdrawal_with_a_delay_then_waits_from_its_notice(tmp_path: Path) -> None:
    """One NOTICE starts the wait; nothing is released before it is over, and all of it is afterwards."""
    org = await organise(genesis_of(PAY, SLOW), tmp_path)
    asked = org.withdrawal()

    assert await org.propose(asked) is Stage.APPROVING
    org.clock.advance(3_599)
    assert await org.run(asked) is Stage.APPROVING
    assert await kinds(org) == [EntryKind.NOTICE]
    org.clock.advance(1)
    assert await org.run(asked) is Stage.BROADCAST
    assert await kinds(org) == [EntryKind.NOTICE, EntryKind.RELEASE]
    await close(org)


def frozen(org: Organisation) -> Signed:
    """Return a freeze by dave."""
    said = Freeze(org.genesis.hash, b"\x01" * 16, "dave", org.clock.now())
    return sign(Kind.FREEZE, said.to_json(), seed_of("dave"))


def lifted(org: Organisation) -> Signed:
    """Return its unfreeze by two admins."""
    said = Unfreeze(org.genesis.hash, (b"\x01" * 16,), org.clock.now())
    signed = sign(Kind.UNFREEZE, said.to_json(), seed_of("erin"))
    return with_endorsement(signed, endorse(Kind.UNFREEZE, signed.raw, seed_of("frank")))


async def test_freeze_when_posted_then_stops_everything_until_it_is_lifted(org: Organisation) -> None:
    """No release, no bundle and no transaction while it stands; what waited goes on afterwards by itself."""
    policies = Policies(org.parts)
    released, waiting = org.withdrawal(), org.withdrawal(2_000_000, payee=12)
    await org.propose(released)
    org.lose()

    await policies.Freeze(policy_pb2.FreezeRequest(freeze=write_signed(frozen(org))), OPERATOR)

    assert await org.propose(waiting) is Stage.APPROVING
    assert await org.run(released) is Stage.SIGNING
    assert await org.run(waiting) is Stage.APPROVING
    await policies.Unfreeze(policy_pb2.UnfreezeRequest(unfreeze=write_signed(lifted(org))), OPERATOR)
    org.clock.advance(10)
    assert await org.run(released) is Stage.BROADCAST
    assert await org.run(waiting) is Stage.BROADCAST


@pytest.mark.parametrize("when", ["signing", "broadcast"])
async def test_supersede_by_self_transfer_when_the_first_is_out_then_one_confirms(org: Organisation, when: str) -> None:
    """The replacement shares a coin, pays only us, and outbids what it replaces; the other can never confirm."""
    first = org.withdrawal()
    await org.propose(first)
    if when == "broadcast":
        assert await org.run(first) is Stage.BROADCAST
    second = org.withdrawal(0, withdrawal_id="cancel-1", relation=supersedes(first))

    assert await org.propose(second) is Stage.SIGNING
    assert await outpoints(org, first) & await outpoints(org, second)
    assert await org.run(second) is Stage.BROADCAST
    await org.mine()

    assert await org.advance(second) is Stage.CONFIRMED
    assert await org.run(first) is Stage.CONFLICTED
    (output,) = parse_transaction((await org.session(second)).transaction or b"").outputs
    assert output.script == org.book.script(1, 1).script
