"""Items that are in: find, list, release, cancel, expire, revive. Every move takes whole bundles and locks in id order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from pipeline_project.core.errors import Unknown
from pipeline_project.core.excess import Excess
from pipeline_project.store import columns, history, statements
from pipeline_project.store.columns import Bigints
from pipeline_project.store.pools import Pool

SQL = statements.load("items")


def find(connection: sa.Connection, pool: Pool, key: str) -> dict[str, Any]:
    """Everything about one item, archived or not: its demands, the result that its executor brought, or the error. Raises Unknown."""
    item = _hot(connection, pool, key) or history.find(connection, pool, key)
    if item is None:
        raise Unknown(f"item {key!r}: pool {pool.name} has none of that key; see `pipeline items list --pool {pool.name}`")
    detail = item["detail"]
    return {
        **item,
        "result": detail if item["state"] == "completed" else None,
        "error": detail.get("error") if isinstance(detail, dict) and item["reason"] in ("failed", "lease lost") else None,
    }


def _hot(connection: sa.Connection, pool: Pool, key: str) -> dict[str, Any] | None:
    row = connection.execute(SQL["find"], {"pool_id": pool.pool_id, "key": key}).mappings().first()
    if row is None:
        return None
    demands = connection.execute(SQL["demands"], {"item_id": row["item_id"], "revision": row["revision"]}).mappings()
    return {**row, "demands": [dict(demand) for demand in demands]}


def listing(connection: sa.Connection, pool: Pool, *, state: str | None = None, most: int = 1000) -> list[dict[str, Any]]:
    return [dict(r) for r in connection.execute(SQL["listing"], {"pool_id": pool.pool_id, "state": state, "most": most}).mappings()]


def counts(connection: sa.Connection, pool: Pool) -> dict[str, int]:
    """How many items are in each state."""
    return {row.state: row.n for row in connection.execute(SQL["counts"], {"pool_id": pool.pool_id})}


def ids_of(connection: sa.Connection, pool: Pool, keys: Sequence[str]) -> dict[str, int]:
    """Item id by key. Raises Unknown, naming the first keys that the pool does not have."""
    found = {row.key: row.item_id for row in connection.execute(SQL["ids_of"], {"pool_id": pool.pool_id, "keys": list(keys)})}
    missing = [key for key in keys if key not in found]
    if missing:
        raise Unknown(f"pool {pool.name} has no item {', '.join(map(repr, missing[:5]))} ({len(missing)} of {len(keys)} keys are unknown)")
    return found


def release(connection: sa.Connection, ids: Sequence[int], *, reason: str, not_before: datetime | None = None) -> list[int]:
    """selected -> pending, bundle mates included; not_before keeps them from being selected again at once. Ids that moved."""
    return _move(connection, "release", ids, reason=reason, not_before=not_before)


def cancel(connection: sa.Connection, ids: Sequence[int], *, reason: str) -> list[int]:
    """pending, selected, claimed -> cancelled; the unclaimed rest of a bundle goes with it. Ids that moved."""
    lock(connection, ids)
    return _with_broken_bundles(connection, _ids(connection, "cancel", ids, reason=reason))


def cancel_pending(connection: sa.Connection, ids: Sequence[int], *, reason: str) -> list[int]:
    """pending -> cancelled on behalf of the source, which may bring them back; ids that moved."""
    lock(connection, ids)
    return _with_broken_bundles(connection, _ids(connection, "cancel_pending", ids, reason=reason))


def expire_due(connection: sa.Connection, *, most: int) -> list[int]:
    """pending, selected -> expired where expires_at has passed; whole bundles. At most so many at a time."""
    return _move(connection, "expire", connection.scalars(SQL["due_to_expire"], {"most": most}).all())


def release_lapsed_holds(connection: sa.Connection, *, most: int) -> list[int]:
    """selected -> pending where nobody claimed in time."""
    locked = lock(connection, connection.scalars(SQL["holds_run_out"], {"most": most}).all())
    return release(connection, _ids(connection, "still_run_out", locked), reason="hold expired")


def revive(
    connection: sa.Connection, ids: Sequence[int], *, reason: str, detail: dict[str, Any] | None = None, expires_at: datetime | None = None
) -> list[int]:
    """expired, failed, quarantined, cancelled by its source -> pending, where the expiry lies ahead. Ids that moved.

    A new expiry is a new revision of the item, in the same transaction.

    Whoever is archived comes back first, and goes again if nothing revives it.
    """
    recalled = history.recall(connection, ids)
    lock(connection, ids)
    until = expires_at.isoformat() if expires_at else None
    moved = _ids(connection, "revive", ids, reason=reason, detail=json.dumps(detail) if detail else None, expires_at=until)
    if until:
        _ids(connection, "renew", moved, reason=reason, expires_at=until)
    history.look_again(connection, recalled)
    return moved


def quarantine(connection: sa.Connection, ids: Sequence[int], *, reason: str) -> list[int]:
    """pending, selected -> quarantined, with the unclaimed rest of a bundle; a selected one is released first. Ids that moved."""
    locked = lock(connection, ids)
    _ids(connection, "release", locked, reason=reason, not_before=None)
    return _ids(connection, "quarantine", locked, reason=reason)


def put_aside(connection: sa.Connection, excess: Excess) -> list[int]:
    """pending -> quarantined, where neither an item nor a mate has changed since they were added up. Ids that moved."""
    lock(connection, excess.item_ids.tolist())
    parameters = {"ids": Bigints(excess.item_ids), "versions": Bigints(excess.versions), "reason": excess.reason, "exceeds": excess.what}
    return list(connection.scalars(SQL["put_aside"], parameters))


def too_large(connection: sa.Connection, pool: Pool, *, most: int) -> list[dict[str, Any]]:
    """key, weight, reason of items that lie aside because of their numbers, in the order in which they came."""
    return [dict(row) for row in connection.execute(SQL["too_large"], {"pool_id": pool.pool_id, "most": most}).mappings()]


def dead(connection: sa.Connection, pool: Pool, *, state: str | None, error: str | None, most: int) -> list[dict[str, Any]]:
    """Failed and quarantined items, newest first; of one state, or whose last error holds this text."""
    parameters = {"pool_id": pool.pool_id, "state": state, "error": error, "most": most}
    return [dict(row) for row in connection.execute(SQL["dead"], parameters).mappings()]


def members(connection: sa.Connection, bundle_id: int) -> list[dict[str, Any]]:
    """key, state, reason, token of each item of a bundle."""
    return [dict(row) for row in connection.execute(SQL["members"], {"bundle_id": bundle_id}).mappings()]


def held_by(connection: sa.Connection, cycle_id: int, *, after: int, most: int) -> list[int]:
    """Ids of the selected and claimed items of a cycle, in id order, from `after` on."""
    return _column(connection, "of_cycle", {"cycle_id": cycle_id, "after": after, "most": most})


def source_keys(connection: sa.Connection, pool: Pool) -> set[str]:
    """Keys of pending items that the pool's source submitted."""
    return set(connection.scalars(SQL["source_keys"], {"pool_id": pool.pool_id}))


def lock(connection: sa.Connection, ids: Sequence[int]) -> list[int]:
    """Lock items and their bundle mates in id order: their ids. Nothing else of them: what they are is judged in a new statement."""
    return _column(connection, "lock", {"ids": Bigints.of(ids)}) if ids else []


def _with_broken_bundles(connection: sa.Connection, moved: list[int]) -> list[int]:
    return moved + _ids(connection, "cancel", _ids(connection, "broken_bundles", moved), reason="its bundle lost a member")


def _move(connection: sa.Connection, statement: str, ids: Sequence[int], **parameters: Any) -> list[int]:
    return _ids(connection, statement, lock(connection, ids), **parameters)


def _column(connection: sa.Connection, query: str, parameters: dict[str, Any]) -> list[int]:
    """The ids that a query finds: thousands at a time, so in one array and not row by row."""
    ids: list[int] = columns.arrays(connection, SQL[query], parameters, {"item_id": pa.int64()})["item_id"].tolist()
    return ids


def _ids(connection: sa.Connection, statement: str, ids: Sequence[int], **parameters: Any) -> list[int]:
    return list(connection.scalars(SQL[statement], {"ids": Bigints.of(ids), **parameters}).all()) if ids else []
