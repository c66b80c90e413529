"""Verdicts of a cycle, and the locks under which they are given."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from pipeline_project.core.packing import Int64
from pipeline_project.store import columns, statements
from pipeline_project.store.pools import Pool

SQL = statements.load("decisions")


def lock_items(connection: sa.Connection, ids: Int64) -> pa.Table:
    """Lock these items in id order; then their item_id, version, state, expired (0 or 1) as they are now, in id order."""
    connection.execute(SQL["lock_items"], {"ids": ids.tolist()})
    types = {"item_id": pa.int64(), "version": pa.int64(), "state": pa.string(), "expired": pa.int64()}
    return columns.read(connection, SQL["read_items"], {"ids": ids.tolist()}, types)


def lock_free(connection: sa.Connection, resource_ids: Int64) -> Int64:
    """Lock these resources (ascending ids) in id order; then what is free of each now."""
    connection.execute(SQL["lock_resources"], {"ids": resource_ids.tolist()})
    rows = connection.execute(SQL["free"], {"ids": resource_ids.tolist()}).all()
    assert len(rows) == len(resource_ids)
    return np.fromiter((row.free for row in rows), np.int64, len(rows))


def select(connection: sa.Connection, cycle_id: int, ids: Int64, ranks: Int64, hold_s: int) -> None:
    """pending -> selected, for a locked and checked set; the database's triggers take the capacity and write the audit."""
    if len(ids):
        connection.execute(SQL["select_items"], {"cycle_id": cycle_id, "ids": ids.tolist(), "ranks": ranks.tolist(), "hold_s": hold_s})


def expired_among(connection: sa.Connection, ids: Int64) -> int:
    """How many of these locked items have run out by now."""
    return int(connection.execute(SQL["expired_among"], {"ids": ids.tolist()}).scalar_one()) if len(ids) else 0


def record(
    connection: sa.Connection,
    cycle_id: int,
    *,
    ids: Int64,
    verdicts: list[str],
    ranks: Int64,
    versions: Int64,
    weights: Int64,
    reasons: list[str | None],
) -> None:
    """Append one row an item. Deferred items have none: they are in the cycle's artifact."""
    connection.execute(
        SQL["record"],
        {
            "cycle_id": cycle_id,
            "ids": ids.tolist(),
            "verdicts": verdicts,
            "ranks": ranks.tolist(),
            "versions": versions.tolist(),
            "weights": weights.tolist(),
            "reasons": reasons,
        },
    )


def of_item(connection: sa.Connection, item_id: int) -> list[dict[str, Any]]:
    """Recorded verdicts on an item, newest first."""
    return [dict(row) for row in connection.execute(SQL["of_item"], {"item_id": item_id}).mappings()]


def cycles_since(connection: sa.Connection, pool: Pool, since: datetime, *, most: int) -> list[dict[str, Any]]:
    """Cycles of a pool since a time, newest first: where to look for an item's deferred verdicts."""
    parameters = {"pool_id": pool.pool_id, "since": since, "most": most}
    return [dict(row) for row in connection.execute(SQL["cycles_since"], parameters).mappings()]


def top(connection: sa.Connection, cycle_id: int, *, most: int) -> list[dict[str, Any]]:
    """A cycle's recorded verdicts, best rank first."""
    return [dict(row) for row in connection.execute(SQL["top"], {"cycle_id": cycle_id, "most": most}).mappings()]
