"""`pipeline bench cycle`, `latency`, `claim`, `commit`, `selection`, `repair`: measurements as commands."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pipeline_project.cli import console
from pipeline_project.cli.arguments import examples
from pipeline_project.core.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from pipeline_project.engine.engine import Engine
    from pipeline_project.settings import Settings

Value = TypeVar("Value")

app = typer.Typer(no_args_is_help=True, help="Measure. A benchmark that needs a database makes its own and drops it.")


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
        rows = [bench.measure(engine, lambda run: bench.Stamps(*room.stamps(run)), changes, seed)]
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

    counts = _listed("--workers", workers, int, "whole numbers from 1 to 64", lambda value: 1 <= value <= 64)
    if kill and min(counts) < 2:
        raise UsageError(f"--kill: expected 2 workers or more, so that one is left, found --workers {workers}")
    results = [measure(count, pools, items=items, kill=kill) for count in counts]
    console.emit({"results": results}, as_json=as_json, human=[console.table("workers", results)])
    if wrong := [row for row in results if row["invariants_violated"] or row["cycles"] != pools]:
        raise CheckFailed(
            f"expected {pools} cycles and no broken invariant, found {wrong[0]['cycles']} and {wrong[0]['invariants_violated']}"
        )


@app.command(
    "claim",
    epilog=examples(
        "pipeline bench claim",
        "pipeline bench claim --peers pipeline,raw,pgqueuer --workers 1,2,4 --batch 1,10,100,1000 --json",
        "pipeline bench claim --peers pipeline,raw --workers 1 --batch 1 --snapshot 60",
    ),
)
def claim(
    peers: Annotated[
        str, typer.Option(help="Who: some of pipeline, sql, raw, procrastinate, pgqueuer.")
    ] = "pipeline,raw,procrastinate,pgqueuer",
    workers: Annotated[str, typer.Option(help="Processes that claim at the same time.")] = "1,2,4",
    batch: Annotated[str, typer.Option(help="Items of one claim.")] = "1,10,100,1000",
    items: Annotated[
        int, typer.Option(min=10, max=100_000, help="Items of a run of batch 1; others have sqrt(batch) times as many.")
    ] = 500,
    snapshot: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds that another session holds a snapshot while claims are timed; 0 = not asked.")
    ] = 0,
    as_json: console.Json = False,
) -> None:
    """Claims and completions a second of items with one demand each: ours, the fewest statements by hand, two queues, on one server."""
    from pipeline_project import settings
    from pipeline_project.bench import claim as bench

    protocol = bench.Protocol(
        peers=_claimers(peers, bench.PEERS, bench.EXTRA),
        workers=_listed("--workers", workers, int, "whole numbers from 1 to 64", lambda value: 1 <= value <= 64),
        batches=_listed("--batch", batch, int, "whole numbers from 1 to 10000", lambda value: 1 <= value <= 10_000),
        items=items,
        snapshot_s=snapshot,
    )
    report = bench.compare(protocol, settings.load(), lambda row: console.err.print(" ".join(f"{k}={v}" for k, v in row.items())))
    shown = ("peer", "batch", "workers", "per_second", "items", "seconds", "snapshot_s", "claim_p50_ms", "claim_p99_ms")
    console.emit(report, as_json=as_json, human=[console.table("claim and complete", report["results"], shown), str(report["server"])])
    if report["invariants_violated"]:
        raise CheckFailed(f"{report['invariants_violated']} invariants are violated after the runs")


def _claimers(text: str, known: Sequence[str], extra: Mapping[str, str]) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise UsageError(f"--peers: expected some of {', '.join(known)}, found {name!r}")
        if name in extra and find_spec(name) is None:
            raise UsageError(
                f"--peers: {name} is not installed; `./pipeline exec -- python -m pip install {extra[name]}` brings it, or leave it out"
            )
    if not names:
        raise UsageError(f"--peers: expected some of {', '.join(known)}, found {text!r}")
    return names


@app.command(
    "selection",
    epilog=examples(
        "pipeline bench selection",
        "pipeline bench selection --families uniform,skewed --sizes 1000,100000 --seconds 1,10,60 --seeds 1,2,3 --plot gap.svg",
        "pipeline bench selection --instances DIR --seconds 10 --peers chils,cpsat,highs --json",
    ),
)
def selection(
    instances: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A problem directory, or a folder of them, instead of families.")
    ] = None,
    families: Annotated[
        str | None, typer.Option(help="Families to generate, or all. Default: six that differ most.", show_default=False)
    ] = None,
    sizes: Annotated[str, typer.Option(help="Candidates of each generated instance.")] = "1000",
    draws: Annotated[str, typer.Option(help="Seeds of the generators: one instance each.")] = "1",
    seconds: Annotated[str, typer.Option(help="Budgets: wall-clock time from reading the problem on.")] = "1",
    seeds: Annotated[str, typer.Option(help="Seeds of the solvers; tables show medians over them.")] = "1",
    peers: Annotated[
        str, typer.Option(help="Who else: some of chils, cpsat, highs, greedy, networkx.")
    ] = "chils,cpsat,highs,greedy,networkx",
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw gap over time into an .svg, .png or .pdf file.")] = None,
    as_json: console.Json = False,
) -> None:
    """The solver and its peers side by side: equal time and cores, every answer verified. A minute or two unless asked for more."""
    from pipeline_project.bench import selection as bench

    if plot is not None:
        from pipeline_project.bench.plots import check_format

        check_format(plot)
    chosen = bench.stored(instances) if instances is not None else _generated(families, sizes, draws)
    protocol = bench.Protocol(
        peers=_peers(peers),
        seconds=_listed("--seconds", seconds, float, *BUDGETS),
        seeds=_listed("--seeds", seeds, int, *SEEDS),
    )
    rows = bench.compare(chosen, protocol, _tell)
    if plot is not None:
        from pipeline_project.bench.plots import gap_over_time

        gap_over_time(rows, plot)
    console.emit(
        {"results": rows, "summary": bench.against_best(rows)},
        as_json=as_json,
        human=_tables(bench.medians(rows), bench.against_best(rows)),
    )


@app.command(
    "repair",
    epilog=examples(
        "pipeline bench repair",
        "pipeline bench repair --families uniform,heavy --sizes 100000 --changed 0.001,0.01 --seconds 10 --seeds 1,2,3 --json",
    ),
)
def repair(
    families: Annotated[str, typer.Option(help="Families to generate, or all.")] = "uniform,heavy",
    sizes: Annotated[str, typer.Option(help="Candidates of each generated instance.")] = "100000",
    changed: Annotated[
        str, typer.Option(help="Shares of the candidates that change: half get new weights, a quarter goes, a quarter is new.")
    ] = "0.001,0.01",
    seconds: Annotated[str, typer.Option(help="Budgets of the earlier solve and of the cold one, by wall clock.")] = "1",
    seeds: Annotated[str, typer.Option(help="Seeds of problems, changes and solvers.")] = "1,2,3",
    as_json: console.Json = False,
) -> None:
    """Milliseconds of a repair after a change, and its value beside that of a cold solve; every answer is verified."""
    from pipeline_project.bench.families import FAMILIES
    from pipeline_project.bench.repair import Protocol, compare

    names = list(FAMILIES) if families == "all" else [name.strip() for name in families.split(",")]
    if unknown := [name for name in names if name not in FAMILIES]:
        raise UsageError(f"--families: expected some of {', '.join(FAMILIES)}, found {unknown[0]!r}")
    protocol = Protocol(
        families=names,
        sizes=_listed("--sizes", sizes, int, *SIZES),
        shares=_listed("--changed", changed, float, "shares above 0 and up to 1", lambda value: 0 < value <= 1),
        seconds=_listed("--seconds", seconds, float, *BUDGETS),
        seeds=_listed("--seeds", seeds, int, *SEEDS),
    )
    rows = compare(protocol, lambda row: console.err.print(f"{row['family']}  {row['candidates']:,}  seed {row['seed']}  {_repair(row)}"))
    console.emit({"results": rows}, as_json=as_json, human=[_repair_table(rows)])
    if wrong := [row for row in rows if not row["verified"]]:
        raise CheckFailed(f"the verifier found {len(wrong)} of {len(rows)} answers wrong; --json shows which")


@app.command(
    "commit",
    epilog=examples(
        "pipeline bench commit", "pipeline bench commit --items 100000 --chunks 5000,10000,20000 --runs 3 --peers pipeline,raw"
    ),
)
def commit(
    peers: Annotated[str, typer.Option(help="Who: pipeline, raw (bare set-based SQL with the same guarantees), or both.")] = "pipeline,raw",
    items: Annotated[int, typer.Option(min=1000, max=1_000_000, help="Decisions of the cycle.")] = 100_000,
    demands: Annotated[int, typer.Option(min=1, max=100, help="Resources each item wants.")] = 3,
    resources: Annotated[int, typer.Option(min=1, max=1_000_000, help="Resources there are.")] = 60_000,
    chunks: Annotated[str, typer.Option(help="Decisions a transaction.")] = "10000",
    runs: Annotated[int, typer.Option(min=1, help="How often, the peers in turn.")] = 1,
    as_json: console.Json = False,
) -> None:
    """Decisions a second of a commit, beside bare SQL; and what the rollback and the expiry of as many items take.

    The longest transaction is reported with each. All of it runs in one database, over the same items.
    """
    from pipeline_project.bench import commit as bench

    chosen = [name.strip() for name in peers.split(",")]
    if unknown := [name for name in chosen if name not in bench.PEERS]:
        raise UsageError(f"--peers: expected some of {', '.join(bench.PEERS)}, found {unknown[0]!r}")
    sizes = _listed("--chunks", chunks, int, "whole numbers from 1000 to 100000", lambda value: 1000 <= value <= 100_000)
    protocol = bench.Protocol(items=items, demands=demands, resources=resources, chunks=sizes, peers=chosen, runs=runs)
    with _simulation("bench_commit") as engine:
        rows = bench.compare(
            engine, protocol, lambda row: console.err.print(f"{row['peer']} {row['what']}: {row['per_second']:,} a second")
        )
        violated = engine.upkeep.check()
    console.emit({"results": rows}, as_json=as_json, human=[console.table("commit", rows)])
    if violated:
        raise CheckFailed(f"the invariants {', '.join(broken['name'] for broken in violated)} are broken after it")


def _repair(row: dict[str, Any]) -> str:
    cold = f"{row['percent_of_cold']:.3f} % of a cold solve in {row['seconds']:g} s"
    return f"{row['changed']:.2%} changed: {row['milliseconds']:.1f} ms, {cold}"


def _repair_table(rows: list[dict[str, Any]]) -> Any:
    lines = [
        {
            "family": row["family"],
            "n": row["candidates"],
            "changed": f"{row['changed']:.2%}",
            "seed": row["seed"],
            "seconds": f"{row['seconds']:g}",
            "ms": f"{row['milliseconds']:.1f}",
            "value": f"{row['percent_of_cold']:.3f} %",
            "bound": f"{100 * row['upper_bound'] / max(1, row['cold_upper_bound']):.3f} %",
            "verified": row["verified"],
        }
        for row in rows
    ]
    return console.table("repair; value and bound as shares of the cold solve's", lines)


Expected = tuple[str, Callable[[Any], bool]]
SIZES: Expected = ("whole numbers from 40 to 10000000", lambda value: 40 <= value <= 10_000_000)
BUDGETS: Expected = ("numbers above 0", lambda value: 0 < value < float("inf"))
SEEDS: Expected = ("whole numbers from 0 on", lambda value: 0 <= value < 2**31)
DEFAULT_FAMILIES = "uniform,quantities,clustered,regions,intervals,matching"


def _generated(families: str | None, sizes: str, draws: str) -> list[Any]:
    from pipeline_project.bench.families import FAMILIES
    from pipeline_project.bench.selection import generated

    names = list(FAMILIES) if families == "all" else [name.strip() for name in (families or DEFAULT_FAMILIES).split(",")]
    return generated(
        names,
        _listed("--sizes", sizes, int, *SIZES),
        _listed("--draws", draws, int, "whole numbers from 0 on", lambda value: value >= 0),
    )


def _peers(text: str) -> dict[str, str]:
    """Ours first, always."""
    from pipeline_project.bench.peers import EXTRA, PEERS

    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PEERS:
            raise UsageError(f"--peers: expected some of {', '.join(PEERS)}, found {name!r}")
        if name in EXTRA and find_spec(EXTRA[name]) is None:
            raise UsageError(
                f"--peers: {name} is not installed; `./pipeline exec -- python -m pip install {EXTRA[name]}` brings it, or leave it out"
            )
    return {name: PEERS[name] for name in dict.fromkeys(["pipeline", *names])}


def _listed(option: str, text: str, read: Callable[[str], Value], expected: str, holds: Callable[[Value], bool]) -> list[Value]:
    try:
        values = [read(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(holds(value) for value in values):
        raise UsageError(f"{option}: expected {expected} with commas between them, found {text!r}")
    return values


def _tell(row: dict[str, Any]) -> None:
    """A line for each trial on stderr, so that one who waits sees how far it is."""
    value = "no answer" if row["value"] is None else f"{row['value']:,}"
    reason = row["reason"] or (f"{row['late_value']:,}" if row["late_value"] is not None else "")
    why = "" if row["status"] == "ok" else f" ({row['status']}{': ' if reason else ''}{reason})"
    console.err.print(f"{row['instance']}  {row['seconds']:g} s  seed {row['seed']}  {row['peer']}: {value} in {row['used']:.2f} s{why}")


def _tables(rows: list[dict[str, Any]], summary: list[dict[str, Any]]) -> list[Any]:
    """One table per budget, then the families."""
    shown = []
    for seconds in dict.fromkeys(row["seconds"] for row in rows):
        lines = [
            {
                **{name: row[name] for name in ("instance", "n", "peer")},
                "value": f"{row['value']:,.0f}" if row["answers"] else "",
                "of_best": f"{row['percent']:.3f} %" if row["answers"] else "",
                "gap": "proven" if row["proven"] == row["seeds"] else f"{row['gap']:.3%}" if row["gap"] < 1 else "",
                "used_s": f"{row['used']:.2f}",
                "peak_mb": f"{row['peak_mb']:,.0f}",
                "status": row["status"],
            }
            for row in rows
            if row["seconds"] == seconds
        ]
        shown.append(console.table(f"{seconds:g} s, medians over seeds", lines))
    if summary:
        shares = ("ratio", "least", "with_late")
        lines = [{**row, **{name: f"{row[name]:.3f} %" for name in shares}, "gap": f"{row['gap']:.3%}"} for row in summary]
        shown.append(console.table("pipeline against the best peer", lines))
    return shown


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


@contextmanager
def _simulation(name: str) -> Iterator[Engine]:
    """A fresh database that is told the time, dropped afterwards."""
    from pipeline_project import settings
    from pipeline_project.bench.commit import BEGIN
    from pipeline_project.engine.engine import Engine
    from pipeline_project.store import schema
    from pipeline_project.store.database import Database

    chosen = settings.load()
    schema.drop(Database.find(name, chosen))
    database = Database.find(name, chosen)
    schema.create(database, simulation_start=BEGIN)
    try:
        with Engine.open(name, chosen) as engine:
            yield engine
    finally:
        schema.drop(database)


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
    """The engine on a new database, which is where the environment points meanwhile; both it and Dagster's beside it are dropped after."""
    from pipeline_project import settings
    from pipeline_project.engine.engine import Engine
    from pipeline_project.store import dagster_database, schema
    from pipeline_project.store.database import Database

    before = os.environ.get("PIPELINE_DATABASE_URL")
    os.environ["PIPELINE_DATABASE_URL"] = name
    chosen = settings.load()
    schema.drop(Database.find(name, chosen))
    database = Database.find(name, chosen)
    schema.create(database)
    try:
        with Engine.open(name, chosen) as engine:
            yield engine, chosen
    finally:
        dagster_database.drop(database, chosen)
        schema.drop(database)
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
