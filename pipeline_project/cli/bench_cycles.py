"""`pipeline bench cycle`, `latency`, `workers`: whole cycles, through the engine and through Dagster."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline_project.cli import console
from pipeline_project.cli.arguments import examples
from pipeline_project.cli.bench import listed
from pipeline_project.core.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from pipeline_project.engine.engine import Engine
    from pipeline_project.settings import Settings

app = typer.Typer()


@app.command(
    "cycle",
    epilog=examples(
        "pipeline bench cycle",
        "pipeline bench cycle --items 100000 --demands 3 --through engine,dagster",
        "pipeline bench cycle --cycles 20 --through engine,dagster,processes",
    ),
)
def cycle(
    items: Annotated[int, typer.Option(min=1, help="Items to import.")] = 100_000,
    demands: Annotated[int, typer.Option(min=1, help="Resources each of them wants.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the generated input.")] = 1,
    through: Annotated[str, typer.Option(help="Who runs the cycle: engine, dagster, processes (one a step), or several.")] = "engine",
    cycles: Annotated[int, typer.Option(min=0, help="Instead: so many small cycles in a row, one new item each.")] = 0,
    as_json: console.Json = False,
) -> None:
    """Seconds from `items import` to published decisions, in one `cycle run`; or of many small cycles, with what they leave on disk."""
    if cycles:
        rows = [_measure_many(peer.strip(), cycles) for peer in through.split(",")]
        console.emit({"results": rows}, as_json=as_json, human=[console.table("cycles in a row", rows)])
        return
    from pipeline_project.bench.families import Uniform

    family = Uniform(items=items, demands=demands, seed=seed)
    results = [_measure(family, peer.strip()) for peer in through.split(",")]
    shown = ("peer", "items", "demands", "import_items_s", "cycle_s", "seconds", "per_second", "selected", "gap", "peak_mb")
    console.emit({"results": results}, as_json=as_json, human=[console.table("cycle", results, shown)])


@app.command(
    "latency",
    epilog=examples(
        "pipeline bench latency", "pipeline bench latency --changes 20 --pools 16 --json", "pipeline bench latency --workers 2"
    ),
)
def latency(
    changes: Annotated[int, typer.Option(min=1, help="Changes, one after the other, each at a random moment of the sensor's turn.")] = 10,
    pools: Annotated[int, typer.Option(min=0, help="Then so many pools that change at once; 0 = leave that out.")] = 0,
    workers: Annotated[
        int, typer.Option(min=0, max=64, help="Celery workers that run the cycles; needs redis-server. 0 = a process each.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of those moments.")] = 1,
    as_json: console.Json = False,
) -> None:
    """Seconds from a change in the database to the published decision, through the real daemon, and the share that Dagster costs."""
    from pipeline_project.bench import latency as bench
    from pipeline_project.cli import up
    from pipeline_project.orchestration.inprocess import control_room

    with (
        _own_database(name := "bench_latency") as (engine, chosen),
        control_room(engine, chosen, fresh=True) as room,
        up.served(web=False, where=name, workers=workers or None),
    ):
        bench.warm_up(engine)
        rows = [bench.measure(engine, lambda run: bench.Stamps(*room.stamps(run)), room.is_idle, changes, seed)]
        if pools:
            rows.append(bench.keep_up(engine, pools))
        rows = [{**row, "workers": workers} for row in rows]
    console.emit({"results": rows}, as_json=as_json, human=[console.table("change to decision", [row]) for row in rows])


@app.command(
    "workers",
    epilog=examples("pipeline bench workers", "pipeline bench workers --workers 2 --pools 16 --kill", "pipeline bench workers --json"),
)
def workers(
    workers: Annotated[str, typer.Option(help="How many Celery workers, one installation after the other.")] = "1,2",
    pools: Annotated[int, typer.Option(min=1, max=200, help="Pools that get pending items at once.")] = 16,
    items: Annotated[int, typer.Option(min=1, help="Items in each of them.")] = 200,
    kill: Annotated[bool, typer.Option("--kill", help="kill -9 one worker when a quarter of the pools have their cycle.")] = False,
    as_json: console.Json = False,
) -> None:
    """Seconds until every pool has its cycle, with a real daemon, Redis and Celery workers on this machine; needs redis-server."""
    from pipeline_project.cli.bench_workers import measure

    counts = listed("--workers", workers, int, "whole numbers from 1 to 64", lambda value: 1 <= value <= 64)
    if kill and min(counts) < 2:
        raise UsageError(f"--kill: expected 2 workers or more, so that one is left, found --workers {workers}")
    results = [measure(count, pools, items=items, kill=kill) for count in counts]
    console.emit({"results": results}, as_json=as_json, human=[console.table("workers", results)])
    if wrong := [row for row in results if row["invariants_violated"] or row["cycles"] != pools]:
        raise CheckFailed(
            f"expected {pools} cycles and no broken invariant, found {wrong[0]['cycles']} and {wrong[0]['invariants_violated']}"
        )


def _measure(family: Any, peer: str) -> dict[str, Any]:
    from pipeline_project import settings
    from pipeline_project.bench.cycle import measure
    from pipeline_project.bench.scratch import scratch

    runner = _runner(peer)
    with scratch(f"bench_cycle_{peer}", settings.load()) as engine:
        return measure(engine, family, runner, peer)


def _measure_many(peer: str, cycles: int) -> dict[str, Any]:
    from pipeline_project.bench.cycles import measure
    from pipeline_project.orchestration.inprocess import control_room
    from pipeline_project.store import dagster_database

    with _own_database(f"bench_cycles_{peer}") as (engine, chosen), control_room(engine, chosen, fresh=True) as room:
        today = engine.inquiry.today()
        runners: dict[str, Callable[[str], Any]] = {
            "engine": engine.cycles.run,
            "dagster": lambda pool: room.run_cycle(pool, today),
            "processes": lambda pool: room.run_in_processes(pool, today),
        }
        return measure(engine, runners[_known(peer, runners)], peer, cycles, lambda: dagster_database.size(engine.database, chosen))


@contextmanager
def _own_database(name: str) -> Iterator[tuple[Engine, Settings]]:
    """The engine on a scratch database, which is where the environment points meanwhile; Dagster's beside it is dropped after, too."""
    from pipeline_project import settings
    from pipeline_project.bench.scratch import scratch
    from pipeline_project.store import dagster_database

    before = os.environ.get("PIPELINE_DATABASE_URL")
    os.environ["PIPELINE_DATABASE_URL"] = name
    chosen = settings.load()
    try:
        with scratch(name, chosen) as engine:
            try:
                yield engine, chosen
            finally:
                dagster_database.drop(engine.database, chosen)
    finally:
        shutil.rmtree(f"{chosen.artifacts_root}/{name}", ignore_errors=True)
        os.environ.pop("PIPELINE_DATABASE_URL")
        os.environ.update({} if before is None else {"PIPELINE_DATABASE_URL": before})


def _known(peer: str, runners: Mapping[str, Any]) -> str:
    if peer not in runners:
        raise UsageError(f"--through: expected {' or '.join(runners)}, found {peer!r}")
    return peer


def _runner(peer: str) -> Any:
    def through_engine(engine: Engine, pool: str) -> dict[str, Any]:
        return engine.cycles.run(pool)

    def through_dagster(engine: Engine, pool: str) -> dict[str, Any]:
        from pipeline_project import settings
        from pipeline_project.orchestration.inprocess import control_room

        with control_room(engine, settings.load(), fresh=True) as room:
            return room.run_cycle(pool, engine.inquiry.today())

    runners = {"engine": through_engine, "dagster": through_dagster}
    return runners[_known(peer, runners)]
