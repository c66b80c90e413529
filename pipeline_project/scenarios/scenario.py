"""What a scenario is: a day with its own clock, played through the engine, compared with simple rules and with hindsight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final, Protocol

from pipeline_project.core.errors import UsageError
from pipeline_project.core.policy import Policy
from pipeline_project.engine.engine import Engine

CycleRunner = Callable[[str, date], dict[str, Any]]
"""Runs one live cycle of a pool on a day and reports it; through Dagster's assets, or the engine alone."""

Progress = Callable[[int, int, datetime], None]
"""Called after each step with how many are done, how many there are, and the simulated time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The same day: what the hindsight of whole-day knowledge bounds, and what simple rules make of it."""

    upper_bound: int
    greedy: int
    first_come: int


@dataclass(slots=True, kw_only=True)
class Played:
    """What the engine made of the day. value: weight of completed items; cycles: their reports, in order."""

    value: int
    items: dict[str, int]
    cycles: list[dict[str, Any]] = field(default_factory=list)


class Scenario(Protocol):
    """One showcase."""

    @property
    def name(self) -> str: ...
    @property
    def pool(self) -> str: ...
    @property
    def policy(self) -> Policy: ...
    @property
    def timezone(self) -> str: ...
    @property
    def days(self) -> tuple[date, date]:
        """First and last day of its cycles."""

    @property
    def begins(self) -> datetime:
        """Where its clock starts."""

    def play(self, engine: Engine, run_cycle: CycleRunner, progress: Progress) -> Played:
        """Play the whole day into a fresh simulation database."""

    def compare(self) -> Comparison: ...


def database_of(scenario: str) -> str:
    """The database a scenario is played in."""
    return f"demo_{scenario}"


def environment(scenario: Scenario) -> dict[str, str]:
    """The settings under which its database is looked at: partitions are days of its own past."""
    first, last = scenario.days
    return {
        "PIPELINE_DATABASE_URL": database_of(scenario.name),
        "PIPELINE_TIMEZONE": scenario.timezone,
        "PIPELINE_FIRST_DAY": first.isoformat(),
        "PIPELINE_LAST_DAY": last.isoformat(),
    }


NAMES: Final = ("stands",)


def find(name: str) -> Scenario:
    """The scenario of this name. Raises UsageError, naming those there are."""
    if name == "stands":
        from pipeline_project.scenarios.apron import StandsScenario

        return StandsScenario.real()
    raise UsageError(f"scenario: expected one of {', '.join(NAMES)}, found {name!r}")
