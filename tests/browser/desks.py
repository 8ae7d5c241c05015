"""People at their desks: real desks over a real coordinator, pages in a real browser, passkeys in virtual hardware."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from console.channel import Address
from console.client import Client
from console.config import load_config, pinned_genesis
from console.desk.passkeys import open_keys
from console.desk.room import Room, make_room
from console.desk.serving import link, serving, take_port
from console.tls import TlsFiles
from console.views import WithdrawalView
from tests.desk import Desk, Ran

if TYPE_CHECKING:
    from tests.browser.conftest import Team

T = TypeVar("T")
expect.set_options(timeout=30_000)  # a busy machine is five times slower
CHROMIUM = "/usr/bin/chromium"
WAIT_MS = 30_000
PHONE, SCREEN = ViewportSize(width=390, height=844), ViewportSize(width=1280, height=900)
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@dataclass
class AtDesk:
    """One person at a desk of their own: its room, its port, and the page that is open there."""

    name: str
    config: Path
    room: Room
    port: int
    page: Page
    cdp: Any
    authenticator: str
    loop: asyncio.AbstractEventLoop

    @property
    def origin(self) -> str:
        """Where the desk is."""
        return f"http://localhost:{self.port}"

    def open(self, path: str = "/") -> Page:
        """Go to one page of the desk."""
        self.page.goto(self.origin + path)
        return self.page

    def enter(self, title: str = "Queue") -> None:
        """Open the desk by the link that its terminal printed."""
        self.page.goto(link(self.room, self.port))
        expect(self.page.locator("h1")).to_have_text(title)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run a headless browser."""
    with sync_playwright() as player:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = player.chromium.launch(executable_path=CHROMIUM, args=[*sandbox, "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@contextlib.contextmanager
def at_desk(organisation: Desk, browser: Browser, name: str, **context: Any) -> Iterator[AtDesk]:
    """Let `name` sit down: a desk on a free port, a browser of their own, a virtual authenticator."""
    path = organisation.person(name)
    with _served(path) as (room, port, loop):
        made = browser.new_context(**{"viewport": SCREEN, "locale": "en-US", **context})
        made.set_default_timeout(WAIT_MS)
        page = made.new_page()
        cdp = made.new_cdp_session(page)
        cdp.send("WebAuthn.enable")
        added = cdp.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
        try:
            yield AtDesk(name, path, room, port, page, cdp, added["authenticatorId"], loop)
        finally:
            made.close()


@contextlib.contextmanager
def _served(path: Path) -> Iterator[tuple[Room, int, asyncio.AbstractEventLoop]]:
    """Serve a desk in a thread of its own, as `keyturn desk` does in a process."""
    loop = asyncio.new_event_loop()
    ready: threading.Event = threading.Event()
    ended = asyncio.Event()
    found: list[tuple[Room, int, asyncio.AbstractEventLoop]] = []

    async def run() -> None:
        config, taken = load_config(path), take_port(0)
        port = taken[0].getsockname()[1]
        files = TlsFiles(config.tls.certificate, config.tls.key, config.tls.ca)
        async with Client(Address(config.coordinator, files)) as client:
            keys = open_keys(config.path, f"http://localhost:{port}")
            room = make_room(config.path, config, pinned_genesis(config), client, keys)
            async with serving(room, taken, lambda: None):
                found.append((room, port, loop))
                ready.set()
                await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(30)
        loop.close()


def keyturn(organisation: Desk, person: str, *arguments: str, role: str = "operator") -> Ran:
    """Run `keyturn` as `person`, in a thread of its own: the browser's driver has a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: organisation.keyturn(person, *arguments, role=role)).result()


def do(person: AtDesk, work: Coroutine[Any, Any, T]) -> T:
    """Run `work` where this person's desk runs."""
    return asyncio.run_coroutine_threadsafe(work, person.loop).result(30)


def view_of(team: Team, digest: str) -> WithdrawalView:
    """Return a withdrawal as the coordinator serves it."""
    return do(team.bob, team.bob.room.client.withdrawal(bytes.fromhex(digest)))
