"""`pipeline demo`: one real day through Dagster's assets, in a database of its own, and a report of what it came to."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from pipeline_project.cli import console
from pipeline_project.cli.arguments import examples

if TYPE_CHECKING:
    from pipeline_project.scenarios.scenario import Comparison, Played, Scenario


EXAMPLES = examples("pipeline demo", "pipeline demo --no-ui --json")


def demo(
    scenario: Annotated[str, typer.Option(help="Which day to play.")] = "stands",
    ui: Annotated[bool, typer.Option("--ui/--no-ui", help="Open Dagster's UI on the played day afterwards.")] = True,
    as_json: console.Json = False,
) -> None:
    """Play a real day: 360 departures want 20 stands, and keep changing their minds.

    Each half hour of simulated time a cycle runs through Dagster's four assets, with all their checks. At the end: what was
    achieved, what hindsight says was possible, and what simple rules make of the same day.
    """
    from pipeline_project.cli import up
    from pipeline_project.scenarios.scenario import environment, find

    began = time.monotonic()
    chosen = find(scenario)
    os.environ.update(environment(chosen))
    played, violated = _play(chosen)
    report = _report(chosen, played, chosen.compare(), violated, round(time.monotonic() - began, 1))
    console.emit(report, as_json=as_json, human=_shown(report, played))
    if violated or report["checks"]["failed"]:
        raise typer.Exit(4)
    if ui:
        up.serve(live=False)  # its time is simulated: a live sensor has nothing to watch


def _play(scenario: Scenario) -> tuple[Played, int]:
    """The day in a fresh simulation database; what was played, and how many invariants do not hold afterwards."""
    from pipeline_project import settings
    from pipeline_project.engine.engine import Engine
    from pipeline_project.orchestration.inprocess import control_room
    from pipeline_project.store import schema
    from pipeline_project.store.database import Database

    chosen = settings.load()
    schema.drop(Database.find(None, chosen))
    database = Database.find(None, chosen)
    shutil.rmtree(Path(chosen.artifacts_root) / chosen.database_url, ignore_errors=True)
    schema.create(database, simulation_start=scenario.begins)
    with Engine.open(None, chosen) as engine, control_room(engine, chosen, fresh=True) as room, _progress(scenario.timezone) as progress:
        played = scenario.play(engine, room.run_cycle, progress)
        return played, len(engine.upkeep.check())


@contextmanager
def _progress(timezone: str) -> Iterator[Callable[[int, int, datetime], None]]:
    """A bar on a terminal; elsewhere a line for each quarter of the day."""
    if not sys.stderr.isatty():

        def line(done: int, total: int, at: datetime) -> None:
            if done == total or done % max(1, total // 4) == 0:
                console.err.print(f"demo: {done} of {total} quarter hours, {at.astimezone(ZoneInfo(timezone)):%H:%M}", markup=False)

        yield line
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeElapsedColumn())
    with Progress(*columns, console=console.err) as bar:
        task = bar.add_task("the day begins")

        def move(done: int, total: int, at: datetime) -> None:
            bar.update(task, completed=done, total=total, description=f"{at.astimezone(ZoneInfo(timezone)):%Y-%m-%d %H:%M}")

        yield move


def _report(scenario: Scenario, played: Played, other: Comparison, violated: int, seconds: float) -> dict[str, Any]:
    from pipeline_project.scenarios.scenario import database_of

    checks = [cycle["checks"] for cycle in played.cycles]
    return {
        "scenario": scenario.name,
        "database": database_of(scenario.name),
        "pool": scenario.pool,
        "items": played.items,
        "cycles": len(played.cycles),
        "value": played.value,
        "upper_bound": other.upper_bound,
        "greedy": other.greedy,
        "first_come": other.first_come,
        "gap": (other.upper_bound - played.value) / other.upper_bound,
        "checks": {kind: sum(check[kind] for check in checks) for kind in ("passed", "warned", "failed")},
        "invariants_violated": violated,
        "seconds": seconds,
    }


def _shown(report: dict[str, Any], played: Played) -> list[Any]:
    bound = report["upper_bound"]
    values = [
        {"decided by": name, "seats": report[field], "of what hindsight allows": f"{100 * report[field] / bound:.1f} %"}
        for name, field in (
            ("hindsight (upper bound)", "upper_bound"),
            ("pipeline", "value"),
            ("greedy", "greedy"),
            ("first come", "first_come"),
        )
    ]
    solved = sum(cycle["gap"] == 0 for cycle in played.cycles)
    items = ", ".join(f"{n} {state}" for state, n in sorted(report["items"].items()))
    checks = report["checks"]
    return [
        console.table(f"{report['scenario']}: seats served from a contact stand", values),
        f"{report['cycles']} cycles, {solved} of them proven optimal at their time; items: {items}",
        f"checks: {checks['passed']} passed, {checks['warned']} warned, {checks['failed']} failed; "
        f"invariants violated: {report['invariants_violated']}; {report['seconds']} s",
        f"Look at it: ./pipeline up --scenario {report['scenario']}",
    ]
