"""What should not go unseen becomes a row and a line in the log, once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import EngineEventData  # as Dagster's launchers write it
from dagster_shared.error import SerializableErrorInfo

from pipeline_project.engine.upkeep import Checked, Upkeep
from pipeline_project.orchestration import alerts, jobs
from pipeline_project.orchestration.inprocess import ControlRoom
from pipeline_project.orchestration.requests import PARTITION_TAG, POOL_TAG
from tests.orchestration.conftest import TODAY
from tests.world import World, settle

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
    run = sweep(world, instance)
    for _ in range(2):
        tell_of_failure(world, instance, run)
    (alert,) = world.engine.inquiry.alerts()
    assert (alert["kind"], alert["severity"]) == ("run_failed", "error")
    found = "sweep: CheckFailed: over_allocated: 1 rows, such as {'key': 'gate'}"
    assert alert["message"] == f"{found}; http://127.0.0.1:3000/runs/{run.run_id}"


def test_of_a_run_that_died_the_alert_says_what_became_of_it(world: World, instance: dg.DagsterInstance) -> None:
    fail(world, instance, "2026-01-14|p", "its worker is gone")
    assert ": its worker is gone; http://" in world.engine.inquiry.alerts()[0]["message"]
    run = _of_backfill(instance, "2026-01-15|p")
    instance.report_engine_event(
        "Could not launch it.", run, EngineEventData(error=SerializableErrorInfo("a.Refused: no Redis\n", [], "R"))
    )
    failed = instance.report_run_failed(run)
    instance.report_engine_event("Retrying the run", run)
    alerts.failed_runs(_context(world, instance, run, "failed_runs", failed).for_run_failure())
    assert ": Could not launch it. Refused: no Redis; http://" in world.engine.inquiry.alerts()[0]["message"]


def test_each_day_and_pool_of_a_backfill_has_its_own_alert_and_nobody_elses_success_ends_it(
    world: World, instance: dg.DagsterInstance
) -> None:
    """Such a run has no tags of ours; only its partition says what it is about."""
    fail(world, instance, "2026-01-14|p", "no")
    fail(world, instance, "2026-01-13|p", "no")
    fail(world, instance, "2026-01-13|q", "no")
    fail(world, instance, "not one of ours", "no")
    assert [alert["pool"] for alert in world.engine.inquiry.alerts()] == [None, "q", "p", "p"]
    succeed(world, instance, "2026-01-13|p")
    open_ones = [alert for alert in world.engine.inquiry.alerts() if alert["recovered_at"] is None]
    assert [alert["detail"]["partition"] for alert in open_ones] == ["not one of ours", "2026-01-13|q", "2026-01-14|p"]


def test_the_alert_ends_when_the_job_succeeds_and_a_late_word_of_the_failure_does_not_raise_it_again(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as planted:
        planted.setattr(Upkeep, "check_new", lambda _: Checked(violated=BROKEN, items=None))
        failed = sweep(world, instance)
    tell_of_failure(world, instance, failed)
    pull = jobs.pull_sources.execute_in_process(instance=instance, resources={"engine": Puller()}, run_config=jobs.pull_config("p"))
    tell_of_success(world, instance, pull)
    assert lasting(world) == ["run_failed"]  # another job's success says nothing about this one
    succeeded = sweep(world, instance)
    tell_of_success(world, instance, succeeded)
    assert lasting(world) == []
    tell_of_failure(world, instance, failed)
    assert lasting(world) == []


def test_a_success_that_was_told_of_before_the_failure_it_mends_ends_the_alert(world: World, instance: dg.DagsterInstance) -> None:
    """A killed run is begun anew within seconds, and each of the two sensors comes when it comes."""
    fail(world, instance, "2026-01-14|p", "killed", then=lambda: succeed(world, instance, "2026-01-13|p"))
    fail(world, instance, "2026-01-15|p", "killed", then=lambda: succeed(world, instance, "2026-01-15|p"))
    told = {alert["detail"]["partition"]: alert["state"] for alert in world.engine.inquiry.alerts()}
    assert told == {"2026-01-14|p": "open", "2026-01-15|p": "recovered"}


def test_a_run_that_does_not_end_is_an_alert_until_it_has(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = instance.create_run_for_job(jobs.sweep, status=dg.DagsterRunStatus.STARTED, tags={POOL_TAG: "p"})
    watch(world, instance)
    assert lasting(world) == []  # it is young
    monkeypatch.setattr(alerts, "STUCK_RUN_AFTER", timedelta(seconds=-1))
    for _ in range(2):
        watch(world, instance)
    (alert,) = world.engine.inquiry.alerts()
    assert (alert["kind"], alert["severity"], alert["pool"], alert["detail"]["run_id"]) == ("stuck_run", "error", "p", run.run_id)
    assert "sweep is STARTED since" in alert["message"]
    instance.report_run_canceled(run)
    watch(world, instance)
    assert lasting(world) == []


def test_the_watch_tells_of_what_waits_too_long_where_no_cycle_runs(contested: World, instance: dg.DagsterInstance) -> None:
    settle(contested.engine)
    contested.advance(days=2)
    assert "begun" in watch(contested, instance)
    assert lasting(contested) == ["backlog_overlooked", "starving"]
    contested.engine.cycles.run("p")
    watch(contested, instance)
    assert "backlog_overlooked" not in lasting(contested)


class Puller:
    """An engine whose source brings nothing."""

    intake = property(lambda self: self)

    def pull(self, _pool: str) -> dict[str, Any]:
        return {"submitted": 0, "refused": []}


def sweep(world: World, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    return jobs.sweep.execute_in_process(instance=instance, resources={"engine": world.engine}, raise_on_error=False)


def tell_of_failure(world: World, instance: dg.DagsterInstance, run: dg.ExecuteInProcessResult) -> None:
    alerts.failed_runs(_context(world, instance, run.dagster_run, "failed_runs", run.get_run_failure_event()).for_run_failure())


def tell_of_success(world: World, instance: dg.DagsterInstance, run: dg.ExecuteInProcessResult) -> None:
    alerts.recovered_runs(_context(world, instance, run.dagster_run, "recovered_runs", run.get_run_success_event()))


def fail(world: World, instance: dg.DagsterInstance, partition: str, said: str, then: Callable[[], None] = lambda: None) -> None:
    """A run of that partition dies; the sensor learns of it only after `then`."""
    run = _of_backfill(instance, partition)
    failed = instance.report_run_failed(run, said)
    then()
    alerts.failed_runs(_context(world, instance, run, "failed_runs", failed).for_run_failure())


def succeed(world: World, instance: dg.DagsterInstance, partition: str) -> None:
    run = _of_backfill(instance, partition)
    event = dg.DagsterEvent(event_type_value=dg.DagsterEventType.RUN_SUCCESS.value, job_name=run.job_name)
    instance.handle_run_event(run.run_id, event)
    alerts.recovered_runs(_context(world, instance, run, "recovered_runs", event))


def _of_backfill(instance: dg.DagsterInstance, partition: str) -> dg.DagsterRun:
    return instance.create_run_for_job(jobs.sweep, status=dg.DagsterRunStatus.STARTED, tags={PARTITION_TAG: partition})


def _context(
    world: World, instance: dg.DagsterInstance, run: dg.DagsterRun, sensor: str, event: dg.DagsterEvent
) -> dg.RunStatusSensorContext:
    return dg.build_run_status_sensor_context(
        sensor_name=sensor, dagster_event=event, dagster_instance=instance, dagster_run=run, resources={"engine": world.engine}
    )


def watch(world: World, instance: dg.DagsterInstance) -> str:
    """A tick of sensor `alerts`; what it says it did."""
    said = alerts.alert_watch(dg.build_sensor_context(instance=instance, resources={"engine": world.engine}))
    assert isinstance(said, dg.SkipReason)
    return said.skip_message or ""


def lasting(world: World) -> list[str]:
    """Kinds of the alerts that have not ended."""
    return sorted(alert["kind"] for alert in world.engine.inquiry.alerts() if alert["recovered_at"] is None)
