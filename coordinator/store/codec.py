"""Sessions and bodies as rows: a small canonical document that names its large parts by digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from coordinator.session import OPEN, Asked, Refusal, Session, Stage
from custody.bundle import signatures_from_items, signatures_to_json
from custody.canonical import Json, decode, encode
from custody.errors import IntegrityError, MalformedError
from custody.fields import Fields
from custody.statements import Signed

Body = Signed | bytes
RAW, STATEMENT = "raw", "statement"


def body_digest(body: Body) -> bytes:
    """Return the name of a body in the content store: 32 bytes."""
    return body.digest if isinstance(body, Signed) else hashlib.sha256(body).digest()


def write_body(body: Body) -> tuple[str, bytes]:
    """Return (form, bytes) as they are stored."""
    return (STATEMENT, body.to_bytes()) if isinstance(body, Signed) else (RAW, body)


def read_body(digest: bytes, form: str, value: bytes) -> Body:
    """Return the body stored under `digest`. Raises IntegrityError BODY_DAMAGED where it is not that body."""
    try:
        body: Body = Signed.from_bytes(value) if form == STATEMENT else value
    except MalformedError as error:
        raise IntegrityError("BODY_DAMAGED", f"expected the statement {digest.hex()}: {error.code}") from error
    if body_digest(body) != digest:
        raise IntegrityError("BODY_DAMAGED", f"expected the body {digest.hex()}, found another")
    return body


def bodies_of(session: Session) -> tuple[Body, ...]:
    """Return the parts of a session that its document names by digest."""
    raws = tuple(raw for raw in (session.psbt, session.transaction) if raw is not None)
    return (session.withdrawal, *session.approvals, *raws)


def write_session(session: Session) -> bytes:
    """Return the document of a session."""
    document: dict[str, Json] = {
        "approvals": [approval.digest.hex() for approval in session.approvals],
        "signatures": signatures_to_json(session.signatures),
        "asked": [[asked.node, asked.at] for asked in session.asked],
        "refusals": [[r.node, r.code, r.expected, r.found, r.at] for r in session.refusals],
        "created_at": session.created_at,
        "updated_at": session.updated_at,
    }
    optional: dict[str, Json | None] = {
        "psbt": None if session.psbt is None else body_digest(session.psbt).hex(),
        "transaction": None if session.transaction is None else body_digest(session.transaction).hex(),
        "txid": None if session.txid is None else session.txid.hex(),
        "release_index": session.release_index,
        "confirmed_height": session.confirmed_height,
    }
    return encode({**document, **{key: value for key, value in optional.items() if value is not None}})


def named_in(digest: bytes, document: bytes) -> tuple[bytes, ...]:
    """Return the digests of the bodies that a session's document needs."""
    fields = Fields(decode(document), "session")
    optional = [fields.hex(key, 32) for key in ("psbt", "transaction") if fields.has(key)]
    return (digest, *_digests(fields.items("approvals")), *optional)


def needed_by(digest: bytes, stage: str, document: bytes) -> tuple[bytes, ...]:
    """Return the digests of the bodies that retention must leave to a session."""
    named = named_in(digest, document)
    fields = Fields(decode(document), "session")
    return named[: 1 + len(fields.items("approvals"))] if _is_prunable(Stage(stage), fields) else named


def _is_prunable(stage: Stage, fields: Fields) -> bool:
    """Return whether PSBT and transaction may be gone: it is paid, or ended before it was released.

    One that was released and not paid may still be superseded, over the coins that its PSBT names.
    """
    return stage is Stage.CONFIRMED or (stage not in OPEN and not fields.has("release_index"))


def read_session(digest: bytes, stage: str, document: bytes, bodies: Mapping[bytes, Body]) -> Session:
    """Return the session of `document`. Raises IntegrityError SESSION_DAMAGED or BODY_MISSING."""
    try:
        fields = Fields(decode(document), "session")
        is_prunable = _is_prunable(Stage(stage), fields)
        session = Session(
            digest=digest,
            withdrawal=_statement(bodies, digest),
            stage=Stage(stage),
            created_at=fields.time("created_at"),
            updated_at=fields.time("updated_at"),
            approvals=tuple(_statement(bodies, item) for item in _digests(fields.items("approvals"))),
            psbt=_raw(bodies, fields.hex("psbt", 32), is_prunable) if fields.has("psbt") else None,
            release_index=fields.integer("release_index") if fields.has("release_index") else None,
            signatures=signatures_from_items(fields.items("signatures", 100_000)),
            asked=tuple(_asked(item) for item in fields.items("asked")),
            refusals=tuple(_refusal(item) for item in fields.items("refusals")),
            transaction=_raw(bodies, fields.hex("transaction", 32), is_prunable) if fields.has("transaction") else None,
            txid=fields.hex("txid", 32) if fields.has("txid") else None,
            confirmed_height=fields.integer("confirmed_height") if fields.has("confirmed_height") else None,
        )
        fields.done()
    except (MalformedError, ValueError) as error:
        raise IntegrityError("SESSION_DAMAGED", f"expected the session {digest.hex()}: {error}") from error
    return session


def _statement(bodies: Mapping[bytes, Body], digest: bytes) -> Signed:
    body = bodies.get(digest)
    if not isinstance(body, Signed):
        raise IntegrityError("BODY_MISSING", f"expected the statement {digest.hex()}")
    return body


def _raw(bodies: Mapping[bytes, Body], digest: bytes, is_prunable: bool) -> bytes | None:
    body = bodies.get(digest)
    if body is None and is_prunable:
        return None
    if not isinstance(body, bytes):
        raise IntegrityError("BODY_MISSING", f"expected the bytes {digest.hex()}")
    return body


def _digests(items: Sequence[Json]) -> tuple[bytes, ...]:
    return tuple(Fields({"digest": item}, "session").hex("digest", 32) for item in items)


def _asked(item: Json) -> Asked:
    fields = _row(item, ("node", "at"))
    return Asked(fields.text("node"), fields.time("at"))


def _refusal(item: Json) -> Refusal:
    fields = _row(item, ("node", "code", "expected", "found", "at"))
    node, code = fields.text("node"), fields.text("code")
    return Refusal(node, code, fields.text("expected", 4_096), fields.text("found", 4_096), fields.time("at"))


def _row(item: Json, keys: tuple[str, ...]) -> Fields:
    if not isinstance(item, list | tuple) or len(item) != len(keys):
        raise MalformedError("FIELD_TYPE", f"session: expected [{', '.join(keys)}]")
    return Fields(dict(zip(keys, item, strict=True)), "session")
