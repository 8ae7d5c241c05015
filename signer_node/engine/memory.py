"""What the engine remembers in the server's storage: what it followed of the money log, and what it signed itself.

An append-only list of records, packed into segments so that a restart reads few entries. A record is durable before
anything that rests on it leaves. The state in memory is what the records give; when it is not known whether one was
written, it is dropped and read anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from custody.bundle import LogPart
from custody.canonical import Json, decode, encode
from custody.fields import Fields
from custody.follow import State, advance, start
from custody.genesis import Genesis
from custody.once import OwnSignature
from signer_node.engine.storage import MAX_ENTRY_BYTES, Parts, Storage, get_parts, put_parts
from signer_node.followed import accepted
from signer_node.journal import own_from_fields, own_to_json
from signer_node.judge import Cleared
from signer_node.judge_message import ClearedMessage

SEGMENT_BYTES = 64 * 1024  # rewritten whole at each append, and yet few of them to read at a restart
HIGH_WATER = "high_water"


@dataclass(frozen=True, slots=True)
class Memory:
    """What the records give.

    state: followed from the money log.  signed: by this engine, oldest first.  high_water: the largest lo accepted.
    segment, tail: number and content of the segment that the next record goes into.
    """

    state: State
    signed: tuple[OwnSignature, ...] = ()
    high_water: int = 0
    segment: int = 0
    tail: bytes = b""

    def has(self, cleared: Cleared) -> bool:
        """Return whether this transaction was recorded for this withdrawal."""
        wanted = (cleared.withdrawal_digest, cleared.txid)
        return any((own.withdrawal_digest, own.txid) == wanted for own in self.signed)


async def recall(storage: Storage, genesis: Genesis) -> Memory:
    """Return what `storage` holds under `genesis`, every entry of the log verified again.

    Raises:
        IntegrityError: the records contradict the genesis or themselves.
    """
    memory, number = Memory(start(genesis)), 0
    while (content := await storage.get(_segment_key(number))) is not None:
        for line in content.splitlines():
            memory = await _replayed(storage, memory, line)
        memory = replace(memory, segment=number, tail=content)
        number += 1
    raw = await storage.get(HIGH_WATER)
    seen = 0 if raw is None else Fields(decode(raw), HIGH_WATER).time(HIGH_WATER)
    return replace(memory, high_water=max(memory.high_water, seen))


async def remember(
    storage: Storage,
    memory: Memory,
    log: LogPart,
    state: State,
    cleared: Cleared | ClearedMessage | None = None,
) -> Memory:
    """Make durable that the engine moved on to `state` by the entries of `log`, and is about to sign `cleared`.

    A message, which spends nothing, and a repeat of what was signed before only move the high-water mark; where nothing
    is new, nothing is written.
    """
    record: dict[str, Json] = {}
    if state.size > memory.state.size:
        record["log"] = accepted(log, memory.state.size).to_json()
    own = cleared if isinstance(cleared, Cleared) and not memory.has(cleared) else None
    high_water = memory.high_water if cleared is None else max(memory.high_water, cleared.lo)
    if own is not None:
        record["signed"] = own_to_json(own)
    if record:
        record[HIGH_WATER] = high_water
        memory = await _appended(storage, memory, record)
    elif high_water > memory.high_water:
        await storage.put(HIGH_WATER, encode({HIGH_WATER: high_water}))
    signed = memory.signed if own is None else (*memory.signed, _own(own))
    return replace(memory, state=state, signed=signed, high_water=high_water)


async def _appended(storage: Storage, memory: Memory, record: dict[str, Json]) -> Memory:
    """Write one record behind the others, into a segment of its own where it is large."""
    line = encode(record) + b"\n"
    if len(line) > MAX_ENTRY_BYTES // 2:
        line = encode({"parts": (await put_parts(storage, line)).to_json()}) + b"\n"
    fits = len(memory.tail) + len(line) <= SEGMENT_BYTES or not memory.tail
    segment, tail = (memory.segment, memory.tail + line) if fits else (memory.segment + 1, line)
    await storage.put(_segment_key(segment), tail)
    return replace(memory, segment=segment, tail=tail)


async def _replayed(storage: Storage, memory: Memory, line: bytes) -> Memory:
    fields = Fields(decode(line), "record")
    if fields.has("parts"):
        raw = await get_parts(storage, Parts.from_fields(fields.fields("parts")))
        fields = Fields(decode(raw.rstrip(b"\n")), "record")
    state, signed, high_water = memory.state, memory.signed, memory.high_water
    if fields.has("log"):
        log = LogPart.from_fields(fields.fields("log"))
        state = advance(state, log.from_size(state.size), log.by_digest(), log.note)
    if fields.has("signed"):
        signed = (*signed, own_from_fields(fields.fields("signed")))
    high_water = max(high_water, fields.time(HIGH_WATER))
    fields.done()
    return replace(memory, state=state, signed=signed, high_water=high_water)


def _own(cleared: Cleared) -> OwnSignature:
    return OwnSignature(cleared.withdrawal_digest, cleared.family, cleared.txid, cleared.outpoints)


def _segment_key(number: int) -> str:
    return f"log/{number:08d}"
