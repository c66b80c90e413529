"""`pipeline solve DIR`: select from a problem directory, without a database."""

from __future__ import annotations

import hashlib
import resource
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pipeline_project.cli import console
from pipeline_project.cli.arguments import examples
from pipeline_project.core.errors import CheckFailed, UsageError

if TYPE_CHECKING:  # solvers and files are imported when they are needed: --help must not wait for them
    from pipeline_project.core.packing import Int64
    from pipeline_project.store.problems import ProblemFiles

EXAMPLES = examples("pipeline solve problem --seconds 10", "pipeline solve problem-with-priorities --steps 500000000 --seed 7 --json")
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
    """Choose the most valuable candidates that fit, with a proof of how good they are.

    Further columns of candidates.parquet make levels: with priority (0 first) the weight of class 0 is all that matters, among equals that
    of class 1, and so on; weight_2, weight_3, ... decide what is then still equal. The answer says of each level how good it is.
    """
    with _progress():
        answer = _solve(directory, seconds, steps, seed)
    console.emit(answer, as_json=as_json, human=_for_a_person(answer))
    if not answer["verified"]:
        raise CheckFailed(f"{directory}: the verifier found this selection wrong; do not use it, and report the problem with its hash")


def _solve(directory: Path, seconds: float | None, steps: int | None, seed: int) -> dict[str, Any]:
    from pipeline_project.core.verification import verify
    from pipeline_project.solvers.lexicographic import solve as by_levels
    from pipeline_project.solvers.portfolio import DEFAULT_STEPS, solve_and_verify
    from pipeline_project.solvers.solver import STEPS_MAX, Budget
    from pipeline_project.store.problems import read_problem

    if seconds is not None and not 0 < seconds < float("inf"):
        raise UsageError(f"--seconds: expected more than 0, found {seconds}")
    begin = time.perf_counter()  # importing the solvers is the start of the process, not of the work
    files = read_problem(directory)
    left = None if seconds is None else max(1e-3, begin + seconds - time.perf_counter())
    work = steps if steps is not None else DEFAULT_STEPS if seconds is None else max(1, int(min(seconds * STEPS_PER_SECOND, STEPS_MAX)))
    budget = Budget(steps=work, seconds=left)
    if files.priority is None and not files.further:
        selection, violations = solve_and_verify(files.problem, budget, seed)
        quality = _quality(selection.certificate.value, selection.certificate.upper_bound, optimal=selection.certificate.optimal)
    else:
        levels, names = _levels(files)
        levelled = by_levels(files.problem, levels, budget, seed, names=names)
        selection, first = levelled.selection, levelled.levels[0]
        violations = verify(levelled.problem, selection)
        quality = _quality(first.value, first.upper_bound, optimal=levelled.optimal) | {"levels": [asdict(one) for one in levelled.levels]}
    certificate = selection.certificate
    selected = files.candidates[selection.chosen]
    return quality | {
        "selected": selected,
        "hash": hashlib.sha256(b"selected-1" + selected.astype("<i8").tobytes()).hexdigest(),
        "steps": certificate.steps,
        "verified": not violations,
        "reproducible": certificate.reproducible,
        "solvers": certificate.solvers,
        "seconds": round(time.perf_counter() - begin, 3),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def _levels(files: ProblemFiles) -> tuple[list[Int64], list[str]]:
    """What the columns beyond the weight make of it, and their names."""
    from pipeline_project.solvers.levels import classes_to_levels

    levels, names = [files.problem.weights], ["weight"]
    if files.priority is not None:
        levels = classes_to_levels(files.priority, files.problem.weights)
        names = [f"priority {p}" for p in sorted(set(files.priority.tolist()))]
    names += [f"weight_{i}" for i in range(2, 2 + len(files.further))]
    return [*levels, *files.further], names


def _quality(value: int, upper_bound: int, *, optimal: bool) -> dict[str, Any]:
    gap = (upper_bound - value) / upper_bound if upper_bound else 0.0
    return {"value": value, "upper_bound": upper_bound, "gap": gap, "optimal": optimal}


def _for_a_person(answer: dict[str, Any]) -> list[Any]:
    rows = [
        *_worth(answer),
        {"": "selected", "answer": f"{len(answer['selected']):,} candidates (--json lists them)"},
        {"": "decided by", "answer": ", ".join(f"{name} {count:,}" for name, count in answer["solvers"].items()) or "nobody"},
        {"": "verified", "answer": "yes" if answer["verified"] else "NO"},
        {"": "reproducible", "answer": "yes" if answer["reproducible"] else "no, the clock ended the search"},
        {"": "cost", "answer": f"{answer['seconds']:.2f} s, {answer['steps']:,} steps, {answer['peak_mb']:,.0f} MB"},
        {"": "hash", "answer": answer["hash"]},
    ]
    return [console.table("Selection", rows)]


def _worth(answer: dict[str, Any]) -> list[dict[str, str]]:
    if "levels" in answer:
        return [{"": level["name"], "answer": _level(level)} for level in answer["levels"]]
    return [
        {"": "value", "answer": f"{answer['value']:,}"},
        {"": "upper bound", "answer": f"{answer['upper_bound']:,}"},
        {"": "gap", "answer": "proven optimal" if answer["optimal"] else f"{answer['gap']:.4%}"},
    ]


def _level(level: dict[str, Any]) -> str:
    proof = "proven optimal" if level["optimal"] else f"at most {level['upper_bound']:,} with what the levels above have"
    return f"{level['value']:,}, {proof}"


def _progress() -> Progress:
    """A running clock on stderr while a person waits; nothing where nobody looks."""
    columns = SpinnerColumn(), TextColumn("selecting"), TimeElapsedColumn()
    progress = Progress(*columns, console=console.err, transient=True, disable=not console.err.is_terminal)
    progress.add_task("selecting", total=None)
    return progress
