"""What happened to one withdrawal, from the event log: as the coordinator tells it. `audit verify` proves an event.

The log has no index by withdrawal, so it is read backwards from its end to where the withdrawal was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from console.reading import believed
from console.views import LogPage
from custody.audit import Log
from custody.canonical import decode
from custody.errors import IntegrityError
from custody.fields import Fields
from custody.story import Happened, read_event

PAGE = 1_000  # the most that the coordinator gives at once
SLACK_SECONDS = 3_600  # the initiator's clock dated the withdrawal, the coordinator's dates the events
MAX_EVENTS = 200_000  # 200 calls: some 80 days at 200 withdrawals a day


class Entries(Protocol):
    """Who gives entries; `console.client.Client` does."""

    async def entries(self, log: Log, first: int, limit: int = PAGE) -> LogPage:
        """Return consecutive entries from index `first` on."""


@dataclass(frozen=True, slots=True)
class History:
    """events: in the order of time.  is_whole: False where MAX_EVENTS did not reach back to the beginning."""

    events: tuple[Happened, ...]
    is_whole: bool


async def history_of(source: Entries, digest: bytes, asked_at: int) -> History:
    """Return the events about the withdrawal `digest` (32 bytes), which was asked for at `asked_at`, UTC seconds.

    Raises:
        IntegrityError: ANSWER_MALFORMED, LOG_SIZE: entries that no log has.
    """
    found: list[Happened] = []
    size = end = (await source.entries(Log.EVENT, 0, 1)).size
    is_whole = False
    while end and not is_whole and size - end < MAX_EVENTS:
        first = max(0, end - PAGE)
        raws = await _range(source, first, end)
        found.extend(event for at, raw in enumerate(raws, first) if (event := _event_of(at, raw, digest)) is not None)
        end = first
        is_whole = _time_of(raws[0]) < asked_at - SLACK_SECONDS
    ordered = sorted(found, key=lambda event: (event.time, event.index))
    return History(tuple(ordered), is_whole or end == 0)


async def _range(source: Entries, first: int, end: int) -> list[bytes]:
    """Return the entries of [first, end), however many come at once."""
    raws: list[bytes] = []
    while first + len(raws) < end:
        page = await source.entries(Log.EVENT, first + len(raws), end - first - len(raws))
        if not page.entries:
            raise IntegrityError("LOG_SIZE", f"expected events up to {end}, found {first + len(raws)}")
        raws.extend(page.entries[: end - first - len(raws)])
    return raws


def _event_of(index: int, raw: bytes, digest: bytes) -> Happened | None:
    found = believed(lambda: read_event(index, raw))
    return found[1] if found is not None and found[0] == digest else None


def _time_of(raw: bytes) -> int:
    return believed(lambda: Fields(decode(raw), "event").time("time"))
