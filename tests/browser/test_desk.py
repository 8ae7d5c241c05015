"""The desk as people use it: a withdrawal is read, approved by two passkeys at two desks, confirmed; or rejected."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from custody import webauthn
from custody.address import address_of
from tests.browser.conftest import Team
from tests.browser.desks import AtDesk, keyturn, view_of
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
    team.carol.page.get_by_text("History", exact=True).click()
    expect(team.carol.page.locator(".history")).to_contain_text("withdrawal.proposed")


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
    number = len(list(team.office.directory.glob("unfreeze-*")))
    first, second = (team.office.directory / f"unfreeze-{number + step}.json" for step in (1, 2))
    for person, arguments in (
        ("erin", ("sign", "--out", str(first), "--yes")),
        ("frank", ("sign", str(first), "--out", str(second), "--yes")),
        ("frank", ("submit", str(second))),
    ):
        ran = keyturn(team.office, person, "unfreeze", *arguments, role="admin")
        assert ran.code == 0, ran.err


def test_new_withdrawal_when_asked_for_at_a_desk_then_is_signed_by_its_initiator(team: Team) -> None:
    """Several payees, the rules' verdict before the signature, the same page as everybody's behind it."""
    page = team.alice.open("/new")
    page.get_by_label("Address").fill(address(31))
    page.get_by_label("Amount in BTC").fill("0.15")
    page.get_by_role("button", name="One payee more").click()
    page.get_by_label("Address").nth(1).fill(address(32))
    page.get_by_label("Amount in BTC").nth(1).fill("0.05")
    page.get_by_role("button", name="Read it").click()
    expect(page.locator(".sentence")).to_have_text("alice asks to send 0.20000000 BTC to 2 payees")
    expect(page.locator("main")).to_contain_text("It would need approvals.")
    page.get_by_role("button", name="Sign and ask").click()

    expect(page.locator(".stage-name")).to_have_text("approving")
    expect(page.get_by_text("Signed by alice; checked here")).to_be_visible()
    expect(page.get_by_text("others approve it")).to_be_visible()


@pytest.mark.parametrize(
    ("payee", "amount", "code"),
    [("bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "1", "ADDRESS_NETWORK"), (address(33), "1,5", "AMOUNT")],
)
def test_new_withdrawal_when_a_field_is_wrong_then_says_which_and_keeps_the_others(
    team: Team, payee: str, amount: str, code: str
) -> None:
    """Nothing typed is lost."""
    page = team.alice.open("/new")
    page.get_by_label("Address").fill(payee)
    page.get_by_label("Amount in BTC").fill(amount)
    page.get_by_role("button", name="Read it").click()

    expect(page.locator("#said code")).to_have_text(code)
    expect(page.get_by_label("Address")).to_have_value(payee)


def test_freeze_when_pressed_at_a_desk_then_stands_on_every_page(team: Team) -> None:
    """By bob's passkey; lifted by the quorum on their command lines."""
    page = team.bob.open("/freeze")
    page.get_by_role("button", name="Freeze everything now").click()
    try:
        expect(page.locator("main .frozen")).to_contain_text("bob")
        expect(team.carol.open("/").locator("#banner")).to_contain_text("FREEZE in force")
    finally:
        _unfreeze(team)


def test_deposit_address_when_shown_then_is_derived_at_the_desk(team: Team) -> None:
    """The coordinator only says which place is free."""
    page = team.bob.open("/wallets")
    page.get_by_role("button", name="Next deposit address").click()
    expect(page.locator("h1")).to_have_text("Deposit address")
    index = int(page.url.rpartition("/")[2])
    expect(page.locator(".digest code")).to_have_text(
        address_of(team.office.book.script(0, index).script, team.office.genesis.network)
    )
    expect(page.get_by_role("img", name="QR code")).to_be_visible()
