"""`pipeline bench cycle`: measurements as commands, each in its own fresh database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline_project.cli import console
from pipeline_project.cli.arguments import examples
from pipeline_project.core.errors import UsageError

if TYPE_CHECKING:
    from pipeline_project.engine.engine import Engine

app = typer.Typer(no_args_is_help=True, help="Measure. Each benchmark makes its own database and drops it.")


@app.callback()
def one_command_each() -> None:
    """Keeps `bench cycle` two words while it is the only benchmark: typer would drop the second."""


@app.command("cycle", epilog=examples("pipeline bench cycle", "pipeline bench cycle --items 100000 --demands 3 --through engine,dagster"))
def cycle(
    items: Annotated[int, typer.Option(min=1, help="Items to import.")] = 100_000,
    demands: Annotated[int, typer.Option(min=1, help="Resources each of them wants.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the generated input.")] = 1,
    through: Annotated[str, typer.Option(help="Who runs the cycle: engine, dagster, or both.")] = "engine",
    as_json: console.Json = False,
) -> None:
    """Seconds from `items import` to published decisions, in one `cycle run`."""
    from pipeline_project.bench.families import Uniform

    family = Uniform(items=items, demands=demands, seed=seed)
    results = [_measure(family, peer.strip()) for peer in through.split(",")]
    shown = ("peer", "items", "demands", "import_items_s", "cycle_s", "seconds", "per_second", "selected", "gap", "peak_mb")
    console.emit({"results": results}, as_json=as_json, human=[console.table("cycle", results, shown)])


def _measure(family: Any, peer: str) -> dict[str, Any]:
    from pipeline_project import settings
    from pipeline_project.bench.cycle import measure
    from pipeline_project.engine.engine import Engine
    from pipeline_project.store import schema
    from pipeline_project.store.database import Database

    runner = _runner(peer)
    chosen, name = settings.load(), f"bench_cycle_{peer}"
    schema.drop(Database.find(name, chosen))
    database = Database.find(name, chosen)
    schema.create(database)
    try:
        with Engine.open(name, chosen) as engine:
            return measure(engine, family, runner, peer)
    finally:
        schema.drop(database)


def _runner(peer: str) -> Any:
    def through_engine(engine: Engine, pool: str) -> dict[str, Any]:
        return engine.cycles.run(pool)

    def through_dagster(engine: Engine, pool: str) -> dict[str, Any]:
        from pipeline_project import settings
        from pipeline_project.orchestration.inprocess import control_room

        with control_room(engine, settings.load(), fresh=True) as room:
            return room.run_cycle(pool, engine.inquiry.today())

    runners = {"engine": through_engine, "dagster": through_dagster}
    if peer not in runners:
        raise UsageError(f"--through: expected {' or '.join(runners)}, found {peer!r}")
    return runners[peer]
