"""What somebody should look at: seen, told to whom it concerns at least once, and told again when it is over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from pipeline_project.core.alert_routes import Route, Severity
from pipeline_project.core.errors import PipelineError
from pipeline_project.core.policy import duration
from pipeline_project.engine import sending
from pipeline_project.engine.sending import Message
from pipeline_project.engine.transactions import repeatable
from pipeline_project.store import alerts, cycles, pools
from pipeline_project.store.alerts import Alert
from pipeline_project.store.database import Database

log = logging.getLogger(__name__)

STARVING: Final = "starving"
OVERLOOKED: Final = "backlog_overlooked"
STUCK_CYCLE: Final = "stuck_cycle"
LAGGING_FEED: Final = "lagging_feed"
WATCHED: Final = (STARVING, OVERLOOKED, STUCK_CYCLE, LAGGING_FEED)
"""Kinds that `watch` begins and ends."""

STUCK_AFTER_S: Final = 300
"""The next cycle or sweep finishes a cycle whose owner fell silent; when for so long none did, a person should look."""
FEED_LAG_MAX_S: Final = 300

MESSAGE_HOLDS: Final = 50
LEASE_S: Final = 120
"""Longer than a message may take: whose lease lapses is taken for dead."""
BACKOFF_S: Final = 15
BACKOFF_MAX_S: Final = 3600
GIVE_UP_AFTER_S: Final = 7 * 86_400

Row = dict[str, Any]
Sender = Callable[[str, Message], None]


@dataclass(slots=True, kw_only=True)
class Delivered:
    """What one round came to: messages that were taken, alerts they told of, and what each failed route said."""

    messages: int = 0
    notices: int = 0
    failed: dict[str, str] = field(default_factory=dict)


class Alerts:
    """Begins and ends alerts, and tells the routes of both."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @repeatable
    def begin(self, alert: Alert) -> bool:
        """Keep it for whoever is on duty; True at its beginning, False while it lasts or when it is old news."""
        with self._database.begin() as connection:
            begun = alerts.add(connection, alert)
        if begun:
            log.log(logging.ERROR if alert.severity == "error" else logging.WARNING, "alert %s: %s", alert.dedupe_key, alert.message)
        return begun

    @repeatable
    def end(self, dedupe_key: str, observed_at: datetime | None = None) -> bool:
        """The condition has passed; False when nobody was alarmed."""
        with self._database.begin() as connection:
            ended = alerts.recover(connection, dedupe_key, observed_at)
        if ended:
            log.info("alert %s: recovered", dedupe_key)
        return ended

    @repeatable
    def ack(self, ids: Sequence[int], *, actor: str) -> list[int]:
        """Somebody looks after these: what was not told of them yet is not told any more, but for their end."""
        with self._database.begin(actor=actor) as connection:
            return alerts.ack(connection, ids, actor)

    def lasting(self, kinds: Sequence[str]) -> list[str]:
        """Keys of the open alerts of these kinds."""
        with self._database.begin() as connection:
            return alerts.open_keys(connection, kinds)

    def watch(self) -> dict[str, int]:
        """See what no check sees where no cycle runs: stuck cycles, starving and overlooked items, a lagging feed.

        Begins an alert for each condition, ends those that have passed. How many began and ended.
        """
        at, open_before, found = self._conditions()
        begun = sum(self.begin(alert) for alert in found)
        passed = set(open_before) - {alert.dedupe_key for alert in found}
        return {"begun": begun, "ended": sum(self.end(key, at) for key in sorted(passed)), "lasting": len(found) - begun}

    def deliver(self, routes: Sequence[Route], send: Sender) -> Delivered:
        """Tell each route what it has not been told, in one message a route; what fails stays in the table and is tried again.

        At least once: who dies between the sending and its record lets the message be sent again, by whoever comes after its lease.
        """
        while self._plan(routes):
            pass
        done = Delivered()
        for route in routes:
            self._deliver_to(route, send, done)
        self._give_up()
        return done

    # -- one transaction each

    @repeatable
    def _conditions(self) -> tuple[datetime, list[str], list[Alert]]:
        """(now, keys of the open alerts of these kinds, what is the case): everything at one instant."""
        with self._database.begin(repeatable=True) as connection:
            known = {pool.name: pool for pool in pools.everyone(connection)}
            limits = {name: (pool.policy.checks.max_wait, pool.policy.checks.max_age) for name, pool in known.items()}
            found = [_stuck(row) for row in alerts.stuck_cycles(connection, longer_than_s=STUCK_AFTER_S)]
            lag = alerts.feed_lag(connection)
            if lag["lag_s"] > FEED_LAG_MAX_S:
                found.append(_lagging(lag))
            for row in alerts.waiting(connection, limits):
                found += _waiting(row, known[row["pool"]])
            return cycles.now(connection), alerts.open_keys(connection, WATCHED), found

    @repeatable
    def _plan(self, routes: Sequence[Route]) -> int:
        with self._database.begin() as connection:
            return alerts.plan(connection, routes, most=500)

    def _deliver_to(self, route: Route, send: Sender, done: Delivered) -> None:
        message = uuid4()
        with self._database.begin() as connection:
            route_id, notices = alerts.take(connection, route, message, most=MESSAGE_HOLDS, lease_s=LEASE_S)
        if not notices:
            return
        try:
            send(sending.resolve(route.url), worded(notices))
        except PipelineError as failure:
            done.failed[route.name] = str(failure)
            log.warning("route %s: %s", route.name, failure)
            with self._database.begin() as connection:
                alerts.failed(connection, route_id, message, str(failure), backoff_s=BACKOFF_S, backoff_max_s=BACKOFF_MAX_S)
            return
        self._settle(route_id, message)
        done.messages += 1
        done.notices += len(notices)

    @repeatable
    def _settle(self, route_id: int, message: Any) -> None:
        with self._database.begin() as connection:
            alerts.sent(connection, route_id, message)

    @repeatable
    def _give_up(self) -> None:
        with self._database.begin() as connection:
            alerts.give_up(connection, after_s=GIVE_UP_AFTER_S)


def worded(notices: Sequence[Row]) -> Message:
    """One message of one or many notices, the worst in its title."""
    bad = [notice for notice in notices if notice["notice"] == "raised"]
    order: dict[str, int] = {"info": 0, "warning": 1, "error": 2}
    worst = max(bad or notices, key=lambda notice: order[notice["severity"]])
    severity: Severity = worst["severity"]
    word = "recovered" if not bad else severity
    about = f"pool {worst['pool']}: " if worst["pool"] else ""
    more = f" (and {len(notices) - 1} more)" if len(notices) > 1 else ""
    title = f"[pipeline] {word}: {about}{worst['kind'].replace('_', ' ')}{more}"
    return Message(title=title, body="\n\n".join(_paragraph(notice) for notice in notices), severity=severity, good_news=not bad)


def _paragraph(notice: Row) -> str:
    about = f" in pool {notice['pool']}" if notice["pool"] else ""
    since = f"{notice['raised_at']:%Y-%m-%d %H:%M:%S} UTC"
    if notice["notice"] == "recovered":
        lasted = duration(int((notice["recovered_at"] - notice["raised_at"]).total_seconds()))
        return f"RECOVERED{about}: {notice['message']}\nIt began {since} and lasted {lasted}. Alert {notice['alert_id']}."
    seen = f", seen {notice['count']} times" if notice["count"] > 1 else ""
    over = f" It is over since {notice['recovered_at']:%H:%M:%S}." if notice["recovered_at"] else ""
    acknowledge = "" if notice["recovered_at"] else f" pipeline alerts ack {notice['alert_id']}"
    return f"{notice['severity'].upper()}{about}: {notice['message']}\nSince {since}{seen}. Alert {notice['alert_id']}.{over}{acknowledge}"


def starving_key(pool: str) -> str:
    """The check `nobody_starves` and the watch see one and the same condition."""
    return f"{STARVING}:{pool}"


def overlooked_key(pool: str) -> str:
    """Likewise `backlog_is_fresh`."""
    return f"{OVERLOOKED}:{pool}"


def _stuck(row: Row) -> Alert:
    return Alert(
        dedupe_key=f"{STUCK_CYCLE}:{row['pool']}:{row['cycle_key']}",
        kind=STUCK_CYCLE,
        severity="error",
        pool=row["pool"],
        message=f"cycle {row['cycle_key'][:8]} is {row['status']}, its owner {row['owner']} fell silent {row['silent_s']} s ago and nobody "
        "finished it: does the sweep run? `pipeline upkeep sweep` finishes it",
        detail=row,
    )


def _lagging(lag: Row) -> Alert:
    return Alert(
        dedupe_key=LAGGING_FEED,
        kind=LAGGING_FEED,
        severity="warning",
        message=f"{lag['rows']} changes, the first {lag['lag_s']} s old, cannot be read from the feed: expected at most "
        f"{FEED_LAG_MAX_S} s; some transaction on this server has been open since before them (pg_stat_activity, xact_start)",
        detail=lag,
    )


def _waiting(row: Row, pool: pools.Pool) -> Iterator[Alert]:
    limits, severities = pool.policy.checks, pool.policy.checks.severity
    if row["starving"]:
        yield Alert(
            dedupe_key=starving_key(pool.name),
            kind=STARVING,
            severity=severities.nobody_starves,
            pool=pool.name,
            message=f"{row['starving']} items have waited up to {row['longest_s']} s and were never selected: expected at most "
            f"{limits.max_wait} s; such as {', '.join(row['starving_keys'][:5])}",
            detail={"items": row["starving"], "longest_s": row["longest_s"], "keys": row["starving_keys"]},
        )
    if row["overlooked"]:
        yield Alert(
            dedupe_key=overlooked_key(pool.name),
            kind=OVERLOOKED,
            severity=severities.backlog_is_fresh,
            pool=pool.name,
            message=f"{row['overlooked']} items have waited up to {row['oldest_s']} s for a first cycle: expected at most "
            f"{limits.max_age} s; does the daemon run? such as {', '.join(row['overlooked_keys'][:5])}",
            detail={"items": row["overlooked"], "oldest_s": row["oldest_s"], "keys": row["overlooked_keys"]},
        )
