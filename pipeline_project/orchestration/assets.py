"""The mission, as four assets: what is pending, who excludes whom, whom to select, what was decided."""

# No postponed annotations: Dagster reads those of a context.
from typing import Any, Final

import dagster as dg

from pipeline_project.core.conflict_graph import ConflictGraph
from pipeline_project.core.decisions import Proposal
from pipeline_project.core.snapshot import Snapshot
from pipeline_project.engine.engine import Engine
from pipeline_project.orchestration.requests import CycleRequest

GROUP: Final = "selection"

work_items: Final = dg.AssetSpec(
    "work_items", group_name="sources", description="What arrives in PostgreSQL all the time: submitted, imported, or pulled from a source."
)


@dg.asset(group_name=GROUP, deps=[work_items], io_manager_key="artifacts")
def pending_items(context: dg.AssetExecutionContext, engine: dg.ResourceParam[Engine]) -> Snapshot:
    """Everything a cycle looks at, at one instant: eligible items with their versions and demands, free capacities, the policy."""
    asked = CycleRequest.of_run(context.partition_key, context.run.tags, engine.inquiry.today())
    return engine.cycles.snapshot(asked.pool, day=asked.day, mode=asked.mode)


@dg.asset(group_name=GROUP, io_manager_key="artifacts")
def conflict_graph(pending_items: Snapshot, engine: dg.ResourceParam[Engine]) -> ConflictGraph:
    """Who excludes whom: candidates that no resource can hold together."""
    return engine.cycles.graph(pending_items)


@dg.asset(group_name=GROUP, io_manager_key="artifacts")
def proposed_selections(conflict_graph: ConflictGraph, engine: dg.ResourceParam[Engine]) -> Proposal:
    """The most valuable set that breaks no constraint, with the proof of how good it is. Nothing is written yet."""
    return engine.cycles.propose(conflict_graph)


@dg.asset(group_name=GROUP, io_manager_key="artifacts")
def committed_decisions(proposed_selections: Proposal, engine: dg.ResourceParam[Engine]) -> dict[str, Any]:
    """The decisions, written under locks and published at once. A second time does nothing; a broken one is resumed."""
    return engine.cycles.commit(proposed_selections)


SELECTION: Final = (pending_items, conflict_graph, proposed_selections, committed_decisions)
