"""Why a withdrawal ended: in full in the event log, in one line beside its session, for whoever asks."""

from __future__ import annotations

from coordinator.parts import Parts
from custody.canonical import Json, decode, encode
from custody.decide import Deny
from custody.errors import Refused
from custody.fields import Fields

MAX_GROUNDS = 32  # of one decision in one event; more rules than this say no to nobody
MAX_CHARS = 300  # of one ground: codes, amounts and names fit


def grounds_of(decision: Deny) -> dict[str, Json]:
    """Return what a denial rests on, for the log: the rules by hash, every ground, each rule in the way."""
    return {
        "policy": decision.policy_hash.hex(),
        "grounds": [str(refused)[:MAX_CHARS] for refused in decision.refusals[:MAX_GROUNDS]],
        "rules": [reason.rule for reason in decision.reasons if reason.stops][:MAX_GROUNDS],
    }


async def remember_end(parts: Parts, digest: bytes, refused: Refused) -> None:
    """Keep why the withdrawal `digest` (32 bytes) ends, in front of its end."""
    said = {key: text[:MAX_CHARS] for key, text in _fields(refused).items()}
    await parts.store.remember(_name(digest), encode(said))


async def end_of(parts: Parts, digest: bytes) -> Refused | None:
    """Return why it ended, or None where it did not, or a person ended it."""
    raw = await parts.store.recall(_name(digest))
    if raw is None:
        return None
    fields = Fields(decode(raw), "ended")
    return Refused(fields.text("code"), fields.text("expected", MAX_CHARS), fields.text("found", MAX_CHARS))


def _fields(refused: Refused) -> dict[str, str]:
    return {"code": refused.code, "expected": refused.expected, "found": refused.found}


def _name(digest: bytes) -> str:
    return f"ended/{digest.hex()}"
