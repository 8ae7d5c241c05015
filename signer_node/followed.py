"""The money log as this node has followed it, on its own disk: its state is replayed from here and nowhere else."""

from __future__ import annotations

from pathlib import Path

from custody.bundle import Delta, LogPart, parse_delta
from custody.entries import parse_entry, statements_of
from custody.follow import State, advance, start
from custody.genesis import Genesis
from signer_node.records import RecordFile


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
        entries = log.from_size(self.state.size)
        named = {digest for raw in entries for digest in statements_of(parse_entry(raw))}
        statements = tuple(signed for digest, signed in log.by_digest().items() if digest in named)
        part = LogPart(self.state.size, entries, statements, log.note)  # what no entry names would only fill the disk
        self._file.append(Delta(self._genesis.hash, part).to_bytes())
        self.state = state

    def deltas(self) -> bytes:
        """Return all that was followed as deltas, one a line: what a coordinator that lost its log puts back."""
        return b"".join(record + b"\n" for record in self._file.records)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()
