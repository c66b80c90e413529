"""The process of a trial: import, say so, read the problem, let the peer answer. `python -m pipeline_project.bench.child PEER FD`."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipeline_project.bench.memory import status_mb
from pipeline_project.bench.trial import Cannot, Peer, Turn
from pipeline_project.core.packing import PackingProblem
from pipeline_project.core.selection import Selection
from pipeline_project.store.problems import read_problem


def main(reference: str, channel: int) -> None:
    """Send ready; take one order; send better answers as they come, then done, or why not."""
    connection = Connection(channel)
    peer = _loaded(reference)
    connection.send(("ready", None))
    directory, deadline, killed_after, seed, threads = connection.recv()
    # Should nobody be left who would kill us: the kernel does, whatever a library is busy with.
    signal.setitimer(signal.ITIMER_REAL, killed_after + 5)
    _stay_on(threads)
    turn = Turn(deadline=deadline, seed=seed, threads=threads, report=lambda selection: connection.send(("better", selection)))
    connection.send(_outcome(peer, Path(directory), turn))
    connection.close()
    os._exit(0)  # what a library does at its end is no part of its answer, and may hang


def _outcome(peer: Peer, directory: Path, turn: Turn) -> tuple[str, Any]:
    try:
        problem: PackingProblem = read_problem(directory).problem
        selection: Any = peer.solve(problem, turn)  # whatever it is: peers are strangers
    except Cannot as reason:
        return "cannot", str(reason)
    except MemoryError as reason:
        return "out of memory", str(reason)
    except Exception as failure:  # whatever it is, it belongs into the table, not into a traceback
        return "crashed", f"{type(failure).__name__}: {failure}"
    if not isinstance(selection, Selection):
        return "crashed", f"answered with a {type(selection).__name__}"
    return "done", (selection, status_mb(Path("/proc/self/status").read_text(), "VmHWM"))


def _loaded(reference: str) -> Peer:
    module, name = reference.split(":")
    peer: Peer = getattr(importlib.import_module(module), name)
    for imported in peer.imports:
        importlib.import_module(imported)
    return peer


def _stay_on(threads: int) -> None:
    """On the first cores that we were given: what starts threads of its own gets no more cores than the others."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
