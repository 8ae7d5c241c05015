"""What the coordinator's watch of the chain wrote into the event log, for whoever wants to be alarmed.

Read as the coordinator tells it, unverified: who would hide a spend hides the entry. The chain itself is the proof; an
auditor verifies the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from console.views import LogPage
from custody.audit import Log
from custody.canonical import decode
from custody.errors import IntegrityError, MalformedError
from custody.fields import Fields

SPENT_UNRELEASED = "coin.spent_unreleased"
BACKLOG = 2_000  # events looked through by who begins to watch: a day of a busy coordinator


class EventSource(Protocol):
    """Who hands out entries; `console.client.Client` does."""

    async def entries(self, log: Log, first: int, limit: int = 1_000) -> LogPage:
        """Return consecutive entries from `first` on."""
        ...


@dataclass(frozen=True, slots=True)
class Alarm:
    """A spend of our coins that no RELEASE in the money log allows. index: of its event.  at: UTC seconds."""

    index: int
    at: int
    wallet: str
    txid: str
    sats: int
    height: int


async def alarms_since(source: EventSource, first: int | None) -> tuple[tuple[Alarm, ...], int]:
    """Return the alarms among the events from index `first` on, and from where to ask the next time.

    first: None for the newest BACKLOG.

    Raises:
        IntegrityError: ANSWER_MALFORMED: an event cannot be read.
    """
    if first is None:
        first = max(0, (await source.entries(Log.EVENT, 0, 1)).size - BACKLOG)
    found: list[Alarm] = []
    while True:
        page = await source.entries(Log.EVENT, first)
        for at, raw in enumerate(page.entries):
            try:
                alarm = _read(first + at, raw)
            except MalformedError as error:
                raise IntegrityError("ANSWER_MALFORMED", f"expected an event at {first + at}") from error
            found += () if alarm is None else (alarm,)
        first += len(page.entries)
        if not page.entries or first >= page.size:
            return tuple(found), first


def _read(index: int, raw: bytes) -> Alarm | None:
    event = Fields(decode(raw), "event")
    if event.text("kind") != SPENT_UNRELEASED:
        return None
    said = event.fields("fields")
    txid, wallet = said.hex("txid", 32).hex(), said.text("wallet")
    return Alarm(index, event.time("time"), wallet, txid, said.sats("sats"), said.integer("height"))
