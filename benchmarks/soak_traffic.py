"""What traffic costs in bytes, and what a month offline costs in time: `python3 dev.py soak traffic [HOURS] [DAYS]`.

1. Ten hours of a working organisation, compressed: real coordinator, store, chain, witness and two nodes; only the
   clock is moved. Every withdrawal has two approvals and is broadcast and confirmed; every minute both logs are
   cosigned. Counted: bytes of both logs, of the database and of a follower's delta, per withdrawal.
2. Thirty days of releases while an offline node is away: it catches up by delta files. Counted: files, bytes, seconds,
   and whether the last entries take longer than the first.

Exit 0: measured, and the replay is linear; 1: it is not.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from coordinator.bundles import make_delta
from coordinator.session import Stage
from coordinator.store.port import Change, MoneyBody
from custody.audit import Checkpoint, Log, cosign, sign_checkpoint, with_lines
from custody.entries import EntryKind
from custody.errors import Refused
from custody.facts import Facts
from custody.release import release_of
from custody.transaction import OutPoint
from signer_node.medium import read_carried, write_carried
from signer_node.node import Node
from tests.fakes.rules import PAY, rule
from tests.integration.harness import Organisation, close, genesis_of, open_node, organise
from tests.world import LOG_SEED, WITNESS_SEED, World, approval, signed_by_initiator

HOURS, DAYS, PER_DAY = 10, 30, 200
DAY_S, MINUTE_S = 86_400, 60
MAX_SLOWDOWN = 1.5  # an entry of the last delta beside one of the first: above it, the replay is not linear
TWO = rule("two-eyes", "require", {"amount": {"min_sats": 1}}, {"approvals": {"group": "ops", "threshold": 2}})
PEOPLE = ("bob", "carol")


def main(arguments: Sequence[str]) -> int:
    """Measure both and print them."""
    hours, days = [int(text) for text in arguments] + [HOURS, DAYS][len(arguments) :]
    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(measure(Path(directory), hours, days))


async def measure(directory: Path, hours: int, days: int) -> int:
    """Run both parts over one organisation."""
    organisation = await organise(genesis_of(PAY, TWO), directory)
    try:
        await busy_hours(organisation, hours)
        return await month_away(organisation, days)
    finally:
        await close(organisation)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes. entries: how many, by log."""

    money: int
    event: int
    database: int
    entries: tuple[int, int]


async def sizes_of(organisation: Organisation) -> Sizes:
    """Weigh both logs and the database, its write-ahead log folded in."""
    store, held = organisation.parts.store, []
    for log in (Log.MONEY, Log.EVENT):
        entries = await store.entries(log, 0, store.head(log).size, 2**31)
        held.append((len(entries), sum(map(len, entries))))
    await organisation.restart()  # closing the last connection folds the write-ahead log in
    database = (organisation.directory / "store.db").stat().st_size
    return Sizes(held[0][1], held[1][1], database, (held[0][0], held[1][0]))


async def busy_hours(organisation: Organisation, hours: int) -> None:
    """Make the traffic of `hours` at PER_DAY withdrawals a day, minute by minute."""
    before, began, made = await sizes_of(organisation), time.monotonic(), 0
    for minute in range(hours * 60):
        organisation.clock.advance(MINUTE_S)
        organisation.beat()
        if made < (minute + 1) * PER_DAY * MINUTE_S // DAY_S:
            await withdraw(organisation, made)
            made += 1
        for log in Log:
            await organisation.parts.logs.fresh(log)
    after = await sizes_of(organisation)
    money, event, database = (
        (late - early) / made
        for late, early in ((after.money, before.money), (after.event, before.event), (after.database, before.database))
    )
    entries = [(late - early) / made for late, early in zip(after.entries, before.entries, strict=True)]
    print(f"{hours} h at {PER_DAY} a day: {made} withdrawals in {time.monotonic() - began:.0f} s")
    print(f"  money log {money:.0f} B in {entries[0]:.1f} entries, event log {event:.0f} B in {entries[1]:.1f} entries")
    print(f"  database {database:.0f} B (statements, PSBT and transaction included)")
    total = sum(len(raw) for raw in [raw async for raw in deltas(organisation, 0)])
    print(f"  a follower's delta {total / made:.0f} B", flush=True)


async def withdraw(organisation: Organisation, number: int) -> None:
    """Take one withdrawal from its proposal to its confirmation."""
    asked = organisation.withdrawal(1_000_000 + number, withdrawal_id=f"traffic-{number}")
    proposed = await organisation.propose(asked)
    if isinstance(proposed, Refused):
        raise RuntimeError(f"expected withdrawal {number} to be taken in, found {proposed}")
    await organisation.approve(asked, *PEOPLE)
    await organisation.run(asked)
    await organisation.mine()
    stage = await organisation.advance(asked)
    if stage is not Stage.CONFIRMED:
        raise RuntimeError(f"expected withdrawal {number} to be confirmed, found {stage}")


async def deltas(organisation: Organisation, size: int) -> AsyncIterator[bytes]:
    """Yield delta documents from `size` on."""
    while (delta := await make_delta(organisation.parts, size)) is not None:
        yield delta.to_bytes()
        size = delta.log.first + len(delta.log.entries)


async def month_away(organisation: Organisation, days: int) -> int:
    """Log `days` of releases, then let the offline node catch up by files; return the exit code."""
    cold, count = organisation.nodes["cold"], days * PER_DAY
    async for raw in deltas(organisation, 0):
        await cold.take_delta(raw)
    world = World(organisation.genesis, organisation.clock.now())
    template = world.spend(world.withdrawal()).facts()
    for number in range(count):
        organisation.clock.advance(DAY_S // PER_DAY)
        await log_release(organisation, template, number)
    return await catch_up(organisation, cold, count)


async def log_release(organisation: Organisation, template: Facts, number: int) -> None:
    """Log one release with its statements, and the witness's word for it."""
    now, store = organisation.clock.now(), organisation.parts.store
    asked = World(organisation.genesis, now).withdrawal(withdrawal_id=f"away-{number}")
    said = [approval(asked, person, now) for person in PEOPLE]
    mark = number.to_bytes(32)
    inputs = tuple(replace(fact, outpoint=OutPoint(mark, 0)) for fact in template.inputs)
    facts = replace(template, txid=mark[::-1], inputs=inputs)
    release = release_of(asked, tuple(each.digest for each in said), facts, asked.digest, now)
    bodies = (signed_by_initiator(asked), *said)
    await store.record(Change(now, (MoneyBody(EntryKind.RELEASE, release),), bodies=bodies))
    head = store.head(Log.MONEY)
    note = sign_checkpoint(Checkpoint(organisation.genesis.origin("money"), head.size, head.root), LOG_SEED)
    await store.keep_cosigned(Log.MONEY, head.size, with_lines(note, [cosign(note, "witness", WITNESS_SEED, now)]))


async def catch_up(organisation: Organisation, cold: Node, count: int) -> int:
    """Carry delta files to the node and time it alone; return the exit code."""
    path = organisation.directory / "delta.json"
    took: list[tuple[int, int, float, float]] = []  # per file: bytes, entries, seconds, processor seconds
    async for raw in deltas(organisation, cold.state.size):
        write_carried(path, raw)
        before, wall, processor = cold.state.size, time.monotonic(), time.process_time()
        await cold.take_delta(read_carried(path))
        took.append((len(raw), cold.state.size - before, time.monotonic() - wall, time.process_time() - processor))
    sizes, entries, seconds, processors = (sum(column) for column in zip(*took, strict=True))
    per_entry = [processor / number for _, number, _, processor in took]
    slowdown = per_entry[-1] / per_entry[0]
    print(f"{count} withdrawals behind: {len(took)} delta files, {sizes} B ({sizes / count:.0f} B a withdrawal)")
    print(f"  caught up {entries} entries in {seconds:.1f} s ({processors:.1f} s of processor)")
    print(f"  an entry of the last file costs {slowdown:.2f} of one of the first; counted: {len(cold.state.releases)}")
    opened, began = len(cold.state.releases), time.monotonic()
    again = open_node(organisation.genesis, "cold", organisation.directory, organisation.clock)
    print(f"  the node starts anew and replays its own file in {time.monotonic() - began:.1f} s", flush=True)
    whole = opened >= count and again.state == cold.state
    return 0 if whole and slowdown <= MAX_SLOWDOWN else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
