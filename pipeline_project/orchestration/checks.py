"""What must be true of each step. Errors before the commit stop it; errors after it, and warnings, raise an alert."""

# No postponed annotations: Dagster reads those of a context.
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import dagster as dg

from pipeline_project.core.conflict_graph import ConflictGraph
from pipeline_project.core.decisions import Proposal
from pipeline_project.core.snapshot import Snapshot
from pipeline_project.core.verification import verify
from pipeline_project.engine.cycle import Report
from pipeline_project.engine.engine import Engine
from pipeline_project.orchestration.graph_soundness import graph_faults
from pipeline_project.orchestration.structure import structural_faults

Faults = list[str]
FAULTS_SHOWN: Final = 20


def snapshot_is_valid(snapshot: Snapshot, _: Engine) -> Faults:
    """The snapshot has the form every later step relies on. Form only: a bad row is refused at the door, it does not stop a pool."""
    return structural_faults(snapshot)


def backlog_is_fresh(snapshot: Snapshot, engine: Engine) -> Faults:
    """Nothing was ready for longer than the policy's `checks.max_age` before a cycle came to look at it."""
    found = engine.inquiry.overlooked(snapshot.pool)
    if found["oldest_age_s"] <= found["max_age_s"]:
        return []
    waited = f"{found['items']} items, the first for {found['oldest_age_s']} s"
    return [f"waiting for a first cycle: expected at most {found['max_age_s']} s, found {waited}; does the daemon run?"]


def graph_is_sound(graph: ConflictGraph, _: Engine) -> Faults:
    """The conflict graph says what the snapshot says: every item in one candidate, no demand and no capacity lost or invented."""
    return graph_faults(graph)


def no_constraint_violated(proposal: Proposal, _: Engine) -> Faults:
    """The selection overdraws nothing, is worth what it claims, and its bound is proven: by a verifier that no solver shares code with."""
    return [str(violation) for violation in verify(proposal.graph.problem, proposal.selection)]


def gap_within_policy(proposal: Proposal, _: Engine) -> Faults:
    """The selection is as close to the best possible as the policy's `checks.max_gap` asks."""
    gap, most = proposal.selection.certificate.gap, proposal.graph.snapshot.policy.checks.max_gap
    return [f"gap: expected at most {most:.2%}, found {gap:.2%}; give the policy's solver more steps"] if gap > most else []


def ledger_invariants_hold(report: Report, engine: Engine) -> Faults:
    """Every promise of the store holds where the cycle decided: nothing over-allocated, no half bundle, no move without its audit row."""
    violated = engine.upkeep.check_cycle(report["cycle"], pool=report["pool"])
    return [f"{broken['name']}: {broken['rows']} rows, such as {broken['examples'][0]}" for broken in violated]


def nobody_starves(report: Report, engine: Engine) -> Faults:
    """No item has been ready for longer than the policy's `checks.max_wait` without ever being selected."""
    waiting = engine.inquiry.starving(report["pool"])
    return [f"{row['key']} has waited {row['waited_s']} s; raise its weight, or let the policy's ageing do it" for row in waiting]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """judge: what is wrong with what the asset made; nothing = passed. Its name and docstring are the check's."""

    judge: Callable[[Any, Engine], Faults]
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
    blocking: bool = False

    def spec(self, asset: str, partitions: dg.MultiPartitionsDefinition) -> dg.AssetCheckSpec:
        return dg.AssetCheckSpec(
            self.judge.__name__, asset=asset, description=self.judge.__doc__, blocking=self.blocking, partitions_def=partitions
        )


WARN: Final = dg.AssetCheckSeverity.WARN

CHECKS: Final[Mapping[str, Sequence[Check]]] = {
    "pending_items": [Check(judge=snapshot_is_valid, blocking=True), Check(judge=backlog_is_fresh, severity=WARN)],
    "conflict_graph": [Check(judge=graph_is_sound, blocking=True)],
    "proposed_selections": [Check(judge=no_constraint_violated, blocking=True), Check(judge=gap_within_policy, severity=WARN)],
    "committed_decisions": [Check(judge=ledger_invariants_hold), Check(judge=nobody_starves, severity=WARN)],
}


def checks(partitions: dg.MultiPartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """One step for all checks of an asset: a step costs a tenth of a second. A blocking one that fails stops the run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # a check must have its asset's partitions; Dagster calls that a preview
        return [_step(asset, judged, partitions) for asset, judged in CHECKS.items()]


def _step(asset: str, judged: Sequence[Check], partitions: dg.MultiPartitionsDefinition) -> dg.AssetChecksDefinition:
    specs = [check.spec(asset, partitions) for check in judged]

    @dg.multi_asset_check(name=f"checks_of_{asset}", specs=specs, ins={"made": dg.AssetIn(asset)}, can_subset=True)
    def judge(context: dg.AssetCheckExecutionContext, engine: dg.ResourceParam[Engine], made: Any) -> Iterator[dg.AssetCheckResult]:
        wanted = {key.name for key in context.selected_asset_check_keys}
        for check in judged:
            if check.judge.__name__ in wanted:
                yield _result(asset, check, check.judge(made, engine))

    return judge


def _result(asset: str, check: Check, faults: Faults) -> dg.AssetCheckResult:
    shown = faults[:FAULTS_SHOWN]
    return dg.AssetCheckResult(
        passed=not faults,
        asset_key=asset,
        check_name=check.judge.__name__,
        severity=check.severity,
        description="; ".join(shown) or None,
        metadata={"faults": len(faults), **({"examples": dg.MetadataValue.json(shown)} if faults else {})},
    )
