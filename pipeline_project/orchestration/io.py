"""Hands the artifacts of one cycle from asset to asset: a thin adapter on store/artifacts, which knows no pickle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import dagster as dg

from pipeline_project.core.decisions import Proposal
from pipeline_project.core.errors import StalePlan, Unknown
from pipeline_project.core.snapshot import Snapshot
from pipeline_project.engine.engine import Engine
from pipeline_project.orchestration.metadata import CYCLE_KEY, account, describe, drawn
from pipeline_project.orchestration.partitions import day_and_pool_of
from pipeline_project.orchestration.requests import CYCLE_TAG
from pipeline_project.store.artifacts import CONFLICT_GRAPH, PENDING_ITEMS, PROPOSED_SELECTIONS

_LOAD: Final[Mapping[str, Callable[[Engine, str, str], Any]]] = {
    PENDING_ITEMS: lambda engine, pool, cycle_key: engine.artifacts.load_snapshot(pool, cycle_key),
    CONFLICT_GRAPH: lambda engine, pool, cycle_key: engine.artifacts.load_graph(pool, cycle_key),
    PROPOSED_SELECTIONS: lambda engine, pool, cycle_key: engine.artifacts.load_proposal(pool, cycle_key),
    "committed_decisions": lambda engine, pool, cycle_key: engine.cycles.report(pool, cycle_key),  # in the ledger, not in files
}


class ArtifactIO(dg.IOManager):
    """The engine has saved what an asset returns before Dagster sees it; what travels is the cycle key, in the metadata.

    An input is the artifact of the upstream's own run (or of the run that this one re-executes), else the latest of the same
    partition, and then only when it belongs to the cycle of the partition's latest pending_items.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._made: dict[dg.AssetKey, Any] = {}  # by this process for this run: no need to read it back

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        self._made[context.asset_key] = obj
        pictures = drawn(self._proposal_of(obj)) if isinstance(obj, Mapping) else {}  # only now: nobody waits for a picture to be published
        context.add_output_metadata({**describe(obj), **account(self._engine, obj), **pictures})
        if isinstance(obj, Snapshot):  # from here on the run is found by its cycle
            context.step_context.instance.add_run_tags(context.run_id, {CYCLE_TAG: obj.cycle_key()})

    def _proposal_of(self, report: Mapping[str, Any]) -> Proposal:
        made: Proposal | None = self._made.get(dg.AssetKey(PROPOSED_SELECTIONS))
        return made or self._engine.artifacts.load_proposal(report["pool"], report["cycle"])

    def load_input(self, context: dg.InputContext) -> Any:
        if context.asset_key in self._made:
            return self._made[context.asset_key]
        asset, partition = context.asset_key.to_user_string(), context.asset_partition_key
        cycle_key = _own_cycle(context, context.asset_key)
        if cycle_key is None:
            cycle_key = _latest_cycle(context, context.asset_key)
            self._refuse_other_cycle(context, cycle_key)
        return _LOAD[asset](self._engine, day_and_pool_of(partition)[1], cycle_key)

    def _refuse_other_cycle(self, context: dg.InputContext, found: str) -> None:
        """A graph of yesterday's snapshot must not meet today's: what is chosen alone is chosen of one world."""
        root = dg.AssetKey(PENDING_ITEMS)
        made = self._made.get(root)
        expected = made.cycle_key() if made else _own_cycle(context, root) or _latest_cycle(context, root)
        if found != expected:
            raise StalePlan(
                f"{context.asset_key.to_user_string()} of {context.asset_partition_key}: expected cycle {expected}, which "
                f"{PENDING_ITEMS} is of, found {found}; re-materialize from {PENDING_ITEMS}"
            )


@dg.io_manager(required_resource_keys={"engine"}, description="The artifacts of the engine's cycles")
def artifacts(context: dg.InitResourceContext) -> ArtifactIO:
    return ArtifactIO(context.resources.engine)


def _own_cycle(context: dg.InputContext, asset: dg.AssetKey) -> str | None:
    """The cycle of the asset in this run, or in the nearest run that it re-executes."""
    for run in _run_and_ancestors(context):
        records = context.instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
        for record in reversed(records):
            if (made := record.event_log_entry.asset_materialization) and made.asset_key == asset:
                return _cycle_key(made)
    return None


def _run_and_ancestors(context: dg.InputContext) -> Iterator[dg.DagsterRun]:
    run: dg.DagsterRun | None = context.step_context.dagster_run
    while run is not None:
        yield run
        run = context.instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None


def _latest_cycle(context: dg.InputContext, asset: dg.AssetKey) -> str:
    """The cycle of the newest materialization in this partition, whoever made it. Raises Unknown."""
    wanted = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[context.asset_partition_key])
    for record in context.instance.fetch_materializations(wanted, limit=1).records:
        if made := record.asset_materialization:
            return _cycle_key(made)
    raise Unknown(
        f"{asset.to_user_string()} of {context.asset_partition_key}: expected a materialization, found none; "
        f"materialize from {PENDING_ITEMS} on"
    )


def _cycle_key(made: dg.AssetMaterialization) -> str:
    return str(made.metadata[CYCLE_KEY].value)
