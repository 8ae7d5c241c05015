"""The coordinator's database from yesterday's backup: it is noticed, nothing goes out, and there is a way on."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from coordinator.__main__ import main as coordinator_main
from coordinator.collectors import FileCollector
from coordinator.exporting import export_lines
from coordinator.restoring import read_file, refuse_rolled_back, replay
from coordinator.session import Stage
from coordinator.store.sql import SqlStore
from coordinator.streaming import EventStream, open_stream
from custody.audit import Log
from custody.errors import IntegrityError
from custody.replay import verify
from custody.withdrawal import Withdrawal
from signer_node.__main__ import main as signer_main
from signer_node.followed import Followed
from tests.integration.harness import Organisation, close, genesis_of, organise

pytestmark = pytest.mark.slow
GENESIS = genesis_of()
CONFIG = """
listen = "127.0.0.1:0"
database = "sqlite:///{here}/store.db"
genesis = "genesis.json"
log_key = { file = "log.sealed", passphrase = "log.passphrase" }
witnesses = []
[chain]
kind = "embedded"
directory = "chain"
confirmations = 1
[tls]
ca = "ca.pem"
certificate = "coordinator.pem"
key = "coordinator.key"
[tiles]
listen = "127.0.0.1:0"
[stream]
file = "events.jsonl"
"""


@pytest_asyncio.fixture
async def restored(tmp_path: Path) -> AsyncIterator[Organisation]:
    """An organisation that paid twice, whose database is then that of after the first payment."""
    found = await organise(GENESIS, tmp_path)
    await pay(found, found.withdrawal(1_000_000, 11))
    await found.parts.store.close()
    shutil.copy(tmp_path / "store.db", tmp_path / "backup.db")
    found.start()
    await pay(found, found.withdrawal(1_100_000, 12))
    await (await stream_to(found, tmp_path / "events.jsonl")).step()
    (tmp_path / "export.jsonl").write_bytes(b"".join([line async for line in export_lines(found.parts)]))
    await found.parts.store.close()
    for name in ("store.db", "store.db-wal", "store.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup.db", tmp_path / "store.db")
    found.start()
    yield found
    await close(found)


async def pay(organisation: Organisation, asked: Withdrawal) -> None:
    """Carry a withdrawal to its confirmation, with both logs cosigned behind it."""
    await organisation.propose(asked)
    assert await organisation.run(asked) is Stage.BROADCAST
    await organisation.mine()
    assert await organisation.advance(asked) is Stage.CONFIRMED
    for log in Log:
        assert await organisation.parts.logs.fresh(log) is not None
    organisation.clock.advance(60)


async def stream_to(organisation: Organisation, path: Path) -> EventStream:
    """Return the stream of events into a file."""
    return await open_stream(organisation.parts.store, FileCollector(path), organisation.clock)


async def check(organisation: Organisation) -> None:
    """Do what the coordinator does before it serves."""
    await refuse_rolled_back(organisation.parts.logs, organisation.parts.store, GENESIS)


def graft_store(organisation: Organisation) -> SqlStore:
    """Return the real store."""
    store = organisation.parts.store
    assert isinstance(store, SqlStore)
    return store


async def test_start_given_yesterdays_database_refuses_and_hands_out_nothing(restored: Organisation) -> None:
    """Witnesses saw more: the coordinator does not start, and were it running, no bundle would leave."""
    with pytest.raises(IntegrityError, match="ROLLED_BACK"):
        await check(restored)

    restored.handed.clear()
    asked = restored.withdrawal(1_200_000, 13)
    await restored.propose(asked)
    assert await restored.run(asked) is Stage.RELEASED
    assert restored.handed == []


async def test_replay_given_nodes_log_and_event_stream_goes_on(restored: Organisation) -> None:
    """Money entries come from any node, events from the stream; then payments go on and the export is OK in full."""
    node_log = restored.directory / "alpha" / "followed.log"
    money = await replay(graft_store(restored), GENESIS, read_file(Followed(node_log, GENESIS).deltas()))
    with pytest.raises(IntegrityError, match="ROLLED_BACK"):
        await check(restored)

    events = await replay(graft_store(restored), GENESIS, read_file((restored.directory / "events.jsonl").read_bytes()))
    await restored.restart()
    await check(restored)
    await pay(restored, restored.withdrawal(1_300_000, 14))
    verdict = verify(b"".join([line async for line in export_lines(restored.parts)]), GENESIS.hash)

    assert money.money > 0
    assert events.events > 0
    assert (str(verdict), verdict.detail) == ("OK", "")


async def test_replay_given_an_export_puts_both_logs_back(restored: Organisation) -> None:
    """An auditor's last export is as good, and doing it twice changes nothing."""
    found = read_file((restored.directory / "export.jsonl").read_bytes())
    first = await replay(graft_store(restored), GENESIS, found)
    again = await replay(graft_store(restored), GENESIS, found)
    await restored.restart()
    await check(restored)

    assert (first.money > 0, first.events > 0) == (True, True)
    assert (again.money, again.events) == (0, 0)


async def test_replay_given_a_withdrawal_of_the_lost_day_pays_it_no_second_time(restored: Organisation) -> None:
    """A session that the backup does not know can be proposed again, but never over other coins."""
    await replay(graft_store(restored), GENESIS, read_file((restored.directory / "export.jsonl").read_bytes()))
    await restored.restart()

    answer = await restored.propose(restored.withdrawal(1_100_000, 12))

    assert not isinstance(answer, Stage)
    assert answer.code in {"SECOND_PAYMENT", "ALREADY_PAID", "WITHDRAWAL_ID_REUSED"}


async def test_replay_given_entries_of_another_history_refuses(restored: Organisation) -> None:
    """Once the restored coordinator wrote something of its own, the lost entries no longer fit: restore again."""
    await restored.propose(restored.withdrawal(1_200_000, 13))

    with pytest.raises(IntegrityError, match="LOG_FORK"):
        await replay(graft_store(restored), GENESIS, read_file((restored.directory / "export.jsonl").read_bytes()))


async def test_replay_given_changed_event_refuses(restored: Organisation) -> None:
    """Events are proven by the roots that money entries name of them."""
    found = read_file((restored.directory / "events.jsonl").read_bytes())
    entries = found.entries[Log.EVENT]
    last = max(index for index, raw in entries.items() if b'"kind":"withdrawal.proposed"' in raw)
    entries[last] = entries[last].replace(b'"actor":"alice"', b'"actor":"mallory"')
    node_log = restored.directory / "alpha" / "followed.log"
    await replay(graft_store(restored), GENESIS, read_file(Followed(node_log, GENESIS).deltas()))

    with pytest.raises(IntegrityError, match="LOG_FORK"):
        await replay(graft_store(restored), GENESIS, found)


async def test_stream_given_cut_line_writes_it_again(restored: Organisation) -> None:
    """A crash in the middle of a line costs a repetition, never an entry."""
    path = restored.directory / "other.jsonl"
    stream = await stream_to(restored, path)
    written = await stream.step()
    path.write_bytes(path.read_bytes()[:-7])

    again = await stream_to(restored, path)
    assert (await again.tell_lag()).entries == 1
    await again.step()
    found = read_file(path.read_bytes())

    assert len(found.entries[Log.EVENT]) == written == restored.parts.store.head(Log.EVENT).size
    assert (await (await stream_to(restored, path)).tell_lag()).entries == 0


async def test_start_given_fresh_or_whole_database_is_fine(tmp_path: Path) -> None:
    """An empty coordinator starts, and so does one that lost nothing."""
    found = await organise(GENESIS, tmp_path)
    await check(found)
    await pay(found, found.withdrawal(1_000_000, 11))
    await found.restart()
    await check(found)
    await close(found)


async def test_commands_given_a_node_and_a_stream_put_the_logs_back(
    restored: Organisation, capsys: pytest.CaptureFixture[str]
) -> None:
    """The documented commands do it: export-log on a node, then --replay with each file."""
    here = restored.directory
    await restored.parts.store.close()
    (here / "alpha" / "genesis.json").write_bytes(GENESIS.signed.to_bytes())
    (here / "genesis.json").write_bytes(GENESIS.signed.to_bytes())
    node = 'name = "alpha"\nnetwork = "regtest"\nstate = "alpha"\nbackend = "sealed-file:///none"\n'
    (here / "node.toml").write_text(node)
    (here / "coordinator.toml").write_text(CONFIG)

    exported = await asyncio.to_thread(
        signer_main, ["export-log", "--config", str(here / "node.toml"), "--out", str(here / "money.deltas")]
    )
    codes = [
        await asyncio.to_thread(coordinator_main, ["--config", str(here / "coordinator.toml"), "--replay", str(file)])
        for file in (here / "money.deltas", here / "events.jsonl")
    ]
    restored.start()
    await check(restored)

    assert (exported, codes) == (0, [0, 0])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("money", 0) > 0 for line in lines[1:]] == [True, False]
    assert [line.get("events", 0) > 0 for line in lines[1:]] == [False, True]
