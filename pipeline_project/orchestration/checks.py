"""What must be true of each step. Errors before the commit stop it; errors after it, and warnings, raise an alert."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final

import dagster as dg

from pipeline_project.core.conflict_graph import ConflictGraph
from pipeline_project.core.decisions import Proposal
from pipeline_project.core.snapshot import Snapshot
from pipeline_project.core.verification import verify
from pipeline_project.engine.engine import Engine
from pipeline_project.orchestration.graph_soundness import graph_faults
from pipeline_project.orchestration.partitions import day_and_pool_of
from pipeline_project.orchestration.structure import structural_faults

Faults = list[str]
FAULTS_SHOWN: Final = 20


def snapshot_is_valid(snapshot: Snapshot) -> Faults:
    """The snapshot has the form every later step relies on. Form only: a bad row is refused at the door, it does not stop a pool."""
    return structural_faults(snapshot)


def graph_is_sound(graph: ConflictGraph) -> Faults:
    """The conflict graph says what the snapshot says: every item in one candidate, no demand and no capacity lost or invented."""
    return graph_faults(graph)


def no_constraint_violated(proposal: Proposal) -> Faults:
    """The selection overdraws nothing, is worth what it claims, and its bound is proven: by a verifier that no solver shares code with."""
    return [str(violation) for violation in verify(proposal.graph.problem, proposal.selection)]


def gap_within_policy(proposal: Proposal) -> Faults:
    """The selection is as close to the best possible as the policy's `checks.max_gap` asks."""
    gap, most = proposal.selection.certificate.gap, proposal.graph.snapshot.policy.checks.max_gap
    return [f"gap: expected at most {most:.2%}, found {gap:.2%}; give the policy's solver more steps"] if gap > most else []


def backlog_is_fresh(engine: Engine, pool: str) -> Faults:
    """Nothing was ready for longer than `checks.max_age` before a cycle came to look at it."""
    found = engine.inquiry.overlooked(pool)
    if found["oldest_age_s"] <= found["max_age_s"]:
        return []
    waited = f"{found['items']} items, the first for {found['oldest_age_s']} s"
    return [f"waiting for a first cycle: expected at most {found['max_age_s']} s, found {waited}; is the daemon running?"]


def ledger_invariants_hold(engine: Engine, _: str) -> Faults:
    """Every promise of the store holds: nothing over-allocated, no half bundle, no move without its audit row."""
    return [f"{broken['name']}: {broken['rows']} rows, such as {broken['examples'][0]}" for broken in engine.upkeep.check()]


def nobody_starves(engine: Engine, pool: str) -> Faults:
    """No item has been ready for longer than `checks.max_wait` without ever being selected."""
    return [
        f"{row['key']} has waited {row['waited_s']} s; raise its weight, or let the policy's ageing do it"
        for row in engine.inquiry.starving(pool)
    ]


def checks(partitions: dg.MultiPartitionsDefinition) -> Sequence[dg.AssetChecksDefinition]:
    """All of them. A blocking one that fails keeps the next asset from being made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # a check must have its asset's partitions; Dagster calls that a preview
        return [
            _of_artifact("pending_items", snapshot_is_valid, partitions, blocking=True),
            _of_pool("pending_items", backlog_is_fresh, partitions, dg.AssetCheckSeverity.WARN),
            _of_artifact("conflict_graph", graph_is_sound, partitions, blocking=True),
            _of_artifact("proposed_selections", no_constraint_violated, partitions, blocking=True),
            _of_artifact("proposed_selections", gap_within_policy, partitions, severity=dg.AssetCheckSeverity.WARN),
            _of_pool("committed_decisions", ledger_invariants_hold, partitions, dg.AssetCheckSeverity.ERROR),
            _of_pool("committed_decisions", nobody_starves, partitions, dg.AssetCheckSeverity.WARN),
        ]


def _of_artifact(
    asset: str,
    judge: Callable[[Any], Faults],
    partitions: dg.MultiPartitionsDefinition,
    *,
    blocking: bool = False,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetChecksDefinition:
    """A check that judges what the asset made."""

    @dg.asset_check(asset=asset, name=judge.__name__, description=judge.__doc__, blocking=blocking, partitions_def=partitions)
    def check(made: Any) -> dg.AssetCheckResult:
        return _result(judge(made), severity)

    return check


def _of_pool(
    asset: str, judge: Callable[[Engine, str], Faults], partitions: dg.MultiPartitionsDefinition, severity: dg.AssetCheckSeverity
) -> dg.AssetChecksDefinition:
    """A check that judges the database's state around the asset."""

    @dg.asset_check(asset=asset, name=judge.__name__, description=judge.__doc__, partitions_def=partitions)
    def check(context: dg.AssetCheckExecutionContext, engine: dg.ResourceParam[Engine]) -> dg.AssetCheckResult:
        _, pool = day_and_pool_of(context.partition_key)
        return _result(judge(engine, pool), severity)

    return check


def _result(faults: Faults, severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
    shown = faults[:FAULTS_SHOWN]
    return dg.AssetCheckResult(
        passed=not faults,
        severity=severity,
        description="; ".join(shown) or None,
        metadata={"faults": len(faults), **({"examples": dg.MetadataValue.json(shown)} if faults else {})},
    )
