"""Whoever makes a sum too large: the largest, and no more than must be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_project.core.excess import largest

AMOUNTS = st.lists(st.tuples(st.integers(0, 4), st.one_of(st.integers(0, 9), st.integers(2**61, 2**63 - 1))), max_size=8)


def taken(rows: list[tuple[int, int]], excess: int) -> list[int]:
    groups, values = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    return largest(groups, values, excess).tolist()


@given(AMOUNTS, st.integers(0, 2**64))
def test_as_many_as_must_be_and_every_one_is_larger_than_all_that_stay(rows: list[tuple[int, int]], excess: int) -> None:
    sums = {group: sum(value for at, value in rows if at == group) for group, _ in rows}
    out = taken(rows, excess)
    assert sum(sums[group] for group in out[:-1]) < excess or not out
    assert sum(sums[group] for group in out) >= min(excess, sum(sums.values()))
    rank = {group: (sums[group], group) for group in sums}
    assert all(rank[gone] > rank[left] for gone in out for left in set(sums) - set(out))
    assert taken(rows[::-1], excess) == out  # whatever their order


@pytest.mark.parametrize(("excess", "out"), [(0, []), (1, [2]), (5, [2]), (6, [2, 1])])
def test_of_equals_the_latest_goes_first(excess: int, out: list[int]) -> None:
    assert taken([(0, 4), (1, 5), (2, 5)], excess) == out
