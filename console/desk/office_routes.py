"""Wallets with addresses that are derived here, signers, the logs, and the freeze."""

from __future__ import annotations

import asyncio
import os

import segno
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from console.cli.delivering import deliver
from console.cli.wallet import MAX_LEAP
from console.desk.pages import page, room_of
from console.desk.reading_routes import state_of
from console.desk.room import PAGE_SECONDS, Room
from console.desk.sights import groups_of
from console.desk.signing_routes import begin
from console.keys import drilled_at, proven_at
from console.memory import load_memory, save_memory
from console.refusal import refuse
from console.views import Balance
from custody.address import address_of
from custody.entries import Freeze
from custody.errors import CustodyError, NotFoundError
from custody.follow import open_money_checkpoint
from custody.genesis import GenesisWallet
from custody.state import LONE_FREEZE_SECONDS
from custody.statements import Kind, Signed
from custody.wallet import RECEIVE

router = APIRouter()
FREEZE_ID_BYTES = 16
LAST_RELEASES = 50


@router.get("/wallets")
async def wallets(request: Request) -> Response:
    """Show what each wallet holds, as the chain backend says, and how it is kept, as pinned."""
    room = room_of(request)
    balances = await asyncio.gather(*(_balance(room, wallet) for wallet in room.genesis.wallets))
    return page(request, "wallets.html", wallets=list(zip(room.genesis.wallets, balances, strict=True)))


@router.post("/wallets/{name}/address")
async def next_address(request: Request, name: str) -> Response:
    """Ask which deposit address is free; which one that is, is derived here."""
    room = room_of(request)
    wallet = _wallet(room, name)
    wallet_id = wallet.wallet.wallet_id
    place = await room.client.next_place(wallet_id)
    last = load_memory(room.config.memory, room.genesis.hash).last_index(wallet_id)
    if (place.wallet_id, place.branch) != (wallet_id, RECEIVE):
        refuse("PLACE_OTHER", f"a place on branch {RECEIVE} of this wallet", f"branch {place.branch}")
    if place.index > last + MAX_LEAP:
        refuse("INDEX_TOO_HIGH", f"an index up to {last + MAX_LEAP}", str(place.index))
    memory = load_memory(room.config.memory, room.genesis.hash)  # a command may have written meanwhile
    save_memory(room.config.memory, memory.with_index(wallet_id, place.index))
    return JSONResponse({"goto": f"/wallets/{name}/addresses/{place.index}"})


@router.get("/wallets/{name}/addresses/{index}")
async def address(request: Request, name: str, index: int) -> Response:
    """Show one deposit address, derived here from the pinned descriptor."""
    room = room_of(request)
    wallet = _wallet(room, name)
    last = load_memory(room.config.memory, room.genesis.hash).last_index(wallet.wallet.wallet_id)
    if not 0 <= index <= last + MAX_LEAP:
        refuse("INDEX_TOO_HIGH", f"an index from 0 to {last + MAX_LEAP}", str(index))
    found = address_of(wallet.wallet.script(RECEIVE, index).script, room.genesis.network)
    code = segno.make(f"bitcoin:{found}", error="m").svg_data_uri(scale=4, border=4)
    return page(request, "address.html", wallet=wallet, index=index, groups=groups_of(found), address=found, code=code)


@router.get("/signers")
async def signers(request: Request) -> Response:
    """Show the pinned nodes, and what they proved of their keys."""
    room = room_of(request)
    await room.follow(PAGE_SECONDS)
    policy = state_of(room).policy
    nodes, size = await room.client.signers()
    heard = {node.name: node for node in nodes}
    rows = [
        (pinned, heard.get(pinned.name), proven_at(room.genesis, policy, heard.get(pinned.name)),
         drilled_at(policy, heard.get(pinned.name)))
        for pinned in policy.roots.nodes
    ]  # fmt: skip
    return page(request, "signers.html", rows=rows, size=size)


@router.get("/audit")
async def audit(request: Request) -> Response:
    """Show how far the log was replayed here, who vouched for it, and what was released."""
    room = room_of(request)
    await room.follow(PAGE_SECONDS)
    state, latest = state_of(room), room.office.latest
    vouched = [] if latest is None else sorted(name for name, _ in open_money_checkpoint(state, latest.note).counted)
    releases = list(reversed(state.releases))[:LAST_RELEASES]
    return page(request, "audit.html", state=state, vouched=vouched, releases=releases, roots=state.policy.roots)


@router.get("/freeze")
async def freezes(request: Request) -> Response:
    """Show the freezes of the log, and who may freeze."""
    room = room_of(request)
    await room.follow(PAGE_SECONDS)
    state = state_of(room)
    frozen = [(found, None if found.t is None else found.t + LONE_FREEZE_SECONDS) for found in state.freezes]
    return page(request, "freeze.html", freezes=frozen, may_freeze=_may_freeze(room), quorum=state.policy.admin)


@router.post("/freeze")
async def freeze(request: Request) -> Response:
    """Begin a freeze. It needs no fresh log: it can only protect."""
    room = room_of(request)
    if not _may_freeze(room):
        refuse("MAY_NOT_FREEZE", f"somebody of {', '.join(state_of(room).policy.admin.freeze.groups)}", room.config.me)
    statement = Freeze(room.genesis.hash, os.urandom(FREEZE_ID_BYTES), room.config.me, room.now)

    async def finish(signed: Signed) -> str:
        await deliver(room.office, signed, room.client.freeze(signed))
        await room.follow()
        return "/freeze"

    return begin(room, Kind.FREEZE, statement.to_json(), finish)


def _may_freeze(room: Room) -> bool:
    policy = state_of(room).policy
    person = policy.principal(room.config.me)
    return person is not None and bool(set(policy.admin.freeze.groups) & set(person.groups))


def _wallet(room: Room, name: str) -> GenesisWallet:
    found = next((wallet for wallet in room.genesis.wallets if wallet.name == name), None)
    if found is None:
        raise NotFoundError("WALLET_UNKNOWN", f"expected one of {', '.join(w.name for w in room.genesis.wallets)}")
    return found


async def _balance(room: Room, wallet: GenesisWallet) -> Balance | None:
    try:
        return await room.client.balance(wallet.wallet.wallet_id)
    except CustodyError:
        return None
