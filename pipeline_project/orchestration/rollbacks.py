"""The way back, in two steps that a person takes: see what a rollback would do, then do exactly that."""

# No postponed annotations: Dagster reads those of a context.
import hashlib
import json
from typing import Any, Final

import dagster as dg
from pydantic import Field

from pipeline_project.core.decisions import Verdict
from pipeline_project.core.errors import StalePlan
from pipeline_project.core.lifecycle import CycleStatus
from pipeline_project.engine.engine import Engine
from pipeline_project.orchestration.assets import TAGS
from pipeline_project.orchestration.metadata import number, table, text

ITEMS_SHOWN: Final = 20


class RollbackConfig(dg.Config):
    """What the launchpad asks. Only `cycle` is needed for a preview."""

    cycle: str = Field(description="The cycle's key, or its beginning: `pipeline cycle list`, or `cycle_key` in the metadata of an asset.")
    pool: str | None = Field(default=None, description="Its pool, where several have cycles that begin so.")
    previewed: str = Field(default="", description="The hash that the preview showed. Empty = nothing is rolled back, only previewed.")
    hold_s: int = Field(default=0, ge=0, description="Seconds the items stay out of the next cycles; 0 = they compete again at once.")
    reason: str = Field(default="rolled back in Dagster", description="Stands in the audit trail of every item.")


@dg.op(tags=TAGS)
def preview_rollback(context: dg.OpExecutionContext, config: RollbackConfig, engine: dg.ResourceParam[Engine]) -> dg.Output[None]:
    """What rolling the cycle back would do now: how many items, the worthiest of them, and the hash to confirm it with."""
    effects = engine.cycles.rollback(config.cycle, pool=config.pool, preview=True)
    worthiest = engine.inquiry.moved(effects["cycle"], Verdict.SELECTED, pool=effects["pool"], most=ITEMS_SHOWN)
    context.log.info(f"would release {effects['released']} items; to do it, launch again with previewed: {hash_of(effects)}")
    shown = table({"item": text, "weight": number}, worthiest)
    return dg.Output(None, metadata={**effects, "previewed": hash_of(effects), "selected_by_it": shown})


@dg.op(tags=TAGS, ins={"preview": dg.In(dg.Nothing)})
def apply_rollback(context: dg.OpExecutionContext, config: RollbackConfig, engine: dg.ResourceParam[Engine]) -> dg.Output[None]:
    """Roll back what was previewed, if it is still that. Raises StalePlan when the world has moved on since."""
    if not config.previewed:
        context.log.info("no `previewed` hash in the config: nothing was rolled back")
        return dg.Output(None)
    effects = engine.cycles.rollback(config.cycle, pool=config.pool, preview=True)
    if effects["status"] != CycleStatus.ROLLED_BACK and config.previewed != hash_of(effects):  # rolled back: this step is being retried
        raise StalePlan(
            f"rollback of cycle {effects['cycle']}: expected the effects of preview {config.previewed}, found {hash_of(effects)}: now "
            f"{effects['released']} items would be released, {effects['claimed']} are claimed, {effects['completed']} completed; look again"
        )
    done = engine.cycles.rollback(effects["cycle"], pool=effects["pool"], hold_s=config.hold_s, reason=config.reason)
    return dg.Output(None, metadata=done)


@dg.config_mapping
def asked_once(config: RollbackConfig) -> dict[str, Any]:
    """One form for both steps."""
    given = {"config": config.model_dump(exclude_none=True)}
    return {"ops": {preview_rollback.name: given, apply_rollback.name: given}}


@dg.job(name="rollback_cycle", config=asked_once, tags=TAGS)
def rollback_cycle() -> None:
    """Take a cycle back: launch once to see what it would do, again with the hash it showed to do it."""
    apply_rollback(preview_rollback())


def hash_of(effects: dict[str, Any]) -> str:
    """The engine's own where it gives one; else of what it counted."""
    counted = [str(effects[name]) for name in ("cycle", "pool", "status", "released", "claimed", "completed")]
    return str(effects.get("hash") or hashlib.sha256(json.dumps(counted).encode()).hexdigest()[:12])
