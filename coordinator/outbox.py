"""Which online nodes are connected, how they are, and what waits to be sent to them. In memory: a node dials again."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field

from custody.errors import UnavailableError
from custody.v1 import signer_pb2 as wire

CODE = r"[A-Z][A-Z0-9_]{0,39}"  # what a node may put on people's screens
HEARD_SECONDS = 10  # silent for longer than three heartbeats: routing passes it over


@dataclass
class Link:
    """One node's open stream.

    money_size: entries it has.  heard_at: UTC seconds.  backend: as on the wire, 0 for unknown.  code: why it is not
    ready, "" where it is.
    queue: what goes out next; None ends the stream.  waiting: questions to the node as a witness, by number.
    sent: withdrawals whose bundle went into this stream.
    """

    node: str
    money_size: int
    heard_at: int
    backend: int = 0
    code: str = ""
    queue: asyncio.Queue[wire.ConnectResponse | None] = field(default_factory=asyncio.Queue)
    waiting: dict[int, asyncio.Future[wire.WitnessAnswer]] = field(default_factory=dict)
    asked: int = 0
    sent: set[bytes] = field(default_factory=set)

    def hear(self, beat: wire.Heartbeat) -> None:
        """Take a sign of life. A key that is not ready will not sign what was asked: others are asked at once."""
        self.backend, self.money_size = int(beat.backend), beat.money_size
        self.code = beat.backend_code if re.fullmatch(CODE, beat.backend_code) else ""
        if self.backend != int(wire.BACKEND_STATE_READY):
            self.sent.clear()

    def ask(self) -> tuple[int, asyncio.Future[wire.WitnessAnswer]]:
        """Return the number of a new question and where its answer will be."""
        self.asked += 1
        answer: asyncio.Future[wire.WitnessAnswer] = asyncio.get_running_loop().create_future()
        self.waiting[self.asked] = answer
        return self.asked, answer

    def take(self, answer: wire.WitnessAnswer) -> None:
        """Hand an answer to who asked; one that nobody waits for is dropped."""
        waiting = self.waiting.get(answer.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def end(self) -> None:
        """Tell everyone who waits that this stream is over."""
        for waiting in self.waiting.values():
            if not waiting.done():
                waiting.set_exception(UnavailableError("WITNESS_AWAY", f"expected {self.node} to answer, it hung up"))

    def forget(self, number: int) -> None:
        """Wait no longer for the answer to question `number`."""
        self.waiting.pop(number, None)


class Outbox:
    """The open streams by node; a newer stream of a node ends the older one."""

    def __init__(self) -> None:
        self._links: dict[str, Link] = {}

    def open(self, link: Link) -> None:
        """Take a node's new stream."""
        older = self._links.get(link.node)
        if older is not None:
            older.queue.put_nowait(None)
        self._links[link.node] = link

    def close(self, link: Link) -> None:
        """Forget a stream, unless a newer one of the same node took its place."""
        link.end()
        if self._links.get(link.node) is link:
            del self._links[link.node]

    def link(self, node: str) -> Link | None:
        """Return the open stream of `node`, or None."""
        return self._links.get(node)

    def is_ready(self, node: str, now: int) -> bool:
        """Return whether `node` is connected, was heard lately and can sign."""
        link = self._links.get(node)
        return (
            link is not None and link.backend == int(wire.BACKEND_STATE_READY) and now - link.heard_at <= HEARD_SECONDS
        )

    def send(self, node: str, message: wire.ConnectResponse, withdrawal: bytes | None = None) -> bool:
        """Hand `message` (the bundle of `withdrawal`) to the stream of `node`; False where there is none."""
        link = self._links.get(node)
        if link is None:
            return False
        link.queue.put_nowait(message)
        if withdrawal is not None:
            link.sent.add(withdrawal)
        return True

    def has_sent(self, node: str, withdrawal: bytes) -> bool:
        """Return whether the bundle of `withdrawal` went into the stream that `node` holds now."""
        link = self._links.get(node)
        return link is not None and withdrawal in link.sent
