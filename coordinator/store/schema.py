"""The tables, in types that SQLite and PostgreSQL share. Their history is in `migrations`; a test compares the two."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, MetaData, SmallInteger, String, Table, Text

metadata = MetaData()

sessions = Table(
    "sessions",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("initiator", String(64), nullable=False),
    Column("withdrawal_id", String(64), nullable=False),
    Column("wallet_id", LargeBinary(32), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("document", LargeBinary, nullable=False),
    # One (initiator, withdrawal_id) has one digest for ever (protocol.md "Withdrawal").
    Index("sessions_by_initiator", "initiator", "withdrawal_id", unique=True),
    Index("sessions_by_stage", "stage", "created_at", "digest"),
    Index("sessions_by_time", "created_at", "digest"),
)

reservations = Table(
    "reservations",
    metadata,
    # One coin, one row: two families can never hold it at once, whatever the code above does.
    Column("outpoint", LargeBinary(36), primary_key=True),
    Column("family", LargeBinary(32), nullable=False),
    Column("holder", LargeBinary(32), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

bodies = Table(
    "bodies",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("form", String(16), nullable=False),
    Column("value", LargeBinary, nullable=False),
)

logs = Table(
    "logs",
    metadata,
    Column("log", String(8), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("frontier", LargeBinary, nullable=False),  # the hashes of `Frontier.nodes`, one after the other
)

entries = Table(
    "entries",
    metadata,
    Column("log", String(8), primary_key=True),
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("entry", LargeBinary, nullable=False),
)

subtrees = Table(
    "subtrees",
    metadata,
    # Level 0 is not stored: a leaf is the hash of its entry.
    Column("log", String(8), primary_key=True),
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary(32), nullable=False),
    sqlite_with_rowid=False,
)

cosigned_notes = Table(
    "cosigned_notes",
    metadata,
    Column("log", String(8), primary_key=True),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("first", Text, nullable=False),
    Column("newest", Text, nullable=False),
)

address_indices = Table(
    "address_indices",
    metadata,
    Column("wallet_id", LargeBinary(32), primary_key=True),
    Column("branch", SmallInteger, primary_key=True, autoincrement=False),
    Column("next", BigInteger, nullable=False),
)

memory = Table(
    "memory",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
