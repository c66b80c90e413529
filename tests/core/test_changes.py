"""Changes are found by ids and fingerprints: whatever a candidate's chances hang on alters it, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pipeline_project.core.changes import Change, Identities, fingerprints, positions
from pipeline_project.core.packing import PackingProblem

IDS = np.array([10, 20, 30])
KEYS = np.array([-5, 7])


def problem() -> PackingProblem:
    """10 wants 1 of -5, 20 wants 2 of -5 and 1 of 7, 30 wants nothing."""
    demands = np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([1, 2, 1])
    return PackingProblem.from_triples(np.array([5, 6, 7]), *demands, np.array([3, 1]))


def test_nothing_changes_in_the_same_problem() -> None:
    same = Identities.of(problem(), IDS, KEYS)
    change = Change.between(same, Identities.of(problem(), IDS, KEYS))
    assert (change.candidates.tolist(), change.resources.tolist(), change.changed.tolist(), change.gone) == ([0, 1, 2], [0, 1], [], 0)


@pytest.mark.parametrize(
    ("changed", "who"),
    [
        (lambda p: replace(p, weights=np.array([5, 6, 8])), [2]),
        (lambda p: replace(p, quantities=np.array([2, 2, 1])), [0]),
        (lambda p: replace(p, resources=np.array([1, 0, 1], np.int32)), [0]),
        (lambda p: replace(p, capacities=np.array([3, 2])), [1]),
        (lambda p: replace(p, capacities=np.array([4, 1])), [0, 1]),
        (lambda p: replace(p, indptr=np.array([0, 1, 2, 3])), [1, 2]),
    ],
)
def test_a_weight_a_demand_or_a_capacity_alters_whom_it_concerns(
    changed: Callable[[PackingProblem], PackingProblem], who: list[int]
) -> None:
    change = Change.between(Identities.of(problem(), IDS, KEYS), Identities.of(changed(problem()), IDS, KEYS))
    assert change.altered.tolist() == who
    assert change.new.tolist() == []


def test_ids_come_and_go_and_numbers_follow_them() -> None:
    now = PackingProblem.from_triples(np.array([1, 5, 7]), np.array([0, 1]), np.array([1, 0]), np.array([1, 1]), np.array([3, 9]))
    change = Change.between(Identities.of(problem(), IDS, KEYS), Identities.of(now, np.array([-3, 10, 30]), np.array([-5, 99])))
    assert change.candidates.tolist() == [1, -1, 2]
    assert change.resources.tolist() == [0, -1]
    assert (change.new.tolist(), change.altered.tolist(), change.gone) == ([0], [], 1)


def test_fingerprints_are_the_same_on_every_machine_and_never_negative() -> None:
    found = fingerprints(problem(), KEYS)
    assert found.tolist() == FINGERPRINTS
    assert (found >= 0).all()


FINGERPRINTS = [9167864968677093262, 2431039431906484653, 6654738377353848610]


def test_other_numbers_of_the_same_ids_have_the_same_fingerprints() -> None:
    """Another resource in between shifts the numbers of all that follow."""
    shifted = replace(problem(), resources=np.array([0, 0, 2], np.int32), capacities=np.array([3, 8, 1]))
    assert fingerprints(shifted, np.array([-5, 0, 7])).tolist() == fingerprints(problem(), KEYS).tolist()


@pytest.mark.parametrize("ids", [[], [4], [4, 5, 6], [-9, 4, 2**62]])
def test_positions_are_those_of_the_ids_that_are_there(ids: list[int]) -> None:
    wanted = [2**62, 5, 4, -9, 0]
    at, there = positions(np.array(ids, np.int64), np.array(wanted))
    assert there.tolist() == [one in ids for one in wanted]
    assert [ids[i] for i, found in zip(at.tolist(), there.tolist(), strict=True) if found] == [one for one in wanted if one in ids]
