"""`python -m pipeline_project.solvers.compile`: compile every hot loop once, at set-up, so that no selection ever waits for it."""

from __future__ import annotations

import shutil
import sys
import time
from importlib import import_module
from typing import Final

from pipeline_project.solvers import kernels

# Bottom up: a module compiles the loops that it calls in others with its own.
MODULES: Final = (
    *("incidence", "components", "cliques", "greedy", "certify", "reductions", "merging", "unit_walk", "general_walk"),
    *("local_search", "prices", "exact", "graph_board", "graph_rules", "graph_reductions", "portfolio"),
)


def main() -> None:
    """Import each module (its loops have fixed types: importing compiles them), drop the caches of older sources, try the result."""
    begin = time.perf_counter()
    for i, name in enumerate(MODULES, start=1):
        print(f"compiling the solvers: {i}/{len(MODULES)} {name}", file=sys.stderr, flush=True)  # noqa: T201  # progress of a command
        import_module(f"pipeline_project.solvers.{name}")
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
