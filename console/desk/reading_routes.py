"""Pages that only show: the way in, the queue, one withdrawal; and the pokes that renew them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from console.desk.acts import Look, usable_passkey
from console.desk.doors import cookie_name
from console.desk.languages import LANGUAGES
from console.desk.pages import page, room_of, told
from console.desk.room import PAGE_SECONDS, Room
from console.desk.sights import (
    Place,
    dots_of,
    initiator_refusal,
    place_of,
    rules_of,
    shown_of,
    sight_of,
)
from console.history import History, history_of
from console.memory import load_memory
from console.pages import key_words
from console.showing import missing_lines, signer_line, stop_lines, vote_line
from console.views import Stage, WithdrawalView
from custody.approval import read_approval
from custody.errors import CustodyError, MalformedError
from custody.fields import parse_hex
from custody.follow import State, start

router = APIRouter()
OPEN_STAGES = tuple(stage for stage in Stage if not stage.is_end)
DONE_STAGES = tuple(stage for stage in Stage if stage.is_end)
MAX_OPEN = 200  # more that wait at once than a team can look at; the CLI lists all
MAX_DONE = 20


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One withdrawal of the queue. dots: approvals that are there, and those needed.  why: what holds it up."""

    view: WithdrawalView
    place: Place
    wallet: str
    paid_sats: int
    dots: tuple[int, int]
    why: str


@router.get("/enter")
async def enter(request: Request, token: str = "") -> Response:
    """Open a session for whoever has the link that the terminal printed."""
    room = room_of(request)
    secret = room.sessions.enter(token, room.now)
    if secret is None:
        return told(request, 401, "SIGNED_OUT", "expected the link that `keyturn desk` printed last")
    answer = RedirectResponse("/", 303)
    port = request.url.port or 80
    answer.set_cookie(cookie_name(port), secret, httponly=True, samesite="strict", path="/")
    request.app.state.entered()
    return answer


@router.get("/")
async def queue(request: Request) -> Response:
    """Show what waits, by whom it waits for."""
    return page(request, "queue.html", **await _queue(room_of(request)))


@router.get("/queue")
async def queue_rows(request: Request) -> Response:
    """Show the rows of the queue alone."""
    return page(request, "queue_rows.html", **await _queue(room_of(request)))


@router.get("/events")
async def events(request: Request) -> Response:
    """Poke the page at every change; nothing else is sent, so nothing sent is believed."""
    room = room_of(request)

    async def stream() -> AsyncIterator[str]:
        yield ": here\n\n"
        async for is_change in room.pokes():
            yield "event: poke\ndata: 1\n\n" if is_change else ": still here\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


@router.get("/withdrawals/{digest}")
async def withdrawal(request: Request, digest: str) -> Response:
    """Show one withdrawal whole."""
    return page(request, "withdrawal.html", **await _withdrawal(request, digest))


@router.get("/withdrawals/{digest}/standing")
async def standing(request: Request, digest: str) -> Response:
    """Show how one withdrawal stands now."""
    return page(request, "withdrawal_standing.html", **await _withdrawal(request, digest))


@router.get("/withdrawals/{digest}/history")
async def history(request: Request, digest: str) -> Response:
    """Show what happened to one withdrawal, as the event log tells it."""
    room = room_of(request)
    view = await room.client.withdrawal(parse_hex(digest, "withdrawal", 32))
    found: History = await history_of(room.client, view.digest, view.withdrawal.created_at)
    return page(request, "history.html", history=found)


@router.post("/language")
async def choose_language(request: Request) -> Response:
    """Keep the language of this session."""
    chosen = str((await request.form()).get("language", ""))
    if chosen not in LANGUAGES:
        raise MalformedError("LANGUAGE", f"expected one of {', '.join(LANGUAGES)}")
    request.state.session.language = chosen
    return Response(status_code=204)


@router.post("/leave")
async def leave(request: Request) -> Response:
    """Close every session of this desk; the terminal has the next link."""
    room_of(request).sessions.leave()
    return Response(status_code=204)


def state_of(room: Room) -> State:
    """Return the log as followed last; what was pinned where it never was."""
    return start(room.genesis) if room.office.latest is None else room.office.latest.state


async def _queue(room: Room) -> dict[str, Any]:
    trouble: CustodyError | None = None
    views: tuple[WithdrawalView, ...] = ()
    try:
        waiting, done = await asyncio.gather(_all(room, OPEN_STAGES, MAX_OPEN), _all(room, DONE_STAGES, MAX_DONE))
        views = (*waiting, *done)
    except CustodyError as error:
        trouble = error
    rows = [_row(room, view) for view in views]
    grouped = [(place, [row for row in rows if row.place is place]) for place in Place]
    return {"grouped": grouped, "trouble": trouble, "is_empty": not rows}


async def _all(room: Room, stages: tuple[Stage, ...], most: int) -> tuple[WithdrawalView, ...]:
    found: list[WithdrawalView] = []
    token = ""
    while len(found) < most:
        views, token = await room.client.withdrawals(stages, token, min(50, most - len(found)))
        found.extend(views)
        if not token:
            break
    return tuple(found)


def _row(room: Room, view: WithdrawalView) -> QueueRow:
    wallet = room.genesis.wallet(view.withdrawal.wallet_id)
    return QueueRow(
        view=view,
        place=place_of(view, room.config.me, has_voted=_has_voted(view, room.config.me)),
        wallet="?" if wallet is None else wallet.name,
        paid_sats=sum(found.amount_sats for found in view.withdrawal.payments),
        dots=dots_of(view.missing),
        why=_why(view, room.now),
    )


def _why(view: WithdrawalView, now: int) -> str:
    """Return what holds a withdrawal up, as codes that people search for, "" where nothing does."""
    if view.ended is not None:
        return view.ended.code
    if now >= view.withdrawal.expires_at and not view.stage.is_end:
        return "WITHDRAWAL_EXPIRED"
    refused = [row.refused.code for row in view.signers if row.refused is not None]
    return ", ".join(dict.fromkeys([*(found.code for found in view.decision.refusals), *refused]))


def _has_voted(view: WithdrawalView, me: str) -> bool:
    for signed in view.approvals:
        try:
            if read_approval(signed).approver == me:
                return True
        except MalformedError:
            continue
    return False


async def _withdrawal(request: Request, digest: str) -> dict[str, Any]:
    room = room_of(request)
    await room.follow(PAGE_SECONDS)
    state = state_of(room)
    view = await room.client.withdrawal(parse_hex(digest, "withdrawal", 32))
    policy, me = state.policy, room.config.me
    sight = sight_of(view.withdrawal, room.genesis, state, room.now)
    look = room.acts.look(Look(view.digest, shown_of(sight, view, policy), room.now))
    has_voted = _has_voted(view, me)
    is_mine = view.withdrawal.initiator == me
    return {
        "view": view,
        "sight": sight,
        "look": look,
        "refused": initiator_refusal(view, policy, room.now),
        "rules": rules_of(view, policy),
        "votes": [vote_line(vote, view.withdrawal, policy, room.now) for vote in view.approvals],
        "missing": missing_lines(view.missing, policy, room.now),
        "signers": [signer_line(row) for row in view.signers],
        "logged": stop_lines(state, view.withdrawal),
        "note": load_memory(room.config.memory, room.genesis.hash).note_of(view.digest),
        "is_mine": is_mine,
        "has_voted": has_voted,
        "may_vote": not (is_mine or has_voted or view.stage.is_end),
        "passkey": usable_passkey(policy, me, room.keys, room.now),
        "desk_words": key_words(room.keys.public_key),
    }


@router.get("/banner")
async def banner(request: Request) -> Response:
    """Show how far the log is followed, alone."""
    return page(request, "banner.html")
