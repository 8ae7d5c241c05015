"""`keyturn desk` as it is started, and a desk whose coordinator is away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Team
from tests.browser.desks import at_desk

pytestmark = pytest.mark.slow
FROM_OURSELVES = {"Sec-Fetch-Site": "none"}


def test_command_when_started_then_prints_a_link_that_opens_once_and_ends_when_told(team: Team) -> None:
    """The link is spent by its first use; nothing else opens the pages; SIGTERM ends it with exit code 0."""
    config = team.office.person("grace")
    command = [sys.executable, "-m", "console.cli.app", "--config", str(config), "desk", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as running:
        assert running.stdout is not None
        link = running.stdout.readline().split()[-1]
        origin = link.partition("/enter")[0]
        with httpx.Client(headers=FROM_OURSELVES, timeout=30) as browser:
            assert browser.get(origin).status_code == 401
            assert browser.get(f"{origin}/enter?token=guessed").status_code == 401
            entered = browser.get(link)
            assert (entered.status_code, "HttpOnly" in entered.headers["set-cookie"]) == (303, True)
            assert "SameSite=strict" in entered.headers["set-cookie"]
            assert browser.get(origin).status_code == 200
            without_csrf = {"Sec-Fetch-Site": "same-origin", "Accept": "application/json"}
            assert browser.post(f"{origin}/freeze", headers=without_csrf).json()["code"] == "CSRF"
            much = browser.post(f"{origin}/new/review", headers=without_csrf, content=bytes(300_000))
            assert (much.status_code, much.json()["code"]) == (413, "BODY_TOO_LARGE")
        with httpx.Client(headers=FROM_OURSELVES, timeout=30) as another:
            assert another.get(link).status_code == 401
            assert another.get(origin.replace("localhost", "127.0.0.1")).status_code == 421
        assert "to open it again" in running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0


def test_desk_when_the_coordinator_is_away_then_says_stale_and_approves_nothing(team: Team) -> None:
    """Every page still opens, the banner says why, and asking for a withdrawal is refused."""
    config = team.office.person("erin")
    settings = config.read_text()
    config.write_text(settings.replace(f"localhost:{team.office.server.port}", "localhost:9"))
    try:
        with at_desk(team.office, team.browser, "erin") as erin:
            erin.enter()
            expect(erin.page.locator("#banner")).to_contain_text("STALE")
            expect(erin.page.locator("main")).to_contain_text("The coordinator does not answer.")
            page = erin.open("/keys")
            expect(page.locator("main")).to_contain_text("in the rules")
            page = erin.open("/new")
            page.get_by_label("Address").fill("bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202")
            page.get_by_label("Amount in BTC").fill("1")
            page.get_by_role("button", name="Read it").click()
            expect(page.locator("#said code")).to_have_text("STALE")
    finally:
        config.write_text(settings)
