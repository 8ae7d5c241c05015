"""Your keys: make a passkey at this desk, prove that it and the desk are yours, and hand the proof to an admin.

Nothing enters the rules from here: admins compare the words by voice, write the next version, and sign it as a quorum.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from console.desk.acts import Act
from console.desk.pages import page, room_of
from console.desk.passkeys import ALGORITHMS, RP_ID, Passkey, b64, read_created
from console.desk.reading_routes import state_of
from console.desk.room import PAGE_SECONDS, Room
from console.desk.signing_routes import ask_passkey, read_json
from console.files import replace_file
from console.pages import key_words
from console.pen import open_pen
from custody.canonical import encode
from custody.errors import CustodyError
from custody.possession import Possession, read_possession
from custody.statements import Kind, Signed

router = APIRouter()
CHALLENGE_BYTES = 32


@dataclass(frozen=True, slots=True)
class KeySight:
    """One key of this person. words: what its owner reads out.  is_listed: in the rules in force, beside this desk.

    proof: the file for an admin, None where there is none.
    """

    alg: str
    words: str
    is_listed: bool
    proof: Path | None


@router.get("/keys")
async def keys(request: Request) -> Response:
    """Show this person's keys, and whether the rules list them."""
    room = room_of(request)
    await room.follow(PAGE_SECONDS)
    person = state_of(room).policy.principal(room.config.me)
    passkeys = [_passkey_sight(room, found) for found in reversed(room.keys.passkeys())]
    return page(request, "keys.html", person=person, passkeys=passkeys, own=_own_sight(room), origin=room.keys.origin)


@router.post("/keys/create")
async def create(request: Request) -> Response:
    """Ask the browser for a new passkey."""
    room = room_of(request)
    challenge = os.urandom(CHALLENGE_BYTES)
    me = room.config.me
    options = {
        "rp": {"id": RP_ID, "name": "Keyturn"},
        "user": {"id": b64(room.genesis.hash[:16] + me.encode()[:32]), "name": me, "displayName": me},
        "challenge": b64(challenge),
        "pubKeyCredParams": [{"type": "public-key", "alg": number} for number in ALGORITHMS.values()],
        "authenticatorSelection": {"residentKey": "preferred", "userVerification": "required"},
        "excludeCredentials": [{"type": "public-key", "id": b64(found.id)} for found in room.keys.passkeys()],
        "attestation": "none",
        "timeout": 120_000,
    }
    return JSONResponse({"create": options, "created": f"/keys/created/{room.acts.ask(challenge, room.now)}"})


@router.post("/keys/created/{name}")
async def created(request: Request, name: str) -> Response:
    """Take the passkey that the browser made, and ask it to prove itself over what the rules would say of it."""
    room = room_of(request)
    passkey = read_created(await read_json(request), room.acts.asked(name, room.now), room.keys.origin)
    said = Possession(
        genesis=room.genesis.hash,
        principal=room.config.me,
        alg=passkey.alg,
        key=passkey.key,
        rp_id=RP_ID,
        origins=(room.keys.origin,),
        desk_key=room.keys.public_key,
    )

    async def finish(signed: Signed) -> str:
        read_possession(signed, room.genesis.hash)
        replace_file(_proof_path(room, passkey), signed.to_bytes())
        room.keys.remember(passkey)
        return "/keys"

    return ask_passkey(room, Act(Kind.POSSESSION, encode(said.to_json()), finish, passkey, room.now))


def _passkey_sight(room: Room, passkey: Passkey) -> KeySight:
    person = state_of(room).policy.principal(room.config.me)
    listed = None if person is None else person.credential(passkey.key)
    is_listed = listed is not None and listed.desk_key == room.keys.public_key
    proof = _proof_path(room, passkey)
    words = key_words(passkey.key + room.keys.public_key)
    return KeySight(passkey.alg, words, is_listed, proof if proof.exists() else None)


def _own_sight(room: Room) -> KeySight | None:
    """Return the key file of the settings, None where it cannot be read."""
    try:
        pen = open_pen(room.config.key)
    except CustodyError:
        return None
    person = state_of(room).policy.principal(room.config.me)
    return KeySight(pen.alg, key_words(pen.key), person is not None and person.credential(pen.key) is not None, None)


def _proof_path(room: Room, passkey: Passkey) -> Path:
    return room.config.path.with_name(f"{room.config.me}.passkey-{passkey.id.hex()[:8]}.proof.json")
