"""The feed for consumers: read from where one stands, do the work, acknowledge. At least once, in the order of commits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from pipeline_project.core.positions import Position
from pipeline_project.engine.transactions import repeatable
from pipeline_project.store import feed, pools
from pipeline_project.store.database import Database

Row = dict[str, Any]

POLL_S: Final = 1.0
"""How often a follower looks although nobody hinted: hints come from submissions and pool events only, and may be lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows in feed order.

    after    where it begins
    until    what to acknowledge when they are done; the same as `after` where nothing new could be read
    horizon  transaction number up to which could be read
    """

    rows: list[Row]
    after: Position
    until: Position
    horizon: str


SILENCE: Final = 10_000
"""Transactions that a follower reads over before it moves its cursor without a row of its own: moving it is a transaction, too."""


class Feed:
    """Consumers by name, each with a cursor of its own. Raises UsageError for a name that is none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, consumer: str, *, pool: str | None = None, most: int = 1000, after: Position | None = None) -> Page:
        """What follows the consumer's cursor, or another position. Reading moves nothing: until it is acknowledged it comes again.

        Raises Refused on a database that was restored from a server which had counted further.
        """
        with self._database.begin(repeatable=True) as connection:
            start = after or feed.cursor(connection, consumer)
            feed.refuse_another_server(connection, consumer, start)
            rows = feed.read(connection, start, pool=pools.find(connection, pool) if pool else None, most=most)
            horizon = feed.horizon(connection)
        settled = Position.before(int(horizon))
        until = Position.of(rows[-1]["position"]) if len(rows) == most else max(start, settled)
        return Page(rows=rows, after=start, until=until, horizon=horizon)

    @repeatable
    def acknowledge(self, consumer: str, position: Position, *, backwards: bool = False) -> bool:
        """Done with everything up to this position. False when that was known already.

        backwards  go back on purpose, to read again. Raises Refused for a position that the feed has not reached
        """
        with self._database.begin() as connection:
            return feed.move(connection, consumer, position, backwards=backwards)

    def status(self) -> Row:
        """consumers with their lag; the horizon, what waits for it, and who holds it."""
        with self._database.begin(repeatable=True) as connection:
            return {"consumers": feed.cursors(connection), **feed.horizon_state(connection)}

    def wait(self, timeout_s: float) -> bool:
        """Until somebody hints that there is something new, or the time is over. Opens a connection for it; `follow` keeps one."""
        with closing(feed.Listener(self._database.url)) as listener:
            return listener.wait(timeout_s)

    def follow(
        self, consumer: str, *, pool: str | None = None, most: int = 1000, seconds: float | None = None, poll_s: float = POLL_S
    ) -> Iterator[Page]:
        """Page after page; each is acknowledged when the next one is asked for. Ends after so many seconds, None = never."""
        until = None if seconds is None else time.monotonic() + seconds
        with closing(feed.Listener(self._database.url)) as listener:
            while True:
                page = self.read(consumer, pool=pool, most=most)
                if page.rows:
                    yield page
                if page.rows or page.until.xid - page.after.xid > SILENCE:
                    self.acknowledge(consumer, page.until)
                left = poll_s if until is None else min(poll_s, until - time.monotonic())
                if left <= 0:
                    return
                if len(page.rows) < most:
                    listener.wait(left)
