"""How far the promises of the store are proven, so that the next check begins where the last one ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from pipeline_project.store import statements

SQL = statements.load("check_marks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """position: of the feed; recent: everything was looked at within a week."""

    position: str
    recent: bool


def last(connection: sa.Connection) -> Mark | None:
    """None where nothing was ever proven here."""
    row = connection.execute(SQL["mark"]).one_or_none()
    return Mark(position=row.position, recent=row.recent) if row else None


def touched(connection: sa.Connection, position: str) -> list[int]:
    """Ids of the items that moved at or after a position."""
    return list(connection.scalars(SQL["touched"], {"position": position}))


def of_cycle(connection: sa.Connection, cycle_id: int) -> list[int]:
    """Ids of the items that a cycle recorded a verdict on."""
    return list(connection.scalars(SQL["of_cycle"], {"cycle_id": cycle_id}))


def bundles(connection: sa.Connection, ids: Sequence[int]) -> list[int]:
    """Ids of the bundles of these items, archived or not."""
    return list(connection.scalars(SQL["bundles"], {"ids": list(ids)}))


def remember(connection: sa.Connection, position: str, *, full: bool) -> None:
    """All is proven below this position; full: of every item there is."""
    full_at = None if full else "-infinity"
    connection.execute(SQL["remember"], {"position": position, "full_at": full_at})
