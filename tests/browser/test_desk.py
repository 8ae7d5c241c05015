"""The desk as people use it: a withdrawal is read, approved by two passkeys at two desks, confirmed; or rejected."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.sync_api import expect

from console.views import WithdrawalView
from custody import webauthn
from tests.browser.conftest import Team
from tests.browser.desks import AtDesk, keyturn
from tests.fakes.rules import address

pytestmark = pytest.mark.slow


def asked(team: Team, name: str, payee: int, amount: int = 20_000_000, label: str = "") -> str:
    """Return the digest of a withdrawal that alice asks for on her command line."""
    to = f"{address(payee)}={amount}:{label}"
    ran = keyturn(team.office, "alice", "propose", "--to", to, "--id", name, "--yes", "-o", "json")
    assert ran.code == 0, ran.err
    digest: str = ran.json["digest"]
    return digest


def approve(person: AtDesk, digest: str) -> None:
    """Read a withdrawal and approve it with the passkey."""
    page = person.open(f"/withdrawals/{digest}")
    page.get_by_role("button", name="with passkey").click()
    expect(page.get_by_text("You have voted.")).to_be_visible()


def view_of(team: Team, digest: str) -> WithdrawalView:
    """Return a withdrawal as the coordinator serves it."""
    room = team.bob.room
    return asyncio.run_coroutine_threadsafe(room.client.withdrawal(bytes.fromhex(digest)), team.bob.loop).result(30)


def test_withdrawal_when_two_approve_by_passkey_at_their_desks_then_is_confirmed(team: Team) -> None:
    """The signers count nothing but the two assertions with their desks' signatures; the chain confirms the payment."""
    digest = asked(team, "rent-1", 11, label="rent")

    queue = team.bob.open("/")
    expect(queue.locator(".place-you .card").filter(has_text="alice/rent-1")).to_be_visible()
    approve(team.bob, digest)
    expect(team.bob.open("/").locator(".place-others .card").filter(has_text="alice/rent-1")).to_be_visible()
    approve(team.carol, digest)
    team.office.settle()
    votes = view_of(team, digest).approvals
    assert [[e.alg for e in vote.endorsements] for vote in votes] == [[webauthn.ES256, "ed25519"]] * 2
    expect(team.carol.page.locator(".stage-name")).to_have_text("broadcast")  # a poke renewed it

    team.office.mine()
    expect(team.carol.page.locator(".stage-name")).to_have_text("confirmed")


def test_withdrawal_when_rejected_at_a_desk_then_has_ended_for_all(team: Team) -> None:
    """A reason is asked for and stays at home; the reject is final and everybody's page shows it."""
    digest = asked(team, "rent-2", 12)
    waiting = team.carol.open(f"/withdrawals/{digest}")
    page = team.bob.open(f"/withdrawals/{digest}")
    page.get_by_label("Reason").fill("not my invoice")
    page.get_by_role("button", name="Reject").click()

    expect(page.locator(".stage-name")).to_have_text("rejected")
    expect(page.get_by_text("not my invoice")).to_be_visible()
    expect(waiting.locator(".stage-name")).to_have_text("rejected")
    assert "not my invoice" not in Path(team.office.directory / "store.db").read_bytes().decode("latin-1")


def test_page_when_something_changed_since_it_was_read_then_says_what_and_approves_nothing(team: Team) -> None:
    """A freeze came between look and click: 409, the page names it, no approval is filed."""
    digest = asked(team, "rent-3", 14)
    page = team.bob.open(f"/withdrawals/{digest}")
    frozen = keyturn(team.office, "dave", "freeze", "--yes", "-o", "json")
    assert frozen.code == 0, frozen.err
    try:
        page.get_by_role("button", name="with passkey").click()
        expect(page.locator("#said")).to_contain_text("CHANGED")
        expect(page.locator("#said .change")).to_contain_text("freeze in force")
        expect(page.locator("#banner")).to_contain_text("FREEZE in force")
        assert view_of(team, digest).approvals == ()
    finally:
        _unfreeze(team)


def _unfreeze(team: Team) -> None:
    first = team.office.directory / "unfreeze-1.json"
    second = team.office.directory / "unfreeze-2.json"
    for person, arguments in (
        ("erin", ("sign", "--out", str(first), "--yes")),
        ("frank", ("sign", str(first), "--out", str(second), "--yes")),
        ("frank", ("submit", str(second))),
    ):
        ran = keyturn(team.office, person, "unfreeze", *arguments, role="admin")
        assert ran.code == 0, ran.err
