"""What happened, in commit order without gaps: everything below the horizon has ended, nothing can appear there any more."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from pipeline_project.store import statements
from pipeline_project.store.pools import Pool

SQL = statements.load("feed")


def horizon(connection: sa.Connection) -> str:
    """The transaction id below which everything has ended."""
    position: str = connection.execute(SQL["horizon"]).scalar_one()
    return position


def woken(connection: sa.Connection, *, after: str, horizon: str, since: datetime) -> dict[str, int]:
    """Changes per active pool with pending items, from position `after` up to `horizon`, and `not_before` that passed since a time."""
    rows = connection.execute(SQL["woken"], {"after": after, "horizon": horizon, "since": since})
    return {row.pool: row.changes for row in rows}


def active_pools(connection: sa.Connection) -> list[str]:
    return list(connection.scalars(SQL["active_pools"]))


def writing_pools(connection: sa.Connection) -> list[str]:
    return list(connection.scalars(SQL["writing_pools"]))


def backlog(connection: sa.Connection, pool: Pool) -> dict[str, Any]:
    """pending, oldest (time), oldest_age_s of the items that a cycle could have selected."""
    return dict(connection.execute(SQL["backlog"], {"pool_id": pool.pool_id}).mappings().one())


def starving(connection: sa.Connection, pool: Pool, *, longer_than_s: int, most: int) -> list[dict[str, Any]]:
    """key, waited_s of items that were never selected in so long a time, longest first."""
    return [
        dict(row)
        for row in connection.execute(SQL["starving"], {"pool_id": pool.pool_id, "longer_than_s": longer_than_s, "most": most}).mappings()
    ]


def overlooked(connection: sa.Connection, pool: Pool) -> dict[str, Any]:
    """items, oldest_age_s, first (its key) of what no cycle can have seen yet."""
    return dict(connection.execute(SQL["overlooked"], {"pool_id": pool.pool_id}).mappings().one())
