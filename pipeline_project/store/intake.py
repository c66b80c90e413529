"""From a checked batch to pending items: staged by COPY, judged and written in sets, idempotent by key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa

from pipeline_project.core.errors import Refusal
from pipeline_project.core.items import ItemBatch
from pipeline_project.store import columns, statements
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

    run("stage")
    columns.write(connection, "pg_temp.staged_item", _ITEM_COLUMNS, _item_rows(batch))
    columns.write(connection, "pg_temp.staged_demand", ("line", "resource_key", "quantity"), _demand_rows(batch))
    run("resolve_resources", "prepare")
    refused = refuse("refuse_expired") + refuse("refuse_demands")
    if any(key is not None for key in batch.bundle_keys):
        run("add_bundles", "lock_bundles", "resolve_bundles")
    run("resolve_items")
    refused += refuse("refuse_bundles")
    run("add_keys", "resolve_items", "lock_known", "settle_fates")
    refused += refuse("refuse_fates")
    run("drop_refused_demands", "prepare", "release_revised", "revive_returned")
    run("insert_bodies", "insert_demands", "insert_states", "count_members", "revise")
    counts = connection.execute(SQL["fates"]).one()
    run("clear")
    return Receipt(accepted=counts.accepted, unchanged=counts.unchanged, revised=counts.revised, refused=refused)


_ITEM_COLUMNS = ("line", "key", "weight", "payload", "not_before", "expires_at", "bundle_key", "bundle_size", "digest")


def _item_rows(batch: ItemBatch) -> Iterator[tuple[Any, ...]]:
    demands = list(zip(batch.demand_keys, batch.demand_quantities.tolist(), strict=True))
    starts = batch.demand_indptr.tolist()
    body = zip(
        batch.weights.tolist(), batch.payloads, batch.not_before, batch.expires_at, batch.bundle_keys, batch.bundle_sizes, strict=True
    )
    for i, (line, key, rest) in enumerate(zip(batch.lines.tolist(), batch.keys, body, strict=True)):
        yield (line, key, *rest, _digest(rest, sorted(demands[starts[i] : starts[i + 1]])))


def _demand_rows(batch: ItemBatch) -> Iterator[tuple[int, str, int]]:
    lines = batch.lines.repeat(batch.demand_indptr[1:] - batch.demand_indptr[:-1])
    return zip(lines.tolist(), batch.demand_keys, batch.demand_quantities.tolist(), strict=True)


def _digest(body: tuple[Any, ...], demands: list[tuple[str, int]]) -> bytes:
    """16 bytes that change when anything in the item's body does: how an import knows a row it has seen."""
    return hashlib.blake2b(repr((body, demands)).encode(), digest_size=16).digest()
