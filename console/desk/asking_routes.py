"""New withdrawal: fields, then the whole statement with the rules' verdict, then the initiator's own signature."""

from __future__ import annotations

import os
from itertools import zip_longest

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from console.cli.withdrawals import MAX_FEE_SATS
from console.desk.pages import page, room_of
from console.desk.reading_routes import state_of
from console.desk.room import PAGE_SECONDS, Room
from console.desk.sights import known_addresses, sight_of
from console.desk.signing_routes import begin, fresh_state
from console.desk.wishes import Verdict, Wish, verdict_on, withdrawal_of
from console.refusal import refuse
from custody.errors import CustodyError
from custody.statements import Kind, Signed
from custody.withdrawal import Withdrawal

router = APIRouter()


@router.get("/new")
async def new(request: Request) -> Response:
    """Show the fields of a new withdrawal, with the addresses that pinned lists and earlier payments know."""
    room = room_of(request)
    await room.follow(PAGE_SECONDS)
    state = state_of(room)
    listed = [
        (entry.address, f"{found.name}: {entry.label}") for found in state.policy.lists for entry in found.entries
    ]
    paid = [(found, "") for found in known_addresses(state, room.genesis.network) if found not in dict(listed)]
    return page(request, "new.html", wallets=room.genesis.wallets, book=[*listed, *paid], max_fee=MAX_FEE_SATS)


@router.post("/new/review")
async def review(request: Request) -> Response:
    """Make the statement of what the fields ask for, and show it whole before it is signed."""
    room, form = room_of(request), await request.form()
    await room.follow()
    state = await fresh_state(room)
    columns = [[str(value) for value in form.getlist(name)] for name in ("address", "amount", "label")]
    rows = [(a, b, c) for a, b, c in zip_longest(*columns, fillvalue="") if a.strip() or b.strip()]
    wish = Wish(
        wallet=str(form.get("wallet", "")),
        payees=tuple(rows),
        max_fee_sats=str(form.get("max_fee_sats", "")),
        hours=str(form.get("hours", "")),
        is_again=form.get("again") == "yes",
    )
    asked = withdrawal_of(wish, room.genesis, state, room.config.me, f"w-{os.urandom(5).hex()}", room.now)
    return JSONResponse({"goto": f"/new/{room.acts.draft(asked)}"})


@router.get("/new/{name}")
async def reviewed(request: Request, name: str) -> Response:
    """Show a draft: the same sentence that approvers will read, and what the rules would say of it."""
    room = room_of(request)
    asked = room.acts.drafted(name)
    await room.follow(PAGE_SECONDS)
    sight = sight_of(asked, room.genesis, state_of(room), room.now)
    return page(request, "review.html", sight=sight, name=name, verdict=await _verdict(room, asked))


@router.post("/new/{name}/sign")
async def sign(request: Request, name: str) -> Response:
    """Begin the initiator's signature of a draft."""
    room = room_of(request)
    asked = room.acts.drafted(name)
    await room.follow()
    state = await fresh_state(room)
    poisoned = sight_of(asked, room.genesis, state, room.now).poisoned
    if poisoned:
        refuse("LOOKALIKE", f"an address that nobody takes for {poisoned[0].looks_like}", poisoned[0].payment.address)

    async def finish(signed: Signed) -> str:
        view, _ = await room.client.propose(signed)
        room.poke()
        return f"/withdrawals/{view.digest.hex()}"

    return begin(room, Kind.WITHDRAWAL, asked.to_json(), finish)


async def _verdict(room: Room, asked: Withdrawal) -> Verdict | None:
    """Return the verdict, None where the coordinator does not list the wallet's coins now."""
    wallet = room.genesis.wallet(asked.wallet_id)
    if wallet is None:
        return None
    try:
        coins = await room.client.coins(wallet.name)
    except CustodyError:
        return None
    return verdict_on(asked, wallet, state_of(room), coins, room.now)
