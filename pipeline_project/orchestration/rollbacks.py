"""The way back, in two steps that a person takes: see what a rollback would do, then do exactly that."""

# No postponed annotations: Dagster reads those of a context.
from collections.abc import Mapping
from typing import Any, Final

import dagster as dg
from pydantic import Field

from pipeline_project.engine.engine import Engine
from pipeline_project.orchestration.assets import TAGS
from pipeline_project.orchestration.metadata import table, text

ROWS_SHOWN: Final = 50
COUNTS: Final = ("cycle", "attempt", "pool", "status", "hash", "released", "claimed", "completed", "ended", "moved_on")


class RollbackConfig(dg.Config):
    """What the launchpad asks. Only `cycle` is needed for a preview."""

    cycle: str = Field(description="The cycle's key, or its beginning: `pipeline cycle list`, or `cycle_key` in the metadata of an asset.")
    pool: str | None = Field(default=None, description="Its pool, where several have cycles that begin so.")
    previewed: str = Field(default="", description="The hash that the preview showed. Empty = nothing is rolled back, only previewed.")
    # No `ge=0`: the launchpad would say no more than that the form is broken. The engine says what it expects.
    hold_s: int = Field(
        default=0, description="Seconds the items stay out of the next cycles; 0 = they compete at once. Part of what is previewed."
    )
    reason: str = Field(default="rolled back in Dagster", description="Stands in the audit trail of every item.")


@dg.op(tags=TAGS)
def preview_rollback(context: dg.OpExecutionContext, config: RollbackConfig, engine: dg.ResourceParam[Engine]) -> dg.Output[None]:
    """What rolling the cycle back would do now, item by item, and the hash to confirm it with."""
    effects = engine.cycles.rollback(config.cycle, pool=config.pool, hold_s=config.hold_s, preview=True)
    context.log.info(f"would release {effects['released']} items; to do it, launch again with previewed: {effects['hash']}")
    return dg.Output(None, metadata=_shown(effects))


@dg.op(tags=TAGS, ins={"preview": dg.In(dg.Nothing)})
def apply_rollback(context: dg.OpExecutionContext, config: RollbackConfig, engine: dg.ResourceParam[Engine]) -> dg.Output[None]:
    """Roll back what was previewed, if it is still that. Raises StalePlan, naming the items, when the world has moved on since."""
    if not config.previewed:
        context.log.info("no `previewed` hash in the config: nothing was rolled back")
        return dg.Output(None)
    done = engine.cycles.rollback(config.cycle, pool=config.pool, hold_s=config.hold_s, expect=config.previewed, reason=config.reason)
    return dg.Output(None, metadata=_shown(done))


@dg.config_mapping
def asked_once(config: RollbackConfig) -> dict[str, Any]:
    """One form for both steps."""
    given = {"config": config.model_dump(exclude_none=True)}
    return {"ops": {preview_rollback.name: given, apply_rollback.name: given}}


@dg.job(name="rollback_cycle", config=asked_once, tags=TAGS)
def rollback_cycle() -> None:
    """Take a cycle back: launch once to see what it would do, again with the hash it showed to do it."""
    apply_rollback(preview_rollback())


def _shown(effects: Mapping[str, Any]) -> dict[str, Any]:
    items, resources = effects["items"][:ROWS_SHOWN], effects["resources"][:ROWS_SHOWN]
    return {**{name: effects[name] for name in COUNTS}, "items": _table(items), "resources": _table(resources)}


def _table(rows: list[dict[str, Any]]) -> dg.TableMetadataValue:
    """Of rows as the engine has them, whatever their columns."""
    return table(dict.fromkeys(rows[0] if rows else (), text), [{name: str(value) for name, value in row.items()} for row in rows])
