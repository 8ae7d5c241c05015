"""What a withdrawal does when parts of the organisation refuse, are silent, lag behind, are away, or start anew."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator import flow
from coordinator.asking import take_answer
from coordinator.effects import Effect, Side
from coordinator.followed import Followed
from coordinator.logs import Logs
from coordinator.rpc.couriers import Couriers
from coordinator.session import OPEN, Stage
from coordinator.store.port import Change, MoneyBody, Page
from custody.audit import Log
from custody.bundle import MAX_ENTRIES_IN_BUNDLE_BYTES, Answer, parse_bundle
from custody.entries import EntryKind, Notice
from custody.errors import MalformedError, Refused, UnavailableError
from custody.genesis import Genesis
from custody.v1 import courier_pb2
from custody.v1 import signer_pb2 as wire
from custody.withdrawal import Withdrawal
from tests.fakes.rules import document
from tests.fakes.store import FakeStore
from tests.integration.harness import OPERATOR, Organisation, close, genesis_of, open_node, organise
from tests.world import approval, signed_by_initiator

GENESIS = genesis_of()
THREE_ONLINE = genesis_of(nodes=("alpha", "beta", "gamma"))
LARGE = 100_000_000
HOUR = 3600
HASTY = genesis_of(limits={**document()["limits"], "bundle_max_age_s": HOUR})


@pytest.fixture
async def org(tmp_path: Path) -> AsyncIterator[Organisation]:
    """Two online nodes and a cold one."""
    found = await organise(GENESIS, tmp_path)
    yield found
    await close(found)


@pytest.fixture
async def online(tmp_path: Path) -> AsyncIterator[Organisation]:
    """Three online nodes of which two must sign."""
    found = await organise(THREE_ONLINE, tmp_path)
    yield found
    await close(found)


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[Organisation]:
    """Signers take a release for an hour."""
    found = await organise(HASTY, tmp_path)
    yield found
    await close(found)


async def events(org: Organisation) -> list[str]:
    """Return the event log as text, one entry each."""
    size = org.parts.store.head(Log.EVENT).size
    return [raw.decode() for raw in await org.parts.store.entries(Log.EVENT, 0, size, 10_000_000)]


async def lengthen(org: Organisation, asked: Withdrawal) -> None:
    """Add more to the money log than fits into a bundle."""
    notice = MoneyBody(EntryKind.NOTICE, Notice(asked.digest))
    count = MAX_ENTRIES_IN_BUNDLE_BYTES // 200
    await org.parts.store.record(Change(org.clock.now(), (notice,) * count, bodies=(signed_by_initiator(asked),)))


async def test_node_that_refuses_for_good_then_the_next_one_is_asked(online: Organisation) -> None:
    """A refusal that no later bundle cures brings in another node at once, and that node alone."""
    home = online.directory / "again"
    home.mkdir()
    online.nodes["alpha"] = open_node(THREE_ONLINE, "alpha", home, online.clock, confirm=lambda bundle, cleared: False)
    asked = online.withdrawal()
    await online.propose(asked)

    assert await online.run(asked) is Stage.BROADCAST
    assert online.handed == ["alpha bundle", "beta bundle", "gamma bundle"]
    assert [(r.node, r.code) for r in (await online.session(asked)).refusals] == [("alpha", "OPERATOR_DECLINED")]


def declines(org: Organisation, name: str, genesis: Genesis) -> None:
    """Replace a node by one whose operator says no to everything."""
    home = org.directory / "declines"
    home.mkdir(exist_ok=True)
    org.nodes[name] = open_node(genesis, name, home, org.clock, confirm=lambda bundle, cleared: False)


async def test_nodes_that_refuse_for_good_when_too_few_are_left_then_is_denied(online: Organisation) -> None:
    """Two of three said no: the withdrawal ends, says who and why, and its coins are free again."""
    for name in ("alpha", "beta"):
        declines(online, name, THREE_ONLINE)
    asked = online.withdrawal()
    await online.propose(asked)

    assert await online.run(asked) is Stage.DENIED
    ended = [line for line in await events(online) if "withdrawal.ended" in line]
    assert len(ended) == 1
    assert "SIGNERS_REFUSED" in ended[0]
    assert "alpha: OPERATOR_DECLINED, beta: OPERATOR_DECLINED" in ended[0]


async def test_refusal_when_an_operator_made_it_up_then_is_not_filed(org: Organisation) -> None:
    """Who carries answers cannot say no in a node's name, nor carry an old no to a newer release."""
    asked = org.withdrawal(LARGE)
    await org.propose(asked)
    made_up = Answer(GENESIS.hash, "cold", asked.digest, bytes(32), Refused("OPERATOR_DECLINED", "a yes", "a no"))

    with pytest.raises(MalformedError) as refused:
        await take_answer(org.parts, made_up, "otto")

    assert refused.value.code == "RECEIPT_MISSING"
    assert (await org.session(asked)).refusals == ()


async def test_cold_signer_that_takes_too_long_then_the_release_is_written_anew(hasty: Organisation) -> None:
    """Past bundle_max_age no signer takes the release: a new one of the same transaction comes, and is signed."""
    asked = hasty.withdrawal(LARGE)
    await hasty.propose(asked)
    assert await hasty.approve(asked, "bob", "carol") is Stage.SIGNING
    hasty.clock.advance(HOUR)
    assert await hasty.run(asked) is Stage.SIGNING
    assert await releases(hasty) == 1
    hasty.clock.advance(1)

    assert await hasty.run(asked) is Stage.SIGNING
    assert await releases(hasty) == 2
    await hasty.carry(asked)
    assert await hasty.run(asked) is Stage.BROADCAST


async def test_cold_answer_that_comes_after_the_release_was_written_anew_then_counts(hasty: Organisation) -> None:
    """A signature is over the transaction, which stayed: nobody is sent to the safe twice."""
    asked = hasty.withdrawal(LARGE)
    await hasty.propose(asked)
    await hasty.approve(asked, "bob", "carol")
    request = courier_pb2.ExportBundleRequest(withdrawal_digest=asked.digest, node="cold")
    exported = await Couriers(hasty.parts).ExportBundle(request, OPERATOR)
    answer = await hasty.nodes["cold"].answer(exported.bundle)
    hasty.clock.advance(HOUR + 1)
    assert await hasty.run(asked) is Stage.SIGNING
    assert await releases(hasty) == 2

    await take_answer(hasty.parts, answer, "otto")

    assert await hasty.run(asked) is Stage.BROADCAST


async def releases(org: Organisation) -> int:
    """Return how many releases the log holds; all are of one transaction."""
    released = [r.release.txid for r in (await org.parts.followed.state(org.clock.now())).releases]
    assert len(set(released)) == 1
    return len(released)


async def test_node_that_is_silent_then_another_is_asked_after_ten_seconds(online: Organisation) -> None:
    """Nobody waits longer than the routing's timeout, and nobody is asked before it."""
    online.silent = {"alpha"}
    asked = online.withdrawal()
    await online.propose(asked)

    online.clock.advance(9)
    assert await online.run(asked) is Stage.SIGNING
    assert online.handed == ["alpha bundle", "beta bundle"]
    online.clock.advance(1)
    assert await online.run(asked) is Stage.BROADCAST
    assert online.handed[2:] == ["gamma bundle"]


@pytest.mark.parametrize("state", range(wire.BACKEND_STATE_SEALED, wire.BACKEND_STATE_CLOCK + 1))
async def test_node_that_says_its_key_cannot_sign_then_another_is_asked_at_once(
    online: Organisation, state: int
) -> None:
    """It was asked while it was well: its heartbeat is enough, no ten seconds have to pass."""
    online.silent = {"alpha"}
    asked = online.withdrawal()
    await online.propose(asked)
    assert await online.run(asked) is Stage.SIGNING
    assert online.handed == ["alpha bundle", "beta bundle"]

    link = online.parts.outbox.link("alpha")
    assert link is not None
    link.hear(wire.Heartbeat(backend=wire.BackendState.ValueType(state), backend_code="VAULT_SEALED", money_size=1))

    assert await online.run(asked) is Stage.BROADCAST
    assert online.handed[2:] == ["gamma bundle"]


@pytest.mark.parametrize("code", ["", "lower", "VAULT SEALED", "<b>", "A" * 41, "1ST", "VAULT_SEALED\n"])
async def test_node_that_sends_no_code_then_nothing_is_shown(online: Organisation, code: str) -> None:
    """What a node says on people's screens is a code or nothing."""
    link = online.parts.outbox.link("alpha")
    assert link is not None

    link.hear(wire.Heartbeat(backend=wire.BACKEND_STATE_SEALED, backend_code=code))

    assert link.code == ""


async def test_node_that_is_far_behind_then_follows_a_delta_first(org: Organisation) -> None:
    """More log than a bundle may carry travels as deltas; then the node judges its bundle as always."""
    asked = org.withdrawal()
    await lengthen(org, asked)
    assert await org.parts.logs.fresh(Log.MONEY) is not None
    await org.propose(asked)

    assert await org.run(asked) is Stage.BROADCAST
    assert [word for word in org.handed if word.endswith("bundle")] == ["alpha bundle", "beta bundle"]
    assert org.handed.count("alpha delta") >= 1
    assert org.nodes["alpha"].state.size == org.parts.store.head(Log.MONEY).size


async def test_node_when_much_was_logged_behind_the_release_then_still_gets_its_bundle(org: Organisation) -> None:
    """A withdrawal that waited for long is signed all the same: the log that grew behind it went ahead as deltas."""
    asked = org.withdrawal()
    await org.propose(asked)
    org.lose()
    await lengthen(org, asked)
    org.clock.advance(10)

    assert await org.run(asked) is Stage.BROADCAST


async def test_node_that_lost_its_log_then_says_so_and_is_brought_up(org: Organisation) -> None:
    """A bundle that starts beyond a node's log is answered BEHIND; the next one starts where the node stands."""
    first, second = org.withdrawal(), org.withdrawal(payee=12)
    await org.propose(first)
    await org.run(first)
    (org.directory / "alpha" / "followed.log").unlink()
    org.nodes["alpha"] = open_node(GENESIS, "alpha", org.directory, org.clock)
    await org.propose(second)

    assert await org.run(second) is Stage.BROADCAST
    assert org.nodes["alpha"].state.size == org.parts.store.head(Log.MONEY).size


async def test_witness_that_is_away_then_nothing_is_handed_out_until_it_is_back(org: Organisation) -> None:
    """Without w cosignatures the release stays where it is; once they are to be had it goes on by itself."""
    org.witness.is_away = True
    asked = org.withdrawal()

    assert await org.propose(asked) is Stage.RELEASED
    assert await org.run(asked) is Stage.RELEASED
    assert org.handed == []
    org.witness.is_away = False
    assert await org.run(asked) is Stage.BROADCAST


async def test_witness_that_comes_back_late_then_the_release_is_written_anew(org: Organisation) -> None:
    """Signers refuse a release that witnesses saw too late, so a new one is written, which shares its coins."""
    org.witness.is_away = True
    asked = org.withdrawal()
    await org.propose(asked)
    org.clock.advance(900)
    org.witness.is_away = False

    assert await org.run(asked) is Stage.BROADCAST
    released = [r.release.txid for r in (await org.parts.followed.state(org.clock.now())).releases]
    assert len(released) == 2
    assert len(set(released)) == 1


async def test_witness_that_goes_away_while_signing_then_no_stale_bundle_is_handed_out(org: Organisation) -> None:
    """A bundle needs fresh cosignatures; without them nobody is asked, and asking goes on once they are back."""
    asked = org.withdrawal()
    await org.propose(asked)
    org.lose()
    org.witness.is_away = True
    org.clock.advance(120)

    assert await org.run(asked) is Stage.SIGNING
    assert org.handed == []
    org.witness.is_away = False
    assert await org.run(asked) is Stage.BROADCAST


WRITES = ("propose", "approve", "stop", "release")


@pytest.mark.parametrize("write", WRITES)
async def test_store_that_cannot_be_written_then_nothing_changes(org: Organisation, write: str) -> None:
    """If the log cannot be written, nothing mutates: no session, no entry, no coin; the caller is told to come back."""
    store = FakeStore()
    parts = replace(
        org.parts,
        store=store,
        followed=Followed(store, GENESIS),
        logs=Logs(store, org.parts.logs._pins, {"witness": org.witness}, org.clock),
    )
    asked, signed = org.withdrawal(20_000_000), signed_by_initiator(org.withdrawal(20_000_000))
    if write != "propose":
        await flow.propose(parts, signed)
    if write == "release":
        for person in ("bob", "carol"):
            await flow.approve(parts, approval(asked, person, org.clock.now()), asked.digest)
    acts: dict[str, Callable[[], Awaitable[object]]] = {
        "propose": lambda: flow.propose(parts, signed),
        "approve": lambda: flow.approve(parts, approval(asked, "bob", org.clock.now()), asked.digest),
        "stop": lambda: flow.stop(parts, org.stop_of(asked, "alice")),
        "release": lambda: flow.advance(parts, asked.digest),
    }
    before = (await store.load(asked.digest), [store.head(log) for log in Log], await store.reserved(0))
    store.deny["commit"] = store.deny["record"] = UnavailableError("STORE_UNWRITABLE", "expected a disk")

    with pytest.raises(UnavailableError) as refused:
        await acts[write]()

    assert refused.value.code == "STORE_UNWRITABLE"
    store.deny.clear()
    assert (await store.load(asked.digest), [store.head(log) for log in Log], await store.reserved(0)) == before


async def test_restart_at_every_stage_then_the_withdrawal_goes_on(org: Organisation) -> None:
    """Whatever stage it is in, a new coordinator over the same files finishes it by the functions of the live path."""
    asked = org.withdrawal(150_000_000)
    seen = []
    await flow.propose(org.parts, signed_by_initiator(asked))

    async def again() -> None:
        await org.restart()
        held = await org.parts.store.list(OPEN, Page())
        assert [one.value.digest for one in held] == [asked.digest]
        seen.append(held[0].value.stage)

    await again()
    for person in ("bob", "carol"):
        await flow.approve(org.parts, approval(asked, person, org.clock.now()), asked.digest)
    for _ in range(2):  # one stage at a time: RELEASED, then SIGNING
        held = await org.parts.store.load(asked.digest)
        assert held is not None
        await flow.STAGES[held.value.stage](org.parts, held)
        await again()
    await org.carry(asked)
    await again()
    org.clock.advance(10)  # what was handed out was lost with the process
    org.beat()
    await org.advance(asked)
    await org._deliver()
    for _ in range(2):  # FINAL, BROADCAST
        held = await org.parts.store.load(asked.digest)
        assert held is not None
        await flow.STAGES[held.value.stage](org.parts, held)
        await again()
    await org.mine()

    assert await org.advance(asked) is Stage.CONFIRMED
    assert seen == [Stage.APPROVING, Stage.RELEASED, Stage.SIGNING, Stage.SIGNING, Stage.FINAL, Stage.BROADCAST]


ASIDE = {
    Effect.REFUSE,
    Effect.STOP,
    Effect.NOTICE,
    Effect.EXPORT,
    Effect.IMPORT,
    Effect.RECORD_LATE,
    Effect.FILE_REFUSAL,
    Effect.END,
    Effect.LOG_STATEMENT,
}
"""Off the path of a withdrawal that goes well; the crash matrix kills a real process at these too."""


class StoppedError(Exception):
    """What a hook raises in place of a process that ends there."""


@pytest.mark.parametrize("side", Side, ids=lambda side: side.value)
@pytest.mark.parametrize("effect", [e for e in Effect if e not in ASIDE], ids=lambda effect: effect.value)
async def test_coordinator_that_ends_at_an_effect_then_finishes_after_a_restart(
    tmp_path: Path, effect: Effect, side: Side
) -> None:
    """Before or after any effect: after a restart the same calls lead to one release, one payment, one confirmation."""
    fallen: list[Effect] = []

    def fall(at: Effect, where: Side) -> None:
        if (at, where) == (effect, side) and not fallen:
            fallen.append(at)
            raise StoppedError

    org = await organise(GENESIS, tmp_path, hook=fall)
    asked = org.withdrawal(20_000_000)
    for _ in range(2):
        try:
            await org.propose(asked)
            if (await org.session(asked)).stage is Stage.APPROVING:
                await org.approve(asked, "bob", "carol")
            await org.run(asked)
            await org.mine()
            stage = await org.advance(asked)
        except StoppedError:
            await org.restart()
            org.clock.advance(10)
    for _ in range(2):  # a bundle that was lost with the process is asked for again
        await org.run(asked)
        await org.mine()
        stage = await org.advance(asked)

    assert fallen == [effect]
    assert stage is Stage.CONFIRMED
    state = await org.parts.followed.state(org.clock.now())
    assert len(state.releases) == 1
    await close(org)


async def test_signature_of_a_repeated_bundle_then_is_the_same(org: Organisation) -> None:
    """The same release in a fresh bundle, after a restart of the node too, gives the same signature bytes."""
    asked = org.withdrawal()
    await org.propose(asked)
    link = org.parts.outbox.link("alpha")
    assert link is not None
    message = link.queue.get_nowait()
    assert message is not None
    bundle = parse_bundle(message.bundle.document)

    first = await org.nodes["alpha"].answer(bundle.to_bytes())
    org.nodes["alpha"] = open_node(GENESIS, "alpha", org.directory, org.clock)
    second = await org.nodes["alpha"].answer(bundle.to_bytes())

    assert isinstance(first.outcome, tuple)
    assert first.outcome == second.outcome


async def test_answer_of_a_node_when_it_came_by_another_then_is_refused_by_its_receipt(org: Organisation) -> None:
    """A node cannot answer in another's name: the receipt is by the identity key that the rules list."""
    asked = org.withdrawal()
    await org.propose(asked)
    link = org.parts.outbox.link("alpha")
    assert link is not None
    message = link.queue.get_nowait()
    assert message is not None
    answer = await org.nodes["alpha"].answer(message.bundle.document)

    with pytest.raises(MalformedError) as refused:
        await take_answer(org.parts, replace(answer, node="beta"), "beta")

    assert refused.value.code == "RECEIPT_SIGNATURE"
    assert (await org.session(asked)).signatures == ()
