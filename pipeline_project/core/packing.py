"""The one problem every solver answers: choose candidates so that no resource is overdrawn."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline_project.core.errors import Refused

Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]
Bools = NDArray[np.bool_]
INT64_MAX = 2**63 - 1


def starts_of(lengths: Int64) -> Int64:
    """int64[n + 1]: where each list begins when lists of these lengths stand one after the other in one column; last, where all end."""
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


def rows_of(indptr: Int64, candidates: Int64) -> tuple[Int64, Int64]:
    """The demand rows of these candidates, one candidate after the other: where each begins among them, and their numbers."""
    lengths = indptr[candidates + 1] - indptr[candidates]
    starts = starts_of(lengths)
    return starts, np.repeat(indptr[candidates] - starts[:-1], lengths) + np.arange(starts[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class PackingProblem:
    """Choose candidates so that no resource is overdrawn; maximise the sum of their weights.

    weights     int64[n]      worth of each candidate, whole points, >= 0
    indptr      int64[n + 1]  candidate c demands rows indptr[c]:indptr[c + 1] of the next two
    resources   int32[k]      which resource; ascending within a candidate, no duplicates
    quantities  int64[k]      how much of it, >= 1
    capacities  int64[m]      what is free of each resource, >= 0

    Checked at birth: shapes, signs, ranges, and that the sum of all weights and each resource's total demand fit int64.
    Raises Refused, naming the first offending candidate or resource.
    """

    weights: Int64
    indptr: Int64
    resources: Int32
    quantities: Int64
    capacities: Int64

    def __post_init__(self) -> None:
        n, k, m = len(self.weights), len(self.resources), len(self.capacities)
        assert self.indptr.shape == (n + 1,) and self.indptr[0] == 0 and self.indptr[-1] == k
        assert self.quantities.shape == (k,) and (np.diff(self.indptr) >= 0).all()
        _refuse_outside(self.weights, 0, INT64_MAX, "candidate", "weight >= 0")
        _refuse_outside(self.quantities, 1, INT64_MAX, "demand", "quantity >= 1")
        _refuse_outside(self.capacities, 0, INT64_MAX, "resource", "capacity >= 0")
        _refuse_outside(self.resources, 0, m - 1, "demand", f"resource in 0..{m - 1}")
        _refuse_overflow(self.weights, "sum of all weights")
        _refuse_overflow(self.quantities, "sum of all quantities")

    @classmethod
    def from_triples(cls, weights: Int64, candidate: Int64, resource: Int64 | Int32, quantity: Int64, capacities: Int64) -> PackingProblem:
        """Build from (candidate, resource, quantity) triples in any order; repeated pairs add up. O(k) in this order, else O(k log k)."""
        n = len(weights)
        _refuse_outside(candidate, 0, n - 1, "demand", f"candidate in 0..{n - 1}")
        if not _in_order(candidate, resource):
            order = np.lexsort((resource, candidate))
            candidate, resource, quantity = candidate[order], resource[order], quantity[order]
            first = np.concatenate(([True], (candidate[1:] != candidate[:-1]) | (resource[1:] != resource[:-1])))
            if not first.all():
                _refuse_outside(quantity, 1, INT64_MAX, "demand", "quantity >= 1")
                _refuse_overflow(quantity, "sum of all quantities")
                quantity = np.add.reduceat(quantity, np.flatnonzero(first))
                candidate, resource = candidate[first], resource[first]
        indptr = starts_of(np.bincount(candidate, minlength=n))
        _refuse_outside(resource, 0, len(capacities) - 1, "demand", f"resource in 0..{len(capacities) - 1}")
        return cls(
            weights=np.ascontiguousarray(weights, np.int64),
            indptr=indptr,
            resources=np.ascontiguousarray(resource, np.int32),
            quantities=np.ascontiguousarray(quantity, np.int64),
            capacities=np.ascontiguousarray(capacities, np.int64),
        )

    @property
    def n(self) -> int:
        """Number of candidates."""
        return len(self.weights)

    @property
    def m(self) -> int:
        """Number of resources."""
        return len(self.capacities)

    def candidates(self) -> Int64:
        """int64[k]: the candidate of each demand row."""
        return np.repeat(np.arange(self.n, dtype=np.int64), np.diff(self.indptr))

    def left_by(self, chosen: Int64) -> Int64:
        """int64[m]: what these candidates leave of each resource. O(n + k)."""
        is_chosen = np.zeros(self.n, np.bool_)
        is_chosen[chosen] = True
        rows = is_chosen[self.candidates()]
        left = self.capacities.copy()
        np.subtract.at(left, self.resources[rows], self.quantities[rows])
        return left

    def restrict(self, candidates: Int64) -> tuple[PackingProblem, Int64]:
        """The problem on these candidates alone, and the original numbers of the resources that it still mentions."""
        indptr, rows = rows_of(self.indptr, candidates)
        kept, local = np.unique(self.resources[rows], return_inverse=True)
        part = PackingProblem(
            weights=self.weights[candidates],
            indptr=indptr,
            resources=local.astype(np.int32),
            quantities=self.quantities[rows],
            capacities=self.capacities[kept],
        )
        return part, kept.astype(np.int64)

    def digest(self) -> str:
        """SHA-256 of the canonical bytes: equal problems have equal digests on every machine."""
        h = hashlib.sha256(b"packing-problem-1")
        for column in (self.weights, self.indptr, self.resources.astype(np.int64), self.quantities, self.capacities):
            h.update(len(column).to_bytes(8, "little"))
            h.update(np.ascontiguousarray(column, "<i8").tobytes())
        return h.hexdigest()


def _in_order(candidate: Int64, resource: Int64 | Int32) -> bool:
    """By candidate, then by resource, and no pair twice."""
    if (candidate[1:] < candidate[:-1]).any():
        return False
    rises = resource[1:] > resource[:-1]
    return bool(rises.all() or (rises | (candidate[1:] > candidate[:-1])).all())


def _refuse_outside(found: NDArray[np.signedinteger], least: int, most: int, what: str, expected: str) -> None:
    if len(found) and (found.min() < least or found.max() > most):  # two passes that write nothing; most columns need no more
        bad = (found < least) | (found > most)
        at = int(np.argmax(bad))
        raise Refused(f"{what} {at}: expected {expected}, found {found[at]} ({int(bad.sum())} such in all)")


def _refuse_overflow(column: Int64, what: str) -> None:
    # float64 is off by far less than a factor of two: it decides cheaply whether exact integers are needed at all.
    if not len(column) or float(column.sum(dtype=np.float64)) <= INT64_MAX / 2:
        return
    total = sum(int(v) for v in column)
    if total > INT64_MAX:
        raise Refused(f"{what}: expected at most {INT64_MAX}, found {total}; use coarser points")
