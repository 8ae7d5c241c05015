"""The engine's storage in memory: it can refuse as a standby does, or fail before or after a write."""

from __future__ import annotations

from dataclasses import dataclass, field

from custody.errors import UnavailableError
from signer_node.engine.storage import MAX_ENTRY_BYTES, ReadOnlyError


@dataclass
class MemoryStorage:
    """Entries by key. is_standby: writes are refused.  fail: "before" or "after" the next write whose key starts so."""

    entries: dict[str, bytes] = field(default_factory=dict)
    is_standby: bool = False
    fail: tuple[str, str] | None = None
    puts: list[str] = field(default_factory=list)

    async def get(self, key: str) -> bytes | None:
        """See the port."""
        return self.entries.get(key)

    async def put(self, key: str, value: bytes) -> None:
        """See the port."""
        assert len(value) <= MAX_ENTRY_BYTES
        if self.is_standby:
            raise ReadOnlyError
        side = self.fail[0] if self.fail and key.startswith(self.fail[1]) else ""
        if side:
            self.fail = None
        if side == "before":
            raise UnavailableError("STORAGE_UNWRITABLE", "told to fail")
        self.entries[key] = value
        self.puts.append(key)
        if side == "after":
            raise UnavailableError("STORAGE_UNWRITABLE", "told to fail")
