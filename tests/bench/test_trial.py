"""Whatever a peer does, it is seen from outside, ends in time, and is not believed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline_project.bench.families import FAMILIES, write_problem
from pipeline_project.bench.selection import judged
from pipeline_project.bench.trial import Limits, Trial, answer, run
from pipeline_project.core.packing import PackingProblem
from pipeline_project.store.problems import read_problem
from tests.solvers.packing_problems import problem_of

PLANTED = """
import os, time
import numpy as np
from pipeline_project.bench.trial import Cannot, Peer, answer

def hangs(problem, turn):
    turn.report(answer(problem, np.array([1]), None, "hangs"))
    time.sleep(60)

def lies(problem, turn):
    return answer(problem, np.arange(problem.n), None, "lies")

def eats(problem, turn):
    eaten = []
    while True:
        eaten.append(np.ones(1_000_000))
        time.sleep(0.001)

def dies(problem, turn):
    os.write(2, b"out of ideas\\n")
    os.abort()

def raises(problem, turn):
    raise ValueError("no such thing")

def late(problem, turn):
    time.sleep(turn.left() + 0.6)
    return answer(problem, np.array([1]), None, "late")

def declines(problem, turn):
    raise Cannot("not on a Tuesday")

def garbles(problem, turn):
    return open

def counts(problem, turn):
    assert len(os.sched_getaffinity(0)) <= turn.threads
    assert 0 < turn.left() < 5
    return answer(problem, np.array([0]), 3.0000001, "counts")

globals().update({name.upper(): Peer(name=name, solve=solve) for name, solve in list(globals().items()) if callable(solve)})
"""
LIMITS = Limits(threads=1, memory_mb=400, grace=2, late_s=0.2)


@pytest.fixture(scope="session")
def problem() -> PackingProblem:
    """Two that exclude each other."""
    return problem_of([2, 3], [(0, 0, 1), (1, 0, 1)], [1])


@pytest.fixture(scope="session")
def directory(problem: PackingProblem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("problem")
    write_problem(problem, folder)
    (folder / "planted.py").write_text(PLANTED)
    return folder


def trial_of(peer: str, directory: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> Trial:
    monkeypatch.setenv("PYTHONPATH", str(directory))
    trial = run(f"planted:{peer.upper()}", directory, seconds, 1, LIMITS)
    left = [process for process in Path("/proc").glob("[0-9]*") if f"planted:{peer.upper()}" in _command(process)]
    assert left == [], f"{peer} lives on"
    return trial


@pytest.mark.parametrize(
    ("peer", "status", "reason", "value"),
    [
        ("hangs", "killed", "no end after", 3),  # what it told before still counts
        ("lies", "infeasible", "resource 0", None),
        ("eats", "out of memory", "more than 400 MB", None),
        ("dies", "crashed", "out of ideas", None),
        ("raises", "crashed", "ValueError: no such thing", None),
        ("late", "late", "", None),
        ("declines", "cannot", "not on a Tuesday", None),
        ("garbles", "crashed", "answered with a builtin_function_or_method", None),
        ("counts", "ok", "", 2),
    ],
)
def test_a_peer_gets_what_it_deserves(
    peer: str, status: str, reason: str, value: int | None, problem: PackingProblem, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 5 if peer in {"eats", "counts"} else 2  # what answers at once has four before it is killed, however busy the machine
    trial = trial_of(peer, directory, monkeypatch, seconds)
    row = judged(problem, trial, LIMITS.counts_until(seconds))
    assert (row["status"], row["value"]) == (status, value)
    assert reason in row["reason"]
    assert row["used"] < LIMITS.killed_at(seconds) + 1


def test_a_peer_that_is_not_there_says_so(directory: Path) -> None:
    trial = run("planted_elsewhere:NOBODY", directory, 0.2, 1, LIMITS)
    assert trial.status == "crashed"
    assert "planted_elsewhere" in trial.reason


def test_an_answer_that_came_too_late_does_not_count(problem: PackingProblem) -> None:
    found = answer(problem, np.array([1]), None, "peer")
    row = judged(problem, Trial(status="late", answers=[(0.1, answer(problem, np.array([0]), None, "peer")), (9.0, found)]), 1.0)
    assert (row["status"], row["value"], row["late_value"]) == ("late", 2, 3)


def test_a_value_that_is_not_the_sum_of_the_weights_is_not_believed(problem: PackingProblem) -> None:
    honest = answer(problem, np.array([1]), None, "peer")
    boast = replace(honest, certificate=replace(honest.certificate, value=5))
    row = judged(problem, Trial(status="ok", answers=[(0.1, boast)]), 1.0)
    assert (row["status"], row["value"], row["upper_bound"]) == ("infeasible", None, None)


@pytest.mark.parametrize(
    ("bound", "whole"), [(4.0, 4), (3.9999999999, 4), (4.0000001, 4), (4.7, 4), (float("inf"), 5), (None, 5), (1e300, 5), (0.0, 3)]
)
def test_bounds_are_whole_and_lose_nothing_to_rounding(problem: PackingProblem, bound: float | None, whole: int) -> None:
    assert answer(problem, np.array([1]), bound, "peer").certificate.upper_bound == whole


def test_components_of_a_family_are_solved_and_proven_through_a_trial(tmp_path: Path) -> None:
    write_problem(FAMILIES["clustered"](80, 1), tmp_path)
    problem = read_problem(tmp_path).problem
    row = judged(problem, run("pipeline_project.bench.peers:PIPELINE", tmp_path, 5, 1, Limits()), 6)
    assert (row["status"], row["reason"], row["proven"]) == ("ok", "", True)
    assert row["peak_mb"] > 50


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""
