"""Where messages are kept between their steps: one small record each, and which of them can still move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.parts import Parts
from custody.bundle import signatures_from_items, signatures_to_json
from custody.canonical import Json, decode, encode
from custody.errors import NotFoundError, Refused
from custody.fields import Fields
from custody.signatures import InputSignature
from custody.statements import Signed

MAX_KEPT = 512  # that are listed; the log keeps all
_ALL, _OPEN = "messages", "messages/open"


@dataclass(frozen=True, slots=True)
class Kept:
    """One message. asked: when a bundle went to a node.  refused: its last no.  proof: BIP-322 text, once complete."""

    signed: Signed
    approvals: tuple[Signed, ...] = ()
    signatures: tuple[InputSignature, ...] = ()
    asked: tuple[tuple[str, int], ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    ended: Refused | None = None
    proof: str = ""

    @property
    def digest(self) -> bytes:
        """Of the message: 32 bytes."""
        return self.signed.digest

    @property
    def is_open(self) -> bool:
        """Whether it can still move."""
        return self.ended is None and not self.proof


async def load(parts: Parts, digest: bytes) -> Kept:
    """Return the message with `digest` (32 bytes). Raises NotFoundError MESSAGE_UNKNOWN."""
    kept = await find(parts, digest)
    if kept is None:
        raise NotFoundError("MESSAGE_UNKNOWN", f"expected a message {digest.hex()[:16]}")
    return kept


async def find(parts: Parts, digest: bytes) -> Kept | None:
    """Return the message with `digest` (32 bytes), or None."""
    raw = await parts.store.recall(_name(digest))
    return None if raw is None else _read(raw)


async def listed(parts: Parts) -> tuple[Kept, ...]:
    """Return the messages that are kept, newest first."""
    found = [await find(parts, digest) for digest in await _digests(parts, _ALL)]
    return tuple(kept for kept in found if kept is not None)


async def open_digests(parts: Parts) -> tuple[bytes, ...]:
    """Return the messages that can still move: 32 bytes each."""
    return await _digests(parts, _OPEN)


async def remember(parts: Parts, kept: Kept) -> None:
    """Keep `kept` as it now is. What stands in the indices and is not there was never answered for."""
    await parts.store.remember(_name(kept.digest), _written(kept))
    async with parts.turns[_OPEN.encode()]:  # the indices are of all messages
        for index, belongs in ((_ALL, True), (_OPEN, kept.is_open)):
            known = await _digests(parts, index)
            if belongs and kept.digest not in known:
                await _index(parts, index, (kept.digest, *known)[:MAX_KEPT])
            elif not belongs and kept.digest in known:
                await _index(parts, index, [digest for digest in known if digest != kept.digest])


async def _digests(parts: Parts, index: str) -> tuple[bytes, ...]:
    raw = await parts.store.recall(index)
    items = () if raw is None else Fields({"digests": decode(raw)}, index).items("digests", MAX_KEPT)
    return tuple(Fields({"digest": item}, index).hex("digest", 32) for item in items)


async def _index(parts: Parts, index: str, digests: Sequence[bytes]) -> None:
    await parts.store.remember(index, encode([digest.hex() for digest in digests]))


def _written(kept: Kept) -> bytes:
    value: dict[str, Json] = {
        "signed": kept.signed.to_json(),
        "approvals": [signed.to_json() for signed in kept.approvals],
        "signatures": signatures_to_json(kept.signatures),
        "asked": dict(kept.asked),
        "refused": dict(kept.refused),
        "proof": kept.proof,
    }
    if kept.ended is not None:
        value["ended"] = {"code": kept.ended.code, "expected": kept.ended.expected, "found": kept.ended.found}
    return encode(value)


def _read(raw: bytes) -> Kept:
    fields = Fields(decode(raw), "message")
    signed = Signed.from_json(fields.any("signed"))
    approvals = tuple(Signed.from_json(item) for item in fields.items("approvals", 256))
    signatures = signatures_from_items(fields.items("signatures"))
    asked, refused = fields.any("asked"), fields.any("refused")
    ended = fields.fields("ended") if fields.has("ended") else None
    kept = Kept(
        signed=signed,
        approvals=approvals,
        signatures=signatures,
        asked=tuple((node, int(str(at))) for node, at in asked.items()) if isinstance(asked, dict) else (),
        refused=tuple((node, str(code)) for node, code in refused.items()) if isinstance(refused, dict) else (),
        ended=None if ended is None else Refused(*(ended.text(key, 1_024) for key in ("code", "expected", "found"))),
        proof=fields.text("proof", 3_000_000),
    )
    fields.done()
    return kept


def _name(digest: bytes) -> str:
    return f"message/{digest.hex()}"
