"""The promises of the store as queries that return no row while they are kept."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from pipeline_project.store import statements

SQL = statements.load("invariants")


def names() -> list[str]:
    return list(SQL)


def violated(connection: sa.Connection, only: Collection[str] = tuple(SQL)) -> list[dict[str, Any]]:
    """Each broken promise with its number of rows and the first five of them; empty on a healthy database."""
    broken = []
    for name in only:
        query = SQL[name]
        rows = [dict(row) for row in connection.execute(query).mappings()]
        if rows:
            broken.append({"name": name, "rows": len(rows), "examples": rows[:5]})
    return broken
