"""Time as an attacker would have it: clocks set back and forward, entries back-dated, a node that comes hours late.

Every node is real, with its journal and a key in a sealed file; only its clock is ours. Each case stands at an edge
and one second past it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from custody.entries import EntryKind, MoneyEntry, Notice, seal_of
from custody.errors import CustodyError, Refused
from custody.genesis import Genesis
from custody.rejudge import ENTRY_TIME_TOLERANCE_S
from custody.withdrawal import Withdrawal
from tests.fakes.clock import FakeClock
from tests.fakes.rules import DAY, NOW, PAY, rule
from tests.integration.harness import genesis_of, open_node
from tests.world import EXCHANGE, Spend, World, signed_by_initiator

HOUR = 3_600
ONLINE_S, OFFLINE_S = 300, DAY  # protocol.md: how old the oldest counted cosignature may be; bundle_max_age
FREE = genesis_of(PAY)
ONE_A_DAY = genesis_of(PAY, rule("one-a-day", "limit", {}, {"window": "day", "max_count": 1, "on_exceed": "deny"}))
SLOW = genesis_of(PAY, rule("wait", "require", {}, {"delay": {"seconds": HOUR}}))
ASKED = genesis_of(PAY, rule("eyes", "require", {}, {"approvals": {"group": "ops", "threshold": 1}}))


class Signer:
    """A node with a clock of its own. name: alpha is online, cold is not."""

    def __init__(self, genesis: Genesis, directory: Path, name: str = "alpha") -> None:
        self.name, self.clock = name, FakeClock(NOW)
        directory.mkdir(exist_ok=True)
        self._node = open_node(genesis, name, directory, self.clock)

    async def says(self, spend: Spend, index: int, at: int) -> str:
        """Return the code with which it refuses the bundle of that release when its clock shows `at`, or "signed"."""
        self.clock.at = at
        try:
            outcome = (await self._node.answer(spend.bundle(index, self.name).to_bytes())).outcome
        except CustodyError as error:
            return error.code
        return outcome.code if isinstance(outcome, Refused) else "signed" if isinstance(outcome, tuple) else "behind"


def spend_at(world: World, now: int, number: int = 1, people: Sequence[str] = (), **changes: int) -> Spend:
    """Return a transaction for withdrawal `number`, asked for at `now`, from a coin of its own."""
    world.now = now
    until = {"expires_at": now + 9 * DAY, **changes}
    asked = world.withdrawal((EXCHANGE, 50_000 + number), withdrawal_id=f"w-{number}", **until)
    spend = world.spend(asked, (world.coin(number),), change_index=number)
    return spend.approved_by(*people) if people else spend


@pytest.mark.parametrize(
    ("name", "ahead", "answer"),
    [
        ("alpha", ONLINE_S, "signed"),
        ("alpha", ONLINE_S + 1, "CHECKPOINT_STALE"),
        ("alpha", OFFLINE_S + 1, "CLOCK_AHEAD"),
        ("cold", OFFLINE_S, "signed"),
        ("cold", OFFLINE_S + 1, "CLOCK_AHEAD"),
    ],
)
async def test_atk_090_clock_set_forward_stops_the_node(name: str, ahead: int, answer: str, tmp_path: Path) -> None:
    """A clock beyond what witnesses say ends the freshness of everything; beyond bundle_max_age, the node's work."""
    spend = spend_at(World(FREE), NOW)

    assert await Signer(FREE, tmp_path, name).says(spend, spend.release(), NOW + ahead) == answer


@pytest.mark.parametrize(("left", "answer"), [(1, "signed"), (0, "WITHDRAWAL_EXPIRED")])
async def test_atk_090_clock_set_back_revives_nothing_that_an_accepted_time_ended(
    left: int, answer: str, tmp_path: Path
) -> None:
    """A node that accepted an hour later holds to it when its clock is set back by six."""
    world, cold = World(FREE), Signer(FREE, tmp_path, "cold")
    ending = spend_at(world, NOW, expires_at=NOW + HOUR + left)
    index = ending.release()
    later = spend_at(world, NOW + HOUR, number=2)
    assert await cold.says(later, later.release(), NOW + HOUR) == "signed"

    assert await cold.says(ending, index, NOW - 5 * HOUR) == answer


@pytest.mark.parametrize("name", ["alpha", "cold"])
@pytest.mark.parametrize("slow", [0, 60, 5 * HOUR])
async def test_atk_090_slow_clock_revives_nothing_that_witnesses_saw_the_end_of(
    name: str, slow: int, tmp_path: Path
) -> None:
    """The oldest counted cosignature has passed: a withdrawal, and rules, that ended before it have ended."""
    world = World(FREE)
    ended, ending = spend_at(world, NOW, expires_at=NOW), spend_at(world, NOW, number=2, expires_at=NOW + 1)
    expired = genesis_of(PAY, not_after=NOW)
    under_expired = spend_at(World(expired), NOW)
    signer, other = Signer(FREE, tmp_path, name), Signer(expired, tmp_path / "other", name)

    assert await signer.says(ended, ended.release(), NOW - slow) == "WITHDRAWAL_EXPIRED"
    assert await signer.says(ending, ending.release(), NOW - slow) == "signed"
    assert await other.says(under_expired, under_expired.release(), NOW - slow) == "RULES_EXPIRED"


@pytest.mark.parametrize(("after", "answer"), [(DAY - 1, "LIMIT_EXCEEDED"), (DAY, "signed"), (DAY + 1, "signed")])
async def test_atk_090_window_given_its_edge_opens_at_the_second_and_not_before(
    after: int, answer: str, tmp_path: Path
) -> None:
    """A release leaves a window of a day once witnesses say that a day has passed since they first saw it."""
    world = World(ONE_A_DAY)
    spend_at(world, NOW).release()
    again = spend_at(world, NOW + after, number=2)

    assert await Signer(ONE_A_DAY, tmp_path).says(again, again.release(), NOW + after) == answer


@pytest.mark.parametrize(
    ("name", "witnessed", "shown"),
    [("cold", HOUR, HOUR + DAY), ("cold", DAY - 1, 2 * DAY - 1), ("alpha", DAY, DAY - 1)],
)
async def test_atk_090_window_given_a_clock_that_differs_ages_by_the_earlier_time(
    name: str, witnessed: int, shown: int, tmp_path: Path
) -> None:
    """A clock set a day forward opens no window, and one a second slow keeps it shut that second longer."""
    world = World(ONE_A_DAY)
    spend_at(world, NOW).release()
    again = spend_at(world, NOW + witnessed, number=2)

    assert await Signer(ONE_A_DAY, tmp_path, name).says(again, again.release(), NOW + shown) == "LIMIT_EXCEEDED"


def notice_dated(world: World, asked: Withdrawal, back_s: int) -> None:
    """Log a NOTICE, first of all, whose own time lies `back_s` before witnesses see it."""
    signed = signed_by_initiator(asked)
    world.statements[signed.digest] = signed
    entry = MoneyEntry(EntryKind.NOTICE, world.now - back_s, 0, bytes(32), Notice(asked.digest), seal_of((signed,)))
    world.entries.append(entry.to_bytes())
    world.covering = world.cosigned()


@pytest.mark.parametrize(
    ("back_s", "after", "answer"),
    [
        (0, HOUR - 1, "DELAY_RUNNING"),
        (0, HOUR, "signed"),
        (HOUR, HOUR - 1, "DELAY_RUNNING"),
        (HOUR, HOUR, "signed"),
    ],
)
async def test_atk_090_delay_back_dated_runs_from_when_witnesses_saw_its_notice(
    back_s: int, after: int, answer: str, tmp_path: Path
) -> None:
    """The time that an entry names is shown to people and shortens nothing."""
    world = World(SLOW)
    spend = spend_at(world, NOW)
    notice_dated(world, spend.asked, back_s)
    world.now = NOW + after

    assert await Signer(SLOW, tmp_path).says(spend, spend.release(), NOW + after) == answer


async def test_atk_090_delay_given_a_withdrawal_that_says_it_is_old_runs_all_the_same(tmp_path: Path) -> None:
    """created_at is the initiator's word, and starts nothing."""
    world = World(SLOW)
    spend = spend_at(world, NOW, created_at=NOW - 9 * DAY)
    world.notice(spend.asked)

    assert await Signer(SLOW, tmp_path).says(spend, spend.release(), NOW) == "DELAY_RUNNING"


@pytest.mark.parametrize(
    ("back_s", "answer"), [(ENTRY_TIME_TOLERANCE_S, "signed"), (ENTRY_TIME_TOLERANCE_S + 1, "ENTRY_TIME")]
)
async def test_atk_090_release_back_dated_is_refused(back_s: int, answer: str, tmp_path: Path) -> None:
    """A RELEASE must name the time at which witnesses saw it, give or take ten minutes."""
    world = World(FREE)
    spend = spend_at(world, NOW - back_s)
    index = spend.release()
    world.now = NOW
    world.covering = world.cosigned()

    assert await Signer(FREE, tmp_path).says(spend, index, NOW) == answer


@pytest.mark.parametrize(
    ("since", "answer"),
    [(-51, "RELEASE_INADMISSIBLE"), (-50, "signed"), (DAY - 1, "signed"), (DAY, "RELEASE_INADMISSIBLE")],
)
async def test_atk_090_approval_given_both_its_ends_is_judged_at_the_release(
    since: int, answer: str, tmp_path: Path
) -> None:
    """Made 50 s before NOW and good for a day from then: neither a second before it was made nor at its end."""
    world = World(ASKED)
    spend = spend_at(world, NOW, people=["bob"])
    world.now = NOW + since

    assert await Signer(ASKED, tmp_path).says(spend, spend.release(), NOW + since) == answer


@pytest.mark.parametrize(
    ("late", "witnessed", "answer"),
    [
        (23 * HOUR, 0, "signed"),
        (OFFLINE_S, 0, "signed"),
        (OFFLINE_S + 1, 0, "CLOCK_AHEAD"),
        (OFFLINE_S, OFFLINE_S, "signed"),
        (OFFLINE_S + 1, OFFLINE_S + 1, "RELEASE_STALE"),
    ],
)
async def test_atk_090_offline_node_given_a_bundle_hours_late_signs_until_bundle_max_age(
    late: int, witnessed: int, answer: str, tmp_path: Path
) -> None:
    """Its approvals were good when it was released; a fresh checkpoint makes an old release no younger."""
    world = World(ASKED)
    spend = spend_at(world, NOW, people=["bob"])
    world.now = NOW + DAY - 1  # bob's approval ends a second later
    index = spend.release()
    world.now += witnessed

    assert await Signer(ASKED, tmp_path, "cold").says(spend, index, NOW + DAY - 1 + late) == answer


@pytest.mark.parametrize(("left", "answer"), [(0, "WITHDRAWAL_EXPIRED"), (1, "signed")])
async def test_atk_090_offline_node_given_a_bundle_hours_late_knows_what_ended_meanwhile(
    left: int, answer: str, tmp_path: Path
) -> None:
    """It was in date when it left, and is judged when it arrives."""
    spend = spend_at(World(FREE), NOW, expires_at=NOW + 5 * HOUR + left)

    assert await Signer(FREE, tmp_path, "cold").says(spend, spend.release(), NOW + 5 * HOUR) == answer
