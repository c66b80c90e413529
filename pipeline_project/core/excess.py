"""Items that no cycle can look at, because with them sums would not be exact: they are put aside, and the others go on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from pipeline_project.core.packing import Int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """What a snapshot leaves out, whole bundles.

    what      of which numbers the sum is too large
    total     the sum with them
    most      what it may be
    item_ids  int64[e]
    versions  int64[e]  as they were when they were added up
    """

    what: str
    total: int
    most: int
    item_ids: Int64
    versions: Int64

    @property
    def reason(self) -> str:
        return (
            f"put aside as too large: with it the {self.what} of all that wait add up to {self.total}, expected at most {self.most}; "
            "import or revise it with smaller numbers"
        )


def largest(groups: Int64, values: Int64, excess: int) -> Int64:
    """As many groups as take this excess away, the largest first; of equals the one with the highest number first.

    groups, values  int64[n]  values >= 0, and to which group each belongs
    """
    sums: Counter[int] = Counter()  # Python's integers: a group alone may be more than int64 holds
    for group, value in zip(groups.tolist(), values.tolist(), strict=True):
        sums[group] += value
    taken: list[int] = []
    for group in sorted(sums, key=lambda group: (sums[group], group), reverse=True):
        if excess <= 0:
            break
        taken.append(group)
        excess -= sums[group]
    return np.array(taken, np.int64)
