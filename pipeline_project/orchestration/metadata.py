"""What Dagster's catalogue shows of each step: numbers to plot, tables to read, pictures to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any, Final

import dagster as dg
import numpy as np

from pipeline_project.core.conflict_graph import ConflictGraph
from pipeline_project.core.decisions import Proposal, Verdict
from pipeline_project.core.packing import Int64
from pipeline_project.core.snapshot import Snapshot
from pipeline_project.engine.engine import Engine
from pipeline_project.orchestration import pictures
from pipeline_project.orchestration.partitions import key_of

CYCLE_KEY: Final = "cycle_key"
ROWS: Final = 10
"""Of each table. The whole is in the artifact: `pipeline items why KEY` looks there."""

Metadata = dict[str, Any]


@singledispatch
def describe(made: object) -> Metadata:
    """Metadata of what an asset made; always with its cycle key."""
    raise TypeError(f"no asset makes a {type(made).__name__}")


@describe.register
def _(made: Snapshot) -> Metadata:
    heaviest = np.argsort(-made.weights, kind="stable")[:ROWS]
    return {
        CYCLE_KEY: made.cycle_key(),
        "mode": str(made.mode),
        "items": made.n,
        "demands": len(made.resources),
        "resources": len(made.resource_ids),
        "bundles": len(np.unique(made.bundles[made.bundles >= 0])),
        "held": int(made.held.sum()),
        "weight": int(made.weights.sum()),
        "policy_hash": made.policy.hash,
        "heaviest": table(
            {"item": text, "weight": number}, [{"item": made.keys[i].as_py(), "weight": int(made.weights[i])} for i in heaviest]
        ),
    }


@describe.register
def _(made: ConflictGraph) -> Metadata:
    components = np.bincount(made.components()) if made.problem.n else np.zeros(0, np.int64)
    contested = made.contested()
    return {
        CYCLE_KEY: made.snapshot.cycle_key(),
        "candidates": made.problem.n,
        "contested_resources": len(contested),
        "components": len(components),
        "largest_component": int(components.max(initial=0)),
        "most_contested": _most_contested(made, contested),
    }


@describe.register
def _(made: Proposal) -> Metadata:
    certificate, deferred = made.selection.certificate, made.deferred()
    return {
        CYCLE_KEY: made.cycle_key,
        "value": certificate.value,
        "upper_bound": certificate.upper_bound,
        "gap": certificate.gap,
        "selected": made.graph.snapshot.n - len(deferred),
        "deferred": len(deferred),
        "steps": certificate.steps,
        "seed": certificate.seed,
        "selection_hash": made.selection.digest(),
        "reproducible": certificate.reproducible,
        "solvers": dict(certificate.solvers),
        "top_selected": _top_selected(made),
        "top_deferred": _top_deferred(made, deferred),
        "top_blockers": _top_blockers(made),
    }


@describe.register
def _(made: Mapping) -> Metadata:  # type: ignore[type-arg]  # singledispatch takes a class, not an alias
    numbers = ("value", "upper_bound", "gap", "items", "selected", "deferred", "stale", "nofit", "changed", "attempt")
    return {CYCLE_KEY: made["cycle"], "status": str(made["status"]), "mode": str(made["mode"]), **{name: made[name] for name in numbers}}


def drawn(made: Proposal) -> Metadata:
    """Who stood in whose way, and how full each resource has become."""
    return {**_picture("conflicts", pictures.conflicts(made.graph)), **_picture("utilisation", pictures.utilisation(made))}


def account(engine: Engine, made: object) -> Metadata:
    """What only the database knows of what an asset made: where it came from, what it changed, whose place it took."""
    if isinstance(made, Snapshot):
        return _set_aside(engine, made.pool)
    return _changes(engine, made) if isinstance(made, Mapping) else {}


def _set_aside(engine: Engine, pool: str) -> Metadata:
    rows = engine.inquiry.items(pool, state="quarantined", most=ROWS)
    shown = [{"item": row["key"], "weight": row["weight"], "reason": row["reason"] or ""} for row in rows]
    return {"quarantined": table({"item": text, "weight": number, "reason": text}, shown)}


def _changes(engine: Engine, report: Mapping[str, Any]) -> Metadata:
    pool, cycle = report["pool"], report["cycle"]
    lineage = engine.inquiry.lineage(cycle, pool=pool)
    rows = [
        {"item": row["item"], "weight": row["weight"], "change": change}
        for change, verdict in (("freed", Verdict.RELEASED), ("newly selected", Verdict.SELECTED))
        for row in engine.inquiry.moved(cycle, verdict, pool=pool, most=ROWS)
    ]
    return {
        **{name: lineage[name] for name in ("before", "after", "freed", "newly_selected")},
        "difference": table({"item": text, "weight": number, "change": text}, rows),
        "supersedes": dg.MetadataValue.md(_linked(pool, lineage["superseded"])),
        **{name: lineage[name] for name in ("snapshot", "policy_version", "policy_hash", "engine_version", "seed", "selection_hash")},
        "solvers": lineage["solvers"],
        "decided_by": lineage["decided_by"],
        "show": f"pipeline cycle show {cycle[:8]} --pool {pool}",
    }


def _linked(pool: str, superseded: Sequence[Mapping[str, Any]]) -> str:
    """A line for each cycle, leading to the run that decided it, or to the partition of one that ran without Dagster."""
    lines = (f"- [cycle {old['cycle'][:8]}]({_page(pool, old)}) of {old['day']}: {old['items']} items" for old in superseded)
    return "\n".join(lines) or "none"


def _page(pool: str, cycle: Mapping[str, Any]) -> str:
    if cycle["run"]:
        return f"/runs/{cycle['run']}"
    return f"/assets/committed_decisions?view=partitions&partition={key_of(cycle['day'], pool)}"


text: Final = "string"
number: Final = "int"


def table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """A table with these columns and their types, also when it has no rows."""
    schema = dg.TableSchema(columns=[dg.TableColumn(name, kind) for name, kind in columns.items()])
    return dg.MetadataValue.table([dg.TableRecord(dict(row)) for row in rows], schema)


def _most_contested(graph: ConflictGraph, contested: Int64) -> dg.TableMetadataValue:
    free, wanted = graph.problem.capacities, graph.wanted()
    first = contested[np.argsort(-(wanted - free)[contested], kind="stable")][:ROWS]
    rows = [{"resource": graph.name_of_resource(int(r)), "free": int(free[r]), "wanted": int(wanted[r])} for r in first]
    return table({"resource": text, "free": number, "wanted": number}, rows)


def _top_selected(proposal: Proposal) -> dg.TableMetadataValue:
    snapshot = proposal.graph.snapshot
    rows = [
        {"rank": int(proposal.ranks[i]), "item": snapshot.keys[i].as_py(), "weight": int(snapshot.weights[i])}
        for i in proposal.selected()[:ROWS].tolist()
    ]
    return table({"rank": number, "item": text, "weight": number}, rows)


def _top_deferred(proposal: Proposal, deferred: Int64) -> dg.TableMetadataValue:
    snapshot = proposal.graph.snapshot
    heaviest = deferred[np.argsort(-snapshot.weights[deferred], kind="stable")][:ROWS]
    rows = [
        {"item": snapshot.keys[i].as_py(), "weight": int(snapshot.weights[i]), "blockers": _shortened(proposal.why_deferred(i))}
        for i in heaviest.tolist()
    ]
    return table({"item": text, "weight": number, "blockers": text}, rows)


def _top_blockers(proposal: Proposal) -> dg.TableMetadataValue:
    resources, items = np.unique(proposal.blockers, return_counts=True)
    first = np.argsort(-items, kind="stable")[:ROWS]
    rows = [{"resource": proposal.graph.name_of_resource(int(resources[i])), "items_blocked": int(items[i])} for i in first]
    return table({"resource": text, "items_blocked": number}, rows)


def _shortened(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _picture(name: str, png: str | None) -> Metadata:
    """As Markdown, which Dagster's UI shows; nothing where there is nothing to draw."""
    return {} if png is None else {name: dg.MetadataValue.md(f"![{name}](data:image/png;base64,{png})")}
