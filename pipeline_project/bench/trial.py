"""One peer, one problem, one budget: in a process of its own that is watched from outside and killed when it does not end.

The clock starts when the process has imported all it needs, and runs over everything from reading the problem on.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from pipeline_project.bench.memory import resident_mb
from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.core.selection import Certificate, Claim, Selection

START_S: Final = 300.0
"""For imports; the first of all may have kernels to compile."""
WATCH_S: Final = 0.02


class Cannot(Exception):
    """This peer is not made for this problem; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a trial may take, the same for every peer.

    threads    cores that the process may run on
    memory_mb  resident memory of the process and its children
    late       answers within seconds * (1 + late) + late_s count
    grace      after so many times the budget (and grace_s at least) the process is killed
    """

    threads: int = 2
    memory_mb: int = 12_000
    late: float = 0.1
    late_s: float = 0.2
    grace: float = 1.5
    grace_s: float = 2.0

    def counts_until(self, seconds: float) -> float:
        return seconds * (1 + self.late) + self.late_s

    def killed_at(self, seconds: float) -> float:
        return max(seconds * self.grace, seconds + self.grace_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a peer is told. deadline: of time.monotonic(), which all processes share. report: an answer before the last one."""

    deadline: float
    seed: int
    threads: int
    report: Callable[[Selection], None]

    def left(self) -> float:
        """Seconds until the deadline, a millisecond at least."""
        return max(1e-3, self.deadline - time.monotonic())


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """solve may raise Cannot. imports: what is imported before the clock starts. package: on PyPI, where it is not one of ours."""

    name: str
    solve: Callable[[PackingProblem, Turn], Selection]
    imports: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Trial:
    """What was seen from outside. answers: (seconds since the clock started, answer) as they came; nothing in them is verified."""

    status: str = "crashed"
    reason: str = ""
    used: float = 0.0
    peak_mb: float = 0.0
    answers: list[tuple[float, Selection]] = field(default_factory=list)


def answer(problem: PackingProblem, chosen: Int64, bound: float | None, solver: str) -> Selection:
    """A peer's answer in our form: its bound is a claim about all candidates, without prices to prove it.

    bound is rounded down, since values are whole, after allowing for what floating point may have lost.
    """
    value, most = int(problem.weights[chosen].sum()), int(problem.weights.sum())
    upper = most if bound is None or not np.isfinite(bound) else min(most, max(value, int(np.floor(bound + 1e-6 + 1e-9 * abs(bound)))))
    certificate = Certificate(
        value=value,
        upper_bound=upper,
        prices=np.zeros(problem.m, np.int64),
        price_scale=1,
        seed=0,
        steps=0,
        reproducible=False,
        claims=(Claim(solver=solver, candidates=np.arange(problem.n), bound=upper),),
    )
    return Selection(chosen=np.sort(np.asarray(chosen, np.int64)), certificate=certificate)


def run(peer: str, directory: Path, seconds: float, seed: int, limits: Limits) -> Trial:
    """Let a peer (module:NAME of a Peer) answer the problem in this directory."""
    with tempfile.TemporaryFile() as stderr, _spawned(peer, limits, stderr) as (process, connection):
        trial = Trial()
        if not connection.poll(START_S) or _received(connection)[0] != "ready":
            trial.reason = f"did not start: {_last_line(stderr)}"
            return trial
        began = time.monotonic()
        connection.send((str(directory), began + seconds, limits.killed_at(seconds), seed, limits.threads))
        _watch(trial, process, connection, began, seconds, limits)
        if trial.status == "crashed":
            trial.reason = trial.reason or _last_line(stderr)
        return trial


def _watch(trial: Trial, process: subprocess.Popen[bytes], connection: Connection, began: float, seconds: float, limits: Limits) -> None:
    """Note what comes until it has ended, one way or another."""
    while True:
        heard = connection.poll(WATCH_S)
        trial.used = time.monotonic() - began
        resident = resident_mb(process.pid)
        trial.peak_mb = max(trial.peak_mb, resident)
        if heard:
            kind, content = _received(connection)
            if kind == "better":
                trial.answers.append((trial.used, content))
                continue
            _conclude(trial, kind, content, limits.counts_until(seconds))
            return
        if resident > limits.memory_mb:
            trial.status, trial.reason = "out of memory", f"more than {limits.memory_mb:,} MB"
            return
        if trial.used > limits.killed_at(seconds):
            trial.status, trial.reason = "killed", f"no end after {trial.used:.1f} s"
            return


def _conclude(trial: Trial, kind: str, content: Any, latest: float) -> None:
    if kind == "done":
        selection, peak_mb = content
        trial.answers.append((trial.used, selection))
        trial.peak_mb = max(trial.peak_mb, peak_mb)
        trial.status = "ok" if trial.used <= latest else "late"
    elif kind in {"cannot", "out of memory", "crashed"}:
        trial.status, trial.reason = kind, content


@contextmanager
def _spawned(peer: str, limits: Limits, stderr: IO[bytes]) -> Iterator[tuple[subprocess.Popen[bytes], Connection]]:
    """A process that has its end of a connection, killed with all its children at the end of the block."""
    connection, theirs = Pipe()
    threads = {name: str(limits.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline_project.bench.child", peer, str(theirs.fileno())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # native libraries print what they like
        stderr=stderr,
        pass_fds=(theirs.fileno(),),
        start_new_session=True,
        env={**os.environ, **threads},
    )
    theirs.close()
    try:
        yield process, connection
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        connection.close()


def _received(connection: Connection) -> tuple[str, Any]:
    """The next message; a process that has died, or speaks in riddles, has crashed."""
    try:
        kind, content = connection.recv()
    except (EOFError, OSError, ValueError, TypeError, pickle.UnpicklingError):
        return "crashed", ""
    return kind, content


def _last_line(stderr: IO[bytes]) -> str:
    stderr.seek(0)
    lines = stderr.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "without a word")
