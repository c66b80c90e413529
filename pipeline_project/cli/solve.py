"""`pipeline solve DIR`: select from a problem directory, without a database."""

from __future__ import annotations

import hashlib
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pipeline_project.cli import console
from pipeline_project.cli.arguments import examples
from pipeline_project.core.errors import CheckFailed, UsageError

if TYPE_CHECKING:  # solvers and files are imported when they are needed: --help must not wait for them
    from pipeline_project.core.packing import Int64
    from pipeline_project.core.selection import Selection
    from pipeline_project.solvers.solver import Budget
    from pipeline_project.store.problems import ProblemFiles

EXAMPLES = examples(
    "pipeline solve problem --seconds 10 --save answer.json",
    "pipeline solve changed-problem --start answer.json --repair --save repaired.json",
    "pipeline solve changed-problem --start answer.json --seconds 10",
    "pipeline solve problem-with-priorities --steps 500000000 --seed 7 --json",
)
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
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the whole answer, proofs included, for anyone to check and for --start.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Go on from an answer that --save wrote, to this problem or an earlier state of it.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="With --start: only work around what changed, in milliseconds, then stop.")
    ] = False,
    as_json: console.Json = False,
) -> None:
    """Choose the most valuable candidates that fit, with a proof of how good they are.

    Further columns of candidates.parquet make levels: with priority (0 first) the weight of class 0 is all that matters, among equals that
    of class 1, and so on; weight_2, weight_3, ... decide what is then still equal. The answer says of each level how good it is.
    """
    request = Request(directory=directory, seconds=seconds, steps=steps, seed=seed, save=save, start=start, repair=repair)
    request.check()
    with _progress():
        answer = _solve(request)
    console.emit(answer, as_json=as_json, human=_for_a_person(answer))
    if not answer["verified"]:
        raise CheckFailed(f"{directory}: the verifier found this selection wrong; do not use it, and report the problem with its hash")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The command line, as options name it."""

    directory: Path
    seconds: float | None
    steps: int | None
    seed: int
    save: Path | None
    start: Path | None
    repair: bool

    def check(self) -> None:
        """Before any work: an answer that cannot be saved should not be looked for."""
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise UsageError(f"--seconds: expected a finite time, more than 0, found {self.seconds}")
        if self.repair and self.start is None:
            raise UsageError("--repair: expected --start FILE beside it, found none; a repair begins with an earlier answer")
        if self.save is not None and not self.save.absolute().parent.is_dir():
            raise UsageError(f"--save: expected a file in a folder that exists, found {self.save}")

    def check_levels(self) -> None:
        option = "--start" if self.start is not None else "--save"
        if self.start is not None or self.save is not None:
            raise UsageError(f"{option}: expected a problem with weights alone, found objective levels (priority, weight_2); leave it out")


def _solve(request: Request) -> dict[str, Any]:
    from pipeline_project.core.verification import verify
    from pipeline_project.solvers.lexicographic import solve as by_levels
    from pipeline_project.solvers.portfolio import solve_and_verify
    from pipeline_project.store.problems import read_problem

    begin = time.perf_counter()  # importing the solvers is the start of the process, not of the work
    files = read_problem(request.directory)
    if files.priority is not None or files.further:
        request.check_levels()
        levels, names = _levels(files)
        found = by_levels(files.problem, levels, _budget(request, begin), request.seed, names=names)
        selection, first = found.selection, found.levels[0]
        violations = verify(found.problem, selection)
        quality = _quality(first.value, first.upper_bound, optimal=found.optimal) | {"levels": [asdict(one) for one in found.levels]}
    else:
        told: dict[str, Any] = {}
        if request.start is None:
            selection, violations = solve_and_verify(files.problem, _budget(request, begin), request.seed)
        else:
            selection, told = _continued(files, request, begin)
            violations = verify(files.problem, selection)
        certificate = selection.certificate
        quality = _quality(certificate.value, certificate.upper_bound, optimal=certificate.optimal) | told
    if request.save is not None and not violations:
        _save(request.save, files, selection)
    selected = files.candidates[selection.chosen]
    return quality | {
        "selected": selected,
        "hash": hashlib.sha256(b"selected-1" + selected.astype("<i8").tobytes()).hexdigest(),
        "steps": selection.certificate.steps,
        "verified": not violations,
        "reproducible": selection.certificate.reproducible,
        "solvers": selection.certificate.solvers,
        "seconds": round(time.perf_counter() - begin, 3),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def _budget(request: Request, begin: float) -> Budget:
    """What is left of it now."""
    from pipeline_project.solvers.portfolio import DEFAULT_STEPS
    from pipeline_project.solvers.solver import STEPS_MAX, Budget

    seconds = request.seconds
    left = None if seconds is None else max(1e-3, begin + seconds - time.perf_counter())
    if request.steps is not None:
        return Budget(steps=request.steps, seconds=left)
    return Budget(steps=DEFAULT_STEPS if seconds is None else max(1, int(min(seconds * STEPS_PER_SECOND, STEPS_MAX))), seconds=left)


def _continued(files: ProblemFiles, request: Request, begin: float) -> tuple[Selection, dict[str, Any]]:
    """From the answer that --start names; and what became of it."""
    from pipeline_project.core.changes import Change, Identities
    from pipeline_project.solvers.repair import repair
    from pipeline_project.solvers.resume import carried, resume
    from pipeline_project.store.answers import read_answer

    assert request.start is not None
    earlier = read_answer(request.start)
    change = Change.between(earlier.identities, Identities.of(files.problem, files.candidates, files.resources))
    start = carried(earlier.selection, earlier.left, change, files.problem)
    work = repair if request.repair else resume
    selection = work(files.problem, start, change.changed, _budget(request, begin), request.seed)
    return selection, {
        "start": {
            "new": len(change.new),
            "altered": len(change.altered),
            "gone": change.gone,
            "selected": len(earlier.selection.chosen),
            "kept": len(set(start.chosen.tolist()) & set(selection.chosen.tolist())),
        }
    }


def _save(path: Path, files: ProblemFiles, selection: Selection) -> None:
    from pipeline_project.core.changes import Identities
    from pipeline_project.store.answers import SavedAnswer, write_answer

    identities = Identities.of(files.problem, files.candidates, files.resources)
    write_answer(path, SavedAnswer(selection=selection, identities=identities, left=files.problem.left_by(selection.chosen)))


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
        *_beside_the_start(answer),
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


def _beside_the_start(answer: dict[str, Any]) -> list[dict[str, str]]:
    if "start" not in answer:
        return []
    start = answer["start"]
    return [
        {"": "changed", "answer": f"{start['new']:,} new, {start['altered']:,} altered, {start['gone']:,} gone"},
        {"": "kept", "answer": f"{start['kept']:,} of the {start['selected']:,} selected before"},
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
