"""The history of the tables; Alembic runs it when a store opens."""
