"""What happened, in commit order without gaps: everything below the horizon has ended, nothing can appear there any more."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

import psycopg
import sqlalchemy as sa

from pipeline_project.core.errors import Refused, UsageError
from pipeline_project.core.positions import START, Position
from pipeline_project.store import statements
from pipeline_project.store.pools import Pool

SQL = statements.load("feed")

CHANNEL: Final = "pipeline_feed"
COUNTED_MOST: Final = 100_000
"""Rows a lag is counted up to: beyond, nobody needs it more exactly."""
_CONSUMER: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def horizon(connection: sa.Connection) -> str:
    """The transaction id below which everything has ended."""
    position: str = connection.execute(SQL["horizon"]).scalar_one()
    return position


def woken(connection: sa.Connection, *, after: str, horizon: str, since: datetime, at: datetime) -> dict[str, str]:
    """Active pools with pending items that changed from position `after` up to `horizon`, or had a `not_before` that passed after `since`.

    Each with the position of its newest change. `at` is the time now, to ask from the next time.
    """
    rows = connection.execute(SQL["woken"], {"after": after, "horizon": horizon, "since": since, "at": at})
    return {row.pool: row.newest for row in rows}


def newest(connection: sa.Connection, horizon: str) -> str:
    """Position of the newest change below a horizon that may alter what a cycle selects: it stands still while nothing happens."""
    position: str = connection.execute(SQL["newest"], {"horizon": horizon}).scalar_one()
    return position


def active_pools(connection: sa.Connection) -> list[str]:
    return list(connection.scalars(SQL["active_pools"]))


def writing_pools(connection: sa.Connection) -> list[str]:
    return list(connection.scalars(SQL["writing_pools"]))


def backlog(connection: sa.Connection, pool: Pool) -> dict[str, Any]:
    """pending, oldest (time), oldest_age_s of the items that a cycle could have selected."""
    return dict(connection.execute(SQL["backlog"], {"pool_id": pool.pool_id}).mappings().one())


def starving(connection: sa.Connection, pool: Pool, *, longer_than_s: int, most: int) -> list[dict[str, Any]]:
    """key, waited_s of items that were never selected in so long a time, longest first."""
    return [
        dict(row)
        for row in connection.execute(SQL["starving"], {"pool_id": pool.pool_id, "longer_than_s": longer_than_s, "most": most}).mappings()
    ]


def overlooked(connection: sa.Connection, pool: Pool) -> dict[str, Any]:
    """items, oldest_age_s, first (its key) of what no cycle can have seen yet."""
    return dict(connection.execute(SQL["overlooked"], {"pool_id": pool.pool_id}).mappings().one())


def in_order(connection: sa.Connection) -> None:
    """For the rest of the transaction: pages of the trail are read by index, however many rows follow them."""
    connection.execute(SQL["in_order"])


def read(connection: sa.Connection, after: Position, *, pool: Pool | None, most: int) -> list[dict[str, Any]]:
    """The next rows in feed order, each with its `position`."""
    in_order(connection)
    where = {"xid": str(after.xid), "seq": after.seq, "most": most}
    found = connection.execute(SQL["read_pool"], {**where, "pool_id": pool.pool_id}) if pool else connection.execute(SQL["read"], where)
    return [
        {"position": str(Position(int(row["xid"]), row["seq"])), **{name: row[name] for name in row if name not in ("xid", "seq")}}
        for row in found.mappings()
    ]


def cursor(connection: sa.Connection, consumer: str) -> Position:
    """What a consumer is done with; START for one that is not known yet. Raises UsageError for a name that is none."""
    if not _CONSUMER.fullmatch(consumer):
        raise UsageError(f"consumer: expected 1 to 64 of A-Z, a-z, 0-9 and _.:-, found {consumer!r}")
    row = connection.execute(SQL["cursor"], {"consumer": consumer}).first()
    return Position(int(row.xid), row.seq) if row else START


def move(connection: sa.Connection, consumer: str, position: Position, *, backwards: bool) -> bool:
    """Put a consumer's cursor there; False when it stands there, or beyond and `backwards` is not wanted.

    Raises Refused for a position that the feed has not reached.
    """
    cursor(connection, consumer)
    reached = int(horizon(connection))
    if position.xid >= reached:
        raise Refused(
            f"consumer {consumer}: expected a position below the horizon {reached}, found {position}: nobody can have read that far"
        )
    target = {"consumer": consumer, "xid": str(position.xid), "seq": position.seq, "backwards": backwards}
    return connection.execute(SQL["move_cursor"], target).rowcount == 1


def refuse_another_server(connection: sa.Connection, consumer: str, at: Position) -> None:
    """Raise Refused where a cursor stands above every transaction: the database came from a server that had counted further."""
    following = next_transaction(connection)
    if at.xid > following:
        raise Refused(
            f"consumer {consumer}: expected a position up to transaction {following}, found {at}: this database was restored from a server"
            " that had counted further. See docs/operations.md, `After a restore`"
        )


def next_transaction(connection: sa.Connection) -> int:
    """The number that no transaction of this server has reached."""
    return int(connection.execute(SQL["next_xid"]).scalar_one())


def cursors(connection: sa.Connection) -> list[dict[str, Any]]:
    """Every consumer with its position, and how far it is behind: lag_rows (COUNTED_MOST = so many or more), lag_s."""
    in_order(connection)
    found = []
    for row in connection.execute(SQL["cursors"]).all():
        lag = connection.execute(SQL["behind"], {"xid": row.xid, "seq": row.seq, "most": COUNTED_MOST}).one()
        position = Position(int(row.xid), row.seq)
        found.append(
            {
                "consumer": row.consumer,
                "position": str(position),
                "moved_at": row.moved_at,
                "lag_rows": lag.rows,
                "lag_s": lag.seconds or 0.0,
            }
        )
    return found


def horizon_state(connection: sa.Connection) -> dict[str, Any]:
    """horizon, waiting_rows and waiting_s of what is committed and not readable yet, held_by, and who keeps VACUUM from its work."""
    waiting = connection.execute(SQL["waiting"], {"most": COUNTED_MOST}).one()
    return {
        "horizon": horizon(connection),
        "waiting_rows": waiting.rows,
        "waiting_s": waiting.seconds or 0.0,
        "held_by": [dict(row) for row in connection.execute(SQL["horizon_holders"]).mappings()],
        "vacuum_held_by": [dict(row) for row in connection.execute(SQL["vacuum_holders"]).mappings()],
    }


class Listener:
    """A connection of its own that hears the hints. Hints may be lost or come late: whoever waits for one reads the feed anyway."""

    def __init__(self, url: sa.URL, *, connect_timeout_s: int = 10) -> None:
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection = psycopg.connect(plain, autocommit=True, connect_timeout=connect_timeout_s, application_name="pipeline feed")
        self._connection.execute(f"listen {CHANNEL}")

    def wait(self, timeout_s: float) -> bool:
        """True at the first hint, False when none came in time."""
        return any(True for _ in self._connection.notifies(timeout=timeout_s, stop_after=1))

    def close(self) -> None:
        self._connection.close()
