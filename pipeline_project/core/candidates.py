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
        of_item = together(snapshot.bundles)
        return cls(of_item=of_item, indptr=starts_of(np.bincount(of_item)), members=np.argsort(of_item, kind="stable").astype(np.int64))


def together(bundles: Int64) -> Int64:
    """int64[n]: a number for each lone item (bundle -1) and for each bundle, in the order of their first items."""
    positions = np.arange(len(bundles), dtype=np.int64)
    bundled = bundles >= 0
    first = positions.copy()
    if bundled.any():
        _, at, back = np.unique(bundles[bundled], return_index=True, return_inverse=True)
        first[bundled] = positions[bundled][at][back]
    return np.unique(first, return_inverse=True)[1].astype(np.int64)
