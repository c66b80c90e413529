"""`pipeline bench migrate`, `month`, `plans`, `store`: measurements of the database, on the embedded server, in a database of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline_project.cli import console
from pipeline_project.cli.arguments import examples
from pipeline_project.core.errors import CheckFailed

if TYPE_CHECKING:
    from pipeline_project.bench.plans import Hot, Plan

Items = Annotated[int, typer.Option(min=1000, help="Items in the store.")]

app = typer.Typer()


@app.command("migrate", epilog=examples("pipeline bench migrate", "pipeline bench migrate --revision 0004 --items 100000 --json"))
def migrate(
    revision: Annotated[str, typer.Option(help="The migration to measure, from the one before it.")] = "head",
    items: Items = 1_000_000,
    as_json: console.Json = False,
) -> None:
    """Seconds of one migration on a large store, the locks it takes, and how long others waited who read and moved items meanwhile."""
    from pipeline_project import settings
    from pipeline_project.bench.migration import measure
    from pipeline_project.bench.scratch import fresh

    with fresh("bench_migrate", settings.load()) as database:
        row = measure(database, items, revision)
    shown = [{"lock held": lock["mode"], "on": lock["relation"], "ms": lock["ms"]} for lock in row["locks"]]
    facts = {name: value for name, value in row.items() if name != "locks"}
    console.emit({"results": [row]}, as_json=as_json, human=[console.facts("migrate", facts), console.table("Locks", shown)])


@app.command("month", epilog=examples("pipeline bench month", "pipeline bench month --days 30 --cycles 24 --items 200 --json"))
def month(
    days: Annotated[int, typer.Option(min=1, max=366, help="Simulated days.")] = 30,
    cycles: Annotated[int, typer.Option(min=1, max=288, help="Cycles a day.")] = 4,
    items: Annotated[int, typer.Option(min=10, help="Items submitted before each.")] = 100,
    as_json: console.Json = False,
) -> None:
    """A simulated month of load, with ended items archived after three days. Exit code 4 when the hot tables go on growing."""
    from pipeline_project import settings
    from pipeline_project.bench.month import BEGIN, Load, live_through
    from pipeline_project.bench.scratch import scratch

    load = Load(days=days, cycles=cycles, items=items)
    with scratch("bench_month", settings.load(), simulation_start=BEGIN) as engine:
        rows = live_through(engine, load, _tell)
        broken = engine.upkeep.check()
    console.emit({"results": rows, "violated": broken}, as_json=as_json, human=[console.table("month", rows)])
    most = max(row["item_state"] for row in rows)
    if most > load.hot_most or broken:
        raise CheckFailed(f"the hot tables: expected at most {load.hot_most} items, found {most}; broken promises: {len(broken)}")


@app.command("plans", epilog=examples("pipeline bench plans", "pipeline bench plans --items 150000 --json"))
def plans(items: Items = 1_000_000, as_json: console.Json = False) -> None:
    """The plan of every hot statement on a large store, and milliseconds. Exit code 4 when one reads a large table whole."""
    from pipeline_project import settings
    from pipeline_project.bench.large import make
    from pipeline_project.bench.plans import archive_some, explain, hot_statements
    from pipeline_project.bench.scratch import fresh
    from pipeline_project.store import schema

    with fresh("bench_plans", settings.load()) as database:
        make(database, items)
        with schema.administer(database.admin) as connection:
            archive_some(connection)
            rows = [_judged(hot, explain(connection, hot, execute=True)) for hot in hot_statements(items)]
    shown = [{**row, "indexes": ", ".join(row["indexes"]), "read_whole": ", ".join(row["read_whole"])} for row in rows]
    console.emit({"results": rows, "items": items}, as_json=as_json, human=[console.table(f"plans at {items:,} items", shown)])
    if bad := [row["statement"] for row in rows if not row["as_expected"]]:
        raise CheckFailed(f"{len(bad)} statements do not go by their index: {', '.join(bad)}")


@app.command("store", epilog=examples("pipeline bench store", "pipeline bench store --items 100000 --json"))
def store(items: Items = 1_000_000, as_json: console.Json = False) -> None:
    """Seconds of a full check and an incremental one; of sweeps that seal the trail, do nothing, and archive: on a large store."""
    from pipeline_project import settings
    from pipeline_project.bench.large import make
    from pipeline_project.bench.scratch import fresh
    from pipeline_project.bench.upkeep import measure
    from pipeline_project.engine.engine import Engine

    with fresh("bench_store", settings.load()) as database:
        make(database, items)
        with Engine.open("bench_store", settings.load()) as engine:
            rows = measure(engine, items)
    console.emit({"results": rows}, as_json=as_json, human=[console.table("store", rows)])


@app.command("import", epilog=examples("pipeline bench import", "pipeline bench import --items 100000 --demands 3 --json"))
def import_(
    items: Items = 1_000_000,
    demands: Annotated[int, typer.Option(min=1, help="Resources each of them wants.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the generated input.")] = 1,
    as_json: console.Json = False,
) -> None:
    """Items a second of an import from a Parquet file, and of the same file again, when nothing is new."""
    from pipeline_project import settings
    from pipeline_project.bench.scratch import scratch
    from pipeline_project.bench.upkeep import measure_import

    with scratch("bench_import", settings.load()) as engine:
        rows = measure_import(engine, items, demands, seed)
    console.emit({"results": rows}, as_json=as_json, human=[console.table("import", rows)])


def _judged(hot: Hot, plan: Plan) -> dict[str, Any]:
    return {
        "statement": f"{hot.noun}.{hot.name}",
        "ms": plan.ms,
        "as_expected": (not hot.index or hot.index in plan.indexes) and not plan.read_whole,
        "indexes": sorted(plan.indexes),
        "read_whole": sorted(plan.read_whole),
    }


def _tell(row: dict[str, Any]) -> None:
    console.err.print(f"day {row['day']}: {row['item_state']:,} of {row['submitted']:,} items are hot, {row['hot_bytes'] / 1e6:.1f} MB")
