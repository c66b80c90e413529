"""What must be true of each step. Errors before the commit stop it; errors after it, and warnings, raise an alert."""

# No postponed annotations: Dagster reads those of a context.
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Final

import dagster as dg

from pipeline_project import settings
from pipeline_project.core.conflict_graph import ConflictGraph
from pipeline_project.core.decisions import Proposal
from pipeline_project.core.policy import Severity
from pipeline_project.core.snapshot import Snapshot
from pipeline_project.core.verification import verify
from pipeline_project.engine.cycle import Report
from pipeline_project.engine.engine import Engine
from pipeline_project.orchestration.expectations import SuiteRefused
from pipeline_project.orchestration.faults import FAULTS_SHOWN, Fault, Faults
from pipeline_project.orchestration.graph_soundness import graph_faults
from pipeline_project.orchestration.own_checks import OwnCheck
from pipeline_project.orchestration.structure import BUILT_IN, load_suite, structural_faults


def snapshot_is_valid(snapshot: Snapshot, _: Engine) -> Faults:
    """The snapshot has the form every later step relies on. Form only: a bad row is refused at the door, it does not stop a pool."""
    path = settings.load().snapshot_suite
    suite = load_suite(path)
    try:
        return structural_faults(snapshot, suite)
    except SuiteRefused as refused:
        raise SuiteRefused(f"{path or BUILT_IN}: {refused}") from None


def nothing_is_too_large(snapshot: Snapshot, engine: Engine) -> Faults:
    """No item lies aside because, with its weight or its demands, sums would not be exact."""
    return [Fault(f"{row['key']}, weight {row['weight']}: {row['reason']}", **row) for row in engine.inquiry.too_large(snapshot.pool)]


def backlog_is_fresh(snapshot: Snapshot, engine: Engine) -> Faults:
    """Nothing was ready for longer than the policy's `checks.max_age` before a cycle came to look at it."""
    found = engine.inquiry.overlooked(snapshot.pool)
    if found["oldest_age_s"] <= found["max_age_s"]:
        return []
    waited = f"{found['items']} items, the first for {found['oldest_age_s']} s"
    said = f"waiting for a first cycle: expected at most {found['max_age_s']} s, found {waited}; does the daemon run?"
    return [Fault(said, items=found["items"], oldest_age_s=found["oldest_age_s"], max_age_s=found["max_age_s"], first=found["first"])]


def graph_is_sound(graph: ConflictGraph, _: Engine) -> Faults:
    """The conflict graph says what the snapshot says: every item in one candidate, no demand and no capacity lost or invented."""
    return graph_faults(graph)


def no_constraint_violated(proposal: Proposal, _: Engine) -> Faults:
    """The selection overdraws nothing, is worth what it claims, and its bound is proven: by a verifier that no solver shares code with."""
    return [Fault(str(violation), **asdict(violation)) for violation in verify(proposal.graph.problem, proposal.selection)]


def gap_within_policy(proposal: Proposal, _: Engine) -> Faults:
    """The selection is as close to the best possible as the policy's `checks.max_gap` asks."""
    certificate, most = proposal.selection.certificate, proposal.graph.snapshot.policy.checks.max_gap
    if certificate.gap <= most:
        return []
    said = f"gap: expected at most {most:.2%}, found {certificate.gap:.2%}; give the policy's solver more steps"
    return [Fault(said, value=certificate.value, upper_bound=certificate.upper_bound, gap=certificate.gap, max_gap=most)]


def ledger_invariants_hold(report: Report, engine: Engine) -> Faults:
    """Every promise of the store holds where the cycle decided: nothing over-allocated, no half bundle, no move without its audit row."""
    return [
        Fault(f"{broken['name']}, row {number} of {broken['rows']}: {_spelled(row)}", invariant=broken["name"], **row)
        for broken in engine.upkeep.check_cycle(report["cycle"], pool=report["pool"])
        for number, row in enumerate(broken["examples"], 1)
    ]


def _spelled(row: Mapping[str, Any]) -> str:
    """As a person reads it: numbers are numbers, whatever type the database gave them."""
    return ", ".join(f"{name} {value}" for name, value in row.items())


def nobody_starves(report: Report, engine: Engine) -> Faults:
    """No item has been ready for longer than the policy's `checks.max_wait` without ever being selected."""
    waiting = engine.inquiry.starving(report["pool"])
    return [
        Fault(f"{row['key']} has waited {row['waited_s']} s; raise its weight, or let the policy's ageing do it", **row) for row in waiting
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """judge: what is wrong with what the asset made; nothing = passed. Name and docstring are the judge's, unless they are given.

    severity  where the policy does not say another for a check of this name
    """

    judge: Callable[[Any, Engine], Faults]
    severity: Severity = "error"
    blocking: bool = False
    name: str = ""
    description: str = ""

    @property
    def called(self) -> str:
        return self.name or self.judge.__name__

    def spec(self, asset: str, partitions: dg.MultiPartitionsDefinition) -> dg.AssetCheckSpec:
        description = self.description or self.judge.__doc__
        return dg.AssetCheckSpec(self.called, asset=asset, description=description, blocking=self.blocking, partitions_def=partitions)


WARN: Final = "warning"

CHECKS: Final[Mapping[str, Sequence[Check]]] = {
    "pending_items": [
        Check(judge=snapshot_is_valid, blocking=True),
        Check(judge=nothing_is_too_large, severity=WARN),
        Check(judge=backlog_is_fresh, severity=WARN),
    ],
    "conflict_graph": [Check(judge=graph_is_sound, blocking=True)],
    "proposed_selections": [Check(judge=no_constraint_violated, blocking=True), Check(judge=gap_within_policy, severity=WARN)],
    "committed_decisions": [Check(judge=ledger_invariants_hold), Check(judge=nobody_starves, severity=WARN)],
}


def checks(partitions: dg.MultiPartitionsDefinition, own: Sequence[OwnCheck] = ()) -> list[dg.AssetChecksDefinition]:
    """One step for all checks of an asset: a step costs a tenth of a second. A blocking one that fails stops the run.

    own  the installation's
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # a check must have its asset's partitions; Dagster calls that a preview
        return [
            _step(asset, [*judged, *(_of_the_house(one) for one in own if one.asset == asset)], partitions)
            for asset, judged in CHECKS.items()
        ]


def _step(asset: str, judged: Sequence[Check], partitions: dg.MultiPartitionsDefinition) -> dg.AssetChecksDefinition:
    specs = [check.spec(asset, partitions) for check in judged]

    @dg.multi_asset_check(name=f"checks_of_{asset}", specs=specs, ins={"made": dg.AssetIn(asset)}, can_subset=True)
    def judge(context: dg.AssetCheckExecutionContext, engine: dg.ResourceParam[Engine], made: Any) -> Iterator[dg.AssetCheckResult]:
        wanted = {key.name for key in context.selected_asset_check_keys}
        for check in judged:
            if check.called in wanted:
                yield result(asset, check, made, engine)

    return judge


def result(asset: str, check: Check, made: Any, engine: Engine) -> dg.AssetCheckResult:
    """What a check came to, with the rows it is about as a table."""
    faults = check.judge(made, engine)
    shown = faults[:FAULTS_SHOWN]
    severity = _severity(check, made, engine) if faults else check.severity
    return dg.AssetCheckResult(
        passed=not faults,
        asset_key=asset,
        check_name=check.called,
        severity=dg.AssetCheckSeverity.WARN if severity == WARN else dg.AssetCheckSeverity.ERROR,
        description="; ".join(shown) or None,
        metadata={"faults": len(faults), **({"rows": as_table(shown), "examples": dg.MetadataValue.json(list(shown))} if faults else {})},
    )


def as_table(faults: Sequence[str]) -> dg.TableMetadataValue:
    """The sentence of each fault, and the columns of its row."""
    rows = [{"fault": str(fault), **getattr(fault, "row", {})} for fault in faults]
    names = list(dict.fromkeys(name for row in rows for name in row))
    records = [dg.TableRecord({name: _cell(row.get(name)) for name in names}) for row in rows]
    return dg.MetadataValue.table(records, dg.TableSchema(columns=[dg.TableColumn(name) for name in names]))


def _cell(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else "" if value is None else str(value)


def _severity(check: Check, made: Any, engine: Engine) -> Severity:
    """As the pool's policy says, where it speaks of this check."""
    pool, _, _ = about(made)
    _, policy = engine.inquiry.policy(pool)
    said: Severity = getattr(policy.checks.severity, check.called, check.severity)
    return said


def _of_the_house(own: OwnCheck) -> Check:
    def judge(made: Any, engine: Engine) -> Faults:
        pool, cycle, day = about(made)
        return own.faults(made, lambda query: engine.inquiry.rows(query, pool=pool, cycle=cycle, day=day))

    return Check(judge=judge, severity=own.severity, blocking=own.blocking, name=own.name, description=own.description)


def about(made: Any) -> tuple[str, str, date | None]:
    """(pool, cycle key, day) of what an asset made."""
    if isinstance(made, Mapping):
        return made["pool"], made["cycle"], made["day"]
    snapshot: Snapshot = made if isinstance(made, Snapshot) else made.snapshot if isinstance(made, ConflictGraph) else made.graph.snapshot
    return snapshot.pool, snapshot.cycle_key(), snapshot.day
