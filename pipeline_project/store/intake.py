"""From a checked batch to pending items: staged by COPY, judged and written in sets, idempotent by key."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa

from pipeline_project.core.errors import Refusal
from pipeline_project.core.items import ItemBatch
from pipeline_project.core.packing import Int64
from pipeline_project.store import columns, resources, statements
from pipeline_project.store.pools import Pool

SQL = statements.load("intake")

Origin = Literal["producer", "source"]


@dataclass(slots=True, kw_only=True)
class Receipt:
    """What became of an input: every row is in exactly one of these."""

    accepted: int = 0
    unchanged: int = 0
    revised: int = 0
    refused: list[Refusal] = field(default_factory=list)

    def add(self, other: Receipt) -> None:
        self.accepted += other.accepted
        self.unchanged += other.unchanged
        self.revised += other.revised
        self.refused += other.refused


def submit(connection: sa.Connection, pool: Pool, batch: ItemBatch, *, origin: Origin = "producer", reason: str = "submitted") -> Receipt:
    """Submit new items, revise changed ones (a selected one is released first), leave equal ones alone.

    Lock order: bundles, item keys, items by id, resources by id. A refused row leaves no trace; the others go in.
    """
    me: dict[str, Any] = {"pool_id": pool.pool_id, "origin": origin, "reason": reason}

    def run(*names: str) -> None:
        for name in names:
            connection.execute(SQL[name], me)

    def refuse(name: str) -> list[Refusal]:
        rows = connection.execute(SQL[name], me).all()
        return [Refusal(line=r.line, field=r.field, expected=r.expected, found=r.found, item=r.key) for r in rows]

    resource_ids, refused = _resolve_demands(connection, pool, batch)
    run("stage")
    columns.write(connection, "pg_temp.staged_item", _ITEM_COLUMNS, _item_rows(batch, {refusal.line for refusal in refused}))
    run("prepare")
    refused += refuse("refuse_expired")
    if any(key is not None for key in batch.bundle_keys):
        run("add_bundles", "lock_bundles", "resolve_bundles")
    run("resolve_items")
    refused += refuse("refuse_bundles")
    run("add_keys", "resolve_items", "lock_known", "settle_fates")
    for _ in range(3):  # again where one moved between history and the hot tables while we looked
        if connection.scalar(SQL["unsettled"]):
            run("recall_returned", "lock_known", "settle_fates", "settle_archived")
    refused += refuse("refuse_fates")
    run("prepare", "release_revised", "revive_returned")
    _write_demands(connection, batch, resource_ids, connection.execute(SQL["insert_bodies"], me).all())
    run("insert_states", "count_members", "revise")
    counts = connection.execute(SQL["fates"]).one()
    run("clear")
    return Receipt(accepted=counts.accepted, unchanged=counts.unchanged, revised=counts.revised, refused=refused)


def _resolve_demands(connection: sa.Connection, pool: Pool, batch: ItemBatch) -> tuple[Int64, list[Refusal]]:
    """Resource id of each demand, and one refusal an item whose demand names no resource or wants more than there is of it."""
    keys, key_of = np.unique(np.array(batch.demand_keys, dtype=object), return_inverse=True)
    known = resources.of_keys(connection, pool, keys.tolist())
    ids = np.array([known.get(key, (0, -1))[0] for key in keys], np.int64)[key_of]
    capacities = np.array([known.get(key, (0, -1))[1] for key in keys], np.int64)[key_of]
    bad = np.flatnonzero(batch.demand_quantities > capacities)
    items = np.searchsorted(batch.demand_indptr, bad, side="right") - 1
    refused = []
    for item, demand in zip(*_firsts(items, bad), strict=True):
        key, capacity = batch.demand_keys[demand], int(capacities[demand])
        refused.append(
            Refusal(
                line=int(batch.lines[item]),
                field=f"demands.{key}",
                expected="a resource of this pool" if capacity < 0 else f"at most its capacity, {capacity}",
                found="no resource of that key" if capacity < 0 else str(batch.demand_quantities[demand]),
                item=batch.keys[item],
            )
        )
    return ids, refused


def _firsts(groups: Int64, values: Int64) -> tuple[Int64, Int64]:
    """Each group once, with its first value; groups are ascending."""
    found, at = np.unique(groups, return_index=True)
    return found, values[at]


def _write_demands(connection: sa.Connection, batch: ItemBatch, resource_ids: Int64, bodies: Sequence[Any]) -> None:
    """Demands of the bodies that were written (rows of line, item_id, revision), straight into their table."""
    rows = np.array([tuple(body) for body in bodies], np.int64).reshape(-1, 3)
    order = np.argsort(batch.lines, kind="stable")
    items = order[np.searchsorted(batch.lines, rows[:, 0], sorter=order)]
    starts, lengths = batch.demand_indptr[items], np.diff(batch.demand_indptr)[items]
    at = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
    demands = (np.repeat(rows[:, 1], lengths), np.repeat(rows[:, 2], lengths), resource_ids[at], batch.demand_quantities[at])
    names = ("item_id", "revision", "resource_id", "quantity")
    columns.write(connection, "pipeline.item_demand", names, zip(*(column.tolist() for column in demands), strict=True))


_ITEM_COLUMNS = ("line", "key", "weight", "payload", "not_before", "expires_at", "bundle_key", "bundle_size", "digest")


def _item_rows(batch: ItemBatch, refused: Container[int]) -> Iterator[tuple[Any, ...]]:
    demands = list(zip(batch.demand_keys, batch.demand_quantities.tolist(), strict=True))
    starts = batch.demand_indptr.tolist()
    body = zip(
        batch.weights.tolist(), batch.payloads, batch.not_before, batch.expires_at, batch.bundle_keys, batch.bundle_sizes, strict=True
    )
    for i, (line, key, rest) in enumerate(zip(batch.lines.tolist(), batch.keys, body, strict=True)):
        if line not in refused:
            yield (line, key, *rest, _digest(rest, sorted(demands[starts[i] : starts[i + 1]])))


def _digest(body: tuple[Any, ...], demands: list[tuple[str, int]]) -> bytes:
    """16 bytes that change when anything in the item's body does: how an import knows a row it has seen."""
    return hashlib.blake2b(repr((body, demands)).encode(), digest_size=16).digest()
