"""What Dagster starts: a cycle, a sweep, a pull. Each op is one call into the engine."""

# No postponed annotations: Dagster reads those of a context.
from typing import Final

import dagster as dg

from pipeline_project import settings
from pipeline_project.core.errors import CheckFailed
from pipeline_project.engine.engine import Engine
from pipeline_project.orchestration import retention
from pipeline_project.orchestration.assets import GROUP, work_items
from pipeline_project.orchestration.requests import LIVE_CYCLE

live_cycle: Final = dg.define_asset_job(
    LIVE_CYCLE,
    selection=dg.AssetSelection.groups(GROUP),
    description="One cycle of one pool on one day, from its pending items to its decisions.",
)


@dg.op
def sweep_once(context: dg.OpExecutionContext, engine: dg.ResourceParam[Engine]) -> None:
    """Give back what has passed its time, finish what fell silent, drop what is old; then check every promise of the store."""
    forgotten = retention.forget_old_runs(context.instance, engine.artifacts, retention.Retention.of(settings.load()))
    context.add_output_metadata({**engine.upkeep.sweep(), **forgotten})
    if broken := engine.upkeep.check():
        raise CheckFailed("; ".join(f"{one['name']}: {one['rows']} rows, such as {one['examples'][0]}" for one in broken))


@dg.job(name="sweep")
def sweep() -> None:
    """Housekeeping: expiry, leases, lapsed cycles, retention, invariants. Correctness never waits for it."""
    sweep_once()


class PullConfig(dg.Config):
    pool: str


@dg.op
def pull_source(context: dg.OpExecutionContext, config: PullConfig, engine: dg.ResourceParam[Engine]) -> None:
    """Pull the pool's source once: new rows are submitted, changed ones revised."""
    try:
        report = engine.intake.pull(config.pool)
    except Exception as failure:
        engine.intake.pull_failed(config.pool, failure)  # the pool's page says why nothing comes; the run fails all the same
        raise
    counts = {name: value for name, value in report.items() if isinstance(value, int)}
    context.log_event(dg.AssetObservation(work_items.key, metadata={"pool": config.pool, "refused": len(report["refused"]), **counts}))


@dg.job(name="pull_sources")
def pull_sources() -> None:
    """One pull of one pool's source."""
    pull_source()


def pull_config(pool: str) -> dg.RunConfig:
    return dg.RunConfig(ops={"pull_source": PullConfig(pool=pool)})
