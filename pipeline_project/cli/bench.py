"""`pipeline bench selection`, `repair`: solvers beside their peers; its neighbours `bench_*` add what needs a database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from pipeline_project.cli import console
from pipeline_project.cli.arguments import examples
from pipeline_project.core.errors import CheckFailed, UsageError

Value = TypeVar("Value")

app = typer.Typer()


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
        seconds=listed("--seconds", seconds, float, *BUDGETS),
        seeds=listed("--seeds", seeds, int, *SEEDS),
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
    from pipeline_project.bench.repair import Protocol, compare

    protocol = Protocol(
        families=_families(families),
        sizes=listed("--sizes", sizes, int, *SIZES),
        shares=listed("--changed", changed, float, "shares above 0 and up to 1", lambda value: 0 < value <= 1),
        seconds=listed("--seconds", seconds, float, *BUDGETS),
        seeds=listed("--seeds", seeds, int, *SEEDS),
    )
    rows = compare(protocol, lambda row: console.err.print(f"{row['family']}  {row['candidates']:,}  seed {row['seed']}  {_repair(row)}"))
    console.emit({"results": rows}, as_json=as_json, human=[_repair_table(rows)])
    if wrong := [row for row in rows if not row["verified"]]:
        raise CheckFailed(f"the verifier found {len(wrong)} of {len(rows)} answers wrong; --json shows which")


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
    from pipeline_project.bench.selection import generated

    return generated(
        _families(families or DEFAULT_FAMILIES),
        listed("--sizes", sizes, int, *SIZES),
        listed("--draws", draws, int, "whole numbers from 0 on", lambda value: value >= 0),
    )


def _families(text: str) -> list[str]:
    from pipeline_project.bench.families import FAMILIES

    return list(FAMILIES) if text == "all" else some_of("--families", text, FAMILIES)


def _peers(text: str) -> dict[str, str]:
    """Ours first, always."""
    from pipeline_project.bench.peers import EXTRA, PEERS

    names = some_of("--peers", text, PEERS)
    refuse_missing(names, EXTRA)
    return {name: PEERS[name] for name in dict.fromkeys(["pipeline", *names])}


def some_of(option: str, text: str, known: Collection[str]) -> list[str]:
    """Names with commas between them, each once. Raises UsageError."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    strangers = [name for name in names if name not in known]
    if strangers or not names:
        raise UsageError(f"{option}: expected some of {', '.join(known)}, found {(strangers or [text])[0]!r}")
    return names


def refuse_missing(peers: Iterable[str], modules: Mapping[str, str]) -> None:
    """Raises UsageError for a peer whose module is not installed."""
    if missing := [name for name in peers if name in modules and find_spec(modules[name]) is None]:
        raise UsageError(f"--peers: {missing[0]} is not installed: remove .venv and run ./pipeline, whose lock has it, or leave it out")


def listed(option: str, text: str, read: Callable[[str], Value], expected: str, holds: Callable[[Value], bool]) -> list[Value]:
    """Values with commas between them. Raises UsageError."""
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
