"""One browser, one organisation, two approvers whose passkeys were enrolled at their desks; the tests share them.

The fixtures end with this package: the browser's driver keeps an event loop in its thread, where other tests want none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.desks import AtDesk, at_desk, chromium, keyturn
from tests.desk import Desk, desk

ADMIN = {
    "change_quorum": {"groups": ["admins"], "threshold": 2, "exclude_author": False},
    "loosen_delay_s": 0,  # a new key loosens; the tests do not wait a day
    "freeze": {"groups": ["security", "admins"], "threshold": 1},
    "unfreeze": {"groups": ["admins"], "threshold": 2},
}


@dataclass(frozen=True)
class Team:
    """The organisation, with who sits at which desk. bob and carol approve with passkeys; alice asks."""

    office: Desk
    browser: Browser
    alice: AtDesk
    bob: AtDesk
    carol: AtDesk


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A headless browser."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="package")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A coordinator with its nodes."""
    with desk(tmp_path_factory.mktemp("desk"), admin=ADMIN) as found:
        yield found


@pytest.fixture(scope="package")
def team(office: Desk, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """Everybody at their desks, the approvers with passkeys that the rules list."""
    papers = tmp_path_factory.mktemp("papers")
    with (
        at_desk(office, browser, "alice") as alice,
        at_desk(office, browser, "bob") as bob,
        at_desk(office, browser, "carol") as carol,
    ):
        for person in (alice, bob, carol):
            person.enter()
        for person in (bob, carol):
            _enrol(office, person, papers)
        yield Team(office, browser, alice, bob, carol)


def _enrol(office: Desk, person: AtDesk, papers: Path) -> None:
    """Make a passkey at a desk, and bring it into the rules as admins do."""
    page = person.open("/keys")
    page.get_by_role("button", name="Make a passkey").click()
    expect(page.get_by_text("not in the rules yet")).to_be_visible()
    (proof,) = person.config.parent.glob("*.proof.json")
    words = " ".join(word.strip() for word in page.locator("article .words li").all_inner_texts())
    out = papers / f"{person.name}.json"
    ran = keyturn(
        office, "erin", "principal", "enrol", str(proof), "--org", "acme", "--out", str(out), "--yes", role="admin"
    )
    assert ran.code == 0, ran.err
    assert words in ran.out  # what the page shows is what the admin hears
    proposed = keyturn(office, "erin", "policy", "propose", str(out), "--yes", "-o", "json", role="admin")
    assert proposed.code == 0, proposed.err
    signed = keyturn(office, "frank", "policy", "sign", proposed.json["rules"][:16], "--yes", role="admin")
    assert signed.code == 0, signed.err
    for _ in range(20):  # the version is in force once the desk has followed the log so far
        page = person.open("/keys")
        if page.locator("article .ok").count():
            return
        page.wait_for_timeout(500)
    raise AssertionError(page.locator("main").inner_text())
