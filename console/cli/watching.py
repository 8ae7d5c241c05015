"""watch: withdrawals as they move; an alarm on a new NOTICE, a freeze, and ten minutes without a fresh checkpoint."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.office import Office, connected

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from console.chain_events import Alarm
    from console.views import Stage, WithdrawalView
    from custody.canonical import Json

app = typer.Typer(rich_markup_mode=None)
FOLLOW_SECONDS = 30.0  # how often the money log is followed while nothing else happens
STALE_SECONDS = 600  # protocol.md "Approval": the alarm of `keyturn watch`
LIVE_ROWS = 20
FOR_EVER_SECONDS = 10.0 * 365 * 86_400
STREAM_SECONDS = 3_000.0  # below the hour that a stream may last; then it is opened again


@dataclass(slots=True)
class Screen:
    """What was seen. until: the stage that ends the watch, or None."""

    office: Office
    until: Stage | None
    live: Live | None
    latest: dict[bytes, WithdrawalView] = field(default_factory=dict)
    notices: frozenset[bytes] | None = None
    vouched_at: int = 0
    next_event: int | None = None

    def take(self, view: WithdrawalView) -> bool:
        """Show one view; return whether the watch is over."""
        from console.views import has_reached

        self.latest.pop(view.digest, None)
        self.latest[view.digest] = view
        if self.live is not None:
            self.live.update(self.table())
        elif self.office.output.as_json:
            self.office.output.line(_line_json(view))
        else:
            self.office.output.say(_line(view))
        return self.until is not None and (has_reached(view.stage, self.until) or view.stage.is_end)

    def table(self) -> Table:
        """Return the newest withdrawals as a Rich table."""
        from rich.table import Table as RichTable
        from rich.text import Text

        from console.plain import plain

        table = RichTable(box=None, pad_edge=False)
        for title in ("digest", "id", "stage", "signed"):
            table.add_column(title)
        for view in list(self.latest.values())[-LIVE_ROWS:]:
            table.add_row(*(Text(plain(cell)) for cell in _cells(view)))
        return table


@app.command()
def watch(
    context: typer.Context,
    withdrawal: Annotated[str | None, typer.Argument(metavar="DIGEST|ID", help="Only this one.")] = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="End there: confirmed, signing, ...")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Give up after it (exit code 5).")] = (
        FOR_EVER_SECONDS
    ),
) -> None:
    """Watch withdrawals, one line for each change; with --until, exit 0 there and 3 at any other end."""
    connected(context, lambda office: _watch(office, withdrawal, until, timeout))


async def _watch(office: Office, name: str | None, until: str | None, timeout_s: float) -> None:
    from console.cli.withdrawals import read_stage
    from console.refusal import refuse
    from console.views import has_reached
    from custody.errors import UnavailableError

    wanted = None if until is None else read_stage(until)
    digest = None if name is None else (await office.find(name)).digest
    screen = Screen(office, wanted, None)
    following = asyncio.create_task(_alarms(screen))
    try:
        async with asyncio.timeout(timeout_s):
            last = await _until_over(screen, digest)
    except TimeoutError as error:
        found = ", ".join(view.stage.value for view in screen.latest.values()) or "nothing"
        raise UnavailableError(
            "TIMEOUT", f"expected {until or 'an end'} within {timeout_s} s, found {found}"
        ) from error
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    if wanted is not None and not has_reached(last.stage, wanted):
        refuse("ENDED", wanted.value, str(last.ended) if last.ended is not None else last.stage.value)


async def _until_over(screen: Screen, digest: bytes | None) -> WithdrawalView:
    """Return the view that ended the watch."""
    if sys.stdout.isatty() and not screen.office.output.as_json:
        from rich.live import Live

        with Live(screen.table(), refresh_per_second=4) as live:
            screen.live = live
            return await _first_end(screen, digest)
    return await _first_end(screen, digest)


async def _first_end(screen: Screen, digest: bytes | None) -> WithdrawalView:
    async for view in _views(screen.office, digest):
        if screen.take(view):
            return view
    raise AssertionError("the stream of views has no end")


async def _views(office: Office, digest: bytes | None) -> AsyncIterator[WithdrawalView]:
    """Yield views for ever: a stream that reached its lifetime is opened again."""
    from custody.errors import UnavailableError

    while True:
        began = time.monotonic()
        try:
            async for view in office.client.watch(digest, STREAM_SECONDS):
                yield view
        except UnavailableError as error:
            if error.code != "DEADLINE_EXCEEDED" or time.monotonic() - began < STREAM_SECONDS / 2:
                raise


async def _alarms(screen: Screen) -> None:
    """Follow the money log while watching: what a coordinator would rather not show is in it."""
    while True:
        await _follow_once(screen)
        await _look_at_chain(screen)
        await asyncio.sleep(FOLLOW_SECONDS)


async def _look_at_chain(screen: Screen) -> None:
    """Alarm on every spend of our coins that nothing released, those of before this watch too."""
    from console.chain_events import alarms_since
    from custody.errors import CustodyError

    try:
        found, screen.next_event = await alarms_since(screen.office.client, screen.next_event)
    except CustodyError as error:
        screen.office.output.warn(f"The chain's events cannot be read now: {error}")
        return
    for alarm in found:
        screen.office.output.warn(_alarm_line(alarm))


def _alarm_line(alarm: Alarm) -> str:
    from console.pages import btc, utc
    from console.plain import plain

    return (
        f"ALARM: {btc(alarm.sats)} of {plain(alarm.wallet)} spent without a RELEASE, {utc(alarm.at)}: "
        f"transaction {alarm.txid} in block {alarm.height}. Freeze, and ask whose keys are out."
    )


@app.command()
def status(context: typer.Context) -> None:
    """Show how things stand: the money log, freezes, and spends that nothing released. Exit code 3 for such a spend."""
    connected(context, _status)


async def _status(office: Office) -> None:
    from console.chain_events import alarms_since
    from console.refusal import refuse

    followed = await office.followed()
    alarms, _ = await alarms_since(office.client, None)
    is_fresh, is_frozen = followed.is_fresh(office.now), followed.state.is_frozen(office.now)
    value: dict[str, Json] = {
        "money_size": followed.state.size,
        "vouched_at": followed.vouched_at,
        "fresh": is_fresh,
        "frozen": is_frozen,
        "alarms": [{"txid": a.txid, "wallet": a.wallet, "sats": a.sats, "height": a.height} for a in alarms],
    }
    office.output.done(
        value,
        f"money log  {followed.state.size} entries, {'fresh' if is_fresh else 'STALE: no fresh word of witnesses'}",
        f"freeze     {'IN FORCE' if is_frozen else 'none'}",
        f"chain      {f'{len(alarms)} ALARMS' if alarms else 'no spend without a RELEASE, says the coordinator'}",
    )
    for alarm in alarms:
        office.output.warn(_alarm_line(alarm))
    if alarms:
        refuse("SPENT_UNRELEASED", "no spend without a RELEASE", str(len(alarms)))


async def _follow_once(screen: Screen) -> None:
    from custody.errors import CustodyError, UnavailableError

    office = screen.office
    screen.vouched_at = screen.vouched_at or office.now
    try:
        followed = await office.followed()
    except UnavailableError:
        followed = None
    except CustodyError as error:
        office.output.warn(f"ALARM: the money log does not hold: {error}")
        return
    if followed is not None:
        screen.vouched_at = max(screen.vouched_at, followed.vouched_at)
        notices = frozenset(digest for digest, _ in followed.state.notices)
        for digest in notices - (notices if screen.notices is None else screen.notices):
            office.output.warn(f"ALARM: a delay began (NOTICE) for {digest.hex()}: keyturn show {digest.hex()[:16]}")
        screen.notices = notices
        if followed.state.is_frozen(office.now):
            office.output.warn("ALARM: a freeze is in force")
    if office.now - screen.vouched_at > STALE_SECONDS:
        office.output.warn(f"ALARM: STALE: no checkpoint that witnesses vouched for since {screen.vouched_at}")


def _line(view: WithdrawalView) -> str:
    from console.pages import utc

    return f"{utc(int(time.time()))}  {'  '.join(_cells(view))}"


def _cells(view: WithdrawalView) -> tuple[str, str, str, str]:
    name = f"{view.withdrawal.initiator}/{view.withdrawal.withdrawal_id}"
    return view.digest.hex()[:16], name, view.stage.value, f"{view.signed_count}/{view.threshold}"


def _line_json(view: WithdrawalView) -> dict[str, Json]:
    value: dict[str, Json] = {
        "digest": view.digest.hex(),
        "withdrawal_id": view.withdrawal.withdrawal_id,
        "stage": view.stage.value,
        "signed": view.signed_count,
        "threshold": view.threshold,
    }
    return value | ({"txid": view.txid[::-1].hex()} if view.txid else {})
