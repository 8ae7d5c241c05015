"""Retention on a real store: old bodies go, and the export still verifies and says how many."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from coordinator.__main__ import main
from coordinator.exporting import export_lines
from coordinator.pruning import prune
from coordinator.session import Stage
from coordinator.store.port import Page
from coordinator.store.sql import SqlStore
from custody.audit import Log, read_export
from custody.errors import MalformedError
from custody.replay import verify
from custody.withdrawal import Withdrawal
from tests.integration.harness import NOW, Organisation, close, genesis_of, organise
from tests.integration.test_audit_restore import CONFIG

pytestmark = pytest.mark.slow
GENESIS = genesis_of()
OLD_BODIES = 4  # PSBT, transaction and two receipts of the old payment; its statements are the money log's


@pytest_asyncio.fixture
async def organisation(tmp_path: Path) -> AsyncIterator[Organisation]:
    """An organisation that paid once long ago and once today."""
    found = await organise(GENESIS, tmp_path)
    await pay(found, found.withdrawal(1_000_000, 11))
    found.clock.advance(3_600)
    await pay(found, found.withdrawal(1_100_000, 12))
    yield found
    await close(found)


async def pay(organisation: Organisation, asked: Withdrawal) -> None:
    """Carry a withdrawal to its confirmation."""
    await organisation.propose(asked)
    assert await organisation.run(asked) is Stage.BROADCAST
    await organisation.mine()
    assert await organisation.advance(asked) is Stage.CONFIRMED


async def exported(organisation: Organisation) -> bytes:
    """Return the export file."""
    return b"".join([line async for line in export_lines(organisation.parts)])


def store_of(organisation: Organisation) -> SqlStore:
    """Return the real store."""
    store = organisation.parts.store
    assert isinstance(store, SqlStore)
    return store


async def test_prune_given_old_events_keeps_log_and_money_and_says_how_many(organisation: Organisation) -> None:
    """Bodies of old events alone go; both levels of the verifier say OK and count them."""
    before = read_export(await exported(organisation))

    count = await prune(store_of(organisation), NOW + 1_800, organisation.clock.now())
    raw = await exported(organisation)
    after = read_export(raw)
    again = await prune(store_of(organisation), NOW + 1_800, organisation.clock.now())

    assert (count, again) == (OLD_BODIES, 0)
    assert len(before.bodies) - len(after.bodies) == count
    assert after.entries[Log.MONEY] == before.entries[Log.MONEY]
    assert after.entries[Log.EVENT][: len(before.entries[Log.EVENT])] == before.entries[Log.EVENT]
    told = json.loads(after.entries[Log.EVENT][-1])
    assert (told["kind"], told["fields"]) == ("bodies.pruned", {"before": NOW + 1_800, "count": count})
    for full in (False, True):
        verdict = verify(raw, GENESIS.hash, full=full)
        assert (str(verdict), verdict.detail) == ("OK", f"{count} bodies pruned")


async def test_prune_given_sessions_keeps_what_they_need(organisation: Organisation) -> None:
    """A paid session is read without PSBT and transaction; an open one loses nothing and is paid after a restart."""
    waiting = organisation.withdrawal(20_000_000, 13)
    paid = next(
        held.value
        for held in await organisation.parts.store.list(frozenset(Stage), Page())
        if held.value.created_at == NOW
    )
    await organisation.propose(waiting)
    organisation.clock.advance(60)

    await prune(store_of(organisation), organisation.clock.now(), organisation.clock.now())
    await organisation.restart()

    held = await organisation.parts.store.load(paid.digest)
    assert held is not None
    assert (held.value.psbt, held.value.transaction, held.value.txid) == (None, None, paid.txid)
    assert (await organisation.session(waiting)).psbt is not None
    await organisation.approve(waiting, "bob", "carol")
    assert await organisation.run(waiting) is Stage.BROADCAST
    assert str(verify(await exported(organisation), GENESIS.hash)) == "OK"


async def test_prune_given_a_time_to_come_removes_nothing(organisation: Organisation) -> None:
    """A slip of the keyboard must not empty the store."""
    now = organisation.clock.now()
    with pytest.raises(MalformedError, match="PRUNE_TIME"):
        await prune(store_of(organisation), now + 1, now)

    assert verify(await exported(organisation), GENESIS.hash).pruned == 0


async def test_command_given_a_time_prunes_once(
    organisation: Organisation, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The documented command does it, on a store that nobody serves."""
    here = organisation.directory
    monkeypatch.setattr("coordinator.app.SystemClock", lambda: organisation.clock)
    await organisation.parts.store.close()
    (here / "coordinator.toml").write_text(CONFIG)
    arguments = ["--config", str(here / "coordinator.toml"), "--prune-before", str(NOW + 1_800)]

    codes = [await asyncio.to_thread(main, arguments) for _ in range(2)]
    organisation.start()

    assert codes == [0, 0]
    printed = capsys.readouterr().out.splitlines()[-2:]
    assert [json.loads(line)["pruned"] for line in printed] == [OLD_BODIES, 0]
    assert verify(await exported(organisation), GENESIS.hash).pruned == OLD_BODIES
