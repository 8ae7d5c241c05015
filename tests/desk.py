"""A real coordinator with its nodes behind real mTLS, in a thread, and people with settings on disk for `keyturn`."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sys
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import coordinator.tls
from console.cli.app import main
from coordinator import flow, messages
from coordinator.app import _services
from coordinator.chain.embedded import EmbeddedChain
from coordinator.logging import make_logger
from coordinator.rpc.server import RpcServer, Served, build_server
from coordinator.session import OPEN as OPEN_STAGES
from coordinator.store.port import Page
from custody.genesis import Genesis
from custody.wallet import ScriptBook
from deploy.ca import Ca, make_ca
from tests.fakes.clock import FakeClock
from tests.fakes.rules import DAY, seed_of
from tests.integration.harness import OPEN, Organisation, WitnessHere, genesis_of, open_node

T = TypeVar("T")
WAIT_SECONDS = 60.0
COINS = 40  # each withdrawal that waits holds one


class RealClock(FakeClock):
    """The machine's clock: certificates, `keyturn` and the coordinator agree on it."""

    def now(self) -> int:
        """Return UTC seconds."""
        return int(time.time())


@dataclass(frozen=True, slots=True)
class Ran:
    """What one call of `keyturn` did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        (line,) = self.out.splitlines()
        return json.loads(line)


@dataclass
class Desk:
    """The organisation and the people around it."""

    directory: Path
    genesis: Genesis
    ca: Ca
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    organisation: Organisation = field(init=False)
    server: RpcServer = field(init=False)

    @property
    def book(self) -> ScriptBook:
        """The treasury's scripts."""
        return ScriptBook(self.genesis.wallets[0].wallet)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` where the coordinator runs."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(WAIT_SECONDS)

    def settle(self) -> None:
        """Let coordinator and online nodes do what they can do now."""
        self.do(self._settle())

    def mine(self) -> None:
        """Mine one block that pays nobody of ours, and let its news arrive."""
        self.do(self.organisation.mine(1))
        self.settle()

    def person(self, name: str, role: str = "operator", *, pinned: bool = True, seed: bytes | None = None) -> Path:
        """Return the settings of `name`, made where missing."""
        home = self.directory / "people" / f"{name}-{role}"
        if not home.exists():
            certificate, key = self.ca.issue(name, role, home, server=False)
            (home / f"{name}.ed25519").write_text((seed or seed_of(name)).hex())
            (home / f"{name}.ed25519").chmod(0o600)
            lines = [f'coordinator = "localhost:{self.server.port}"', f'me = "{name}"', f'key = "{name}.ed25519"']
            lines += ['genesis = "genesis.json"', "[tls]", f'ca = "{self.ca.certificate_path}"']
            lines += [f'certificate = "{certificate}"', f'key = "{key}"']
            (home / "config.toml").write_text("\n".join(lines))
            if pinned:
                (home / "genesis.json").write_bytes(self.genesis.signed.to_bytes())
        return home / "config.toml"

    def keyturn(self, person: str, *arguments: str, typed: str = "", role: str = "operator") -> Ran:
        """Run `keyturn` as `person`."""
        return keyturn("--config", str(self.person(person, role)), *arguments, typed=typed)

    @contextlib.contextmanager
    def lying(self, served: Served) -> Iterator[int]:
        """Serve everything once more on another port, with `served` instead of the honest service; yield the port."""
        parts, chain = self.organisation.parts, self.organisation.chain
        honest = [found for found in _services(parts, chain) if found.name != served.name]
        server = self.do(self._listen([*honest, served]))
        try:
            yield server.port
        finally:
            self.do(server.stop(0))

    async def start(self) -> None:
        """Open everything; funds lie on the first addresses."""
        chain = await EmbeddedChain.open(self.directory / "chain", FakeClock())
        for index in range(COINS):
            await chain.mine(1, self.book.script(0, index).script)
        await chain.mine(101, OPEN)
        clock = RealClock()
        witness = WitnessHere(self.genesis, self.directory, clock)
        self.organisation = Organisation(self.genesis, self.directory, clock, chain, witness)
        self.organisation.start()
        self.ca.issue("main", "coordinator", self.directory / "server", server=True)
        self.server = await self._listen(_services(self.organisation.parts, chain))

    async def stop(self) -> None:
        """Let go of everything."""
        await self.server.stop(0)
        await self.organisation.parts.store.close()
        await self.organisation.chain.close()

    async def _listen(self, services: Sequence[Served]) -> RpcServer:
        home = self.directory / "server"
        files = coordinator.tls.TlsFiles(home / "main.pem", home / "main.key", self.ca.certificate_path)
        server = build_server(services, "127.0.0.1:0", files, make_logger(io.StringIO()))
        await server.start()
        return server

    async def _settle(self) -> None:
        self.organisation.beat()
        while True:
            for held in await self.organisation.parts.store.list(OPEN_STAGES, Page(100)):
                await flow.advance(self.organisation.parts, held.value.digest)
            await messages.advance_all(self.organisation.parts)
            if not await self.organisation._deliver():
                return


def keyturn(*arguments: str, typed: str = "") -> Ran:
    """Run `keyturn` with these arguments; `typed` is what the person answers."""
    out, err, before = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = io.StringIO(typed)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(arguments)
    finally:
        sys.stdin = before
    return Ran(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def desk(directory: Path, *rules: Mapping[str, Any], **changes: Any) -> Iterator[Desk]:
    """Serve a whole organisation, under the usual rules or these, until the block ends. changes: of the document."""
    now = int(time.time())
    genesis = genesis_of(*rules, effective_from=now - DAY, not_after=now + 30 * DAY, **changes)
    found = Desk(directory, genesis, make_ca(directory / "ca"))
    thread = threading.Thread(target=found.loop.run_forever, daemon=True)
    thread.start()
    try:
        found.do(found.start())
        yield found
        found.do(found.stop())
    finally:
        found.loop.call_soon_threadsafe(found.loop.stop)
        thread.join(WAIT_SECONDS)
        found.loop.close()


__all__ = ["Desk", "Ran", "desk", "keyturn", "open_node"]
