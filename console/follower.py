"""Follow the money log from the pinned genesis: what a person's own program knows without believing anybody.

The whole log is replayed each time, under the pinned keys, up to a checkpoint that w witnesses vouched for. Without a
fresh one this program says STALE and signs nothing but rejects, vetoes and freezes (protocol.md "Approval").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from console.client import Client
from console.memory import Memory
from console.refusal import refuse
from custody.audit import Frontier, Log, leaf_hash, parse_checkpoint, parse_note
from custody.errors import IntegrityError
from custody.follow import State, advance, open_under, settled, start, time_of
from custody.genesis import Genesis
from custody.statements import Signed

FRESH_SECONDS = 300  # as old as an online signer lets the oldest counted cosignature be
MAX_LOG_BYTES = 1024 * 1024 * 1024  # above any real log; a coordinator that never stops sending is cut off


@dataclass(frozen=True, slots=True)
class Followed:
    """The log as followed. state: settled.  vouched_at: UTC seconds by which w witnesses vouched for all of it.

    statements: what its entries name, by digest.
    """

    state: State
    note: str
    vouched_at: int
    statements: Mapping[bytes, Signed] = field(default_factory=dict)

    def age_s(self, now: int) -> int:
        """Return how long ago the witnesses vouched; negative where their clocks are ahead of ours."""
        return now - self.vouched_at

    def is_fresh(self, now: int) -> bool:
        """Return whether the witnesses vouched within the last five minutes."""
        return abs(self.age_s(now)) <= FRESH_SECONDS


async def follow(client: Client, genesis: Genesis, memory: Memory) -> Followed:
    """Return the money log's state; `memory` holds what was seen of it before.

    Raises:
        IntegrityError: ROLLED_BACK or LOG_FORK where the log is not a continuation of what was seen before, and
            whatever `custody.follow.advance` finds.
        UnavailableError: WITNESSES_MISSING and other reasons why there is no checkpoint now.
    """
    # Plan: 1 every entry up to the checkpoint · 2 it continues what I saw · 3 replay, which tells whose keys count ·
    # 4 the checkpoint under those keys.
    note = await client.checkpoint(Log.MONEY)
    entries, statements = await _entries(client, parse_checkpoint(parse_note(note).body).size)
    _check_continues(entries, memory)
    named = {signed.digest: signed for signed in statements}
    state = advance(start(genesis), entries, named, note)
    vouched, cosigned = open_under(state, note)
    vouched_at = cosigned.oldest_counted(vouched.policy.roots.w)
    if vouched_at is None:  # `open_under` counted them already
        raise IntegrityError("CHECKPOINT_UNDERSIGNED", "expected enough cosignatures")
    return Followed(settled(vouched, time_of(cosigned)), note, vouched_at, named)


def require_fresh(followed: Followed, now: int) -> State:
    """Return the state to decide by.

    Raises:
        RefusedHereError: STALE.
    """
    if not followed.is_fresh(now):
        age = followed.age_s(now)
        refuse("STALE", f"a checkpoint that witnesses vouched for in the last {FRESH_SECONDS} s", f"one {age} s old")
    return followed.state


async def _entries(client: Client, size: int) -> tuple[list[bytes], list[Signed]]:
    entries: list[bytes] = []
    statements: list[Signed] = []
    received = 0
    while len(entries) < size:
        page = await client.entries(Log.MONEY, len(entries), size - len(entries))
        received += sum(len(raw) for raw in page.entries)
        if not page.entries or received > MAX_LOG_BYTES:
            raise IntegrityError("LOG_SIZE", f"expected {size} entries, found {len(entries)}")
        entries.extend(page.entries[: size - len(entries)])
        statements.extend(page.statements)
    return entries, statements


def _check_continues(entries: Sequence[bytes], memory: Memory) -> None:
    """Refuse a log that is shorter than, or other than, what this person saw before."""
    if len(entries) < memory.size:
        raise IntegrityError("ROLLED_BACK", f"expected the {memory.size} entries seen before, found {len(entries)}")
    tree = Frontier()
    for raw in entries[: memory.size]:
        tree = tree.append(leaf_hash(raw))
    if memory.size and tree.root != memory.root:
        raise IntegrityError("LOG_FORK", f"expected the {memory.size} entries seen before, found others")
