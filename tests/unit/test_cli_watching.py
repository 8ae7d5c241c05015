"""What `keyturn watch` alarms on."""

from typing import Any, cast

import pytest

from console.cli.office import Office
from console.cli.output import Output
from console.cli.watching import STALE_SECONDS, Screen, _follow_once, _look_at_chain
from console.follower import Followed
from console.views import LogPage
from custody.audit import Log
from custody.canonical import Json, encode
from custody.errors import IntegrityError, UnavailableError
from tests.fakes.rules import EXCHANGE, NOW
from tests.world import World, make_genesis


class FakeOffice:
    """An office whose log is whatever a test says: a followed one, or the error that following it ends in."""

    def __init__(self, log: Followed | Exception, now: int = NOW) -> None:
        self.log, self.now, self.output = log, now, Output(False)

    async def followed(self) -> Followed:
        """Return or raise what the test says."""
        if isinstance(self.log, Exception):
            raise self.log
        return self.log


def screen_over(log: Followed | Exception, now: int = NOW, **more: Any) -> Screen:
    """Return a watch over `log`."""
    return Screen(cast("Office", FakeOffice(log, now)), None, None, **more)


async def test_new_notice_alarms_once(capsys: pytest.CaptureFixture[str]) -> None:
    """What was there when the watch began is no news; what comes later is, once."""
    world = World(make_genesis())
    screen = screen_over(Followed(world.state(), "", NOW))
    await _follow_once(screen)
    asked = world.withdrawal((EXCHANGE, 1_000))
    world.notice(asked)
    screen.office = cast("Office", FakeOffice(Followed(world.state(), "", NOW)))
    for _ in range(2):
        await _follow_once(screen)
    assert capsys.readouterr().err.count(f"ALARM: a delay began (NOTICE) for {asked.digest.hex()}") == 1


@pytest.mark.parametrize(("age", "alarms"), [(STALE_SECONDS, 0), (STALE_SECONDS + 1, 1)])
async def test_ten_minutes_without_a_checkpoint_alarm(
    capsys: pytest.CaptureFixture[str], age: int, alarms: int
) -> None:
    """Witnesses that cannot be reached are told apart from a log that does not hold."""
    await _follow_once(screen_over(UnavailableError("WITNESSES_MISSING", ""), NOW + age, vouched_at=NOW))
    assert capsys.readouterr().err.count("ALARM: STALE") == alarms


async def test_log_that_does_not_hold_alarms_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A fork is not a delay."""
    await _follow_once(screen_over(IntegrityError("LOG_FORK", "expected one history")))
    assert "ALARM: the money log does not hold: LOG_FORK" in capsys.readouterr().err


class FakeEvents:
    """An event log that is served as a test says."""

    def __init__(self, *entries: bytes) -> None:
        self.kept = list(entries)

    async def entries(self, log: Log, first: int, limit: int = 2) -> LogPage:
        """Serve at most two at once."""
        assert log is Log.EVENT
        return LogPage(tuple(self.kept[first : first + min(limit, 2)]), (), len(self.kept))


def event_of(kind: str, **fields: Json) -> bytes:
    """Return an event as the coordinator writes it."""
    return encode({"kind": kind, "time": NOW, "actor": "chain", "fields": fields})


SPENT = event_of("coin.spent_unreleased", wallet="treasury", txid="ab" * 32, sats=5_000, height=7, outpoints=[])


def chain_screen(events: FakeEvents) -> Screen:
    """Return a watch over these events."""
    office = FakeOffice(IntegrityError("UNUSED", ""))
    vars(office)["client"] = events
    return Screen(cast("Office", office), None, None)


async def test_spend_without_a_release_alarms_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Also one of before the watch began, and one that comes later; nothing is said twice."""
    events = FakeEvents(event_of("deposit.seen"), event_of("deposit.seen"), SPENT)
    screen = chain_screen(events)
    for _ in range(2):
        await _look_at_chain(screen)
    assert capsys.readouterr().err.count(f"transaction {'ab' * 32} in block 7") == 1
    events.kept += [event_of("deposit.claimed"), SPENT]
    await _look_at_chain(screen)
    assert capsys.readouterr().err.count("spent without a RELEASE") == 1


async def test_event_that_cannot_be_read_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """What the coordinator serves is believed for nothing: no alarm is no proof, and noise is no crash."""
    await _look_at_chain(chain_screen(FakeEvents(b"noise")))
    assert "events cannot be read now: ANSWER_MALFORMED" in capsys.readouterr().err
