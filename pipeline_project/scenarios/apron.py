"""Scenario `stands` through the engine: the same steps that the simple rules take in memory, now on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

from pipeline_project.core.lifecycle import State
from pipeline_project.core.policy import Policy
from pipeline_project.engine.engine import Engine
from pipeline_project.scenarios import hindsight, rules
from pipeline_project.scenarios.flights import NEW_YORK
from pipeline_project.scenarios.scenario import Comparison, CycleRunner, Played, Progress
from pipeline_project.scenarios.stands import AIRPORT, HOLD, Cancelled, Day, Event, Step, real_day

EXECUTOR: Final = "apron-control"
LEASE_S: Final = 12 * 3600
"""A plane that boards does not send heartbeats; a delayed one may keep its stand for hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandsScenario:
    """One day at an airport in a pool of its own."""

    day: Day
    name: str = "stands"
    pool: str = AIRPORT
    timezone: str = NEW_YORK.key
    policy: Policy = field(default_factory=lambda: Policy.from_document({"ttl": {"hold": f"{HOLD.seconds}s"}}, "scenario stands"))

    @classmethod
    def real(cls) -> StandsScenario:
        """2013-07-11 at Newark."""
        return cls(day=real_day())

    @property
    def begins(self) -> datetime:
        return next(self.day.steps()).at

    @property
    def days(self) -> tuple[date, date]:
        cycles = [step.at.astimezone(NEW_YORK).date() for step in self.day.steps() if step.cycle]
        return cycles[0], cycles[-1]

    def play(self, engine: Engine, run_cycle: CycleRunner, progress: Progress) -> Played:
        """Everything in the order the day brings it; the clock of the database is told each quarter hour."""
        engine.intake.create_pool(self.pool, self.policy)
        engine.intake.put_resources(self.pool, [{"key": key, "capacity": capacity} for key, capacity in self.day.resources.items()])
        tokens: dict[str, int] = {}
        cycles: list[dict[str, Any]] = []
        steps = list(self.day.steps())
        for number, step in enumerate(steps, 1):
            self._take(engine, step, tokens)
            if step.cycle:
                cycles.append(run_cycle(self.pool, step.at.astimezone(NEW_YORK).date()))
            self._claim(engine, step, tokens)
            progress(number, len(steps), step.at)
        completed = engine.inquiry.items(self.pool, state=State.COMPLETED, most=len(self.day.departures))
        return Played(value=sum(item["weight"] for item in completed), items=engine.inquiry.counts(self.pool), cycles=cycles)

    def compare(self) -> Comparison:
        """Hindsight and the simple rules, on the same day with the same information at the same times."""
        return Comparison(
            upper_bound=hindsight.upper_bound(self.day),
            greedy=rules.play(self.day, rules.greedy).value,
            first_come=rules.play(self.day, rules.first_come).value,
        )

    def _take(self, engine: Engine, step: Step, tokens: dict[str, int]) -> None:
        engine.upkeep.advance_clock(step.at)
        leaving = [(key, tokens.pop(key)) for key in step.left if key in tokens]
        if leaving:
            engine.execution.complete(self.pool, leaving, results=[{"left": step.at.isoformat()}] * len(leaving), executor=EXECUTOR)
        self._hear(engine, step.events, tokens)
        engine.upkeep.sweep()

    def _hear(self, engine: Engine, events: Iterable[Event], tokens: dict[str, int]) -> None:
        cancelled = [event.key for event in events if isinstance(event, Cancelled)]
        wishes = {event.key: event for event in events if not isinstance(event, Cancelled)}  # of two about one plane the later holds
        if wishes:
            rows = [
                {"key": key, "weight": wish.weight, "demands": wish.demands, "expires_at": wish.expires_at.isoformat()}
                for key, wish in wishes.items()
            ]
            receipt = engine.intake.submit(self.pool, rows, actor="airline")
            assert not receipt.refused, receipt.refused
        if cancelled:
            for key in engine.intake.cancel(self.pool, cancelled, reason="the airline cancelled the departure", actor="airline"):
                tokens.pop(key, None)

    def _claim(self, engine: Engine, step: Step, tokens: dict[str, int]) -> None:
        if step.claims:
            claims = engine.execution.claim(self.pool, EXECUTOR, most=len(step.claims), ttl_s=LEASE_S, keys=step.claims)
            tokens.update({claim["item"]: claim["token"] for claim in claims})
