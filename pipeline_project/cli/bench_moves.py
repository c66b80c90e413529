"""`pipeline bench claim`, `commit`: moves of items, beside those of others and beside bare SQL."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline_project.cli import console
from pipeline_project.cli.arguments import examples
from pipeline_project.cli.bench import listed, refuse_missing, some_of
from pipeline_project.core.errors import CheckFailed

app = typer.Typer()


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

    names = some_of("--peers", peers, bench.PEERS)
    refuse_missing(names, bench.EXTRA)
    protocol = bench.Protocol(
        peers=names,
        workers=listed("--workers", workers, int, "whole numbers from 1 to 64", lambda value: 1 <= value <= 64),
        batches=listed("--batch", batch, int, "whole numbers from 1 to 10000", lambda value: 1 <= value <= 10_000),
        items=items,
        snapshot_s=snapshot,
    )
    report = bench.compare(protocol, settings.load(), lambda row: console.err.print(" ".join(f"{k}={v}" for k, v in row.items())))
    shown = ("peer", "batch", "workers", "per_second", "items", "seconds", "snapshot_s", "claim_p50_ms", "claim_p99_ms")
    console.emit(report, as_json=as_json, human=[console.table("claim and complete", report["results"], shown), str(report["server"])])
    if report["invariants_violated"]:
        raise CheckFailed(f"{report['invariants_violated']} invariants are violated after the runs")


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
    from pipeline_project import settings
    from pipeline_project.bench import commit as bench
    from pipeline_project.bench.scratch import scratch

    chosen = some_of("--peers", peers, bench.PEERS)
    sizes = listed("--chunks", chunks, int, "whole numbers from 1000 to 100000", lambda value: 1000 <= value <= 100_000)
    protocol = bench.Protocol(items=items, demands=demands, resources=resources, chunks=sizes, peers=chosen, runs=runs)
    with scratch("bench_commit", settings.load(), simulation_start=bench.BEGIN) as engine:
        rows = bench.compare(
            engine, protocol, lambda row: console.err.print(f"{row['peer']} {row['what']}: {row['per_second']:,} a second")
        )
        violated = engine.upkeep.check()
    console.emit({"results": rows}, as_json=as_json, human=[console.table("commit", rows)])
    if violated:
        raise CheckFailed(f"the invariants {', '.join(broken['name'] for broken in violated)} are broken after it")
