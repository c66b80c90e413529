"""A small world to test in: one pool, one engine, one clock, and words to set it up and to look at it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from pipeline_project.core.policy import Policy
from pipeline_project.engine.audit import Audit
from pipeline_project.engine.engine import Engine
from pipeline_project.store.database import Database
from pipeline_project.store.intake import Receipt

NOON: Final = datetime(2026, 1, 15, 12, tzinfo=UTC)


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until this comes true; how soon it does is no matter. Fails where it never does."""
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, "it never came true"
        time.sleep(0.02)


def settle(engine: Engine) -> None:
    """Until the feed shows all that was written: transactions of the server's other databases hold its horizon back for a moment."""
    until(lambda: not engine.feed.status()["waiting_rows"])


def seal_everything(audit: Audit) -> None:
    """Below the horizon, which transactions of the server's other databases hold back for a moment."""
    until(lambda: bool(audit.seal()) and not audit.status()["unsealed"])


@contextmanager
def entered(database: Database, role: str | None = None) -> Iterator[sa.Connection]:
    """One transaction as this role, on a connection of its own; None = as the server's superuser, before whom no guard counts."""
    engine = sa.create_engine(database.admin, poolclass=sa.NullPool)
    with engine.begin() as connection:
        if role:
            connection.execute(sa.text(f'set local role "{role}"'))
        yield connection


@dataclass
class World:
    """A pool and the engine over it."""

    engine: Engine
    pool: str = "p"

    # -- set it up

    def policy(self, document: Mapping[str, Any]) -> int:
        """Apply a policy; what it does not name has its default."""
        return self.engine.intake.apply_policy(self.pool, Policy.from_document(document, "test"))

    def resources(self, *, kind: str = "renewable", **capacities: int) -> Receipt:
        return self.engine.intake.put_resources(self.pool, [{"key": k, "capacity": c, "kind": kind} for k, c in capacities.items()])

    def submit(self, key: str, weight: int = 1, demands: Mapping[str, int] | None = None, **columns: Any) -> Receipt:
        """One item; refused rows fail the test."""
        receipt = self.submit_all({"key": key, "weight": weight, "demands": demands or {}, **columns})
        assert not receipt.refused, receipt.refused
        return receipt

    def submit_all(self, *rows: Mapping[str, Any]) -> Receipt:
        return self.engine.intake.submit(self.pool, rows)

    def bundle(self, name: str, *members: str, weight: int = 1, demands: Mapping[str, int] | None = None, **columns: Any) -> Receipt:
        """A bundle of so many members, all of one weight and demand."""
        common = {"weight": weight, "demands": demands or {}, "bundle_key": name, "bundle_size": len(members), **columns}
        receipt = self.submit_all(*({"key": member, **common} for member in members))
        assert not receipt.refused, receipt.refused
        return receipt

    # -- let something happen

    def now(self) -> datetime:
        with self.engine.database.begin() as connection:
            at: datetime = connection.execute(sa.text("select pipeline.now()")).scalar_one()
            return at

    def advance(self, **lapse: float) -> datetime:
        """Let so much simulated time pass: `advance(minutes=5)`."""
        until = self.now() + timedelta(**lapse)
        self.engine.upkeep.advance_clock(until)
        return until

    def cycle(self) -> dict[str, Any]:
        """Run a cycle."""
        return self.engine.cycles.run(self.pool)

    def claim(self, *keys: str, executor: str = "e", ttl_s: int | None = None) -> dict[str, int]:
        """Claim these items, or every one that can be: token by key."""
        claims = self.engine.execution.claim(self.pool, executor, most=100, keys=list(keys) or None, ttl_s=ttl_s)
        return {claim["item"]: claim["token"] for claim in claims}

    def complete(self, claims: Mapping[str, int]) -> list[dict[str, Any]]:
        return self.engine.execution.complete(self.pool, list(claims.items()))

    def fail(self, claims: Mapping[str, int], error: str = "boom") -> dict[str, str]:
        """Fail these claims: the state each item has then."""
        return {answer["item"]: answer["state"] for answer in self.engine.execution.fail(self.pool, list(claims.items()), error=error)}

    # -- look at it

    def until_somebody_waits(self) -> None:
        """Until a session of this database waits for a lock. Fails where none does within a minute."""
        waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"

        def somebody_waits() -> bool:
            with entered(self.engine.database) as connection:
                return bool(connection.scalar(sa.text(waiting)))

        until(somebody_waits)

    def states(self) -> dict[str, str]:
        """State by key."""
        return {row["key"]: row["state"] for row in self.engine.inquiry.items(self.pool)}

    def state(self, key: str) -> str:
        return str(self.item(key)["state"])

    def item(self, key: str) -> dict[str, Any]:
        return self.engine.inquiry.item(self.pool, key)

    def events(self, key: str) -> list[str]:
        """Every recorded move of an item, oldest first."""
        return [row["event"] for row in self.engine.inquiry.timeline(self.pool, key)]

    def use(self, resource: str) -> tuple[int, int]:
        """(in use, spent)."""
        row = next(row for row in self.engine.inquiry.resources(self.pool) if row["key"] == resource)
        return row["in_use"], row["spent"]

    def verdicts(self, cycle_key: str) -> dict[str, str]:
        """The newest attempt's recorded verdicts by key."""
        return {row["key"]: row["verdict"] for row in self.engine.inquiry.decisions(cycle_key, pool=self.pool, most=1000)}
