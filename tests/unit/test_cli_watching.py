"""What `keyturn watch` alarms on."""

from typing import Any, cast

import pytest

from console.cli.office import Office
from console.cli.output import Output
from console.cli.watching import STALE_SECONDS, Screen, _follow_once
from console.follower import Followed
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
