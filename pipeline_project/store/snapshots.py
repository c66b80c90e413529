"""Takes the snapshot of a cycle: one instant of the database as columns."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from pipeline_project import __version__
from pipeline_project.core.candidates import together
from pipeline_project.core.exact_sums import total
from pipeline_project.core.excess import Excess, largest
from pipeline_project.core.packing import INT64_MAX, Bools, Int64, starts_of
from pipeline_project.core.policy import Ageing
from pipeline_project.core.snapshot import Mode, Snapshot
from pipeline_project.store import columns, statements
from pipeline_project.store.pools import Pool

SQL = statements.load("snapshots")

_ITEMS = {
    "item_id": pa.int64(),
    "key": pa.string(),
    "version": pa.int64(),
    "weight": pa.int64(),
    "bundle_id": pa.int64(),
    "bundle_size": pa.int64(),
    "held": pa.int64(),
    "waited_s": pa.int64(),
}
_DEMANDS = {"item_id": pa.int64(), "resource_id": pa.int64(), "quantity": pa.int64()}
_RESOURCES = {"resource_id": pa.int64(), "key": pa.string(), "capacity": pa.int64(), "free": pa.int64()}


def live(connection: sa.Connection, pool: Pool, day: date) -> tuple[Snapshot, list[Excess]]:
    """What is pending and awake now, and what of it is left out. The caller's transaction must be REPEATABLE READ."""
    me = {"pool_id": pool.pool_id}
    items = columns.read(connection, SQL["eligible"], me, _ITEMS)
    demands = columns.read(connection, SQL["demands"], me, _DEMANDS)
    return _assemble(connection, pool, day, Mode.LIVE, items, demands)


def reprocess(connection: sa.Connection, pool: Pool, day: date, seen: Int64) -> tuple[Snapshot, list[Excess]]:
    """What a past day may decide anew, of the item ids its cycles saw; what they hold counts as free. What is left out keeps it."""
    me = {"pool_id": pool.pool_id, "ids": seen.tolist(), "day": day, "policy_hash": pool.policy.hash}
    items = columns.read(connection, SQL["reconsidered"], me, _ITEMS)
    demands = columns.read(connection, SQL["demands_of"], {"ids": items.column("item_id").to_pylist()}, _DEMANDS)
    return _assemble(connection, pool, day, Mode.REPROCESS, items, demands)


def _assemble(
    connection: sa.Connection, pool: Pool, day: date, mode: Mode, items: pa.Table, demands: pa.Table
) -> tuple[Snapshot, list[Excess]]:
    items = items.filter(pa.array(_whole_bundles(items)))
    items, demands, beyond = _summable(items, _of(items, demands))
    ids = columns.integers(items, "item_id")
    resources = columns.read(connection, SQL["resources"], {"pool_id": pool.pool_id}, _RESOURCES)
    wanted, resource = np.unique(columns.integers(demands, "resource_id"), return_inverse=True)
    resources = resources.filter(pa.array(np.isin(columns.integers(resources, "resource_id"), wanted)))
    item = np.searchsorted(ids, columns.integers(demands, "item_id"))
    quantities = columns.integers(demands, "quantity")
    held = columns.integers(items, "held").astype(np.bool_)
    free = columns.integers(resources, "free").copy()
    mine = held[item]
    np.add.at(free, resource[mine], quantities[mine])
    snapshot = Snapshot(
        pool=pool.name,
        day=day,
        mode=mode,
        policy=pool.policy,
        engine_version=__version__,
        item_ids=ids,
        keys=columns.strings(items, "key"),
        versions=columns.integers(items, "version"),
        weights=_aged(columns.integers(items, "weight"), columns.integers(items, "waited_s"), pool.policy.objective.ageing),
        bundles=columns.integers(items, "bundle_id"),
        held=held,
        indptr=starts_of(np.bincount(item, minlength=len(ids))),
        resources=resource.astype(np.int32),
        quantities=quantities,
        resource_ids=columns.integers(resources, "resource_id"),
        resource_keys=columns.strings(resources, "key"),
        free=free,
        capacities=columns.integers(resources, "capacity"),
    )
    return snapshot, beyond


def _whole_bundles(items: pa.Table) -> Bools:
    """Lone items, and members of bundles of which every declared member is here."""
    bundle = columns.integers(items, "bundle_id")
    _, back, count = np.unique(bundle, return_inverse=True, return_counts=True)
    whole: Bools = count[back] == columns.integers(items, "bundle_size")
    return (bundle < 0) | whole


def _of(items: pa.Table, demands: pa.Table) -> pa.Table:
    """The demands of these items."""
    return demands.filter(pa.array(np.isin(columns.integers(demands, "item_id"), columns.integers(items, "item_id"))))


def _summable(items: pa.Table, demands: pa.Table) -> tuple[pa.Table, pa.Table, list[Excess]]:
    """Items and demands without those with which all weights, or all demanded quantities, would add up to more than int64 holds."""
    beyond: list[Excess] = []
    for what, column, room in (
        ("weights", "weight", 0),
        ("demanded quantities", "quantity", len(items)),  # a limit on selected items is demanded once by each
    ):
        table, most = items if column == "weight" else demands, INT64_MAX - room
        values = columns.integers(table, column)
        found = total(values)
        if found > most:
            ids, groups = columns.integers(items, "item_id"), together(columns.integers(items, "bundle_id"))
            of = groups[np.searchsorted(ids, columns.integers(table, "item_id"))]
            out = np.isin(groups, largest(of, values, found - most))
            versions = columns.integers(items, "version")
            beyond.append(Excess(what=what, total=found, most=most, item_ids=ids[out], versions=versions[out]))
            items = items.filter(pa.array(~out))
            demands = _of(items, demands)
    return items, demands, beyond


def _aged(weights: Int64, waited_s: Int64, ageing: Ageing) -> Int64:
    """Whole steps only, so that time alone changes a cycle's identity no more often than that. At most as many as keep sums exact."""
    if not ageing.bonus or not len(weights):
        return weights
    most = (INT64_MAX - total(weights)) // len(weights) // ageing.bonus
    aged: Int64 = weights + np.minimum(waited_s // ageing.step, most) * ageing.bonus
    return aged
