"""Verdicts of a cycle, and the locks under which they are given."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from pipeline_project.core.decisions import Verdict
from pipeline_project.core.packing import Int64
from pipeline_project.store import columns, statements
from pipeline_project.store.columns import Bigints
from pipeline_project.store.pools import Pool

SQL = statements.load("decisions")


def lock_items(connection: sa.Connection, ids: Int64) -> pa.Table:
    """Lock these items in id order; then their item_id, version, expired (0 or 1) as they are now, in id order."""
    connection.execute(SQL["lock_items"], {"ids": Bigints(ids)})
    return read_items(connection, ids)


def read_items(connection: sa.Connection, ids: Int64) -> pa.Table:
    """The same without the locks, for what nobody is about to move."""
    return columns.read(connection, SQL["read_items"], {"ids": Bigints(ids)}, dict.fromkeys(("item_id", "version", "expired"), pa.int64()))


def lock_free(connection: sa.Connection, resource_ids: Int64) -> Int64:
    """Lock these resources (ascending ids) in id order; then what is free of each now."""
    parameters = {"ids": Bigints(resource_ids)}
    connection.execute(SQL["lock_resources"], parameters)
    rows = columns.read(connection, SQL["free"], parameters, {"free": pa.int64()})
    assert len(rows) == len(resource_ids)
    return columns.integers(rows, "free")


def select(connection: sa.Connection, cycle_id: int, ids: Int64, ranks: Int64, hold_s: int) -> None:
    """pending -> selected, for a locked and checked set; the database's triggers take the capacity and write the audit.

    Written in id order, as the rows lie: by rank, each would be on another page of the table and of every index but one.
    """
    if len(ids):
        order = np.argsort(ids)
        parameters = {"cycle_id": cycle_id, "ids": Bigints(ids[order]), "ranks": Bigints(ranks[order]), "hold_s": hold_s}
        connection.execute(SQL["select_items"], parameters)


def expired_among(connection: sa.Connection, ids: Int64) -> int:
    """How many of these locked items have run out by now."""
    return int(connection.execute(SQL["expired_among"], {"ids": Bigints(np.sort(ids))}).scalar_one()) if len(ids) else 0


def record(
    connection: sa.Connection,
    cycle_id: int,
    verdict: Verdict,
    reason: str | None,
    *,
    ids: Int64,
    ranks: Int64,
    versions: Int64,
    weights: Int64,
) -> None:
    """Append one row an item, all of one verdict. Deferred items have none: they are in the cycle's artifact."""
    if len(ids):
        order = np.argsort(ids)
        arrays = {"ids": ids, "ranks": ranks, "versions": versions, "weights": weights}
        sorted_ = {name: Bigints(values[order]) for name, values in arrays.items()}
        connection.execute(SQL["record"], {"cycle_id": cycle_id, "verdict": str(verdict), "reason": reason, **sorted_})


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
