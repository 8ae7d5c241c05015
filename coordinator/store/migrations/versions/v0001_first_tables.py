"""The first tables: sessions, coins, bodies, both logs and their trees, what witnesses vouched for, small facts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "sessions",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("initiator", sa.String(64), nullable=False),
        sa.Column("withdrawal_id", sa.String(64), nullable=False),
        sa.Column("wallet_id", sa.LargeBinary(32), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )
    op.create_index("sessions_by_initiator", "sessions", ["initiator", "withdrawal_id"], unique=True)
    op.create_index("sessions_by_stage", "sessions", ["stage", "created_at", "digest"])
    op.create_index("sessions_by_time", "sessions", ["created_at", "digest"])
    op.create_table(
        "reservations",
        sa.Column("outpoint", sa.LargeBinary(36), primary_key=True),
        sa.Column("family", sa.LargeBinary(32), nullable=False),
        sa.Column("holder", sa.LargeBinary(32), nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "bodies",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("form", sa.String(16), nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
    _make_log_tables()
    op.create_table(
        "address_indices",
        sa.Column("wallet_id", sa.LargeBinary(32), primary_key=True),
        sa.Column("branch", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("next", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "memory",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )


def _make_log_tables() -> None:
    op.create_table(
        "logs",
        sa.Column("log", sa.String(8), primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("frontier", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "entries",
        sa.Column("log", sa.String(8), primary_key=True),
        sa.Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("entry", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "subtrees",
        sa.Column("log", sa.String(8), primary_key=True),
        sa.Column("level", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "cosigned_notes",
        sa.Column("log", sa.String(8), primary_key=True),
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("first", sa.Text, nullable=False),
        sa.Column("newest", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """There is nothing before the first tables; a log is never dropped by a program."""
    raise NotImplementedError("the first tables stay")
