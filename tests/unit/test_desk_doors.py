"""The doors of the desk: one valid request, one change, one code; and tokens that open once."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from console.desk.doors import csp, refusal_of, secret_of
from console.desk.serving import take_port
from console.desk.sessions import MAX_SESSIONS, SESSION_SECONDS, Sessions
from custody.errors import UnavailableError

PORT = 8420
HEADERS = {"host": "localhost:8420", "sec-fetch-site": "same-origin", "origin": "http://localhost:8420"}
STATIC = Path("console/desk")


@pytest.mark.parametrize(
    ("method", "changes", "code"),
    [
        ("POST", {}, None),
        ("GET", {"sec-fetch-site": "none"}, None),
        ("POST", {"sec-fetch-site": "none"}, "CROSS_SITE"),
        ("POST", {"sec-fetch-site": "same-site"}, "CROSS_SITE"),
        ("POST", {"sec-fetch-site": "cross-site"}, "CROSS_SITE"),
        ("GET", {"sec-fetch-site": "same-site"}, "CROSS_SITE"),
        ("GET", {"sec-fetch-site": "cross-site"}, "CROSS_SITE"),
        ("GET", {"host": "127.0.0.1:8420"}, "HOST_OTHER"),
        ("GET", {"host": "evil.example:8420"}, "HOST_OTHER"),
        ("GET", {"host": "localhost"}, "HOST_OTHER"),
        ("POST", {"sec-fetch-site": None}, None),
        ("POST", {"sec-fetch-site": None, "origin": "http://localhost:9999"}, "CROSS_SITE"),
        ("POST", {"sec-fetch-site": None, "origin": "null"}, "CROSS_SITE"),
        ("POST", {"sec-fetch-site": None, "origin": None}, "CROSS_SITE"),
    ],
)
def test_request_when_it_is_not_of_our_own_pages_then_is_refused(
    method: str, changes: Mapping[str, str | None], code: str | None
) -> None:
    """Host, then Sec-Fetch-Site, then Origin where a browser sends nothing else."""
    headers = {name: value for name, value in {**HEADERS, **changes}.items() if value is not None}

    refused = refusal_of(method, headers, PORT)

    assert (None if refused is None else refused.code) == code


def test_token_when_used_then_opens_once_and_another_waits() -> None:
    """The link of a process list or a history opens nothing any more."""
    sessions = Sessions()
    token = sessions.token

    secret = sessions.enter(token, 0)

    assert secret is not None
    assert sessions.enter(token, 0) is None
    assert sessions.token != token
    assert sessions.find(secret, SESSION_SECONDS - 1) is not None
    assert sessions.find("another", 0) is None
    assert sessions.find(secret, SESSION_SECONDS) is None


def test_sessions_when_there_are_too_many_or_all_are_closed_then_none_of_them_opens() -> None:
    """The oldest goes; signing out closes all."""
    sessions = Sessions()
    secrets = [sessions.enter(sessions.token, 0) or "" for _ in range(MAX_SESSIONS + 1)]

    assert sessions.find(secrets[0], 1) is None
    assert sessions.find(secrets[-1], 1) is not None
    sessions.leave()
    assert sessions.find(secrets[-1], 1) is None


def test_cookie_when_it_is_of_another_port_then_is_not_read() -> None:
    """Browsers send every cookie of localhost to every port."""
    assert secret_of({"cookie": "keyturn-desk-9999=a; keyturn-desk-8420=b"}, PORT) == "b"
    assert secret_of({"cookie": "keyturn-desk-9999=a"}, PORT) == ""
    assert secret_of({}, PORT) == ""


def test_policy_of_a_page_when_read_then_lets_nothing_in_from_outside() -> None:
    """No foreign source, no inline script or style, no eval, no frame; sinks take Trusted Types alone."""
    found = csp("abc")

    for wanted in ("default-src 'none'", "script-src 'nonce-abc'", "style-src 'self'", "frame-ancestors 'none'"):
        assert wanted in found
    assert "require-trusted-types-for 'script'" in found
    assert "unsafe" not in found
    assert "http" not in found


def test_port_when_another_program_listens_there_then_the_desk_does_not_start() -> None:
    """Two programs on one port would be one origin to a browser."""
    taken = take_port(0)
    try:
        with pytest.raises(UnavailableError) as refused:
            take_port(taken[0].getsockname()[1])
    finally:
        for each in taken:
            each.close()

    assert refused.value.code == "PORT_TAKEN"


def test_vendored_scripts_when_read_then_are_what_the_manifest_says() -> None:
    """What browsers check by `integrity` is what is in the tree."""
    packages = json.loads((STATIC / "vendored.json").read_text())

    for files in packages.values():
        for name, wanted in files.items():
            digest = hashlib.sha384((STATIC / "static" / name).read_bytes()).digest()
            assert wanted == "sha384-" + base64.b64encode(digest).decode(), name


def test_templates_when_read_then_hold_no_inline_style_and_no_inline_script() -> None:
    """The policy would block them; nothing is written that it blocks."""
    for path in (STATIC / "templates").glob("*.html"):
        text = path.read_text()
        assert " style=" not in text, path
        assert " onclick=" not in text, path
        assert "http://" not in text, path
        assert "https://" not in text, path
        for line in text.splitlines():
            assert "<script" not in line or 'src="/static/' in line, path
