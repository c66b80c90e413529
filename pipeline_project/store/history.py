"""Items that ended long ago: moved to monthly partitions with bodies and decisions, looked up there, brought back when revived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from pipeline_project.store import statements
from pipeline_project.store.pools import Pool

SQL = statements.load("history")

BEGINNING: Final = -1
"""Below every item's id: a batch that goes on behind it leaves nobody out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Ends that are to be archived: after (since, behind), up to the cutoff."""

    since: Any
    behind: int
    cutoff: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """seen: ends that were looked at; moved: items that went to history, bundle mates included."""

    seen: int
    moved: int
    rest: Window


def window(connection: sa.Connection, pool: Pool, age_s: int) -> Window:
    """What a sweep has to look at: from where the last one stopped to what ended so long ago."""
    row = connection.execute(SQL["window"], {"pool_id": pool.pool_id, "age_s": age_s}).one()
    return Window(since=row.since, behind=BEGINNING, cutoff=row.cutoff)


def archive(connection: sa.Connection, pool: Pool, window: Window, *, most: int) -> Batch:
    """Move the next batch. Fewer seen than asked for: there are no more."""
    parameters = {"pool_id": pool.pool_id, "since": window.since, "behind": window.behind, "cutoff": window.cutoff, "most": most}
    row = connection.execute(SQL["archive"], parameters).one()
    rest = window if row.last_at is None else Window(since=row.last_at, behind=row.last_item, cutoff=window.cutoff)
    return Batch(seen=row.seen, moved=row.moved, rest=rest)


def remember(connection: sa.Connection, pool: Pool, window: Window) -> None:
    """All of this window is done: the next sweep begins at its cutoff."""
    connection.execute(SQL["remember"], {"pool_id": pool.pool_id, "since": window.since, "until": window.cutoff})


def recall(connection: sa.Connection, ids: Sequence[int]) -> list[int]:
    """Bring archived items (and their bundles) back into the hot tables; ids that came. Those without their audit trail stay."""
    return list(connection.scalars(SQL["recall"], {"ids": list(ids)})) if ids else []


def look_again(connection: sa.Connection, recalled: Sequence[int]) -> None:
    """Those of the recalled that nothing has revived go to history again, with the next sweep."""
    if recalled:
        connection.execute(SQL["look_again"], {"ids": list(recalled)})


def listing(connection: sa.Connection, pool: Pool, *, state: str | None, most: int) -> list[dict[str, Any]]:
    """Archived items, newest end first: the columns of items.listing, ended_at, archived_at."""
    return [dict(row) for row in connection.execute(SQL["listing"], {"pool_id": pool.pool_id, "state": state, "most": most}).mappings()]


def dead(connection: sa.Connection, pool: Pool, *, state: str | None, error: str | None, most: int) -> list[dict[str, Any]]:
    """Archived dead letters, newest first; the columns of items.dead."""
    parameters = {"pool_id": pool.pool_id, "state": state, "error": error, "most": most}
    return [dict(row) for row in connection.execute(SQL["dead"], parameters).mappings()]


def is_there(connection: sa.Connection, pool: Pool) -> dict[str, bool]:
    """items, dead: whether the pool has any of them in history."""
    return dict(connection.execute(SQL["is_there"], {"pool_id": pool.pool_id}).mappings().one())


def find(connection: sa.Connection, pool: Pool, key: str) -> dict[str, Any] | None:
    """Everything about an archived item, with the columns of items.find; None when it is not archived."""
    row = connection.execute(SQL["find"], {"pool_id": pool.pool_id, "key": key}).mappings().first()
    if row is None:
        return None
    demands = connection.execute(SQL["demands"], {"item_id": row["item_id"], "revision": row["revision"]}).mappings()
    return {**row, "demands": [dict(demand) for demand in demands]}
