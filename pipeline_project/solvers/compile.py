"""`python -m pipeline_project.solvers.compile`: compile every hot loop once, at set-up, so that no selection ever waits for it."""

from __future__ import annotations

import inspect
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from importlib import import_module
from itertools import count
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from pipeline_project.solvers import kernels

Loop = tuple[Any, Any]  # a dispatcher and its declared types

EVERYTHING = "pipeline_project.solvers.resume"  # imports every module that has loops


def main() -> None:
    """Compile each loop and what it calls, drop the caches of older sources, try the result."""
    begin = time.perf_counter()
    import_module(EVERYTHING)
    modules = _modules()
    # Processes, as numba compiles one loop at a time in each; forked, as importing takes a second. They meet in the cache only, so
    # without one that both can write the second would work for nothing.
    if multiprocessing.cpu_count() > 1 and _can_share():
        _compile_all(modules[:1])  # what the loops of all other modules call
        _compile_side_by_side(modules[1:], done=len(modules[0]))
        _compile_all(modules, quiet=True)  # out of the cache; whatever the other process left, if it died, is compiled here
    else:
        _compile_all(modules)
    for older in kernels.CACHE.parent.glob("kernels-*"):
        if older != kernels.CACHE:
            shutil.rmtree(older, ignore_errors=True)
    _try_out()
    print(f"solvers ready after {time.perf_counter() - begin:.1f} s", file=sys.stderr)  # noqa: T201  # progress of a command


def _modules() -> list[list[Loop]]:
    """The loops of each module in their order; first the module that the others call, then the longest first, to end at the same time."""
    modules: dict[str, list[Loop]] = defaultdict(list)
    for loop in kernels.LOOPS:
        modules[loop[0].py_func.__module__].append(loop)
    first, *others = modules.values()
    return [first, *sorted(others, key=_length, reverse=True)]


def _length(loops: list[Loop]) -> int:
    return sum(len(inspect.getsource(dispatcher.py_func)) for dispatcher, _ in loops)


def _can_share() -> bool:
    try:
        kernels.CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=kernels.CACHE):
            return True
    except OSError:
        return False


def _compile_all(modules: list[list[Loop]], *, quiet: bool = False) -> None:
    numbers = count(1)
    for loops in modules:
        for loop in loops:
            _compile(loop, None if quiet else next(numbers))


def _compile_side_by_side(modules: list[list[Loop]], done: int) -> None:
    """Here and in one process more, each taking the next module when it is through with one."""
    fork = multiprocessing.get_context("fork")
    turn, number = fork.Value("q", 0), fork.Value("q", done)
    other = fork.Process(target=_take_modules, args=(modules, turn, number))
    other.start()
    _take_modules(modules, turn, number)
    other.join()


def _take_modules(modules: list[list[Loop]], turn: Synchronized[int], number: Synchronized[int]) -> None:
    while (mine := _next(turn)) <= len(modules):
        for loop in modules[mine - 1]:
            _compile(loop, _next(number))


def _next(counter: Synchronized[int]) -> int:
    with counter.get_lock():
        counter.value += 1
        return counter.value


def _compile(loop: Loop, number: int | None) -> None:
    dispatcher, declared = loop
    if number is not None:
        where = f"{dispatcher.py_func.__module__.rpartition('.')[2]}.{dispatcher.py_func.__name__}"
        print(f"compiling the solvers: {number}/{len(kernels.LOOPS)} {where}", file=sys.stderr, flush=True)  # noqa: T201  # progress of a command
    dispatcher.compile(declared)


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
