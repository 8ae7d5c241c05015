"""The engine's API: which operation on which path does what, from JSON to values and back.

| path | operation | who | what |
|---|---|---|---|
| status | read | signer, keysmith | node, network, pinned genesis, how far it followed |
| key | update | keysmith | make the seed, once |
| key | read | signer, keysmith | the public half |
| genesis | update | keysmith | pin the genesis, once |
| wallet | update | keysmith | let it sign for a later wallet, once log and rules have it too |
| follow | update | signer | follow cosigned entries of the money log |
| sign | update | signer | judge a bundle; signatures, a refusal, or how far behind the engine is |
| life | update | signer | sign the fixed sentence of a proof of life |
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from custody.bundle import MAX_BUNDLE_BYTES, MAX_DELTA_BYTES, Behind, signatures_to_json
from custody.canonical import Json
from custody.errors import MalformedError, Refused
from custody.fields import Fields
from custody.wallet import Network
from signer_node.engine.engine import MAX_GENESIS_BYTES, Birth, Engine, Outcome
from signer_node.engine.version import VERSION
from signer_node.seed import KeyMaterial

MAX_LIFE_CHARS = 1_024  # five short fields
MAX_CONFIRMED = 16  # one is enough: that of the bundle


class UnsupportedOperation(Exception):
    """Not an operation of this path; the server tries `resolve-path` and others on all of them."""


class UnsupportedPath(Exception):
    """No such path."""


async def answer(engine: Engine, operation: str, path: str, data: str) -> Json:
    """Return the answer to one API call, as JSON.

    Args:
        engine: of this mount.
        operation: "read" or "update"; the server has others, which nothing here supports.
        path: behind the mount.
        data: a JSON object, as the caller sent it.

    Raises:
        UnsupportedOperation, UnsupportedPath.
        CustodyError: refused; whatever the engine raises.
    """
    if operation not in {known for known, _ in PATHS}:
        raise UnsupportedOperation  # `rollback` comes each minute, with no path: another answer is an error in its log
    if path not in {known for _, known in PATHS}:
        raise UnsupportedPath
    handler = PATHS.get((operation, path))
    if handler is None:
        raise UnsupportedOperation
    return await handler(engine, _fields(data))


def _fields(data: str) -> Fields:
    try:
        value = json.loads(data or "{}")
    except ValueError as error:
        raise MalformedError("JSON", "expected a JSON object") from error
    return Fields({} if value is None else value, "request")


async def _status(engine: Engine, fields: Fields) -> Json:
    return {"version": VERSION, **await engine.status()}


async def _key(engine: Engine, fields: Fields) -> Json:
    return _public(await engine.public())


async def _bear(engine: Engine, fields: Fields) -> Json:
    node, network = fields.name("node"), fields.text("network")
    known = next((n for n in Network if n.value == network), None)
    if known is None:
        raise MalformedError("NETWORK", f"expected a known network, found {network[:20]!r}")
    birth = Birth(node, known, fields.hex("request", 16))
    fields.done()
    return _public(await engine.bear(birth))


async def _pin(engine: Engine, fields: Fields) -> Json:
    raw, compared = _bytes(fields, "genesis", MAX_GENESIS_BYTES), fields.hex("hash", 32)
    fields.done()
    return {"hash": (await engine.pin(raw, compared)).hex()}


async def _pin_wallet(engine: Engine, fields: Fields) -> Json:
    raw, compared = _bytes(fields, "wallet", MAX_GENESIS_BYTES), fields.hex("hash", 32)
    fields.done()
    return {"hash": (await engine.pin_wallet(raw, compared)).hex()}


async def _follow(engine: Engine, fields: Fields) -> Json:
    raw = _bytes(fields, "delta", MAX_DELTA_BYTES)
    fields.done()
    return {"size": await engine.follow(raw)}


async def _sign(engine: Engine, fields: Fields) -> Json:
    raw = _bytes(fields, "bundle", MAX_BUNDLE_BYTES)
    confirmed = fields.items("confirmed", MAX_CONFIRMED) if fields.has("confirmed") else ()
    fields.done()
    digests = [Fields({"digest": item}, "confirmed").hex("digest", 32) for item in confirmed]
    return _told(await engine.sign(raw, digests))


async def _breathe(engine: Engine, fields: Fields) -> Json:
    raw = _bytes(fields, "life", MAX_LIFE_CHARS)
    fields.done()
    return _told(await engine.breathe(raw))


def _told(outcome: Outcome) -> Json:
    if isinstance(outcome, Refused):
        return {"refused": {"code": outcome.code, "expected": outcome.expected, "found": outcome.found}}
    if isinstance(outcome, Behind):
        return {"behind": outcome.size}
    return {"signatures": signatures_to_json(outcome)}


def _bytes(fields: Fields, key: str, max_chars: int) -> bytes:
    """Return a document that travels as text: the server hands on what was sent, letter by letter."""
    try:
        return fields.text(key, max_chars).encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise MalformedError("FIELD_TYPE", f"{key}: expected text") from error


def _public(material: KeyMaterial) -> Json:
    return {"fingerprint": material.fingerprint.hex(), "path": list(material.path), "xpub": material.xpub}


PATHS: dict[tuple[str, str], Callable[[Engine, Fields], Awaitable[Json]]] = {
    ("read", "status"): _status,
    ("read", "key"): _key,
    ("update", "key"): _bear,
    ("update", "genesis"): _pin,
    ("update", "wallet"): _pin_wallet,
    ("update", "follow"): _follow,
    ("update", "sign"): _sign,
    ("update", "life"): _breathe,
}
