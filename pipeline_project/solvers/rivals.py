"""Competitors at work beside our search, each in a process of its own: it may be wrong, late, out of memory or dead, never in the way."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.solvers.cliques import with_cliques
from pipeline_project.solvers.competitors import Competitor
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.proposal import Proposal, Request
from pipeline_project.solvers.standing import Standing
from pipeline_project.solvers.stranger import receive, send

log = logging.getLogger(__name__)

START_SECONDS: Final = 0.5  # until a process has started and imported its solver
GRACE_SECONDS: Final = 0.05  # that an answer may come after the clock
PATIENCE_SECONDS: Final = 60.0  # where no clock limits the whole, beyond what the slowest machine would need for the steps
STEPS_PER_SECOND_AT_LEAST: Final = 50_000_000
ROWS_PER_SECOND: Final = 500_000  # of a component written out, its pairs merged to cliques
AHEAD_OF_SEARCH: Final = 2.0  # by how much a gap may exceed what a competitor wants, before our search has begun
TASKS_MAX: Final = 64  # components beyond are so many that none of them matters


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One component to be solved: which, the problem, and the positions of what is chosen so far."""

    component: int
    problem: PackingProblem
    hint: Int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a competitor proposes for a component: feasible, worth `value`, and, if its word is trusted, the most that any could be."""

    component: int
    chosen: Int64
    value: int
    bound: int | None


def tasks_for(competitor: Competitor, standing: Standing, meter: Meter) -> list[Task]:
    """The open components that it accepts, the small ones first, as many as there is time to write out."""
    found: list[Task] = []
    for g in standing.open().tolist():
        if _too_far(competitor, standing, g, AHEAD_OF_SEARCH * competitor.gap_max):
            continue
        part = standing.part(g).inc if standing.parts.sizes[g] <= competitor.candidates_max and len(found) < TASKS_MAX else None
        if part is None or meter.at_most(part.k, ROWS_PER_SECOND) < part.k:
            break
        problem = with_cliques(part).problem()
        if competitor.accepts(problem):
            found.append(Task(component=g, problem=problem, hint=np.zeros(0, np.int64)))
    return found


def still_open(competitor: Competitor, tasks: Sequence[Task], standing: Standing) -> list[Task]:
    """Those whose component is still open and not too far from its bound, with what is chosen there now as a hint."""
    todo = set(standing.open().tolist())
    return [
        replace(task, hint=np.flatnonzero(standing.chosen[standing.parts.group(task.component)]))
        for task in tasks
        if task.component in todo and not _too_far(competitor, standing, task.component, competitor.gap_max)
    ]


def _too_far(competitor: Competitor, standing: Standing, g: int, gap_max: float) -> bool:
    return bool(standing.parts.sizes[g] > competitor.small and standing.gap(g) > gap_max)


class Rival:
    """One competitor, one process, its tasks one after the other. Leave the `with` block to end it."""

    def __init__(self, competitor: Competitor, tasks: Sequence[Task], meter: Meter, seed: int) -> None:
        self.answers: list[Answer] = []
        self._competitor, self._tasks, self._meter, self._seed = competitor, tasks, meter, seed
        self._stopped = False

    def __enter__(self) -> Rival:
        command = [sys.executable, "-m", "pipeline_project.solvers.stranger", self._competitor.solver, str(self._competitor.memory_max)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._thread = ThreadPoolExecutor(1)
        self._work = self._thread.submit(self._ask_all)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._process.kill()
        self._thread.shutdown()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                stream.close()  # type: ignore[union-attr]  # both are pipes

    @property
    def done(self) -> bool:
        return self._work.done()

    @property
    def closed(self) -> set[int]:
        """The components that it has proven optimal."""
        return {answer.component for answer in self.answers if answer.value == answer.bound}

    def wait_for(self, meter: Meter) -> None:
        """Until it is done; or, by the clock, as long as our own search took; or until it must be hanging."""
        left = self._meter.seconds_left
        if left is None:
            patience = PATIENCE_SECONDS + self._meter.limit / STEPS_PER_SECOND_AT_LEAST
        else:
            patience = min(left + GRACE_SECONDS, max(START_SECONDS, self._meter.seconds_gone))
        wait([self._work], timeout=max(0.0, patience))
        meter.struck |= not self.done

    def hand_over(self, standing: Standing, meter: Meter) -> None:
        """Let it count: its answers, its steps, and whether a clock ended its search."""
        for answer in list(self.answers):
            standing.offer_part(answer.component, answer.chosen, self._competitor.name)
            if answer.bound is not None:
                standing.claim(np.array([answer.component]), np.array([answer.bound]), self._competitor.name)
        meter.close(self._meter)

    def _ask_all(self) -> None:
        sizes = np.array([task.problem.n for task in self._tasks])
        for i, task in enumerate(self._tasks):
            turn = self._meter.phase(max(0.1, float(sizes[i] / sizes[i:].sum())))
            budget = turn.budget(START_SECONDS if i == 0 else 0.0, of_time=0.95)
            if budget is None or budget.steps <= self._competitor.steps_to_begin(task.problem):
                continue
            try:
                proposal = self._ask(Request(problem=task.problem, budget=budget, seed=self._seed, start=task.hint))
            except (OSError, ValueError, KeyError) as broken:
                if not self._stopped:
                    log.warning(
                        "solver %s gave no answer on a component of %d candidates: %s", self._competitor.name, task.problem.n, broken
                    )
                return
            turn.spend(proposal.steps)
            turn.struck |= not proposal.reproducible
            self._meter.close(turn)
            self._take(task, proposal)

    def _ask(self, request: Request) -> Proposal:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        send(self._process.stdin, request.to_bytes())
        message = receive(self._process.stdout)
        if not message:
            raise OSError("its process ended")
        return Proposal.from_bytes(message)

    def _take(self, task: Task, proposal: Proposal) -> None:
        wrong = _wrong(task.problem, proposal.chosen)
        if wrong:
            log.warning("solver %s lied about a component of %d candidates: %s", self._competitor.name, task.problem.n, wrong)
            return
        value = int(task.problem.weights[proposal.chosen].sum())
        bound = proposal.upper_bound if self._competitor.bound_trusted else None
        self.answers.append(Answer(component=task.component, chosen=proposal.chosen, value=value, bound=bound))


def _wrong(problem: PackingProblem, chosen: Int64) -> str:
    """What is wrong with it, if anything."""
    if chosen.ndim != 1 or chosen.dtype != np.int64 or (len(chosen) and not 0 <= chosen[0] <= chosen[-1] < problem.n):
        return f"expected candidates in 0..{problem.n - 1}"
    if (np.diff(chosen) <= 0).any():
        return "expected ascending numbers, none twice"
    left = problem.left_by(chosen)
    return f"resource {int(np.argmin(left))} is overdrawn by {-int(left.min())}" if len(left) and left.min() < 0 else ""
