"""Who else could ask bob's passkey, or his desk: other sites, other programs, injected markup. None of it counts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from console.desk.passkeys import b64, unb64
from custody.approval import Approval, Decision
from custody.canonical import encode
from custody.errors import NotFoundError, Refused
from custody.people import Ballot, check_approval
from custody.statements import Endorsement, Kind, Signed
from custody.webauthn import Assertion
from tests.browser.conftest import Team
from tests.browser.desks import do, view_of
from tests.browser.test_desk import asked
from tests.fakes.rules import DAY

pytestmark = pytest.mark.slow
GET = """async ([challenge, verification]) => {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(
    {challenge, rpId: "localhost", allowCredentials: [], userVerification: verification});
  return (await navigator.credentials.get({publicKey})).toJSON();
}"""


@contextlib.contextmanager
def program(page: str, port: int = 0) -> Iterator[int]:
    """Serve `page` on a port of localhost, as any other program of this machine could."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def approval_by_bob(team: Team, digest: str) -> Approval:
    """Return what bob would say who approves `digest`."""
    now = team.bob.room.now
    genesis = team.office.genesis.hash
    return Approval(genesis, bytes.fromhex(digest), Decision.APPROVE, "bob", now - 1, now + DAY)


def digest_of(said: Approval) -> bytes:
    """Return the challenge of an approval."""
    return Signed(Kind.APPROVAL, encode(said.to_json()), ()).digest


def asserted(team: Team, page: Page, challenge: bytes, verification: str = "required") -> Endorsement:
    """Return what bob's passkey signs when the script of `page` asks for `challenge`."""
    answer = page.evaluate(GET, [b64(challenge), verification])["response"]
    parts = [unb64(answer[name]) for name in ("clientDataJSON", "authenticatorData", "signature")]
    (passkey,) = team.bob.room.keys.passkeys()
    return Endorsement(passkey.alg, passkey.key, Assertion(*parts).to_bytes())


def verdicts(team: Team, digest: str, said: Approval, *endorsements: Endorsement) -> list[Ballot | str]:
    """Return what each online signer makes of an approval, by its own rules: a ballot, or the code of its refusal."""
    withdrawal = view_of(team, digest).withdrawal
    signed = Signed(Kind.APPROVAL, encode(said.to_json()), endorsements)
    found = []
    for name in ("alpha", "beta"):  # nobody brought the log to the cold one: it knows no passkey at all
        policy = team.office.organisation.nodes[name].state.policy
        worth = check_approval(policy, withdrawal, said, signed, team.bob.room.now)
        found.append(worth.code if isinstance(worth, Refused) else worth)
    return found


def settled_rules(team: Team) -> None:
    """Let the online nodes follow the log up to the rules that list the passkeys."""
    team.office.settle()
    for name in ("alpha", "beta"):
        node = team.office.organisation.nodes[name]
        with contextlib.suppress(NotFoundError):  # it has them all
            page = do(team.bob, team.bob.room.client.export_delta(name, node.state.size))
            team.office.do(node.take_delta(page.document))


def test_assertion_when_a_page_showed_one_withdrawal_and_asked_for_another_then_no_signer_counts_it_as_seen(
    team: Team,
) -> None:
    """Without the desk's own signature it is blind, which no rule here takes; moved to the other it is nothing."""
    shown, other = asked(team, "shown", 21), asked(team, "other", 22)
    settled_rules(team)
    page = team.bob.open(f"/withdrawals/{shown}")
    said = approval_by_bob(team, other)
    assertion = asserted(team, page, digest_of(said))

    worth = verdicts(team, other, said, assertion)
    assert [ballot.seen for ballot in worth if isinstance(ballot, Ballot)] == [False] * 2
    with_desk = team.bob.room.keys.endorse(Kind.APPROVAL, encode(said.to_json()))
    assert [b.seen for b in verdicts(team, other, said, assertion, with_desk) if isinstance(b, Ballot)] == [True] * 2
    moved = replace(said, withdrawal_digest=bytes.fromhex(shown))
    assert verdicts(team, shown, moved, assertion, with_desk) == ["APPROVAL_SIGNATURE"] * 2

    signed = Signed(Kind.APPROVAL, encode(said.to_json()), (assertion,))
    with contextlib.suppress(Exception):  # taken as blind or refused: either way it lets nothing happen
        do(team.bob, team.bob.room.client.approve(signed, bytes.fromhex(other)))
    team.office.settle()
    assert view_of(team, other).stage.value == "approving"


def test_assertion_when_another_program_of_the_machine_asked_then_every_signer_refuses(team: Team) -> None:
    """A page on another port may use the same RP id; its origin is in what was signed."""
    digest = asked(team, "elsewhere", 23)
    settled_rules(team)
    said = approval_by_bob(team, digest)
    with program("<h1>Your desk</h1>") as port:
        team.bob.page.goto(f"http://localhost:{port}/")
        assertion = asserted(team, team.bob.page, digest_of(said))
    desk_key = team.bob.room.keys.endorse(Kind.APPROVAL, encode(said.to_json()))

    assert verdicts(team, digest, said, assertion, desk_key) == ["APPROVAL_SIGNATURE"] * 2


def test_assertion_when_nobody_was_verified_then_every_signer_refuses(team: Team) -> None:
    """A passkey that only felt a touch says so in what it signed."""
    digest = asked(team, "touched", 24)
    settled_rules(team)
    said = approval_by_bob(team, digest)
    page = team.bob.open(f"/withdrawals/{digest}")
    found = {"authenticatorId": team.bob.authenticator, "isUserVerified": False}
    team.bob.cdp.send("WebAuthn.setUserVerified", found)
    try:
        assertion = asserted(team, page, digest_of(said), "discouraged")
    finally:
        team.bob.cdp.send("WebAuthn.setUserVerified", {**found, "isUserVerified": True})
    desk_key = team.bob.room.keys.endorse(Kind.APPROVAL, encode(said.to_json()))

    assert verdicts(team, digest, said, assertion, desk_key) == ["APPROVAL_SIGNATURE"] * 2


def test_desk_when_the_passkey_answers_another_challenge_then_signs_nothing(team: Team) -> None:
    """The desk judges the answer over the statement that it kept, not over what the browser sends."""
    digest = asked(team, "challenge", 25)
    page = team.bob.open(f"/withdrawals/{digest}")
    page.evaluate(
        """() => { const real = PublicKeyCredential.parseRequestOptionsFromJSON.bind(PublicKeyCredential);
          PublicKeyCredential.parseRequestOptionsFromJSON = (found) => real({...found, challenge: "AAAA"}); }"""
    )
    page.get_by_role("button", name="with passkey").click()

    expect(page.locator("#said")).to_contain_text("ASSERTION")
    assert view_of(team, digest).approvals == ()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_post_when_another_site_sends_it_then_is_refused_at_the_door(team: Team, host: str) -> None:
    """Same-site or cross-site, with bob's browser and without a page of his desk: nothing is frozen."""
    form = f'<form method="post" action="{team.bob.origin}/freeze"><button>free coins</button></form>'
    with program(form) as port:
        team.bob.page.goto(f"http://{host}:{port}/")
        team.bob.page.get_by_role("button").click()
        expect(team.bob.page.locator("main code")).to_have_text("CROSS_SITE")


def test_page_when_script_is_injected_then_runs_none_of_it(team: Team) -> None:
    """Markup in a label is text; a string is no HTML; an inline script and a bare hx-get do nothing."""
    digest = asked(team, "markup", 26, label="<img src=x hx-get=/wallets onerror=alert(1)>")
    page = team.bob.open(f"/withdrawals/{digest}")
    expect(page.locator("q bdi")).to_have_text("<img src=x hx-get=/wallets onerror=alert(1)>")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))

    blocked = page.evaluate(
        """() => { try { document.body.innerHTML = "<b>x</b>"; return "ran"; } catch (error) { return error.name; } }"""
    )
    page.evaluate(
        """() => {
          const script = document.createElement("script");
          try { script.textContent = "window.ran = 1"; document.body.append(script); } catch { }
          const spy = document.createElement("div");
          spy.setAttribute("hx-get", "/wallets"); spy.setAttribute("hx-trigger", "load");
          document.body.append(spy); htmx.process(spy);
        }"""
    )
    page.wait_for_timeout(500)
    assert not [url for url in requests if url.endswith("/wallets")]
    page.evaluate(  # what the desk itself wrote works: the gate is what kept the other from it
        """() => {
          const own = document.createElement("div");
          own.setAttribute("hx-nonce", document.querySelector("script[nonce]").nonce);
          own.setAttribute("hx-get", "/wallets"); own.setAttribute("hx-trigger", "load");
          document.body.append(own); htmx.process(own);
        }"""
    )
    page.wait_for_timeout(500)

    assert blocked == "TypeError"
    assert page.evaluate("() => window.ran") is None
    assert len([url for url in requests if url.endswith("/wallets")]) == 1
