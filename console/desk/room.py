"""What the pages of one desk stand on: settings, connection, the log as followed, keys, and who listens for changes.

One task follows the money log, another watches withdrawals; pages are poked when either moves. A page that is drawn
while the log cannot be followed says so, and nothing is approved then.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from console.cli.office import Invocation, Office
from console.cli.output import Output
from console.client import Client
from console.config import Config
from console.desk.acts import Acts
from console.desk.passkeys import DeskKeys
from console.desk.sessions import Sessions
from custody.errors import CustodyError, IntegrityError
from custody.genesis import Genesis

FOLLOW_SECONDS = 10.0  # as often as nodes dial the witnesses; a checkpoint may be five minutes old
PAGE_SECONDS = 1.0  # a page that is drawn shows the log as of so long ago at most
WATCH_SECONDS = 3_600.0  # what the coordinator allows a stream
AGAIN_SECONDS = 2.0  # after a stream broke
PULSE_SECONDS = 20.0  # a comment on a silent stream, so that a browser that went away is noticed


class Notes(Output):
    """What a command would have said on a terminal: kept for the page that asked."""

    def __init__(self) -> None:
        """Start with nothing said."""
        super().__init__(as_json=False)
        self.warned: list[str] = []

    def warn(self, *lines: str) -> None:
        """Keep what must not be missed."""
        self.warned.extend(lines)

    def taken(self) -> tuple[str, ...]:
        """Return what was said since the last call."""
        found, self.warned = tuple(self.warned), []
        return found


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the log is followed. code: "" where all is well, STALE, or what was found wrong.  age_s: of the vouching.

    is_alarm: the log does not hold; that is worse than being late.
    """

    code: str
    message: str
    age_s: int | None
    size: int
    is_alarm: bool = False


@dataclass
class Room:
    """Everything behind the pages of one desk."""

    office: Office
    notes: Notes
    keys: DeskKeys
    sessions: Sessions = field(default_factory=Sessions)
    acts: Acts = field(default_factory=Acts)
    is_closing: bool = False
    _looked_at: float = float("-inf")
    _trouble: CustodyError | None = None
    _listeners: set[asyncio.Event] = field(default_factory=set)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def config(self) -> Config:
        """This person's settings."""
        return self.office.config

    @property
    def genesis(self) -> Genesis:
        """The pinned genesis, with the wallets that the log added."""
        return self.office.genesis

    @property
    def client(self) -> Client:
        """The coordinator."""
        return self.office.client

    @property
    def now(self) -> int:
        """UTC seconds."""
        return self.office.now

    @property
    def standing(self) -> Standing:
        """How far the log is followed now."""
        latest, trouble = self.office.latest, self._trouble
        if isinstance(trouble, IntegrityError):
            return Standing(trouble.code, trouble.message, None, 0, is_alarm=True)
        if latest is None:
            return Standing("STALE", trouble.message if trouble else "not followed yet", None, 0)
        if not latest.is_fresh(self.now):
            told = trouble.message if trouble else "no fresh checkpoint"
            return Standing("STALE", told, latest.age_s(self.now), latest.state.size)
        return Standing("", "", latest.age_s(self.now), latest.state.size)

    async def follow(self, max_age_s: float = 0.0) -> None:
        """Follow the log unless that was done within `max_age_s`; whether it worked is in `standing`."""
        async with self._turn:
            if time.monotonic() - self._looked_at < max_age_s:
                return
            before = (self.standing.code, self.standing.size)
            try:
                await self.office.followed()
                self._trouble = None
            except CustodyError as error:
                self._trouble = error
            self._looked_at = time.monotonic()
        if (self.standing.code, self.standing.size) != before:
            self.poke()

    def poke(self) -> None:
        """Tell every open page that something changed."""
        for listener in self._listeners:
            listener.set()

    async def pokes(self) -> AsyncIterator[bool]:
        """Yield True for each change and False as a pulse, until the desk closes."""
        changed = asyncio.Event()
        self._listeners.add(changed)
        try:
            while not self.is_closing:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), PULSE_SECONDS)
                if not self.is_closing:
                    yield changed.is_set()
                changed.clear()
        finally:
            self._listeners.discard(changed)

    async def keep_following(self) -> None:
        """Follow the log until cancelled."""
        while True:
            await self.follow()
            await asyncio.sleep(FOLLOW_SECONDS)

    async def keep_watching(self) -> None:
        """Poke pages at every change of a withdrawal, until cancelled."""
        while True:
            with contextlib.suppress(CustodyError):
                async for _ in self.client.watch(None, WATCH_SECONDS):
                    self.poke()
            await asyncio.sleep(AGAIN_SECONDS)

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Follow and watch in the background while the block runs."""
        tasks = [asyncio.create_task(self.keep_following()), asyncio.create_task(self.keep_watching())]
        try:
            yield
        finally:
            self.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """Let every open page's stream end."""
        self.is_closing = True
        self.poke()


def make_room(config_path: Path, config: Config, genesis: Genesis, client: Client, keys: DeskKeys) -> Room:
    """Return the room of one desk."""
    notes = Notes()
    return Room(Office(Invocation(config_path, notes), config, genesis, client), notes, keys)
