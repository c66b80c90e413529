"""Two selections put together, part by part: where they differ in independent parts, each part can be taken from either.

The idea of partition crossover (Whitley, Hains, Howe 2009: Tunneling between optima) on a packing problem: of what two feasible
selections do not share, two candidates belong together if a resource could not hold everything that either of them takes of it. Any
choice between the two sides, made for each connected part, is feasible again.
"""

from __future__ import annotations

import numpy as np

from pipeline_project.core.packing import Bools
from pipeline_project.solvers.incidence import INCIDENCE, Incidence, take
from pipeline_project.solvers.kernels import flag, kernel


def best_of(inc: Incidence, first: Bools, second: Bools) -> Bools:
    """From each part the more valuable side (the first if equal): worth at least as much as either. O(n + k)."""
    return _merge(inc, first, second, first, False)


def changes_of_both(inc: Incidence, before: Bools, first: Bools, second: Bools) -> Bools:
    """What two walks made of `before`, together: a part that only one of them changed as it left it, for better or worse; a part that
    both did from the better of them. O(n + k)."""
    return _merge(inc, first, second, before, True)


@kernel(INCIDENCE, flag[::1], flag[::1], flag[::1], flag, returns=flag[::1])
def _merge(  # noqa: PLR0912  # one walk through the parts; a call for each step would cost more than the step
    inc: Incidence, first: Bools, second: Bools, before: Bools, changes: bool
) -> Bools:
    n, m = len(first), len(inc.capacities)
    merged, seen, opened = first.copy(), np.zeros(n, np.bool_), np.zeros(m, np.bool_)
    part = np.empty(n, np.int64)
    room = inc.capacities.copy()  # what would be left if everybody came that either side wants
    for c in range(n):
        if first[c] or second[c]:
            take(inc, room, c, 1)
    for seed in range(n):
        if first[seed] == second[seed] or seen[seed]:
            continue
        part[0], seen[seed] = seed, True
        size, at, gain = 1, 0, 0
        first_changed, second_changed = False, False
        while at < size:
            c = part[at]
            at += 1
            gain += inc.weights[c] if second[c] else -inc.weights[c]
            if first[c] != before[c]:
                first_changed = True
            else:
                second_changed = True
            for e in range(inc.starts[c], inc.starts[c + 1]):
                r = inc.resources[e]
                if room[r] >= 0 or opened[r]:
                    continue
                opened[r] = True
                for h in range(inc.row_starts[r], inc.row_starts[r + 1]):
                    other = inc.holders[h]
                    if first[other] != second[other] and not seen[other]:
                        seen[other] = True
                        part[size] = other
                        size += 1
        takes_second = gain > 0
        if changes and first_changed != second_changed:
            takes_second = second_changed
        if takes_second:
            for c in part[:size]:
                merged[c] = second[c]
    return merged
