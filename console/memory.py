"""What this person's programs saw before: the log cannot shrink, an address index cannot leap, notes stay at home.

Losing the file loses these comparisons and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from console.files import read_file, replace_file
from custody.canonical import Json, decode, encode
from custody.fields import Fields, parse_hex

MAX_MEMORY_BYTES = 1024 * 1024  # thousands of notes
MAX_NOTES = 2_000  # the oldest are dropped
MAX_NOTE_CHARS = 500


@dataclass(frozen=True, slots=True)
class Memory:
    """What was seen under one genesis.

    genesis: 32 bytes.  size, root: of the largest money log that was followed.  addresses: last accepted index by
    wallet_id.  notes: this person's own words by withdrawal digest; they go nowhere.
    """

    genesis: bytes
    size: int = 0
    root: bytes = b""
    addresses: tuple[tuple[bytes, int], ...] = ()
    notes: tuple[tuple[bytes, str], ...] = ()

    def last_index(self, wallet_id: bytes) -> int:
        """Return the last deposit index accepted for `wallet_id` (32 bytes), -1 before the first."""
        return dict(self.addresses).get(wallet_id, -1)

    def note_of(self, digest: bytes) -> str:
        """Return this person's note on a withdrawal, "" where there is none."""
        return dict(self.notes).get(digest, "")

    def with_log(self, size: int, root: bytes) -> Memory:
        """Return the memory after a money log of `size` entries with `root` (32 bytes) was followed."""
        return replace(self, size=size, root=root)

    def with_index(self, wallet_id: bytes, index: int) -> Memory:
        """Return the memory after `index` was accepted."""
        kept = dict(self.addresses)
        kept[wallet_id] = max(index, kept.get(wallet_id, -1))
        return replace(self, addresses=tuple(kept.items()))

    def with_note(self, digest: bytes, text: str) -> Memory:
        """Return the memory with one more note."""
        kept = dict(self.notes)
        kept[digest] = text[:MAX_NOTE_CHARS]
        return replace(self, notes=tuple(kept.items())[-MAX_NOTES:])


def load_memory(path: Path, genesis: bytes) -> Memory:
    """Return what was seen under `genesis` (32 bytes): nothing where the file is new or about another genesis.

    Raises:
        MalformedError: the file is damaged; removing it forgets what was seen.
    """
    if not path.exists():
        return Memory(genesis)
    fields = Fields(decode(read_file(path, MAX_MEMORY_BYTES)), path.name)
    memory = Memory(
        genesis=fields.hex("genesis", 32),
        size=fields.integer("size"),
        root=fields.hex("root"),
        addresses=tuple((_id(key), value) for key, value in _pairs(fields, "addresses") if isinstance(value, int)),
        notes=tuple((_id(key), value) for key, value in _pairs(fields, "notes") if isinstance(value, str)),
    )
    fields.done()
    return memory if memory.genesis == genesis else Memory(genesis)


def save_memory(path: Path, memory: Memory) -> None:
    """Keep `memory` in `path` (0600)."""
    document: dict[str, Json] = {
        "genesis": memory.genesis.hex(),
        "size": memory.size,
        "root": memory.root.hex(),
        "addresses": [[key.hex(), index] for key, index in memory.addresses],
        "notes": [[key.hex(), note] for key, note in memory.notes],
    }
    replace_file(path, encode(document))


def _pairs(fields: Fields, key: str) -> list[tuple[Json, Json]]:
    items = fields.items(key)
    return [(item[0], item[1]) for item in items if isinstance(item, list | tuple) and len(item) == 2]


def _id(value: Json) -> bytes:
    return parse_hex(str(value), "memory", 32)
