"""What a solver chooses between: one candidate per lone item or whole bundle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline_project.core.packing import Int64, starts_of
from pipeline_project.core.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Which items stand or fall together.

    of_item  int64[n]      the candidate of each item
    indptr   int64[c + 1]  candidate c is made of members[indptr[c]:indptr[c + 1]]
    members  int64[n]      item positions, ascending within a candidate; candidates in order of their first item
    """

    of_item: Int64
    indptr: Int64
    members: Int64

    @property
    def count(self) -> int:
        return len(self.indptr) - 1

    def sizes(self) -> Int64:
        """int64[c]: how many items each candidate is made of."""
        return np.diff(self.indptr)

    @classmethod
    def of(cls, snapshot: Snapshot) -> Candidates:
        """O(n log n). Every bundle in the snapshot is whole, so a bundle is one candidate."""
        n = snapshot.n
        positions = np.arange(n, dtype=np.int64)
        bundled = snapshot.bundles >= 0
        first = positions.copy()
        if bundled.any():
            _, at, back = np.unique(snapshot.bundles[bundled], return_index=True, return_inverse=True)
            first[bundled] = positions[bundled][at][back]
        _, of_item = np.unique(first, return_inverse=True)
        of_item = of_item.astype(np.int64)
        return cls(of_item=of_item, indptr=starts_of(np.bincount(of_item)), members=np.argsort(of_item, kind="stable").astype(np.int64))
