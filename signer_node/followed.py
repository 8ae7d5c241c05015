"""The money log as this node has followed it, on its own disk: its state is replayed from here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from custody.bundle import Delta, LogPart, parse_delta
from custody.entries import parse_entry, statements_of
from custody.follow import State, advance, start
from custody.genesis import Genesis
from signer_node.records import RecordFile, read_records

MAX_JOINED_BYTES = 1024 * 1024  # of deltas handed on: far below what one may weigh, and judged in well under a second


class Followed:
    """Every log part this node accepted, in order.

    Args:
        path: its file; opened for as long as the node runs.
        genesis: what the node pinned; the log starts at size 0 under it.

    Raises:
        IntegrityError: the file is damaged or contradicts the genesis; it can be removed and replayed from the log.
    """

    def __init__(self, path: Path, genesis: Genesis) -> None:
        self._file = RecordFile(path)
        self._genesis = genesis
        self.state: State = start(genesis)
        for raw in self._file.records:
            log = parse_delta(raw).log
            self.state = advance(self.state, log.from_size(self.state.size), log.by_digest(), log.note)

    def take(self, log: LogPart, state: State) -> None:
        """Make durable that the node moved on to `state` by the entries of `log` (already verified by the caller)."""
        if state.size == self.state.size:
            return
        part = accepted(log, self.state.size)
        self._file.append(Delta(self._genesis.hash, part).to_bytes())
        self.state = state

    def deltas(self) -> bytes:
        """Return all that was followed as deltas, one a line: what a coordinator that lost its log puts back."""
        return b"".join(record + b"\n" for record in self._file.records)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def accepted(log: LogPart, size: int) -> LogPart:
    """Return what of `log` is new to a follower of `size` entries: what no entry names would only fill the disk."""
    entries = log.from_size(size)
    named = {digest for raw in entries for digest in statements_of(parse_entry(raw))}
    statements = tuple(signed for digest, signed in log.by_digest().items() if digest in named)
    return LogPart(size, entries, statements, log.note)


def followed_since(path: Path, size: int) -> Iterator[bytes]:
    """Yield deltas of what a node's file holds from `size` entries on, for a follower that has fewer than the node.

    Small ones are joined: each delta ends at a cosigned checkpoint, and so does any run of them.
    """
    joined: LogPart | None = None
    genesis, joined_bytes = b"", 0
    for raw in read_records(path):
        delta = parse_delta(raw)
        if delta.log.first + len(delta.log.entries) <= size:
            continue
        if joined is not None and joined_bytes + len(raw) > MAX_JOINED_BYTES:
            yield Delta(genesis, joined).to_bytes()
            joined, joined_bytes = None, 0
        genesis, joined_bytes = delta.genesis, joined_bytes + len(raw)
        joined = delta.log if joined is None else _join(joined, delta.log)
    if joined is not None:
        yield Delta(genesis, joined).to_bytes()


def _join(first: LogPart, second: LogPart) -> LogPart:
    statements = first.by_digest() | second.by_digest()
    return LogPart(first.first, first.entries + second.entries, tuple(statements.values()), second.note)
