"""What a witness of the money log replays before it vouches: the entries themselves, with the statements they name."""

from __future__ import annotations

from coordinator.followed import statements_in
from coordinator.log_key import LogKey
from coordinator.store.port import LogStore
from custody.audit import Checkpoint, Log, origin_of, range_root, signed_checkpoint, subtrees_of
from custody.bundle import MAX_DELTA_BYTES, Delta, LogPart

_FEED_BYTES = 1024 * 1024  # of entries: with what they name usually below the 6 MiB of a delta


async def make_feed(store: LogStore, genesis: bytes, key: LogKey, first: int, size: int) -> bytes:
    """Return the delta document of entries `first`.. up to `size` at most, its end signed by the log alone.

    Args:
        store: whose log.
        genesis: 32 bytes.
        key: the log's.
        first: index of the first entry that the witness lacks.
        size: where the log stands; above `first`.
    """
    entries = await store.entries(Log.MONEY, first, size, _FEED_BYTES)
    while True:
        end = first + len(entries)
        places = tuple(subtrees_of(0, end))
        found = await store.subtrees(Log.MONEY, places)
        root = range_root(_Roots({place: found[place] for place in places}), 0, end)
        note = await sign_head(key, Checkpoint(origin_of(genesis, Log.MONEY), end, root))
        statements = tuple((await statements_in(store, entries)).values())
        document = Delta(genesis, LogPart(first, entries, statements, note)).to_bytes()
        if len(document) <= MAX_DELTA_BYTES or len(entries) == 1:
            return document
        entries = entries[: len(entries) // 2]


async def sign_head(key: LogKey, checkpoint: Checkpoint) -> str:
    """Return the note of `checkpoint`, signed by the log alone. Raises as `LogKey.sign`."""
    return signed_checkpoint(checkpoint, key.public, await key.sign(checkpoint.body.encode()))


class _Roots:
    """Subtree roots that were read before they are folded."""

    def __init__(self, by_place: dict[tuple[int, int], bytes]) -> None:
        self._by_place = by_place

    def hashes(self, level: int, index: int) -> bytes:
        """Return the root of one complete subtree: 32 bytes."""
        return self._by_place[level, index]
