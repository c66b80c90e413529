"""What became of a problem since it was solved: found by ids, and by one fingerprint for each candidate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline_project.core.mixing import mixed, sums
from pipeline_project.core.packing import Bools, Int64, PackingProblem


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """How candidates and resources are called outside, and what a candidate was when it was last seen.

    candidates    int64[n]  ids, ascending
    fingerprints  int64[n]  see `fingerprints`
    resources     int64[m]  ids, ascending
    """

    candidates: Int64
    fingerprints: Int64
    resources: Int64

    @classmethod
    def of(cls, problem: PackingProblem, candidates: Int64, resources: Int64) -> Identities:
        return cls(candidates=candidates, fingerprints=fingerprints(problem, resources), resources=resources)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """From an earlier problem to the present one.

    candidates  int64[earlier n]  the present number of each; -1 = gone
    resources   int64[earlier m]  the same
    new         int64             candidates that were not there, ascending
    altered     int64             whose weight, demands or capacities are others than before, ascending
    """

    candidates: Int64
    resources: Int64
    new: Int64
    altered: Int64

    @classmethod
    def between(cls, before: Identities, now: Identities) -> Change:
        """O(n + m), and a binary search each where ids have gaps."""
        at, known = positions(before.candidates, now.candidates)
        same = np.zeros(len(now.candidates), np.bool_)
        same[known] = before.fingerprints[at[known]] == now.fingerprints[known]
        return cls(
            candidates=_numbers(now.candidates, before.candidates),
            resources=_numbers(now.resources, before.resources),
            new=np.flatnonzero(~known),
            altered=np.flatnonzero(known & ~same),
        )

    @property
    def gone(self) -> int:
        """How many candidates are not there any more."""
        return int((self.candidates < 0).sum())

    @property
    def changed(self) -> Int64:
        """New and altered ones, ascending."""
        return np.sort(np.concatenate((self.new, self.altered)))


def fingerprints(problem: PackingProblem, resources: Int64) -> Int64:
    """int64[n], >= 0: equal for candidates of equal weight that demand as much of resources with the same ids and capacities.

    resources  int64[m], the id of each. 63 bits, the same on every machine; of a million changed candidates, one
    in ten million million is taken for unchanged.
    """
    of_rows = mixed(
        mixed(mixed(resources)[problem.resources] + problem.quantities.astype(np.uint64))
        + problem.capacities.astype(np.uint64)[problem.resources]
    )
    return (mixed(mixed(problem.weights) + sums(of_rows, problem.indptr)) >> np.uint64(1)).astype(np.int64)


def positions(ids: Int64, wanted: Int64) -> tuple[Int64, Bools]:
    """Where in the ascending ids each wanted one stands, and whether it does."""
    if not len(ids):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
    if int(ids[-1]) - int(ids[0]) == len(ids) - 1:  # no gaps: the position is a subtraction
        if len(wanted) and ids[0] <= wanted.min() and wanted.max() <= ids[-1]:
            return wanted - ids[0] if ids[0] else wanted, np.ones(len(wanted), np.bool_)
        inside = (wanted >= ids[0]) & (wanted <= ids[-1])
        return np.where(inside, wanted, ids[0]) - ids[0], inside
    at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return at, ids[at] == wanted


def _numbers(ids: Int64, wanted: Int64) -> Int64:
    at, there = positions(ids, wanted)
    return np.where(there, at, -1)
