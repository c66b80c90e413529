"""Who excludes whom. Kept as cliques (resource -> holders), never as d(d-1)/2 edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline_project.core.candidates import Candidates
from pipeline_project.core.exact_sums import total
from pipeline_project.core.packing import INT64_MAX, Int64, PackingProblem
from pipeline_project.core.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictGraph:
    """Candidates are the vertices; two are adjacent when a resource cannot hold both.

    problem  the same graph as arrays. Its resources are the snapshot's in their order; a limit on the number of selected
             items is one more resource at the end.
    """

    snapshot: Snapshot
    candidates: Candidates
    problem: PackingProblem

    @classmethod
    def of(cls, snapshot: Snapshot) -> ConflictGraph:
        """O(k log k) for k demands; no edge is ever written out."""
        assert total(snapshot.weights) <= INT64_MAX, "the members of a bundle alone could wrap to something small"
        assert total(snapshot.quantities) <= INT64_MAX
        candidates = Candidates.of(snapshot)
        item = np.repeat(np.arange(snapshot.n, dtype=np.int64), np.diff(snapshot.indptr))
        weights = np.zeros(candidates.count, np.int64)
        np.add.at(weights, candidates.of_item, snapshot.weights)
        candidate, resource, quantity, capacities = candidates.of_item[item], snapshot.resources, snapshot.quantities, snapshot.free
        max_selected = snapshot.policy.limits.max_selected
        if max_selected is not None:
            everyone = np.arange(candidates.count, dtype=np.int64)
            candidate = np.concatenate((candidate, everyone))
            resource = np.concatenate((resource, np.full(candidates.count, len(capacities))))
            quantity = np.concatenate((quantity, candidates.sizes()))
            capacities = np.append(capacities, max_selected)
        problem = PackingProblem.from_triples(weights, candidate, resource.astype(np.int64), quantity, capacities)
        return cls(snapshot=snapshot, candidates=candidates, problem=problem)

    def wanted(self) -> Int64:
        """int64[m]: how much of each resource everyone wants together."""
        demand = np.zeros(self.problem.m, np.int64)
        np.add.at(demand, self.problem.resources, self.problem.quantities)
        return demand

    def contested(self) -> Int64:
        """Resources that cannot hold everyone who wants them: the only ones that make conflicts."""
        return np.flatnonzero(self.wanted() > self.problem.capacities)

    def components(self) -> Int64:
        """int64[c]: label of each candidate's component, joined through contested resources only."""
        n, m = self.problem.n, self.problem.m
        matters = np.isin(self.problem.resources, self.contested())
        rows, columns = self.problem.candidates()[matters], self.problem.resources[matters] + n
        graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(n + m, n + m))
        _, labels = connected_components(graph, directed=False)
        return np.unique(labels[:n], return_inverse=True)[1].astype(np.int64)

    def name_of_resource(self, resource: int) -> str:
        """The resource's key; the limit on selected items has a name of its own."""
        keys = self.snapshot.resource_keys
        return str(keys[resource].as_py()) if resource < len(keys) else "limits.max_selected"
