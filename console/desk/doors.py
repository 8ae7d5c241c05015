"""Which requests come in: from our own pages in the browser of whoever opened the desk, and from nowhere else.

Another site, another program's page on another port, a page that found our port by another name: each is refused before
a route runs. Every answer carries a policy under which no injected script, style, frame or foreign request works.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from hmac import compare_digest
from http.cookies import CookieError, SimpleCookie
from typing import Any, TypeAlias

from console.desk.sessions import Session, Sessions
from custody.errors import Refused

# Any: the ASGI specification types its messages so
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

CSRF_HEADER = "x-desk-csrf"
MAX_BODY_BYTES = 256 * 1024  # a withdrawal to a thousand payees is under 200 KiB
OPEN_PATHS = ("/enter", "/static/")  # what anybody on this machine may ask for: the way in, and our own style
STATUS = {"HOST_OTHER": 421, "CROSS_SITE": 403, "SIGNED_OUT": 401, "CSRF": 403, "BODY_TOO_LARGE": 413}


def cookie_name(port: int) -> str:
    """Return the session cookie's name: browsers keep cookies by host alone, and other ports have their own desks."""
    return f"keyturn-desk-{port}"


def csp(nonce: str) -> str:
    """Return the policy of one answer. nonce: of this answer alone."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types htmx"
    )


def refusal_of(method: str, headers: Mapping[str, str], port: int) -> Refused | None:
    """Return why a request does not come from a page of this desk, or None.

    Args:
        method: GET, POST, ...
        headers: by lower-case name.
        port: where this desk listens.
    """
    # Plan: 1 by our own name · 2 the browser says where from · 3 an old browser says at least its origin.
    if headers.get("host", "") != f"localhost:{port}":
        return Refused("HOST_OTHER", f"localhost:{port}", headers.get("host", "none")[:80])
    reads = method in ("GET", "HEAD")
    site = headers.get("sec-fetch-site")
    if site is not None:
        allowed = ("same-origin", "none") if reads else ("same-origin",)
        return None if site in allowed else Refused("CROSS_SITE", "a request of this desk's own page", site[:20])
    if not reads and headers.get("origin") != f"http://localhost:{port}":
        return Refused("CROSS_SITE", f"origin http://localhost:{port}", headers.get("origin", "none")[:80])
    return None


def secret_of(headers: Mapping[str, str], port: int) -> str:
    """Return what the session cookie holds, "" for none."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(cookie_name(port))
    except CookieError:
        return ""
    return "" if found is None else found.value


class Doors:
    """The outermost layer of the desk's pages: judges each request, then lets the application answer it."""

    def __init__(self, app: App, sessions: Sessions, port: int, now: Callable[[], int], refuse: App) -> None:
        """Guard `app`; `refuse` renders the page of a refusal, which it finds in scope["state"]["refused"]."""
        self._app, self._sessions, self._port, self._now, self._refuse = app, sessions, port, now, refuse

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI says."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no page of ours opens a web socket
            return
        nonce = secrets.token_urlsafe(16)
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        session = self._sessions.find(secret_of(headers, self._port), self._now())
        scope["state"] = {"nonce": nonce, "session": session}
        refused = refusal_of(scope["method"], headers, self._port) or self._judge(scope, headers, session)
        if refused is not None:
            scope["state"]["refused"] = refused
            await self._refuse(scope, receive, _with_headers(send, nonce))
            return
        await self._app(scope, _bounded(receive), _with_headers(send, nonce))

    def _judge(self, scope: Message, headers: Mapping[str, str], session: Session | None) -> Refused | None:
        """Return why this browser may not do this, or None."""
        if any(scope["path"] == path or (path.endswith("/") and scope["path"].startswith(path)) for path in OPEN_PATHS):
            return None
        if session is None:
            return Refused("SIGNED_OUT", "the link that `keyturn desk` printed", "no session of this desk")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return Refused("BODY_TOO_LARGE", f"at most {MAX_BODY_BYTES} bytes", length[:20])
        is_ours = compare_digest(headers.get(CSRF_HEADER, "").encode(), session.csrf.encode())
        if scope["method"] not in ("GET", "HEAD") and not is_ours:
            return Refused("CSRF", "a request of a page of this session", "another's; load the page again")
        return None


def _bounded(receive: Receive) -> Receive:
    """Return `receive`, which ends the connection once a body is longer than it may be, whatever its header says."""
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > MAX_BODY_BYTES else message

    return bounded


def _with_headers(send: Send, nonce: str) -> Send:
    added = {
        "content-security-policy": csp(nonce),
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "publickey-credentials-get=(self), publickey-credentials-create=(self)",
        "referrer-policy": "same-origin",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "cache-control": "no-store",
    }

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(key, value) for key, value in message["headers"] if key.decode().lower() not in added]
            message["headers"] = kept + [(key.encode(), value.encode()) for key, value in added.items()]
        await send(message)

    return sending
