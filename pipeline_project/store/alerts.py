"""What somebody should look at, from its beginning to its end, and the outbox that tells people of both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pipeline_project.core.alert_routes import Route, Severity
from pipeline_project.store import statements

SQL = statements.load("alerts")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A condition that somebody should look at.

    dedupe_key   names the condition: while it lasts, two alerts with the same key are one
    observed_at  when it was seen, by the observer's clock; None = now. What was seen earlier than the last news is ignored
    """

    dedupe_key: str
    kind: str
    severity: Severity
    message: str
    pool: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    observed_at: datetime | None = None


def add(connection: sa.Connection, alert: Alert) -> bool:
    """True when this is the beginning of it; while it lasts it is only counted."""
    values = {**asdict(alert), "detail": json.dumps(alert.detail, default=str)}
    connection.execute(SQL["lock_key"], {"dedupe_key": alert.dedupe_key})
    key = {"dedupe_key": alert.dedupe_key, "observed_at": alert.observed_at}
    if connection.scalar(SQL["seen_since"], key):
        return False
    names = ("dedupe_key", "observed_at", "severity", "message", "detail")
    if connection.scalar(SQL["repeat"], {name: values[name] for name in names}) is not None:
        return False
    connection.execute(SQL["add"], values)
    return True


def recover(connection: sa.Connection, dedupe_key: str, observed_at: datetime | None = None) -> bool:
    """The condition has ended; False when there was no such alert, or it was seen again since."""
    connection.execute(SQL["lock_key"], {"dedupe_key": dedupe_key})
    return connection.scalar(SQL["recover"], {"dedupe_key": dedupe_key, "observed_at": observed_at}) is not None


def open_keys(connection: sa.Connection, kinds: Iterable[str]) -> list[str]:
    return list(connection.scalars(SQL["open_keys"], {"kinds": list(kinds)}))


def ack(connection: sa.Connection, ids: Sequence[int], actor: str) -> list[int]:
    """Somebody looks after these; returns those that nobody did before."""
    acked = list(connection.scalars(SQL["ack"], {"ids": list(ids), "actor": actor}))
    connection.execute(SQL["drop_acked"], {"ids": acked, "actor": actor})
    return acked


def listing(connection: sa.Connection, *, pool: str | None = None, state: str | None = None, most: int = 50) -> list[Row]:
    """Newest first, each with what its routes were told."""
    return [dict(row) for row in connection.execute(SQL["listing"], {"pool": pool, "state": state, "most": most}).mappings()]


# -- the outbox


def plan(connection: sa.Connection, routes: Sequence[Route], *, most: int) -> int:
    """Write down whom to tell of beginnings and ends that nobody was told of; how many alerts were looked at."""
    alerts = connection.execute(SQL["unplanned"], {"most": most}).mappings().all()
    told: list[tuple[int, str, str]] = []
    for alert in alerts:
        for route in routes:
            if route.hears(severity=alert["severity"], kind=alert["kind"], pool=alert["pool"]):
                notices = [notice for notice in ("raised", "recovered") if alert[notice] and (notice == "raised" or route.recovery)]
                told += [(alert["alert_id"], notice, route.name) for notice in notices]
    for name in sorted({route.name for route in routes}):
        connection.execute(SQL["know_route"], {"name": name})
    if told:
        ids, notices, names = (list(column) for column in zip(*told, strict=True))
        connection.execute(SQL["plan"], {"alerts": ids, "notices": notices, "routes": names})
    connection.execute(SQL["planned"], {"ids": [alert["alert_id"] for alert in alerts]})
    return len(alerts)


def take(connection: sa.Connection, route: Route, message: UUID, *, most: int, lease_s: int) -> tuple[int, list[Row]]:
    """(id of the route, what the message is to say): nothing while the route rests, has sent its share, or another delivers to it."""
    row = connection.execute(SQL["lock_route"], {"name": route.name}).mappings().first()
    if row is None or row["resting"]:
        return 0, []
    window = {"route_id": row["route_id"], "per_s": route.at_most.per}
    if connection.scalar(SQL["messages_since"], window) >= route.at_most.messages:
        return 0, []
    share = most if row["failures"] < ONE_BY_ONE_AFTER else 1
    connection.execute(SQL["take"], {"route_id": row["route_id"], "message": str(message), "most": share, "lease_s": lease_s})
    return row["route_id"], [dict(row) for row in connection.execute(SQL["taken"], {"message": str(message)}).mappings()]


ONE_BY_ONE_AFTER = 3
"""Failures of a route after which a message carries one alert: the one that is refused must not stop the others."""


def sent(connection: sa.Connection, route_id: int, message: UUID) -> int:
    """How many deliveries the message has settled; 0 when our lease was lost meanwhile."""
    settled = connection.execute(SQL["sent"], {"message": str(message)}).rowcount
    connection.execute(SQL["route_works"], {"route_id": route_id})
    return settled


def failed(connection: sa.Connection, route_id: int, message: UUID, error: str, *, backoff_s: int, backoff_max_s: int) -> None:
    """The route rests, longer after each failure; what the message said is due again."""
    rest = {"route_id": route_id, "error": error, "backoff_s": backoff_s, "backoff_max_s": backoff_max_s}
    until = connection.scalar(SQL["route_fails"], rest)
    connection.execute(SQL["failed"], {"message": str(message), "error": error, "next_attempt_at": until})


def give_up(connection: sa.Connection, *, after_s: int) -> int:
    return connection.execute(SQL["give_up"], {"after_s": after_s}).rowcount


def route_states(connection: sa.Connection) -> list[Row]:
    """name, failures, next_attempt_at, last_error, due of each route that was ever known."""
    return [dict(row) for row in connection.execute(SQL["route_states"]).mappings()]


# -- conditions


def stuck_cycles(connection: sa.Connection, *, longer_than_s: int) -> list[Row]:
    return [dict(row) for row in connection.execute(SQL["stuck_cycles"], {"longer_than_s": longer_than_s}).mappings()]


def feed_lag(connection: sa.Connection) -> Row:
    """lag_s, rows of what is committed and no reader of the feed may see yet."""
    return dict(connection.execute(SQL["feed_lag"]).mappings().one())


def waiting(connection: sa.Connection, limits: Mapping[str, tuple[int, int]]) -> list[Row]:
    """Starving and overlooked items of these pools, by their (max_wait, max_age) in seconds."""
    columns = {"pools": list(limits), "max_wait_s": [w for w, _ in limits.values()], "max_age_s": [a for _, a in limits.values()]}
    return [dict(row) for row in connection.execute(SQL["waiting"], columns).mappings()]
