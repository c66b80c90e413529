"""What Dagster starts: a cycle, a past day again, a sweep, a pull. Each op is one call into the engine."""

# No postponed annotations: Dagster reads those of a context.
from typing import Final

import dagster as dg
from pydantic import Field

from pipeline_project import settings
from pipeline_project.core.errors import CheckFailed
from pipeline_project.core.snapshot import Mode
from pipeline_project.engine.engine import Engine
from pipeline_project.orchestration import retention
from pipeline_project.orchestration.assets import GROUP, TAGS, work_items
from pipeline_project.orchestration.requests import LIVE_CYCLE, MODE_TAG, REPROCESS
from pipeline_project.orchestration.rollbacks import rollback_cycle

__all__ = ["live_cycle", "pull_config", "pull_sources", "reprocess", "rollback_cycle", "sweep"]

live_cycle: Final = dg.define_asset_job(
    LIVE_CYCLE,
    selection=dg.AssetSelection.groups(GROUP),
    description="One cycle of one pool on one day, from its pending items to its decisions.",
    tags=TAGS,
)

reprocess: Final = dg.define_asset_job(
    REPROCESS,
    selection=dg.AssetSelection.groups(GROUP),
    description="Decide days anew, under the policy in force: one cycle a day and pool. Only what comes out better, or what the policy now "
    "demands, is moved; what has begun or ended is left alone. Twice is once.",
    tags=TAGS,
    run_tags={MODE_TAG: str(Mode.REPROCESS)},
)


@dg.op
def sweep_once(context: dg.OpExecutionContext, engine: dg.ResourceParam[Engine]) -> None:
    """Give back what has passed its time, finish what fell silent, drop what is old; then check every promise of the store."""
    forgotten = retention.forget_old_runs(context.instance, engine.artifacts, retention.Retention.of(settings.load()))
    context.add_output_metadata({**engine.upkeep.sweep(), **forgotten})
    if broken := engine.upkeep.check_new().violated:
        raise CheckFailed("; ".join(f"{one['name']}: {one['rows']} rows, such as {one['examples'][0]}" for one in broken))


@dg.job(name="sweep", tags=TAGS)
def sweep() -> None:
    """Housekeeping: expiry, leases, lapsed cycles, retention, invariants. Correctness never waits for it."""
    sweep_once()


class PullConfig(dg.Config):
    """Which source."""

    pool: str = Field(description="The pool whose policy names the source.")


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


@dg.job(name="pull_sources", tags=TAGS)
def pull_sources() -> None:
    """One pull of one pool's source."""
    pull_source()


def pull_config(pool: str) -> dg.RunConfig:
    return dg.RunConfig(ops={"pull_source": PullConfig(pool=pool)})
