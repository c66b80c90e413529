"""Seeded inputs for benchmarks, written as the files that an import reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    """Items that each want one unit of `demands` resources, drawn evenly; weights 1 to 200, capacities 1 to 3.

    resources  default: 0.6 of the items, as in the instance family synth3
    """

    items: int
    demands: int
    seed: int

    @property
    def resources(self) -> int:
        return max(self.demands, self.items * 6 // 10)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """(items file, resources file), Parquet."""
        rng = np.random.default_rng(self.seed)
        weights = rng.integers(1, 201, self.items)
        wanted = rng.integers(0, self.resources, (self.items, self.demands)).tolist()
        items = pa.table(
            {
                "key": [f"item-{i:07d}" for i in range(self.items)],
                "weight": pa.array(weights, pa.int64()),
                "demands": [json.dumps({f"resource-{r:07d}": 1 for r in row}) for row in wanted],
            }
        )
        capacities = pa.array(rng.integers(1, 4, self.resources), pa.int64())
        resources = pa.table({"key": [f"resource-{r:07d}" for r in range(self.resources)], "capacity": capacities})
        paths = folder / "items.parquet", folder / "resources.parquet"
        for table, path in zip((items, resources), paths, strict=True):
            parquet.write_table(table, path)
        return paths
