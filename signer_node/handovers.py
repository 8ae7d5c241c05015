"""What crossed the air gap at this machine, each way: the same digests stand in the coordinator's event log."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from custody.canonical import Json, encode
from custody.frames import digest_of
from signer_node.clock import Clock
from signer_node.records import RecordFile, read_records

HANDOVERS_FILE = "handovers.log"


class Way(Enum):
    """Towards this machine, or away from it."""

    TAKEN = "taken"
    GIVEN = "given"


class Handovers:
    """The hand-overs of a node, in order.

    Args:
        path: made with the first record.
        clock: this machine's time.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock

    def note(self, way: Way, what: str, content: bytes) -> None:
        """Record, durably, that `content` is handed over. what: "bundle", "delta" or "answer".

        Raises:
            IntegrityError, UnavailableError: it is not recorded, so it must be neither used nor given.
        """
        record: dict[str, Json] = {"way": way.value, "what": what, "at": self._clock.now()}
        record |= {"sha256": digest_of(content).hex(), "bytes": len(content)}
        file = RecordFile(self._path)
        try:
            file.append(encode(record))
        finally:
            file.close()

    def records(self) -> tuple[bytes, ...]:
        """Return what was recorded, canonical JSON each, oldest first. Raises IntegrityError RECORDS_DAMAGED."""
        return read_records(self._path)
