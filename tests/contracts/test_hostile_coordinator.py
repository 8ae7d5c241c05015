"""Every lie of tests/lies, told to a node over every backend and to the engine past its node: its code, no signature.

docs/hostile-coordinator.md lists them. The backend is counted, and so are the requests that its server wrote down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from custody.bundle import Behind
from custody.errors import CustodyError, Refused
from custody.signatures import InputSignature
from custody.wallet import Network
from signer_node.backends.port import Cleared
from signer_node.engine.engine import Birth, Engine
from signer_node.followed import Followed
from signer_node.inbox import Inbox
from signer_node.journal import Journal
from signer_node.judge import Pinned
from signer_node.node import Node
from tests.contracts.conftest import SEED, Place
from tests.fakes.clock import FakeClock
from tests.fakes.rules import seed_of
from tests.lies.table import CHAPTERS, LIES
from tests.lies.told import BEHIND, GENESIS, Lie, Story
from tests.world import World, book_of

ME = "alpha"


@dataclass
class Counted:
    """The backend of a place; counts what it is asked."""

    place: Place
    asked: int = 0

    async def sign(self, cleared: Cleared) -> tuple[InputSignature, ...]:
        """See the port."""
        self.asked += 1
        return await self.place.open().sign(cleared)

    def requests(self) -> int:
        """Return how many bytes the server wrote into its audit log: each request and answer adds some."""
        return 0 if self.place.server is None else self.place.server.audit_log.stat().st_size


@dataclass
class Kept:
    """The storage of an engine, in memory."""

    values: dict[str, bytes] = field(default_factory=dict)

    async def get(self, key: str) -> bytes | None:
        """See the port."""
        return self.values.get(key)

    async def put(self, key: str, value: bytes) -> None:
        """See the port."""
        self.values[key] = value


@cache
def story_of(name: str) -> Story:
    """Return a lie as it is told; made once for all backends."""
    return LIES[name].story()


def node_over(backend: Counted, story: Story, directory: Path, clock: FakeClock) -> Node:
    """Return node alpha with its key at a place, an inbox, and nothing followed yet."""
    directory.mkdir()
    genesis = story.genesis
    followed, journal = Followed(directory / "followed.log", genesis), Journal(directory / "journal.log", genesis.hash)
    node = Node(
        Pinned(genesis, ME),
        seed_of(ME),
        followed,
        journal,
        backend,  # type: ignore[arg-type]  # a backend as far as a node uses it here
        clock,
        inbox=Inbox(directory / "inbox"),
    )
    node._books = {w.wallet.wallet_id: book_of(w.wallet) for w in genesis.wallets}  # a cache; it proves nothing
    return node


async def answered(node: Node, raw: bytes) -> str:
    """Return the code with which a node refuses `raw`, or what else it answers."""
    try:
        outcome = (await node.answer(raw)).outcome
    except CustodyError as error:
        return error.code
    return code_of(outcome)


def code_of(outcome: object) -> str:
    """Return the code of an answer."""
    if isinstance(outcome, Refused):
        return outcome.code
    return BEHIND if isinstance(outcome, Behind) else f"{type(outcome).__name__}, no refusal"


def files(directory: Path) -> dict[str, bytes]:
    """Return every file of a node but the log that it follows, by name."""
    found = (path for path in directory.rglob("*") if path.is_file() and path.name != "followed.log")
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


async def tell(lie: Lie, backend: Counted, directory: Path) -> str:
    """Tell a lie to a node and return what it says; fails where a key was used or anything was counted."""
    story, clock = story_of(lie.name), FakeClock()
    node = node_over(backend, story, directory, clock)
    for clock.at, raw in story.before:
        await answered(node, raw)
    clock.at = story.now
    for signed in story.held:
        assert not isinstance(node.hold(signed), Refused)
    before = files(directory), backend.asked, backend.requests()

    said = await answered(node, story.raw)

    assert (files(directory), backend.asked, backend.requests()) == before, lie.name
    return said


@pytest.mark.parametrize("chapter", CHAPTERS)
async def test_hostile_coordinator_given_any_lie_then_no_key_is_used(
    place: Place, chapter: str, tmp_path: Path
) -> None:
    """Each lie has its code, over every backend; nothing is journalled, and no request reaches a vault."""
    backend, lies = Counted(place), CHAPTERS[chapter]

    assert {lie.name: await tell(lie, backend, tmp_path / lie.name) for lie in lies} == codes_of(lies)


async def test_hostile_coordinator_given_no_lie_then_the_node_signs(seed_place: Place, tmp_path: Path) -> None:
    """The story that all lies start from is one that a node signs, and then the backend is asked."""
    world = World(GENESIS)
    story = Story(GENESIS, world.spend(world.withdrawal()).bundle().to_bytes(), world.now)
    backend = Counted(seed_place)
    before = backend.requests()
    node = node_over(backend, story, tmp_path / ME, FakeClock(story.now))

    assert await answered(node, story.raw) == "tuple, no refusal"
    assert backend.asked == 1
    assert seed_place.server is None or backend.requests() > before


@pytest.mark.parametrize("chapter", CHAPTERS)
async def test_hostile_coordinator_past_the_node_given_any_lie_then_the_engine_refuses(chapter: str) -> None:
    """The engine judges for itself; what only a node can know, that a witness holds something, is left out."""
    lies = tuple(lie for lie in CHAPTERS[chapter] if not story_of(lie.name).held)

    assert {lie.name: await tell_engine(story_of(lie.name)) for lie in lies} == codes_of(lies)


async def tell_engine(story: Story) -> str:
    """Tell a lie to an engine with alpha's seed, and return what it says."""
    clock = FakeClock(story.now)
    engine = Engine(Kept(), clock, lambda size: SEED[:size])
    await engine.bear(Birth(ME, Network.REGTEST, bytes(16)))
    await engine.pin(story.genesis.signed.to_bytes(), story.genesis.hash)
    books = {w.wallet.wallet_id: book_of(w.wallet) for w in story.genesis.wallets}
    (await engine._opened()).books = books  # as in `node_over`
    for clock.at, raw in story.before:
        await engine.sign(raw)
    clock.at = story.now
    signed = await _journalled(engine)

    said = code_of(await engine.sign(story.raw))

    assert await _journalled(engine) == signed
    return said


async def _journalled(engine: Engine) -> object:
    return (await engine._opened()).memory.signed


def codes_of(lies: Sequence[Lie]) -> dict[str, str]:
    """Return what is to be said to each."""
    return {lie.name: lie.code for lie in lies}
