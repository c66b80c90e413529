"""Reads the audit trail. Nothing writes it but the database's triggers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from pipeline_project.store import statements
from pipeline_project.store.pools import Pool

SQL = statements.load("audit")


def timeline(connection: sa.Connection, item_id: int) -> list[dict[str, Any]]:
    """Every move of an item, oldest first."""
    return [dict(row) for row in connection.execute(SQL["timeline"], {"item_id": item_id}).mappings()]


def beside(connection: sa.Connection, pool: Pool, item_id: int, *, since: datetime, until: datetime | None) -> list[dict[str, Any]]:
    """What happened to the pool, and mattered to an item, from its submission to its end (None = until now), oldest first."""
    parameters = {"pool_id": pool.pool_id, "item_id": item_id, "since": since, "until": until}
    return [dict(row) for row in connection.execute(SQL["beside"], parameters).mappings()]


def pool_events(connection: sa.Connection, pool: Pool, *, most: int = 50) -> list[dict[str, Any]]:
    """What happened to a pool, newest first."""
    return [dict(row) for row in connection.execute(SQL["pool_events"], {"pool_id": pool.pool_id, "most": most}).mappings()]
