"""Competitors that nobody would want, planted; each runs in a process of its own."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np

from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.core.selection import Claim, Selection
from pipeline_project.solvers import portfolio
from pipeline_project.solvers.proposal import Proposal
from pipeline_project.solvers.solver import Budget


def _answer(problem: PackingProblem) -> Selection:
    return portfolio.solve(problem, Budget(steps=1), rivals=())


def crash(problem: PackingProblem, budget: Budget, seed: int, start: Int64) -> Selection:
    raise RuntimeError("planted")


def die(problem: PackingProblem, budget: Budget, seed: int, start: Int64) -> Selection:
    sys.exit(3)


def hang(problem: PackingProblem, budget: Budget, seed: int, start: Int64) -> Selection:
    while True:
        time.sleep(1)


def eat_memory(problem: PackingProblem, budget: Budget, seed: int, start: Int64) -> Selection:
    eaten = []
    while True:
        eaten.append(np.ones(10**8))


def overdraw(problem: PackingProblem, budget: Budget, seed: int, start: Int64) -> Selection:
    value = int(problem.weights.sum())
    return Selection(chosen=np.arange(problem.n), certificate=replace(_answer(problem).certificate, value=value, upper_bound=value))


def prove_too_much(problem: PackingProblem, budget: Budget, seed: int, start: Int64) -> Selection:
    nothing = Claim(solver="liar", candidates=np.arange(problem.n), bound=1)
    worst = np.zeros(0, np.int64)
    return Selection(chosen=worst, certificate=replace(_answer(problem).certificate, value=0, upper_bound=1, claims=(nothing,)))


def nobody(problem: PackingProblem, budget: Budget, seed: int, start: Int64) -> Proposal:
    return Proposal(chosen=np.array([-1, 10**9]), upper_bound=None, steps=0, reproducible=True)


def twice(problem: PackingProblem, budget: Budget, seed: int, start: Int64) -> Proposal:
    return Proposal(chosen=np.repeat(start, 2), upper_bound=None, steps=0, reproducible=True)


def nonsense(problem: PackingProblem, budget: Budget, seed: int, start: Int64) -> None:
    return None


def chatter(problem: PackingProblem, budget: Budget, seed: int, start: Int64) -> Proposal:
    print("what I print is nobody's answer")  # noqa: T201  # planted
    return Proposal(chosen=start, upper_bound=None, steps=5, reproducible=True)


def oracle(problem: PackingProblem, budget: Budget, seed: int, start: Int64) -> Selection:
    return portfolio.solve(problem, Budget(steps=300_000_000), rivals=())
