"""Every page, in both languages, light and dark: readable by programs that read aloud, none wider than a telephone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Team
from tests.browser.desks import PHONE, SCREEN, at_desk
from tests.browser.test_desk import asked

pytestmark = pytest.mark.slow
AXE = Path(__file__).with_name("axe.min.js").read_text()
PAGES = (
    "/",
    "/new",
    "/wallets",
    "/wallets/treasury/addresses/0",
    "/signers",
    "/audit",
    "/keys",
    "/freeze",
    "WITHDRAWAL",
)
RUN_AXE = "async () => (await axe.run()).violations.map((found) => [found.id, found.impact, found.nodes[0].html])"
TITLES = {"en-US": "Queue", "zh-CN": "队列"}


@pytest.mark.parametrize(("locale", "scheme"), [("en-US", "light"), ("zh-CN", "dark")])
def test_pages_when_looked_at_by_axe_then_have_no_serious_violation(team: Team, locale: str, scheme: str) -> None:
    """Names, contrast, headings, landmarks; and nothing wider than a telephone."""
    digest = asked(team, f"axe-{locale.lower()}-{scheme}", 40 + len(locale) + len(scheme), label="rent of May")
    with at_desk(team.office, team.browser, "dave", locale=locale, color_scheme=scheme) as dave:
        dave.enter(TITLES[locale])
        for path in PAGES:
            page = dave.open(path.replace("WITHDRAWAL", f"/withdrawals/{digest}"))
            page.set_viewport_size(PHONE)
            assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"], path
            page.evaluate(AXE)
            found = page.evaluate(RUN_AXE)
            assert [each for each in found if each[1] in ("serious", "critical")] == [], path
            page.set_viewport_size(SCREEN)


def test_withdrawal_when_read_and_rejected_by_keyboard_alone_then_needs_no_mouse(team: Team) -> None:
    """From the skip link over the reason to the button."""
    digest = asked(team, "keyboard", 39)
    page = team.carol.open(f"/withdrawals/{digest}")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.id") == "reason":
            break
    page.keyboard.type("typed alone")
    page.keyboard.press("Enter")

    expect(page.locator(".stage-name")).to_have_text("rejected")


def test_language_when_chosen_then_stays_for_the_session_and_leaves_words_alone(team: Team) -> None:
    """The twelve words are of the statement: they are in no language of the page."""
    digest = asked(team, "language", 38)
    page = team.carol.open(f"/withdrawals/{digest}")
    words = page.locator(".words").inner_text()
    page.get_by_role("button", name="简体中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")

    assert page.locator(".words").inner_text() == words
    page.get_by_role("button", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
