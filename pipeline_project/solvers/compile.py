"""`python -m pipeline_project.solvers.compile`: compile every hot loop once, at set-up, so that no selection ever waits for it."""

from __future__ import annotations

import shutil
import sys
import time
from importlib import import_module

from pipeline_project.solvers import kernels


def main() -> None:
    """Compile each loop and what it calls, drop the caches of older sources, try the result."""
    begin = time.perf_counter()
    import_module("pipeline_project.solvers.portfolio")  # and with it every module that has loops
    for i, (dispatcher, declared) in enumerate(kernels.LOOPS, start=1):
        where = f"{dispatcher.py_func.__module__.rpartition('.')[2]}.{dispatcher.py_func.__name__}"
        print(f"compiling the solvers: {i}/{len(kernels.LOOPS)} {where}", file=sys.stderr, flush=True)  # noqa: T201  # progress of a command
        dispatcher.compile(declared)
    for older in kernels.CACHE.parent.glob("kernels-*"):
        if older != kernels.CACHE:
            shutil.rmtree(older, ignore_errors=True)
    _try_out()
    print(f"solvers ready after {time.perf_counter() - begin:.1f} s", file=sys.stderr)  # noqa: T201  # progress of a command


def _try_out() -> None:
    import numpy as np

    from pipeline_project.core.packing import PackingProblem
    from pipeline_project.solvers.portfolio import solve
    from pipeline_project.solvers.solver import Budget

    triangle = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 2, 2, 0])
    problem = PackingProblem.from_triples(np.array([2, 3, 4]), *triangle, np.ones(6, np.int64), np.ones(3, np.int64))
    certificate = solve(problem, Budget(steps=1_000_000)).certificate
    assert certificate.value == certificate.upper_bound == 4, certificate


if __name__ == "__main__":
    main()
