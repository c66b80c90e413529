"""Finds runs whose Celery worker died with them: nobody else would, for a dead worker leaves its task as begun for ever.

Run monitoring sees what Celery itself reports: a process that was killed below a living worker. A machine that went away reports nothing.
"""

# No postponed annotations: Dagster reads those of a context.
import json
from typing import Final

import dagster as dg
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from pipeline_project import settings
from pipeline_project.orchestration import worker

INTERVAL_S: Final = 15


@dg.sensor(name="lost_workers", minimum_interval_seconds=INTERVAL_S, default_status=dg.DefaultSensorStatus.RUNNING)
def lost_workers(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Fails a run that has begun and that no living worker says it is in, twice in a row; Dagster's run retries begin it anew."""
    begun = [run for run in context.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])) if _task(run)]
    suspected_before = set(json.loads(context.cursor or "[]"))
    alone = {run.run_id for run in begun} - _in_work(begun) if begun else set()
    context.update_cursor(json.dumps(sorted(alone - suspected_before)))
    for run_id in sorted(alone & suspected_before):
        run = context.instance.get_run_by_id(run_id)
        if run and run.status is dg.DagsterRunStatus.STARTED:  # it may have ended while the workers were asked
            context.instance.report_run_failed(run, "its worker is gone: no living Celery worker has this run; docs/deployment.md")
    return dg.SkipReason(f"{len(begun)} runs begun, {len(alone)} of them in no worker, {len(alone & suspected_before)} given up")


def _in_work(runs: list[dg.DagsterRun]) -> set[str]:
    """Those of the runs that a living worker is in. Raises where Redis does not answer: then nothing is known about any worker."""
    app = worker.app(settings.load().broker_url or "")
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=worker.ANSWER_S)
        answers = app.control.inspect(timeout=worker.ANSWER_S).active() or {}
    finally:
        app.close()
    tasks = {task["id"] for active in answers.values() for task in active}
    return {run.run_id for run in runs if _task(run) in tasks}


def _task(run: dg.DagsterRun) -> str | None:
    return run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
