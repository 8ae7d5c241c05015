"""What nodes signed about their keys: the last proof of life and the last drill of each, kept for whoever asks.

Nothing here decides anything: a reader verifies the statements himself. An alarm in the log of this service tells
operators who do not look.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import structlog

from coordinator.parts import Parts
from coordinator.store.port import Change, Event
from custody.alive import check_life, read_life
from custody.canonical import Json, decode, encode
from custody.drill import read_drill
from custody.errors import CustodyError, Refused
from custody.fields import Fields
from custody.health import DAY_S, Alarm, Health, health_of
from custody.statements import Kind, Signed

CLOCKS_S = 600  # a node's clock may run this far ahead of ours (protocol.md, an entry's own time)
FIRST_LOOK_S = 3_600  # nodes that just came with this service get an hour to prove themselves
log = structlog.get_logger("coordinator")


@dataclass(frozen=True, slots=True)
class Reports:
    """The last of each kind from one node, or None."""

    alive: Signed | None = None
    drill: Signed | None = None


async def reports_of(parts: Parts, node: str) -> Reports:
    """Return what `node` reported last."""
    raw = await parts.store.recall(_name(node))
    if raw is None:
        return Reports()
    fields = Fields(decode(raw), "reports")
    found = Reports(*(Signed.from_json(fields.any(key)) if fields.has(key) else None for key in ("alive", "drill")))
    fields.done()
    return found


async def take_report(parts: Parts, signed: Signed, actor: str) -> bool | Refused:
    """Keep a proof of life or a drill that holds; return whether it was new, or why it does not count.

    Args:
        parts: of this coordinator.
        signed: as it came.
        actor: who carried it, for the event.

    Raises:
        MalformedError: STATEMENT_KIND, or what its fields say.
    """
    now = parts.clock.now()
    checked = await _checked(parts, signed, now)
    if isinstance(checked, Refused):
        return checked
    node, at = checked
    if at > now + CLOCKS_S:
        return Refused("REPORT_TIME", f"at most {now + CLOCKS_S}", str(at))
    known = await reports_of(parts, node)
    is_life = signed.kind is Kind.ALIVE
    last = known.alive if is_life else known.drill
    if last is not None and at <= Fields(decode(last.raw), "report").time("at"):
        return False
    kind = "key.proven" if is_life else "key.drilled"
    fields: dict[str, Json] = {"node": node, "at": at, "bodies": [signed.digest.hex()]}
    await parts.store.record(Change(now, events=(Event(kind, actor, fields),), bodies=(signed,)))
    kept = replace(known, alive=signed) if is_life else replace(known, drill=signed)
    await parts.store.remember(_name(node), _written(kept))
    return True


async def _checked(parts: Parts, signed: Signed, now: int) -> tuple[str, int] | Refused:
    """Return who reports, and of when, if its signatures hold."""
    state = await parts.followed.state(now)
    policy = state.policy
    if signed.kind is Kind.ALIVE:
        life = check_life(state.genesis, policy, signed)
        return life if isinstance(life, Refused) else (life.node, life.at)
    drill = read_drill(signed)
    node = policy.roots.node(drill.node)
    if node is None or not signed.signed_by(node.identity):
        return Refused("DRILL_SIGNATURE", "the identity key of a node of the rules", drill.node)
    return drill.node, drill.at


async def health_now(parts: Parts) -> tuple[Health, ...]:
    """Return how the keys of every wallet stand."""
    proven: dict[str, int] = {}
    for node in {slot.node for wallet in parts.wallets for slot in wallet.slots if slot.node is not None}:
        if (alive := (await reports_of(parts, node)).alive) is not None:
            proven[node] = read_life(alive).at
    return tuple(health_of(wallet, proven, parts.clock.now()) for wallet in parts.wallets)


async def alarm_for_ever(parts: Parts) -> None:
    """Say once a day which wallets come close to being locked out."""
    await asyncio.sleep(FIRST_LOOK_S)
    while True:
        try:
            for health in await health_now(parts):
                if health.alarm is not Alarm.FINE:
                    say = log.error if health.alarm is Alarm.ALERT else log.warning
                    say("keys.unproven", wallet=health.wallet, nodes=",".join(health.unproven), told=str(health))
        except CustodyError as error:
            log.warning("keys.unread", code=error.code)
        await asyncio.sleep(DAY_S)


def _written(reports: Reports) -> bytes:
    kept: dict[str, Json] = {}
    if reports.alive is not None:
        kept["alive"] = reports.alive.to_json()
    if reports.drill is not None:
        kept["drill"] = reports.drill.to_json()
    return encode(kept)


def _name(node: str) -> str:
    return f"keys/{node}"
