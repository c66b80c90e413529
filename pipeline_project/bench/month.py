"""A simulated month of load: submissions, cycles, claims and completions day after day, and what the hot tables grow to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from pipeline_project.core.policy import Policy
from pipeline_project.engine.engine import Engine
from pipeline_project.store import cycles, schema

POOL: Final = "month"
BEGIN: Final = datetime(2026, 1, 15, tzinfo=UTC)
"""The time that its database is told at first."""
HOT: Final = ("item_state", "item", "item_demand", "decision")
"""Tables that must not grow with time. `transition` loses its months, and `item_key` remembers every key there was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """days of so many cycles, each after so many submissions; ended items stay hot for so many days, transitions in the database too."""

    days: int = 30
    cycles: int = 24
    items: int = 100
    items_kept_days: int = 3
    transitions_kept_days: int = 5

    @property
    def hot_most(self) -> int:
        """Items that may be hot at the end of a day: those of the days that are kept, of today, and one day's stragglers."""
        return (self.items_kept_days + 2) * self.cycles * self.items


def live_through(engine: Engine, load: Load, tell: Callable[[dict[str, Any]], None] = lambda _: None) -> list[dict[str, Any]]:
    """One row a day: day, submitted, the rows of the hot tables, bytes of all of them after a vacuum, archived, months_detached.

    The engine's database is a simulation: it is told the time.
    """
    retention = {"items": f"{load.items_kept_days}d", "transitions": f"{load.transitions_kept_days}d", "artifacts": "1d"}
    document = {"retention": retention, "retries": {"max_attempts": 2}, "ttl": {"hold": "2d"}, "solver": {"steps": 100_000}}
    engine.intake.create_pool(POOL, Policy.from_document(document, "bench"))
    engine.intake.put_resources(POOL, [{"key": f"node{n}", "capacity": 1 + load.items // 4} for n in range(10)])
    rows, archived, detached = [], 0, 0
    for day in range(1, load.days + 1):
        for hour in range(load.cycles):
            _one_cycle(engine, load, day, hour)
            swept = engine.upkeep.sweep()
            archived += swept["items_archived"]
            detached += swept["audit_months_detached"]
        row = {
            "day": day,
            "submitted": day * load.cycles * load.items,
            **_measured(engine),
            "archived": archived,
            "months_detached": detached,
        }
        tell(row)
        rows.append(row)
    return rows


def _one_cycle(engine: Engine, load: Load, day: int, hour: int) -> None:
    """Most complete, one in eight fails once or for good, one in nine expires before anybody claims it."""
    now = _now(engine)
    gap = timedelta(days=1) / load.cycles
    soon = (now + gap / 4).isoformat()
    engine.intake.submit(
        POOL,
        [
            {
                "key": f"{day}-{hour}-{n}",
                "weight": 1 + n % 50,
                "demands": {f"node{n % 10}": 1, f"node{(n + 3) % 10}": 1},
                "payload": {"n": n},
                "expires_at": soon if n % 9 == 0 else None,
            }
            for n in range(load.items)
        ],
    )
    engine.cycles.run(POOL)
    engine.upkeep.advance_clock(now + gap / 2)
    claims = [(claim["item"], claim["token"]) for claim in engine.execution.claim(POOL, "e", most=2 * load.items)]
    failing = [claim for claim in claims if int(claim[0].rsplit("-", 1)[1]) % 8 == 0]
    engine.execution.fail(POOL, failing, error="as it happens")
    engine.execution.complete(POOL, [claim for claim in claims if claim not in failing])
    engine.upkeep.advance_clock(now + gap)


def _now(engine: Engine) -> Any:
    with engine.database.begin() as connection:
        return cycles.now(connection)


def _measured(engine: Engine) -> dict[str, int]:
    with schema.administer(engine.database.admin, autocommit=True) as connection:
        for table in HOT:
            connection.execute(sa.text(f"vacuum pipeline.{table}"))
        counts = {table: connection.scalar(sa.text(f"select count(*) from pipeline.{table}")) for table in (*HOT, "transition")}  # noqa: S608  # our own names
        size = sum(connection.scalar(sa.text(f"select pg_total_relation_size('pipeline.{table}')")) for table in HOT)  # our own names
    return {**counts, "hot_bytes": size}
