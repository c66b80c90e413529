"""What happens by the clock: sources are pulled, forgotten pools get their cycle, the house is swept."""

# No postponed annotations: Dagster reads those of a context.
from collections.abc import Iterator

import dagster as dg

from pipeline_project.core.snapshot import Mode
from pipeline_project.engine.engine import Engine
from pipeline_project.orchestration import jobs
from pipeline_project.orchestration.partitions import POOLS
from pipeline_project.orchestration.requests import IN_FLIGHT, IN_FLIGHT_MAX, LIVE_CYCLE, POOL_TAG, CycleRequest, pools_in_flight

RUNNING = dg.DefaultScheduleStatus.RUNNING


@dg.schedule(job=jobs.pull_sources, cron_schedule="* * * * *", default_status=RUNNING)
def pull_sources(context: dg.ScheduleEvaluationContext, engine: dg.ResourceParam[Engine]) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Pulls each source whose policy says that it is time, unless its last pull still runs."""
    runs = context.instance.get_runs(dg.RunsFilter(job_name=jobs.pull_sources.name, statuses=IN_FLIGHT))
    pulling = {run.tags.get(POOL_TAG) for run in runs}
    due = [pool for pool in engine.intake.due_pulls() if pool not in pulling]
    if not due:
        yield dg.SkipReason("no source is due")
    for pool in due:
        yield dg.RunRequest(run_key=_at(context, pool), run_config=jobs.pull_config(pool), tags={POOL_TAG: pool})


@dg.schedule(job_name=LIVE_CYCLE, cron_schedule="*/15 * * * *", default_status=RUNNING)
def cycle_all_pools(context: dg.ScheduleEvaluationContext, engine: dg.ResourceParam[Engine]) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """The safety net under the sensor: a live cycle of every active pool. Where nothing has changed it does nothing."""
    busy, changes = pools_in_flight(context.instance), engine.inquiry.pools()
    idle = [row["pool"] for row in changes if row["status"] == "active" and row["pending"] and row["pool"] not in busy]
    idle = idle[: max(0, IN_FLIGHT_MAX - len(busy))]  # the daemon is behind: the next tick finds those that are left
    if not idle:
        yield dg.SkipReason("every active pool is empty, or has a live cycle in flight")
        return
    context.instance.add_dynamic_partitions(POOLS.name or "", idle)
    today = engine.inquiry.today()
    for pool in idle:
        yield CycleRequest(pool=pool, day=today, mode=Mode.LIVE).run_request(_at(context, pool))


@dg.schedule(job=jobs.sweep, cron_schedule="*/5 * * * *", default_status=RUNNING)
def sweep(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Housekeeping, unless the last one still runs."""
    if context.instance.get_runs(dg.RunsFilter(job_name=jobs.sweep.name, statuses=IN_FLIGHT), limit=1):
        return dg.SkipReason("the last sweep still runs")
    return dg.RunRequest()


def _at(context: dg.ScheduleEvaluationContext, pool: str) -> str:
    return f"{pool}:{context.scheduled_execution_time.isoformat()}"
