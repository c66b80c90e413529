"""Snapshots made by hand, and by Hypothesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from pipeline_project.core.policy import Policy
from pipeline_project.core.snapshot import Mode, Snapshot

Item = tuple[int, Mapping[int, int], int]
"""Weight, quantity by resource position, bundle or -1."""


def snapshot_of(items: Sequence[Item], free: Sequence[int], *, policy: Mapping[str, Any] | None = None, **changes: Any) -> Snapshot:
    """Items 10, 20, ... with keys i0, i1, ...; resources 100, 101, ... with keys r0, r1, ...; `changes` replace whole columns."""
    n, m = len(items), len(free)
    demands = [sorted(wanted.items()) for _, wanted, _ in items]
    columns: dict[str, Any] = {
        "pool": "p",
        "day": date(2026, 1, 15),
        "mode": Mode.LIVE,
        "policy": Policy.from_document(policy, "test"),
        "engine_version": "1",
        "item_ids": np.arange(n, dtype=np.int64) * 10 + 10,
        "keys": pa.array([f"i{i}" for i in range(n)], pa.string()),
        "versions": np.ones(n, np.int64),
        "weights": np.array([weight for weight, _, _ in items], np.int64),
        "bundles": np.array([bundle for _, _, bundle in items], np.int64),
        "held": np.zeros(n, np.bool_),
        "indptr": np.cumsum([0, *map(len, demands)], dtype=np.int64),
        "resources": np.array([resource for wanted in demands for resource, _ in wanted], np.int32),
        "quantities": np.array([quantity for wanted in demands for _, quantity in wanted], np.int64),
        "resource_ids": np.arange(m, dtype=np.int64) + 100,
        "resource_keys": pa.array([f"r{r}" for r in range(m)], pa.string()),
        "free": np.array(free, np.int64),
        "capacities": np.array(free, np.int64),
    }
    return Snapshot(**{**columns, **changes})


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Up to 8 items in up to 3 bundles, over up to 4 resources."""
    m = draw(st.integers(1, 4))
    wanted = st.dictionaries(st.integers(0, m - 1), st.integers(1, 3), max_size=m)
    items = draw(st.lists(st.tuples(st.integers(0, 20), wanted, st.sampled_from([-1, -1, 5, 6, 7])), max_size=8))
    return snapshot_of(items, draw(st.lists(st.integers(0, 5), min_size=m, max_size=m)))
