"""Resources of a pool. in_use and spent are the database's own: nothing here writes them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from pipeline_project.core.errors import Refusal, Refused, Unknown
from pipeline_project.core.resources import ResourceBatch
from pipeline_project.store import columns, pools, statements
from pipeline_project.store.pools import Pool

SQL = statements.load("resources")


def put(connection: sa.Connection, pool: Pool, batch: ResourceBatch) -> tuple[int, int, list[Refusal]]:
    """Add new resources and change the capacity of known ones: (added, changed, refused).

    Lowering a capacity below what is held or spent is refused here; `set_capacity` can release holders for it.
    """
    connection.execute(SQL["stage"])
    rows = zip(batch.lines.tolist(), batch.keys, batch.capacities.tolist(), batch.kinds, strict=True)
    columns.write(connection, "pg_temp.staged_resource", ("line", "key", "capacity", "kind"), rows)
    me = {"pool_id": pool.pool_id}
    connection.execute(SQL["lock_existing"], me)
    refused = [
        *(_refusal(row, "kind", "{}, as it was made") for row in connection.execute(SQL["refuse_change_of_kind"], me)),
        *(_refusal(row, "capacity", "at least {}, which is in use or spent") for row in connection.execute(SQL["refuse_below_use"], me)),
    ]
    added = len(connection.execute(SQL["insert_new"], me).all())
    connection.execute(SQL["record_changes"], me)
    changed = connection.execute(SQL["change_capacity"], me).all()
    connection.execute(sa.text("drop table pg_temp.staged_resource"))
    if added:
        pools.record_event(connection, pool.pool_id, "capacity_changed", {"added": added})
    return added, len(changed), refused


def listing(connection: sa.Connection, pool: str | None, *, most: int = 100_000) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(SQL["listing"], {"pool": pool, "most": most}).mappings()]


def utilisation(connection: sa.Connection, pool: Pool, *, most: int = 40) -> list[dict[str, Any]]:
    """The most used resources of a pool, most used first."""
    return [dict(row) for row in connection.execute(SQL["utilisation"], {"pool_id": pool.pool_id, "most": most}).mappings()]


def find(connection: sa.Connection, pool: Pool, key: str) -> Any:
    """One resource's row, not locked. Raises Unknown."""
    return _one(connection, "find", pool, key)


def of_keys(connection: sa.Connection, pool: Pool, keys: Collection[str]) -> dict[str, tuple[int, int]]:
    """(resource id, capacity) by key; unknown keys are missing."""
    rows = connection.execute(SQL["of_keys"], {"pool_id": pool.pool_id, "keys": list(keys)})
    return {row.key: (row.resource_id, row.capacity) for row in rows}


def lowest_holders(connection: sa.Connection, pool: Pool, resource_id: int) -> list[tuple[int, int]]:
    """(item id, quantity) of selected, unclaimed holders, lowest-ranked first."""
    return [
        (row.item_id, row.quantity)
        for row in connection.execute(SQL["lowest_holders"], {"pool_id": pool.pool_id, "resource_id": resource_id})
    ]


def set_capacity(connection: sa.Connection, pool: Pool, key: str, capacity: int, *, released: bool = False) -> None:
    """Change a capacity. Raises Refused when more is in use or spent; `released`: everything is that could be released."""
    row = _one(connection, "lock_one", pool, key)
    taken = row["in_use"] + row["spent"]
    if capacity < taken:
        raise Refused(
            f"resource {key!r}: expected a capacity of at least {taken} (in use {row['in_use']}, spent {row['spent']}), found {capacity}; "
            + (
                "all of it is claimed or spent: wait for its executors, or cancel their items"
                if released
                else "wait for its holders, or add --release to release the lowest-ranked unclaimed ones"
            )
        )
    connection.execute(SQL["set_capacity"], {"resource_id": row["resource_id"], "capacity": capacity})
    pools.record_event(connection, pool.pool_id, "capacity_changed", {"resource": key, "before": row["capacity"], "after": capacity})


def _one(connection: sa.Connection, statement: str, pool: Pool, key: str) -> Any:
    row = connection.execute(SQL[statement], {"pool_id": pool.pool_id, "key": key}).mappings().first()
    if row is None:
        raise Unknown(f"resource {key!r}: pool {pool.name} has none of that key; see `pipeline resources list --pool {pool.name}`")
    return row


def _refusal(row: Any, field: str, expected: str) -> Refusal:
    return Refusal(line=row.line, field=field, expected=expected.format(row.expected), found=str(row.found), item=row.key)
