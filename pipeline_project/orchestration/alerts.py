"""Failed checks, failed runs, runs and cycles that hang, work that waits too long: each becomes an alert, and ends when it is over."""

# No postponed annotations: Dagster reads those of a context.
import re
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg
from dagster_shared.error import SerializableErrorInfo  # for its type; it has no public name

from pipeline_project import settings
from pipeline_project.engine.alerts import overlooked_key, starving_key
from pipeline_project.engine.engine import Engine
from pipeline_project.engine.routes import deliver, routes_of
from pipeline_project.orchestration.partitions import day_and_pool_of
from pipeline_project.orchestration.requests import IN_FLIGHT, PARTITION_TAG, POOL_TAG
from pipeline_project.store.alerts import Alert

READ_MOST: Final = 500
"""Evaluations a tick looks at; the rest waits for the next one."""
RUNS_READ_MOST: Final = 200
CAUSE_CHARACTERS_MAX: Final = 500
FROM_OUTSIDE: Final = "This run has been marked as failed from outside"
"""Dagster's word for whoever died, or could not be launched: true, and of no help."""
STUCK_RUN_AFTER: Final = timedelta(minutes=30)
"""In flight for so long. Dagster's run monitoring ends what has died; this is for what is alive and does not come to an end."""
STUCK_RUN: Final = "stuck_run"
RUNNING: Final = dg.DefaultSensorStatus.RUNNING

SEEN_BY_THE_WATCH_TOO: Final = {"nobody_starves": ("starving", starving_key), "backlog_is_fresh": ("backlog_overlooked", overlooked_key)}
"""Checks whose condition the watch looks at as well, also where no cycle runs: one condition, one alert."""


@dg.sensor(name="failed_checks", minimum_interval_seconds=15, default_status=RUNNING)
def failed_checks(context: dg.SensorEvaluationContext, engine: dg.ResourceParam[Engine]) -> dg.SkipReason:
    """A check that fails does not always fail its run, so no run-failure sensor sees it. One alert from its failure until it passes."""
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    storage = context.instance.event_log_storage  # the instance itself has a method for every kind of event but this one
    if context.cursor is None:  # begin at the end: old failures have been looked at
        last = storage.get_event_records(dg.EventRecordsFilter(kind), limit=1)
        context.update_cursor(str(last[0].storage_id if last else 0))
        return dg.SkipReason("begins to watch")
    after = dg.EventRecordsFilter(kind, after_cursor=int(context.cursor))
    records = storage.get_event_records(after, limit=READ_MOST, ascending=True)
    failed = sum(_judge(engine, record.event_log_entry) for record in records)
    if records:
        context.update_cursor(str(records[-1].storage_id))
    return dg.SkipReason(f"{failed} of {len(records)} checks failed")


@dg.run_failure_sensor(name="failed_runs", minimum_interval_seconds=15, default_status=RUNNING)
def failed_runs(context: dg.RunFailureSensorContext, engine: dg.ResourceParam[Engine]) -> None:
    """Any run of ours that failed: a cycle, a sweep, a pull. One alert for a job and what it was about, until a run of that succeeds."""
    run = context.dagster_run
    engine.alerts.begin(
        Alert(
            dedupe_key=_run_key(run),
            kind="run_failed",
            severity="error",
            pool=_pool(run),
            message=f"{_named(run)}: {_cause(context)}; {_page(run.run_id)}",
            detail={"run_id": run.run_id, "job": run.job_name, "partition": run.tags.get(PARTITION_TAG)},
            observed_at=_ended_at(context.instance, run),
        )
    )
    if mended := _succeeded_since(context.instance, run):  # the other sensor may have told of that before
        engine.alerts.end(_run_key(run), mended)


@dg.run_status_sensor(run_status=dg.DagsterRunStatus.SUCCESS, name="recovered_runs", minimum_interval_seconds=15, default_status=RUNNING)
def recovered_runs(context: dg.RunStatusSensorContext, engine: dg.ResourceParam[Engine]) -> None:
    """A job that had failed for a pool, or for a day of it, has succeeded for that: the alert ends."""
    engine.alerts.end(_run_key(context.dagster_run), _ended_at(context.instance, context.dagster_run))


@dg.sensor(name="alerts", minimum_interval_seconds=30, default_status=RUNNING)
def alert_watch(context: dg.SensorEvaluationContext, engine: dg.ResourceParam[Engine]) -> dg.SkipReason:
    """Looks for stuck cycles and runs, work that waits too long, a lagging feed; then tells the routes what they have not been told."""
    _watch_runs(engine, context.instance)
    seen = engine.alerts.watch()
    chosen = settings.load()
    routes = routes_of(chosen)
    if not routes:
        return dg.SkipReason(f"{seen}; nobody to tell: no routes in {chosen.alert_routes_file}")
    told = deliver(engine, chosen, routes)
    return dg.SkipReason(f"{seen}; {told.messages} messages sent, failed: {told.failed or 'none'}")


def _judge(engine: Engine, entry: dg.EventLogEntry) -> bool:
    """Begin or end the alert of a check; True when it failed."""
    evaluation = entry.asset_check_evaluation
    if evaluation is None:
        return False
    asset, partition, check = evaluation.asset_key.to_user_string(), evaluation.partition, evaluation.check_name
    pool = day_and_pool_of(partition)[1] if partition else None
    kind, key, at = "check_failed", f"check:{asset}:{check}:{pool or ''}", datetime.fromtimestamp(entry.timestamp, UTC)
    if pool and check in SEEN_BY_THE_WATCH_TOO:
        kind, named = SEEN_BY_THE_WATCH_TOO[check]
        key = named(pool)
    observed_at = None if kind != "check_failed" else at  # the watch goes by the database's clock
    if evaluation.passed:
        engine.alerts.end(key, observed_at)
        return False
    alert = Alert(
        dedupe_key=key,
        kind=kind,
        severity="error" if evaluation.severity is dg.AssetCheckSeverity.ERROR else "warning",
        pool=pool,
        message=f"{check} of {asset}: {evaluation.description}; {_page(entry.run_id)}",
        detail={"run_id": entry.run_id, "asset": asset, "check": check, "partition": partition},
        observed_at=observed_at,
    )
    engine.alerts.begin(alert)
    return True


def _run_key(run: dg.DagsterRun) -> str:
    return ":".join(("run", run.job_name, *(_subject(run).values() or ("",))))


def _subject(run: dg.DagsterRun) -> dict[str, str]:
    """The tag of what it is about. Whoever asks for a pool says so, whatever the day; in a backfill each day of a pool is its own."""
    return next(({tag: run.tags[tag]} for tag in (POOL_TAG, PARTITION_TAG) if tag in run.tags), {})


def _succeeded_since(instance: dg.DagsterInstance, run: dg.DagsterRun) -> datetime | None:
    """When a later run of the same job and subject ended well."""
    wanted = dg.RunsFilter(job_name=run.job_name, tags=_subject(run), statuses=[dg.DagsterRunStatus.SUCCESS])
    failed, newest = _ended_at(instance, run), instance.get_runs(wanted, limit=1)
    ended = _ended_at(instance, newest[0]) if newest else None
    return ended if failed and ended and ended > failed else None


def _pool(run: dg.DagsterRun) -> str | None:
    return run.tags.get(POOL_TAG) or run.tags.get(PARTITION_TAG, "").partition("|")[2] or None  # whatever somebody wrote there


def _named(run: dg.DagsterRun) -> str:
    partition = run.tags.get(PARTITION_TAG)
    return f"{run.job_name} of {partition}" if partition else run.job_name


def _cause(context: dg.RunFailureSensorContext) -> str:
    """What the first step that failed said at bottom; of a run that died, what was said of it last. Without Dagster's words around it."""
    failed = context.get_step_failure_events()
    said = context.failure_event.message or "failed"
    if failed:
        said = _at_bottom(failed[0].step_failure_data.error) or said
    elif said.startswith(FROM_OUTSIDE):
        said = _last_words(context) or said
    return said[:CAUSE_CHARACTERS_MAX]


def _last_words(context: dg.RunFailureSensorContext) -> str | None:
    """Of the machinery, before it gave the run up: which signal killed its process, why it could not be launched."""
    kinds = {dg.DagsterEventType.ENGINE_EVENT, dg.DagsterEventType.RUN_FAILURE}
    told = [record.event_log_entry for record in context.instance.get_records_for_run(context.dagster_run.run_id, of_type=kinds).records]
    given_up = next((n for n, entry in enumerate(told) if entry.dagster_event_type is dg.DagsterEventType.RUN_FAILURE), 0)
    if not given_up:
        return None
    event = told[given_up - 1].get_dagster_event()
    why = _at_bottom(event.engine_event_data.error)
    return f"{event.message} {why}" if why else event.message


def _at_bottom(error: SerializableErrorInfo | None) -> str | None:
    """The first of the errors that led to this one: its name, without its module, and what it says."""
    while error and error.cause:
        error = error.cause
    return re.sub(r"^(\w+\.)+(?=\w+:)", "", error.message.strip()) if error else None


def _page(run_id: str) -> str:
    return f"{settings.load().ui_url.rstrip('/')}/runs/{run_id}"


def _ended_at(instance: dg.DagsterInstance, run: dg.DagsterRun) -> datetime | None:
    """A tick that comes again must not raise what has ended since, so it says when that was."""
    record = instance.get_run_record_by_id(run.run_id)
    return datetime.fromtimestamp(record.end_time, UTC) if record and record.end_time else None


def _watch_runs(engine: Engine, instance: dg.DagsterInstance) -> None:
    """Runs that take too long: an alert for each, until it has ended in whichever way."""
    before = datetime.now(UTC) - STUCK_RUN_AFTER
    stuck = instance.get_run_records(dg.RunsFilter(statuses=IN_FLIGHT, created_before=before), limit=RUNS_READ_MOST)
    keys = {f"{STUCK_RUN}:{record.dagster_run.run_id}" for record in stuck}
    for record in stuck:
        run = record.dagster_run
        engine.alerts.begin(
            Alert(
                dedupe_key=f"{STUCK_RUN}:{run.run_id}",
                kind=STUCK_RUN,
                severity="error",
                pool=_pool(run),
                message=f"{_named(run)} is {run.status.value} since {record.create_timestamp:%Y-%m-%d %H:%M} UTC: expected an end within "
                f"{STUCK_RUN_AFTER}; look at its log, terminate it, and see whether the daemon runs: {_page(run.run_id)}",
                detail={"run_id": run.run_id, "job": run.job_name, "status": run.status.value},
            )
        )
    for key in set(engine.alerts.lasting([STUCK_RUN])) - keys:
        engine.alerts.end(key)
