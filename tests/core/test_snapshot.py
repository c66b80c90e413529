"""Identity: everything that may change the answer changes the cycle key, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from pipeline_project.core.policy import Policy
from pipeline_project.core.snapshot import Mode, Snapshot
from tests.core.snapshots import snapshot_of, snapshots

WORLD = snapshot_of([(3, {0: 1}, -1), (4, {0: 2, 1: 1}, 7), (5, {}, 7)], [2, 1])


@given(snapshots())
def test_equal_worlds_have_equal_keys(snapshot: Snapshot) -> None:
    assert replace(snapshot).cycle_key() == snapshot.cycle_key()
    assert len(snapshot.cycle_key()) == 32


@pytest.mark.parametrize(
    "change",
    [
        {"pool": "q"},
        {"day": date(2026, 1, 16)},
        {"mode": Mode.REPROCESS},
        {"policy": Policy.from_document({"solver": {"seed": 1}}, "test")},
        {"engine_version": "2"},
        {"keys": pa.array(["i0", "i1", "other"])},
        {"versions": np.array([1, 2, 1])},
        {"weights": np.array([3, 4, 6])},
        {"bundles": np.array([-1, 7, 8])},
        {"held": np.array([True, False, False])},
        {"indptr": np.array([0, 1, 2, 3])},
        {"resources": np.array([0, 1, 0], np.int32)},
        {"quantities": np.array([1, 2, 2])},
        {"resource_keys": pa.array(["r0", "other"])},
        {"free": np.array([2, 2])},
    ],
)
def test_whatever_may_change_the_answer_is_in_the_key(change: dict[str, Any]) -> None:
    assert replace(WORLD, **change).cycle_key() != WORLD.cycle_key()


@pytest.mark.parametrize(
    "change", [{"item_ids": np.array([1, 2, 3])}, {"resource_ids": np.array([1, 2])}, {"capacities": np.array([9, 9])}]
)
def test_a_copy_of_the_world_in_another_database_is_the_same_world(change: dict[str, Any]) -> None:
    assert replace(WORLD, **change).cycle_key() == WORLD.cycle_key()


def test_neighbouring_texts_do_not_run_together() -> None:
    one = snapshot_of([(1, {}, -1), (1, {}, -1)], [], keys=pa.array(["ab", "c"]))
    two = snapshot_of([(1, {}, -1), (1, {}, -1)], [], keys=pa.array(["a", "bc"]))
    assert one.cycle_key() != two.cycle_key()


@pytest.mark.parametrize("change", [{"item_ids": np.array([2, 1, 3])}, {"weights": np.array([1])}, {"indptr": np.array([0, 1, 2, 4])}])
def test_columns_that_do_not_fit_together_are_no_snapshot(change: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        replace(WORLD, **change)
