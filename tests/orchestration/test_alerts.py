"""What should not go unseen becomes a row and a line in the log, once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from pipeline_project.engine.upkeep import Checked, Upkeep
from pipeline_project.orchestration import alerts, jobs
from pipeline_project.orchestration.inprocess import ControlRoom
from tests.orchestration.conftest import TODAY
from tests.world import World

LOG = "pipeline_project.engine.alerts"
BROKEN: list[dict[str, Any]] = [{"name": "over_allocated", "rows": 1, "examples": [{"key": "gate"}]}]


def look(world: World, instance: dg.DagsterInstance, cursor: str | None) -> str | None:
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"engine": world.engine})
    alerts.failed_checks(context)
    return context.cursor


@pytest.fixture
def broken(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A promise of the store looks broken while the test runs; the world's own last look must not see it."""
    with monkeypatch.context() as planted:
        planted.setattr(Upkeep, "check_cycle", lambda *_, **__: BROKEN)
        planted.setattr(Upkeep, "check_new", lambda _: Checked(violated=BROKEN, items=None))
        yield


def test_a_failed_check_of_a_run_that_succeeded_raises_one_alert(
    room: ControlRoom, contested: World, instance: dg.DagsterInstance, broken: None, caplog: pytest.LogCaptureFixture
) -> None:
    cursor = look(contested, instance, None)
    room.run_cycle("p", TODAY)
    with caplog.at_level(logging.WARNING, LOG):
        after = look(contested, instance, cursor)
        look(contested, instance, cursor)  # a tick that was cut off comes again
    (alert,) = contested.engine.inquiry.alerts()
    assert (alert["kind"], alert["severity"], alert["pool"]) == ("check_failed", "error", "p")
    assert alert["message"].startswith("ledger_invariants_hold of committed_decisions: over_allocated, row 1 of 1")
    assert alert["detail"]["partition"] == "2026-01-15|p"
    assert len([record for record in caplog.records if record.name == LOG]) == 1
    assert after != cursor


def test_a_warning_is_an_alert_of_less_weight(room: ControlRoom, contested: World, instance: dg.DagsterInstance) -> None:
    cursor = look(contested, instance, None)
    contested.advance(days=2)
    room.run_cycle("p", TODAY)
    look(contested, instance, cursor)
    assert {alert["severity"] for alert in contested.engine.inquiry.alerts()} == {"warning"}


def test_what_failed_before_the_watch_began_is_not_told_again(
    room: ControlRoom, contested: World, instance: dg.DagsterInstance, broken: None
) -> None:
    room.run_cycle("p", TODAY)
    look(contested, instance, look(contested, instance, None))
    assert contested.engine.inquiry.alerts() == []


def test_a_failed_run_raises_one_alert(world: World, instance: dg.DagsterInstance, broken: None) -> None:
    run = jobs.sweep.execute_in_process(instance=instance, resources={"engine": world.engine}, raise_on_error=False)
    for _ in range(2):
        context = dg.build_run_status_sensor_context(
            sensor_name="failed_runs",
            dagster_event=run.get_run_failure_event(),
            dagster_instance=instance,
            dagster_run=run.dagster_run,
            resources={"engine": world.engine},
        )
        alerts.failed_runs(context.for_run_failure())
    (alert,) = world.engine.inquiry.alerts()
    assert (alert["kind"], alert["severity"]) == ("run_failed", "error")
    assert alert["message"].startswith("sweep: ")
