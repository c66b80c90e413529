"""Which candidates can influence each other: independent parts of a problem are solved apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline_project.core.packing import Int64, starts_of
from pipeline_project.solvers.incidence import INCIDENCE, Incidence
from pipeline_project.solvers.kernels import i8, kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Candidates grouped so that no resource has holders in two groups.

    label    int64[n]      group of each candidate, numbered in the order of their first candidates
    members  int64[n]      candidates, group by group, ascending within a group
    starts   int64[g + 1]  group i is members[starts[i]:starts[i + 1]]
    """

    label: Int64
    members: Int64
    starts: Int64

    @classmethod
    def of(cls, inc: Incidence) -> Components:
        """Union-find over the incidence, O(k) in practice; conflict edges are never expanded."""
        label = np.empty(inc.n, np.int64)
        count = _label(inc, label)
        return cls(label=label, members=np.argsort(label, kind="stable"), starts=starts_of(np.bincount(label, minlength=count)))

    @property
    def count(self) -> int:
        return len(self.starts) - 1

    @property
    def sizes(self) -> Int64:
        return np.diff(self.starts)

    def group(self, i: int) -> Int64:
        return self.members[self.starts[i] : self.starts[i + 1]]

    def members_of(self, groups: Int64) -> Int64:
        """int64: the candidates of these groups, ascending."""
        is_in = np.zeros(self.count, np.bool_)
        is_in[groups] = True
        return np.flatnonzero(is_in[self.label])

    def sums(self, values: Int64) -> Int64:
        """int64[g]: exact sums of a column over each group."""
        total = np.zeros(self.count, np.int64)
        np.add.at(total, self.label, values)
        return total


@kernel(i8[::1], i8, returns=i8)
def _root(parent: Int64, v: int) -> int:
    while parent[v] != v:
        parent[v] = parent[parent[v]]
        v = parent[v]
    return v


@kernel(INCIDENCE, i8[::1], returns=i8)
def _label(inc: Incidence, label: Int64) -> int:
    n, m = len(inc.weights), len(inc.capacities)
    parent = np.arange(n)
    for r in range(m):
        for e in range(inc.row_starts[r] + 1, inc.row_starts[r + 1]):
            a, b = _root(parent, inc.holders[e - 1]), _root(parent, inc.holders[e])
            parent[max(a, b)] = min(a, b)
    count = 0
    for c in range(n):  # a root is the smallest of its group, so it is met, and numbered, first
        if parent[c] == c:
            label[c] = count
            count += 1
        else:
            label[c] = label[_root(parent, c)]
    return count
