"""Templates to answers: pages in the reader's language, with the nonce of this answer and the standing of the log."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from console.channel import CallRefusedError
from console.desk.doors import STATUS
from console.desk.languages import LANGUAGES, language_of, tag_of, words_in
from console.desk.room import Room
from console.desk.sessions import Session
from console.desk.sights import age_words, groups_of, paid_words
from console.pages import btc, span, utc
from console.plain import plain
from console.refusal import RefusedHereError
from custody.errors import ConflictError, CustodyError, DeniedError, MalformedError, NotFoundError, UnavailableError

HERE = Path(__file__).parent
_HTTP: tuple[tuple[type[CustodyError], int], ...] = (
    (RefusedHereError, 409),
    (CallRefusedError, 409),
    (ConflictError, 409),
    (DeniedError, 403),
    (NotFoundError, 404),
    (MalformedError, 422),
    (UnavailableError, 503),
)


def room_of(request: Request) -> Room:
    """Return what the pages stand on."""
    found = request.app.state.room
    assert isinstance(found, Room)  # noqa: S101 - `make_app` sets it
    return found


def language(request: Request) -> str:
    """Return the language of whoever asks: chosen, or as the browser says."""
    session: Session | None = request.state.session
    if session is not None and session.language:
        return session.language
    return language_of(request.headers.get("accept-language", ""))


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:  # Any: for templates
    """Return `template` filled with `values` and with what every page shows."""
    room, chosen = room_of(request), language(request)
    session: Session | None = request.state.session
    common = {
        "room": room,
        "standing": room.standing,
        "is_frozen": room.office.latest is not None and room.office.latest.state.is_frozen(room.now),
        "me": room.config.me,
        "network": room.genesis.network.value,
        "nonce": request.state.nonce,
        "csrf": "" if session is None else session.csrf,
        "language": chosen,
        "languages": LANGUAGES,
        "lang_tag": tag_of(chosen),
        "here": request.url.path,
        "now": room.now,
    }
    return HTMLResponse(_environment(chosen).get_template(template).render({**common, **values}), status)


def failure(request: Request, error: CustodyError, changes: tuple[tuple[str, str, str], ...] = ()) -> Response:
    """Return what went wrong, as a page or for the page's own script; nothing was signed."""
    status = next((code for kind, code in _HTTP if isinstance(error, kind)), 502)
    return told(request, status, error.code, error.message, changes)


def told(
    request: Request, status: int, code: str, message: str, changes: tuple[tuple[str, str, str], ...] = ()
) -> Response:
    """Return a refusal with its stable code."""
    if "application/json" in request.headers.get("accept", ""):
        rows = [{"name": name, "before": before, "after": after} for name, before, after in changes]
        title = _said(words_in(language(request)).gettext, code)
        return JSONResponse({"code": code, "title": title, "message": plain(message), "changes": rows}, status)
    return page(request, "refused.html", status, code=code, message=message)


def refused_at_the_door(request: Request) -> Response:
    """Return the page of a request that did not come from this desk's own pages."""
    refused = request.state.refused
    return told(request, STATUS[refused.code], refused.code, f"expected {refused.expected}, found {refused.found}")


@cache
def _environment(chosen: str) -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    catalogue = words_in(chosen)
    made.install_gettext_translations(catalogue, newstyle=True)  # type: ignore[attr-defined]  # the extension adds it
    made.filters.update(btc=btc, span=span, utc=utc, age=age_words, plain=plain, groups=groups_of, paid=paid_words)
    made.filters["sats"] = lambda amount: f"{amount:,}"
    made.globals["sri"] = _integrity()
    made.globals["said_of"] = lambda code: _said(catalogue.gettext, code)
    made.globals["stage_of"] = lambda stage: catalogue.gettext(f"stage:{stage.value}").removeprefix("stage:")
    return made


def _integrity() -> dict[str, str]:
    """Return what each vendored script must be, as a browser checks it: by file name."""
    packages = json.loads((HERE / "vendored.json").read_text())
    return {name: found for files in packages.values() for name, found in files.items()}


def _said(gettext: Any, code: str) -> str:  # Any: a catalogue's method
    """Return what a code means in the reader's language; the code itself where there is no sentence for it."""
    key = f"code:{code}"
    found: str = gettext(key)
    return SENTENCES.get(code, code) if found == key else found


SENTENCES = {  # in English; catalogues translate them under "code:CODE"
    "STALE": "The log cannot be followed now. Nothing is approved until it can.",
    "CHANGED": "Something changed since you looked. Read it again.",
    "PAGE_EXPIRED": "This page is too old. Load it again.",
    "PAGE_OTHER": "This page showed another withdrawal.",
    "ACT_EXPIRED": "This question is too old, or was answered already.",
    "LOOKALIKE": "A payee looks like an address you know, but is not it.",
    "APPROVAL_SELF": "You asked for this withdrawal yourself: others approve it.",
    "STOPPED": "This withdrawal has been ended.",
    "WITHDRAWAL_EXPIRED": "This withdrawal has expired.",
    "ASSERTION": "That is not your passkey's answer to this question.",
    "CROSS_SITE": "This request did not come from a page of this desk.",
    "HOST_OTHER": "The desk answers to its own name alone.",
    "SIGNED_OUT": "Open the desk by the link that it printed when it started.",
    "CSRF": "This request did not come from a page of this session.",
    "BODY_TOO_LARGE": "That is too much for one request.",
    "MAY_NOT_FREEZE": "The rules do not let you freeze.",
    "KEY_NOT_IN_RULES": "The rules do not list a key that this desk can sign with.",
    "NOT_IN_RULES": "The rules do not list you.",
    "ALREADY_PAID": "The same was paid before.",
    "WITHDRAWAL_UNKNOWN": "There is no such withdrawal.",
}
