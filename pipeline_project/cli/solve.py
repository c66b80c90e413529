"""`pipeline solve DIR`: select from a problem directory, without a database."""

from __future__ import annotations

import hashlib
import resource
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pipeline_project.cli import console
from pipeline_project.core.errors import CheckFailed, UsageError

STEPS_PER_SECOND = 10_000_000_000  # more than a core does: with --seconds alone the clock ends a search that would go on


def solve(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with candidates.parquet, demands.parquet and, optionally, resources.parquet.")
    ],
    seconds: Annotated[float | None, typer.Option(help="Wall-clock limit, reading the files included.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Work limit; alone, no clock decides anything. Default: 2e9, about ten seconds, when no --seconds.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds search elsewhere.")] = 0,
    as_json: console.Json = False,
) -> None:
    """Choose the most valuable candidates that fit, with a proof of how good they are."""
    with _progress():
        answer = _solve(directory, seconds, steps, seed)
    console.emit(answer, as_json=as_json, human=_for_a_person(answer))
    if not answer["verified"]:
        raise CheckFailed(f"{directory}: the verifier found this selection wrong; do not use it, and report the problem with its hash")


def _solve(directory: Path, seconds: float | None, steps: int | None, seed: int) -> dict[str, Any]:
    from pipeline_project.core.verification import verify
    from pipeline_project.solvers.portfolio import DEFAULT_STEPS
    from pipeline_project.solvers.portfolio import solve as select
    from pipeline_project.solvers.solver import Budget
    from pipeline_project.store.problems import read_problem

    if seconds is not None and not 0 < seconds < float("inf"):
        raise UsageError(f"--seconds: expected more than 0, found {seconds}")
    begin = time.perf_counter()  # importing the solvers is the start of the process, not of the work
    files = read_problem(directory)
    left = None if seconds is None else max(1e-3, begin + seconds - time.perf_counter())
    work = steps if steps is not None else DEFAULT_STEPS if seconds is None else max(1, int(seconds * STEPS_PER_SECOND))
    selection = select(files.problem, Budget(steps=work, seconds=left), seed)
    certificate = selection.certificate
    selected = files.candidates[selection.chosen]
    return {
        "value": certificate.value,
        "upper_bound": certificate.upper_bound,
        "gap": certificate.gap,
        "optimal": certificate.optimal,
        "selected": selected,
        "hash": hashlib.sha256(b"selected-1" + selected.astype("<i8").tobytes()).hexdigest(),
        "steps": certificate.steps,
        "verified": not verify(files.problem, selection),
        "reproducible": certificate.reproducible,
        "solvers": certificate.solvers,
        "seconds": round(time.perf_counter() - begin, 3),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def _for_a_person(answer: dict[str, Any]) -> list[Any]:
    rows = [
        {"": "value", "answer": f"{answer['value']:,}"},
        {"": "upper bound", "answer": f"{answer['upper_bound']:,}"},
        {"": "gap", "answer": "proven optimal" if answer["optimal"] else f"{answer['gap']:.4%}"},
        {"": "selected", "answer": f"{len(answer['selected']):,} candidates (--json lists them)"},
        {"": "decided by", "answer": ", ".join(f"{name} {count:,}" for name, count in answer["solvers"].items()) or "nobody"},
        {"": "verified", "answer": "yes" if answer["verified"] else "NO"},
        {"": "reproducible", "answer": "yes" if answer["reproducible"] else "no, the clock ended the search"},
        {"": "cost", "answer": f"{answer['seconds']:.2f} s, {answer['steps']:,} steps, {answer['peak_mb']:,.0f} MB"},
        {"": "hash", "answer": answer["hash"]},
    ]
    return [console.table("Selection", rows)]


def _progress() -> Progress:
    """A running clock on stderr while a person waits; nothing where nobody looks."""
    columns = SpinnerColumn(), TextColumn("selecting"), TimeElapsedColumn()
    progress = Progress(*columns, console=console.err, transient=True, disable=not console.err.is_terminal)
    progress.add_task("selecting", total=None)
    return progress
