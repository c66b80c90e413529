"""What PostgreSQL knows about a database of ours: versions, sizes, rows, and who we are in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from pipeline_project.store import statements

SQL = statements.load("catalog")


def server(connection: sa.Connection) -> dict[str, Any]:
    """server_version, server_major, size_bytes of the database, session_user, and whether that is a superuser."""
    return dict(connection.execute(SQL["server"]).mappings().one())


def simulated(connection: sa.Connection) -> Any:
    """The time a simulation was told last; None in real time."""
    return connection.scalar(SQL["simulated"])


def tables(connection: sa.Connection, *, counted: bool = False) -> list[dict[str, Any]]:
    """Every table, largest first, with its partitions: rows, sizes, dead rows, share of HOT updates, when it was vacuumed.

    rows are those of the last vacuum or analyze, or of the statistics where there was none; counted = exactly, seconds on a large database.
    """
    growth = {row.table_name: row.bytes_a_day for row in connection.execute(SQL["growth"])}
    return [_table(connection, row, growth, counted=counted) for row in connection.execute(SQL["tables"]).mappings().all()]


def oldest_snapshot(connection: sa.Connection) -> dict[str, Any] | None:
    """The session whose snapshot is the oldest: pid, state, application, xmin_age in transactions, open_s; None when nobody has one."""
    with connection.begin_nested() as oneself:
        connection.execute(SQL["as_oneself"])
        row = connection.execute(SQL["oldest_snapshot"]).mappings().first()
        oneself.rollback()  # and with it the change of role
    return dict(row) if row else None


def horizon_age(connection: sa.Connection) -> int:
    """How many transactions have begun since the oldest one that still writes."""
    age: int = connection.execute(SQL["horizon_age"]).scalar_one()
    return age


def partitions_ahead(connection: sa.Connection) -> int:
    """How many of the coming months have their partition of the audit trail."""
    found: int = connection.execute(SQL["partitions_ahead"]).scalar_one()
    return found


def note_sizes(connection: sa.Connection) -> bool:
    """Keep today's sizes, once a day: what growth is measured by. False when they are kept already."""
    return bool(connection.execute(SQL["note_sizes"]).rowcount)


def hints(tables: list[dict[str, Any]], oldest: dict[str, Any] | None, ahead: int, holders: Sequence[dict[str, Any]] = ()) -> list[str]:
    """What is off, and what to do about it; nothing on a healthy database. holders: of the feed's horizon and of VACUUM, see feed."""
    said = []
    for table in tables:
        if table["rows"] + table["dead"] > ROWS_THAT_MATTER and table["dead"] > DEAD_SHARE * (table["rows"] + table["dead"]):
            share = table["dead"] / (table["rows"] + table["dead"])
            holder = (
                f"; session {oldest['pid']} has a snapshot that is {oldest['open_s']} s old" if oldest and oldest["open_s"] > LONG_S else ""
            )
            said.append(f"{table['table']}: {share:.0%} dead rows: autovacuum is behind{holder}; run `vacuum pipeline.{table['table']}`")
    if oldest and oldest["open_s"] > LONG_S:
        said.append(
            f"session {oldest['pid']} ({oldest['application'] or 'unnamed'}, {oldest['state']}) has a transaction open for"
            f" {oldest['open_s']} s: vacuum removes nothing that is younger, and the feed may stand still; end it"
        )
    said += dict.fromkeys(hint for holder in holders if (hint := _forgotten(holder)))
    if ahead < 1:
        said.append("the audit trail has no partition for next month: run `pipeline upkeep sweep`")
    return said


def _forgotten(holder: dict[str, Any]) -> str | None:
    """What to do about one that no session will end."""
    name = holder["name"]
    if holder["what"] == "prepared transaction" and holder["seconds"] > LONG_S:
        return (
            f"prepared transaction {name} of database {holder['database']} is {holder['seconds']:.0f} s old: the feed stands still, and"
            f" vacuum removes nothing that is younger; there, `commit prepared '{name}'` or `rollback prepared '{name}'`"
        )
    if holder["what"] == "replication slot" and holder["state"] == "inactive" and holder["transactions"] > SLOT_BEHIND:
        return (
            f"replication slot {name} has no reader and is {holder['transactions']:,} transactions behind: vacuum removes nothing that is"
            f" younger; start its reader, or `select pg_drop_replication_slot('{name}')`"
        )
    return None


ROWS_THAT_MATTER: Final = 10_000
DEAD_SHARE: Final = 0.3
"""Autovacuum comes at 2 % on item_state, at 20 % elsewhere: a third means that it does not come, or may not remove what it finds."""
LONG_S: Final = 300
SLOT_BEHIND: Final = 100_000
"""Transactions that a reader who only restarts does not miss."""


def _table(connection: sa.Connection, row: Any, growth: dict[str, int], *, counted: bool) -> dict[str, Any]:
    quoted = connection.dialect.identifier_preparer.quote(row["table"])
    rows = connection.scalar(sa.text(f"select count(*) from pipeline.{quoted}")) if counted else max(row["estimate"], row["live"])  # noqa: S608  # a name from the catalogue, quoted
    return {
        "table": row["table"],
        "rows": rows,
        "bytes": row["bytes"],
        "index_bytes": row["index_bytes"],
        "dead": row["dead"],
        "hot": round(row["hot_updates"] / row["updates"], 3) if row["updates"] else None,
        "vacuumed_at": row["vacuumed_at"],
        "analyzed_at": row["analyzed_at"],
        "xid_age": row["xid_age"],
        "partitions": row["partitions"],
        "bytes_a_day": growth.get(row["table"]),
    }
