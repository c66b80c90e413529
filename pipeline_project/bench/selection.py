"""Peers side by side on the same problems: equal wall time, equal cores, several seeds, every answer verified by the checker."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, Final

from pipeline_project.bench.families import FAMILIES, write_problem
from pipeline_project.bench.trial import Limits, Trial, run
from pipeline_project.core.errors import UsageError
from pipeline_project.core.packing import PackingProblem
from pipeline_project.core.selection import Certificate
from pipeline_project.core.verification import verify
from pipeline_project.store.problems import read_problem

OURS: Final = "pipeline"
LIMITS: Final = Limits()

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A problem directory; made in a moment where it is generated. family: what summaries put together."""

    name: str
    family: str
    directory: Path | None = None
    size: int = 0
    seed: int = 0

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        if self.directory is not None:
            yield self.directory
            return
        with tempfile.TemporaryDirectory() as folder:
            write_problem(FAMILIES[self.family](self.size, self.seed), Path(folder))
            yield Path(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What every instance is put through. peers: name -> where a trial finds it (module:NAME)."""

    peers: dict[str, str]
    seconds: Sequence[float]
    seeds: Sequence[int]
    limits: Limits = LIMITS


def generated(families: Iterable[str], sizes: Iterable[int], draws: Iterable[int] = (1,)) -> list[Instance]:
    """Instances of families by name; draws are the generators' seeds."""
    return [
        Instance(name=f"{family}-{size}-{seed}", family=family, size=size, seed=seed)
        for family, size, seed in product(families, sizes, draws)
    ]


def stored(directory: Path) -> list[Instance]:
    """The problem directory itself, or all that are in it; each is a family of its own."""
    within = [directory] if _is_problem(directory) else sorted(filter(_is_problem, directory.iterdir())) if directory.is_dir() else []
    if not within:
        raise UsageError(f"--instances: expected a problem directory or a folder of them, found none in {directory}")
    return [Instance(name=path.resolve().name, family=path.resolve().name, directory=path) for path in within]


def compare(instances: Iterable[Instance], protocol: Protocol, progress: Callable[[Row], None] = lambda _: None) -> list[Row]:
    """One row for each instance, budget, seed and peer, in turn; the peers of one seed follow each other."""
    rows: list[Row] = []
    for instance in instances:
        with instance.on_disk() as directory:
            problem = read_problem(directory).problem
            known: list[Row] = []
            for seconds in protocol.seconds:
                for seed in protocol.seeds:
                    for name, peer in protocol.peers.items():
                        trial = run(peer, directory, seconds, seed, protocol.limits)
                        row = {"instance": instance.name, "family": instance.family, "n": problem.n, "k": len(problem.resources)}
                        row |= {"peer": name, "seconds": seconds, "seed": seed} | judged(
                            problem, trial, protocol.limits.counts_until(seconds)
                        )
                        known.append(row)
                        progress(row)
            rows += placed(known)
    return rows


def judged(problem: PackingProblem, trial: Trial, latest: float) -> Row:
    """What a trial is worth: the best answer that came in time and that the checker finds nothing wrong with.

    late_value  what it had when it came too late; it does not count, but a reader may want to know what was missed
    """
    status, reason = trial.status, trial.reason
    certificates: dict[bool, list[Certificate]] = {True: [], False: []}
    for seconds, selection in trial.answers:
        violations = verify(problem, selection)
        if violations:
            status, reason = "infeasible", str(violations[0])
        else:
            certificates[seconds <= latest].append(selection.certificate)
    in_time = [] if status == "infeasible" else certificates[True]  # who lies once is not believed the next time
    value = max((certificate.value for certificate in in_time), default=None)
    bound = min((certificate.upper_bound for certificate in in_time), default=None)
    return {
        "used": round(trial.used, 3),
        "value": value,
        "late_value": max((certificate.value for certificate in certificates[False]), default=None),
        "upper_bound": bound,
        "proven": value is not None and value == bound,
        "peak_mb": round(trial.peak_mb, 1),
        "status": status,
        "reason": reason,
    }


def placed(rows: list[Row]) -> list[Row]:
    """The rows of one instance, each against the best value and the best bound that anybody found at any budget.

    gap            (its own bound - value) / its own bound
    percent        of the best value
    from_bound     (best bound - value) / best bound
    A bound that somebody's value exceeds is taken away, and the row says that it is refuted.
    """
    best = max((row["value"] for row in rows if row["value"] is not None), default=None)
    for row in rows:
        if best is not None and row["upper_bound"] is not None and row["upper_bound"] < best:
            row |= {"status": "refuted", "reason": f"claims that nothing is worth more than {row['upper_bound']}, but {best} is"}
            row |= {"upper_bound": None, "proven": False}
    least = min((row["upper_bound"] for row in rows if row["upper_bound"] is not None), default=None)
    for row in rows:
        row["gap"] = _below(row["value"], row["upper_bound"])
        row["from_bound"] = _below(row["value"], least)
        row["percent"] = None if row["value"] is None or not best else 100 * row["value"] / best
    return rows


def medians(rows: list[Row]) -> list[Row]:
    """One row for each budget, instance and peer: medians over the seeds. A seed without an answer counts as the value 0."""
    return [
        {
            "instance": name,
            "family": group[0]["family"],
            "n": group[0]["n"],
            "peer": peer,
            "seconds": seconds,
            "value": median(row["value"] or 0 for row in group),
            "late_value": median(max(row["value"] or 0, row["late_value"] or 0) for row in group),
            "percent": median(row["percent"] or 0.0 for row in group),
            "gap": median(1.0 if row["gap"] is None else row["gap"] for row in group),
            "from_bound": median(1.0 if row["from_bound"] is None else row["from_bound"] for row in group),
            "proven": sum(row["proven"] for row in group),
            "answers": sum(row["value"] is not None for row in group),
            "seeds": len(group),
            "used": median(row["used"] for row in group),
            "peak_mb": max(row["peak_mb"] for row in group),
            "status": ", ".join(sorted({row["status"] for row in group})),
        }
        for (seconds, name, peer), group in _grouped(rows, "seconds", "instance", "peer").items()
    ]


def against_best(rows: list[Row]) -> list[Row]:
    """One row for each budget and family: our median against the best peer's, over its instances.

    ratio, least   median and worst of ours in percent of theirs
    with_late      the median when what came too late counted as well, theirs and not ours
    ahead, level   how many instances
    """
    found = []
    for (seconds, family), group in _grouped(medians(rows), "seconds", "family").items():
        ratios, with_late, winners = [], [], []
        for _, same in _grouped(group, "instance").items():
            ours = next((row for row in same if row["peer"] == OURS), None)
            others = [row for row in same if row["peer"] != OURS]
            if ours is None or not others:
                continue
            best = max(others, key=lambda row: row["value"])
            winners.append(best["peer"])
            ratios.append(_percent(ours["value"], best["value"]))
            with_late.append(_percent(ours["value"], max(row["late_value"] for row in others)))
        if ratios:
            ours_in_all = [row for row in group if row["peer"] == OURS]
            found.append(
                {
                    "seconds": seconds,
                    "family": family,
                    "instances": len(ratios),
                    "best_peer": max(set(winners), key=winners.count),
                    "ratio": median(ratios),
                    "least": min(ratios),
                    "with_late": median(with_late),
                    "ahead": sum(ratio > 100 for ratio in ratios),
                    "level": sum(ratio == 100 for ratio in ratios),
                    "gap": median(row["gap"] for row in ours_in_all),
                    "proven": sum(row["proven"] == row["seeds"] for row in ours_in_all),
                }
            )
    return found


def _grouped(rows: Iterable[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def _percent(value: float, of: float) -> float:
    return 100 * value / of if of else 100.0


def _below(value: int | None, bound: int | None) -> float | None:
    if value is None or bound is None:
        return None
    return (bound - value) / bound if bound else 0.0


def _is_problem(path: Path) -> bool:
    return (path / "candidates.parquet").is_file()
