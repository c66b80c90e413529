"""The mission, as four assets: what is pending, who excludes whom, whom to select, what was decided."""

# No postponed annotations: Dagster reads those of a context.
from typing import Any, Final

import dagster as dg

from pipeline_project.core.conflict_graph import ConflictGraph
from pipeline_project.core.decisions import Proposal
from pipeline_project.core.snapshot import Snapshot
from pipeline_project.engine.engine import Engine
from pipeline_project.orchestration.requests import SEEN_TAG, CycleRequest
from pipeline_project.orchestration.turns import in_turn
from pipeline_project.orchestration.versions import observed, versioned

GROUP: Final = "selection"
OWNERS: Final = ["team:operations"]
TAGS: Final = {"domain": "selection"}


work_items: Final = dg.AssetSpec(
    "work_items",
    group_name="sources",
    owners=OWNERS,
    tags={"domain": "intake"},
    kinds={"postgres"},
    description="What arrives in PostgreSQL all the time: submitted, imported, or pulled from a source. Each snapshot, and each pull, "
    "observes how far the feed has come: its version stands still while nothing happens.",
)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    tags=TAGS,
    kinds={"postgres", "parquet"},
    deps=[work_items],
    io_manager_key="artifacts",
)
def pending_items(context: dg.AssetExecutionContext, engine: dg.ResourceParam[Engine]) -> dg.Output[Snapshot]:
    """Everything a cycle looks at, at one instant: eligible items with their versions and demands, free capacities, the policy."""
    asked = CycleRequest.of_run(context.partition_key, context.run.tags, engine.inquiry.today())
    seen = engine.inquiry.position()  # before the snapshot, which may have seen more, but nothing less
    context.log_event(observed(seen))
    context.instance.add_run_tags(context.run.run_id, {SEEN_TAG: seen})
    return versioned(engine.cycles.snapshot(asked.pool, day=asked.day, mode=asked.mode))


@dg.asset(group_name=GROUP, owners=OWNERS, tags=TAGS, kinds={"python", "parquet"}, io_manager_key="artifacts")
def conflict_graph(pending_items: Snapshot, engine: dg.ResourceParam[Engine]) -> dg.Output[ConflictGraph]:
    """Who excludes whom: candidates that no resource can hold together."""
    return versioned(engine.cycles.graph(pending_items))


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    tags=TAGS,
    kinds={"numba", "parquet"},
    io_manager_key="artifacts",
)
def proposed_selections(conflict_graph: ConflictGraph, engine: dg.ResourceParam[Engine]) -> dg.Output[Proposal]:
    """The most valuable set that breaks no constraint, with the proof of how good it is. Nothing is written yet."""
    return versioned(engine.cycles.propose(conflict_graph))


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    tags=TAGS,
    kinds={"postgres"},
    io_manager_key="artifacts",
)
def committed_decisions(proposed_selections: Proposal, engine: dg.ResourceParam[Engine]) -> dg.Output[dict[str, Any]]:
    """The decisions, written under locks and published at once. A second time does nothing; a broken one is resumed."""
    return versioned(in_turn(engine.cycles.commit, proposed_selections))


MADE_BY: Final = {
    "pending_items": ("core", "store"),
    "conflict_graph": ("core",),
    "proposed_selections": ("core", "solvers"),
    "committed_decisions": ("core", "store", "engine"),
}
"""The rooms of the house whose code an asset is made by: a change there makes its code version a new one."""

SELECTION: Final = (pending_items, conflict_graph, proposed_selections, committed_decisions)
