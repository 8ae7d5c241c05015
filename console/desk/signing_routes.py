"""Routes that end in a signature: each begins with a statement made here and is finished by the passkey's answer.

What the page showed is compared with what is true when the person clicks, and again when the answer arrives.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from console.cli.delivering import deliver
from console.cli.voting import APPROVAL_SECONDS
from console.desk.acts import Act, Look, changes_of, signed_of, usable_passkey
from console.desk.pages import failure, room_of
from console.desk.passkeys import RP_ID, b64
from console.desk.room import Room
from console.desk.sights import shown_of, sight_of
from console.drafts import check_me, earlier_approvals
from console.memory import load_memory, save_memory
from console.pen import Pen, open_pen
from console.refusal import RefusedHereError, refuse, refuse_if
from console.views import WithdrawalView
from console.votes import approval_of, check_open, reject_of
from custody.approval import Approval
from custody.canonical import Json, encode
from custody.errors import MalformedError, Refused
from custody.fields import parse_hex
from custody.follow import State
from custody.pasted import refuse_pasted
from custody.statements import Kind, Signed

router = APIRouter()
MAX_REASON_CHARS = 500


class ChangedError(RefusedHereError):
    """What the page showed is not what is true now. changes: (name, before, after)."""

    def __init__(self, changes: tuple[tuple[str, str, str], ...]) -> None:
        """Refuse with CHANGED."""
        named = ", ".join(name for name, _, _ in changes)
        super().__init__(Refused("CHANGED", "what the page showed", f"changes of {named}"))
        self.changes = changes


@router.post("/withdrawals/{digest}/approve")
async def approve(request: Request, digest: str) -> Response:
    """Begin an approval of what the page showed."""
    # Plan: 1 the page showed this very withdrawal · 2 fresh log · 3 nothing changed since · 4 what it then says.
    room, form = room_of(request), await request.form()
    about = parse_hex(digest, "withdrawal", 32)
    look = room.acts.looked(str(form.get("look", "")), about, room.now)
    view = await _unchanged(room, look)
    said = approval_of(view.withdrawal, _earlier(room, view), room.config.me, room.now, APPROVAL_SECONDS)

    async def finish(signed: Signed) -> str:
        await _unchanged(room, look)
        await room.client.approve(signed, about)
        room.poke()
        return f"/withdrawals/{digest}"

    return begin(room, Kind.APPROVAL, said.to_json(), finish)


@router.post("/withdrawals/{digest}/reject")
async def reject(request: Request, digest: str) -> Response:
    """Begin a reject. It needs no fresh log: a stop can only protect."""
    room, form = room_of(request), await request.form()
    about = parse_hex(digest, "withdrawal", 32)
    reason = str(form.get("reason", "")).strip()[:MAX_REASON_CHARS]
    if not reason:
        raise MalformedError("REASON", "expected a reason: a note for yourself, which stays on this machine")
    said = reject_of(room.genesis.hash, about, room.config.me, room.now, room.now + APPROVAL_SECONDS)

    async def finish(signed: Signed) -> str:
        await deliver(room.office, signed, room.client.stop(signed, about))
        memory = load_memory(room.config.memory, room.genesis.hash)
        save_memory(room.config.memory, memory.with_note(about, reason))
        room.poke()
        return f"/withdrawals/{digest}"

    return begin(room, Kind.APPROVAL, said.to_json(), finish)


@router.post("/acts/{name}")
async def finish_act(request: Request, name: str) -> Response:
    """Finish what was begun, with the passkey's answer; it works once."""
    room = room_of(request)
    act = room.acts.take(name, room.now)
    signed = signed_of(act, await read_json(request), room.keys, lambda: own_pen(room))
    return JSONResponse({"goto": await act.finish(signed), "warned": list(room.notes.taken())})


def begin(room: Room, kind: Kind, statement: Json, finish: Callable[[Signed], Awaitable[str]]) -> Response:
    """Return what the page's script asks the passkey, or that the person's key file signs.

    Raises:
        RefusedHereError: NOT_IN_RULES, KEY_NOT_IN_RULES: nothing here signs for this person.
    """
    passkey = usable_passkey(room.office.policy, room.config.me, room.keys, room.now)
    if passkey is None:
        own_pen(room)
    refuse_pasted(statement, kind.name.lower())
    return ask_passkey(room, Act(kind, encode(statement), finish, passkey, room.now))


def ask_passkey(room: Room, act: Act) -> Response:
    """Keep `act`; return what the page's script asks the passkey, or that nobody needs to be asked."""
    path = f"/acts/{room.acts.begin(act)}"
    if act.passkey is None:
        return JSONResponse({"act": path})
    options = {
        "challenge": b64(act.digest),
        "rpId": RP_ID,
        "allowCredentials": [{"type": "public-key", "id": b64(act.passkey.id)}],
        "userVerification": "required",
        "timeout": 120_000,
    }
    return JSONResponse({"act": path, "get": options})


def own_pen(room: Room) -> Pen:
    """Return the pen of the person's key file, if the rules in force list it.

    Raises:
        RefusedHereError: NOT_IN_RULES, KEY_NOT_IN_RULES.
    """
    pen = open_pen(room.config.key)
    refuse_if(check_me(room.office.policy, room.config.me, pen.key, room.now))
    return pen


async def read_json(request: Request) -> Mapping[str, Any]:  # Any: what a browser says, read field by field
    """Return the JSON object that a page's script sent. Raises MalformedError BODY."""
    try:
        value = json.loads(await request.body() or b"{}")
    except (ValueError, RecursionError) as error:
        raise MalformedError("BODY", "expected JSON") from error
    if not isinstance(value, dict):
        raise MalformedError("BODY", "expected a JSON object")
    return value


async def _unchanged(room: Room, look: Look) -> WithdrawalView:
    """Return the withdrawal that a page showed, if it still stands as shown and may be approved.

    Raises:
        RefusedHereError: STALE, LOOKALIKE, a code of `check_open`.
        ChangedError: with what is not as it was shown.
    """
    await room.follow()
    state = await fresh_state(room)
    view = await room.client.withdrawal(look.about)
    sight = sight_of(view.withdrawal, room.genesis, state, room.now)
    if changes := changes_of(look.shown, shown_of(sight, view, state.policy)):
        raise ChangedError(changes)
    check_open(view, room.genesis, state, room.config.me, room.now)
    if not all(found.is_valid for found in sight.payments):
        refuse("ADDRESS_INVALID", f"addresses of {room.genesis.network.value}", "another")
    if sight.poisoned:
        found = sight.poisoned[0]
        refuse("LOOKALIKE", f"an address that nobody takes for {found.looks_like}", found.payment.address)
    return view


async def fresh_state(room: Room) -> State:
    """Return the state to decide by. Raises RefusedHereError STALE, or what was found wrong with the log."""
    standing = room.standing
    if standing.code:
        refuse(standing.code, "a log that was followed just now", standing.message or standing.code)
    return await room.office.fresh_state()


def _earlier(room: Room, view: WithdrawalView) -> tuple[Approval, ...]:
    return earlier_approvals(room.office.policy, view.withdrawal, view.approvals, room.config.me, room.now)


async def changed_page(request: Request, error: Exception) -> Response:
    """Return 409 with what changed."""
    assert isinstance(error, ChangedError)  # noqa: S101 - registered for it
    return failure(request, error, error.changes)
