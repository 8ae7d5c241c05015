"""The check before a store opens: entries, tree hashes, tree heads and cosigned checkpoints must tell one story."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NoReturn

from sqlalchemy import Connection, insert, select

from coordinator.store import schema
from coordinator.store.append import Heads
from coordinator.store.writer import read_heads
from custody.audit import Frontier, Log, leaf_hash, parse_checkpoint, parse_note
from custody.errors import IntegrityError, MalformedError

FETCH_ROWS = 1_000  # entries in memory at once; the largest is 512 KiB, the usual one under 2 KiB
_STREAM = {"yield_per": FETCH_ROWS}


def check_logs(connection: Connection) -> Heads:
    """Return both trees, recomputed from every entry; makes their rows in an empty store.

    Raises:
        IntegrityError: LOG_DAMAGED, naming the log and what does not agree.
    """
    try:
        stored = read_heads(connection)
    except IntegrityError as error:
        raise IntegrityError("LOG_DAMAGED", f"expected two tree heads: {error.message}") from error
    for log in Log:
        _check_log(connection, log, stored.of(log))
    known = set(connection.scalars(select(schema.logs.c.log)))
    for log in Log:
        if log.value not in known:
            connection.execute(insert(schema.logs).values(log=log.value, size=0, frontier=b""))
    return stored


def _check_log(connection: Connection, log: Log, stored: Frontier) -> None:
    vouched = _cosigned_roots(connection, log)
    tree = Frontier()
    if vouched.pop(0, tree.root) != tree.root:
        _damaged(log, "the empty root at size 0")
    levels: dict[int, hashlib._Hash] = {}  # per level, one hash over all its nodes: order and content at once
    for raw in _entries(connection, log):
        tree, made = tree.grow(leaf_hash(raw))
        for node in made[1:]:
            levels.setdefault(node.level, hashlib.sha256()).update(node.index.to_bytes(8) + node.digest)
        if vouched.pop(tree.size, tree.root) != tree.root:
            _damaged(log, f"the cosigned root at size {tree.size}")
    if vouched:
        _damaged(log, f"the {max(vouched)} entries that witnesses vouched for, found {tree.size}")
    if tree != stored:
        _damaged(log, f"the tree head of its {tree.size} entries, found another of size {stored.size}")
    if {level: found.digest() for level, found in levels.items()} != _stored_levels(connection, log):
        _damaged(log, "the tree hashes of its entries")


def _entries(connection: Connection, log: Log) -> Iterator[bytes]:
    table = schema.entries
    query = select(table.c.index, table.c.entry).where(table.c.log == log.value).order_by(table.c.index)
    rows = connection.execute(query, execution_options=_STREAM)
    for expected, (index, entry) in enumerate(rows):
        if index != expected:
            _damaged(log, f"entry {expected}, found entry {index}")
        yield entry


def _stored_levels(connection: Connection, log: Log) -> dict[int, bytes]:
    table = schema.subtrees
    query = select(table.c.level, table.c.index, table.c.hash).where(table.c.log == log.value)
    query = query.order_by(table.c.level, table.c.index)
    levels: dict[int, hashlib._Hash] = {}
    for level, index, digest in connection.execute(query, execution_options=_STREAM):
        levels.setdefault(level, hashlib.sha256()).update(index.to_bytes(8) + digest)
    return {level: found.digest() for level, found in levels.items()}


def _cosigned_roots(connection: Connection, log: Log) -> dict[int, bytes]:
    """Return by size the root that witnesses vouched for. Who signed is for those who read the notes."""
    table = schema.cosigned_notes
    roots: dict[int, bytes] = {}
    for row in connection.execute(select(table.c.size, table.c.first, table.c.newest).where(table.c.log == log.value)):
        for note in (row.first, row.newest):
            try:
                checkpoint = parse_checkpoint(parse_note(note).body)
            except MalformedError as error:
                raise IntegrityError("LOG_DAMAGED", f"{log.value} log: expected a note: {error.message}") from error
            if checkpoint.size != row.size or roots.setdefault(row.size, checkpoint.root) != checkpoint.root:
                _damaged(log, f"notes of one tree of size {row.size}")
    return roots


def _damaged(log: Log, expected: str) -> NoReturn:
    raise IntegrityError("LOG_DAMAGED", f"{log.value} log: expected {expected}")
