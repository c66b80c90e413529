"""What PostgreSQL knows about a database of ours: versions, sizes, rows, and who we are in it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pipeline_project.store import statements

SQL = statements.load("catalog")


def server(connection: sa.Connection) -> dict[str, Any]:
    """server_version, server_major, size_bytes of the database, session_user, and whether that is a superuser."""
    return dict(connection.execute(SQL["server"]).mappings().one())


def simulated(connection: sa.Connection) -> Any:
    """The time a simulation was told last; None in real time."""
    return connection.scalar(SQL["simulated"])


def tables(connection: sa.Connection) -> list[dict[str, Any]]:
    """Every table with its size and its rows, largest first. The rows are counted: seconds on a large database."""
    quoted = connection.dialect.identifier_preparer.quote
    found = [dict(row) for row in connection.execute(SQL["tables"]).mappings()]
    return [{**row, "rows": connection.scalar(sa.text(f"select count(*) from pipeline.{quoted(row['table'])}"))} for row in found]  # noqa: S608  # a name from the catalogue, quoted
