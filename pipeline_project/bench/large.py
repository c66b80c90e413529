"""A store of a million items, made in sets and without triggers, to measure plans, checks and migrations on."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa

from pipeline_project.store import schema, statements
from pipeline_project.store.database import Database

SQL: Final = statements.load("large", Path(__file__).parent)

POOL: Final = "bench"
LIVE_SHARE: Final = 5
"""One item in so many is alive: selected, but for some that are pending or claimed."""


def make(database: Database, items: int, *, revision: str = "head") -> None:
    """The store in a fresh database (`bench/scratch.py`) of the embedded server, at a revision of the schema."""
    schema.create(database, revision=revision)
    with schema.administer(database.admin) as connection, connection.begin():
        fill(connection, items)
    with schema.administer(database.admin, autocommit=True) as connection:
        connection.execute(sa.text("vacuum (analyze)"))


def fill(connection: sa.Connection, items: int) -> None:
    """Fill an empty schema; a superuser's connection, for no trigger may fire."""
    connection.execute(sa.text("set local session_replication_role = replica"))
    connection.execute(SQL["clock"])
    connection.execute(sa.text("select pipeline.ensure_partitions(2)"))
    for name, statement in SQL.items():
        if name != "clock":
            connection.execute(statement, {"items": items, "live": items // LIVE_SHARE} if ":items" in statement.text else {})
    connection.execute(sa.text("set local session_replication_role = origin"))
