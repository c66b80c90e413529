"""Turns failed checks and failed runs into rows of pipeline.alert and one log line each."""

# No postponed annotations: Dagster reads those of a context.
import logging

import dagster as dg

from pipeline_project.engine.engine import Engine
from pipeline_project.orchestration.partitions import day_and_pool_of
from pipeline_project.orchestration.requests import POOL_TAG
from pipeline_project.store.alerts import Alert

log = logging.getLogger(__name__)

READ_MOST = 500
"""Evaluations a tick looks at; the rest waits for the next one."""


@dg.sensor(name="failed_checks", minimum_interval_seconds=15, default_status=dg.DefaultSensorStatus.RUNNING)
def failed_checks(context: dg.SensorEvaluationContext, engine: dg.ResourceParam[Engine]) -> dg.SkipReason:
    """A check that fails does not always fail its run, so no run-failure sensor sees it. At least once; the alert's key makes it once."""
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    storage = context.instance.event_log_storage  # the instance itself has a method for every kind of event but this one
    if context.cursor is None:  # begin at the end: old failures have been looked at
        last = storage.get_event_records(dg.EventRecordsFilter(kind), limit=1)
        context.update_cursor(str(last[0].storage_id if last else 0))
        return dg.SkipReason("begins to watch")
    after = dg.EventRecordsFilter(kind, after_cursor=int(context.cursor))
    records = storage.get_event_records(after, limit=READ_MOST, ascending=True)
    failed = [alert for record in records if (alert := _of_check(record.event_log_entry))]
    for alert in failed:
        _raise(engine, alert)
    if records:
        context.update_cursor(str(records[-1].storage_id))
    return dg.SkipReason(f"{len(failed)} of {len(records)} checks failed")


@dg.run_failure_sensor(name="failed_runs", minimum_interval_seconds=15, default_status=dg.DefaultSensorStatus.RUNNING)
def failed_runs(context: dg.RunFailureSensorContext, engine: dg.ResourceParam[Engine]) -> None:
    """Any run of ours that failed: a cycle, a sweep, a pull."""
    run = context.dagster_run
    _raise(
        engine,
        Alert(
            dedupe_key=f"run:{run.run_id}",
            kind="run_failed",
            severity="error",
            pool=run.tags.get(POOL_TAG),
            message=f"{run.job_name}: {context.failure_event.message}",
            detail={"run_id": run.run_id, "job": run.job_name},
        ),
    )


def _of_check(entry: dg.EventLogEntry) -> Alert | None:
    evaluation = entry.asset_check_evaluation
    if evaluation is None or evaluation.passed:
        return None
    asset, partition = evaluation.asset_key.to_user_string(), evaluation.partition
    return Alert(
        dedupe_key=f"check:{entry.run_id}:{asset}:{evaluation.check_name}",
        kind="check_failed",
        severity="error" if evaluation.severity is dg.AssetCheckSeverity.ERROR else "warning",
        pool=day_and_pool_of(partition)[1] if partition else None,
        message=f"{evaluation.check_name} of {asset}: {evaluation.description}",
        detail={"run_id": entry.run_id, "asset": asset, "check": evaluation.check_name, "partition": partition},
    )


def _raise(engine: Engine, alert: Alert) -> None:
    if engine.upkeep.raise_alert(alert):
        log.log(logging.ERROR if alert.severity == "error" else logging.WARNING, "alert %s: %s", alert.dedupe_key, alert.message)
