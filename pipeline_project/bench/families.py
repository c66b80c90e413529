"""Seeded inputs for benchmarks: families of packing problems of any size, and files as an import reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from pipeline_project.core.packing import Int64, PackingProblem


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


def uniform(n: int, seed: int) -> PackingProblem:
    """3 of 0.6 n resources of capacity 1, drawn evenly; weights 1 to 1,000."""
    rng = np.random.default_rng(seed)
    m = max(3, n * 6 // 10)
    return _units(rng.integers(1, 1001, n), rng.integers(0, m, (n, 3)), np.ones(m, np.int64))


def skewed(n: int, seed: int) -> PackingProblem:
    """The same, but resources are wanted by Zipf's law: the first few by a large share of all candidates."""
    rng = np.random.default_rng(seed)
    m = max(3, n * 6 // 10)
    return _units(rng.integers(1, 1001, n), _zipf(rng, m, (n, 3), 0.8), np.ones(m, np.int64))


def clustered(n: int, seed: int) -> PackingProblem:
    """Independent components of 40 candidates that want 3 of 24 resources of capacity 1."""
    rng = np.random.default_rng(seed)
    cluster = np.arange(n) // 40
    m = 24 * (int(cluster[-1]) + 1)
    return _units(rng.integers(1, 1001, n), rng.integers(0, 24, (n, 3)) + 24 * cluster[:, None], np.ones(m, np.int64))


def capacitated(n: int, seed: int) -> PackingProblem:
    """1 to 3 units each of 3 of 0.6 n resources of capacity 1 to 5."""
    return _several(n, seed, m=max(3, n * 6 // 10), capacities=(1, 5))


def quantities(n: int, seed: int) -> PackingProblem:
    """1 to 3 units each of 3 of 0.3 n resources of capacity 3 to 8."""
    return _several(n, seed, m=max(3, n * 3 // 10), capacities=(3, 8))


def heavy(n: int, seed: int) -> PackingProblem:
    """Resources wanted by Zipf's law, each with a capacity for 30 to 70 % of its demand; 1 to 3 units each of 3; skewed weights."""
    rng = np.random.default_rng(seed)
    m = max(3, n // 10)
    owner, resource = _pairs(_zipf(rng, m, (n, 3), 1.0))
    wanted = rng.integers(1, 4, len(owner))
    demand = np.bincount(resource, wanted, m)
    capacities = np.maximum(3, demand * rng.uniform(0.3, 0.7, m)).astype(np.int64)
    weights = np.ceil(100 * rng.lognormal(0.0, 0.7, n)).astype(np.int64)
    return PackingProblem.from_triples(weights, owner, resource, wanted, capacities)


def regions(n: int, seed: int) -> PackingProblem:
    """Auction of land, after CATS (https://doi.org/10.1145/352871.352879): bids on rectangles with holes; a bidder wins one of 3 bids.

    Larger bundles are worth more than their parts.
    """
    rng = np.random.default_rng(seed)
    side = max(6, int(np.sqrt(n / 5)))
    corner, extent = rng.integers(0, side, (n, 2, 1, 1)), rng.integers(1, 5, (n, 2, 1, 1))
    down, right = np.arange(4)[:, None], np.arange(4)[None, :]
    inside = (down < extent[:, 0]) & (right < extent[:, 1]) & (rng.random((n, 4, 4)) < 0.85)
    inside[:, 0, 0] = True
    good = ((corner[:, 0] + down) % side) * side + (corner[:, 1] + right) % side
    worth = rng.integers(20, 100, side * side)
    value = np.where(inside, worth[good] * rng.uniform(0.7, 1.3, (n, 4, 4)), 0).sum((1, 2)) * inside.sum((1, 2)) ** 0.2
    owner, resource = np.nonzero(inside)[0], good[inside]
    return _auction(value, owner, resource, side * side)


def paths(n: int, seed: int) -> PackingProblem:
    """Auction of tracks, after CATS: bids on 3 to 12 steps through a grid, worth about their length; a bidder wins one of 3 bids."""
    rng = np.random.default_rng(seed)
    side, longest = max(8, int(np.sqrt(n / 2))), 12
    length = rng.integers(3, longest + 1, n)
    steps = rng.random((n, longest)) < rng.uniform(0.2, 0.8, (n, 1))  # down, else right
    walked: Int64 = np.cumsum(steps, 1, dtype=np.int64) - steps
    from_row, from_column = rng.integers(0, side, (2, n, 1))
    row, column = (from_row + walked) % side, (from_column + np.arange(longest) - walked) % side
    track = 2 * (row * side + column) + steps
    used = np.arange(longest) < length[:, None]
    return _auction(100 * length * rng.uniform(0.6, 1.4, n), np.nonzero(used)[0], track[used], 2 * side * side)


def arbitrary(n: int, seed: int) -> PackingProblem:
    """Auction of goods without order, after CATS: bids on 2 to 10 of n / 4 goods; a bidder wins one of 3 bids."""
    rng = np.random.default_rng(seed)
    goods = max(20, n // 4)
    size = rng.integers(2, 11, n)
    owner = np.repeat(np.arange(n), size)
    resource = rng.integers(0, goods, len(owner))
    worth = rng.integers(20, 100, goods)
    value = np.bincount(owner, worth[resource] * rng.uniform(0.5, 1.5, len(owner)), n) * size**0.2
    return _auction(value, owner, resource, goods)


def kidney(n: int, seed: int) -> PackingProblem:
    """Kidney exchange: candidates are cycles of 2 or 3 pairs that give to each other, resources the pairs; more transplants first."""
    rng = np.random.default_rng(seed)
    degree = (3.5 * n) ** (1 / 3) + 2
    pairs = int(5 * degree) + 4
    while True:
        gives = (rng.random((pairs, pairs)) < degree / pairs) & ~np.eye(pairs, dtype=bool)
        cycles = _cycles(gives)
        if len(cycles) >= n:
            break
        degree *= 1.05
    cycles = cycles[np.sort(rng.permutation(len(cycles))[:n])]
    transplants = (cycles >= 0).sum(1)
    owner, position = np.nonzero(cycles >= 0)
    weights = 1000 * transplants + rng.integers(0, 200, n)
    return PackingProblem.from_triples(weights, owner, cycles[owner, position], np.ones(len(owner), np.int64), np.ones(pairs, np.int64))


def intervals(n: int, seed: int) -> PackingProblem:
    """1 to 12 consecutive of n / 4 slots, each with room for 1 to 3; worth about their length."""
    rng = np.random.default_rng(seed)
    slots = max(16, n // 4)
    length = rng.integers(1, 13, n)
    owner = np.repeat(np.arange(n), length)
    offset = np.arange(len(owner)) - np.repeat(np.cumsum(length) - length, length)
    resource = rng.integers(0, slots - 12, n)[owner] + offset
    weights = np.ceil(length * rng.uniform(10, 100, n)).astype(np.int64)
    return PackingProblem.from_triples(weights, owner, resource, np.ones(len(owner), np.int64), rng.integers(1, 4, slots))


def matching(n: int, seed: int) -> PackingProblem:
    """Candidates are the edges of a graph with n / 3 vertices, resources its vertices."""
    rng = np.random.default_rng(seed)
    vertices = max(4, n // 3)
    one = rng.integers(0, vertices, n)
    other = (one + rng.integers(1, vertices, n)) % vertices
    return _units(rng.integers(1, 1001, n), np.stack((one, other), 1), np.ones(vertices, np.int64))


def bipartite(n: int, seed: int) -> PackingProblem:
    """The same, between two halves."""
    rng = np.random.default_rng(seed)
    half = max(2, n // 6)
    ends = np.stack((rng.integers(0, half, n), half + rng.integers(0, half, n)), 1)
    return _units(rng.integers(1, 1001, n), ends, np.ones(2 * half, np.int64))


def roads(n: int, seed: int) -> PackingProblem:
    """Candidates are the crossings of a street grid of which 65 % is left, resources its streets: an independent set in a sparse graph."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n)))
    here = np.arange(n)
    down, right = here + side, here + 1
    streets = np.concatenate((np.stack((here, down), 1)[down < n], np.stack((here, right), 1)[(right < n) & (right % side > 0)]))
    return _graph(rng.integers(1, 201, n), streets[rng.random(len(streets)) < 0.65])


def dense(n: int, seed: int) -> PackingProblem:
    """Candidates are the vertices of a random graph with a tenth of all edges, though 4,000,000 at most; resources are its edges."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, n, (min(4_000_000, n * n // 20), 2))
    edges = np.unique(np.sort(drawn[drawn[:, 0] != drawn[:, 1]], 1), axis=0)
    return _graph(rng.integers(1, 201, n), edges)


def knapsack(n: int, seed: int) -> PackingProblem:
    """10 resources that everybody wants, half of the demand there, weights that go with demands (https://doi.org/10.1023/A:1009642405419)."""
    rng = np.random.default_rng(seed)
    wanted = rng.integers(1, 1001, (n, 10))
    weights = np.floor(wanted.mean(1) + 500 * rng.random(n)).astype(np.int64)
    owner, resource = np.repeat(np.arange(n), 10), np.tile(np.arange(10), n)
    return PackingProblem.from_triples(weights, owner, resource, wanted.ravel(), wanted.sum(0) // 2)


FAMILIES: Final[dict[str, Callable[[int, int], PackingProblem]]] = {
    family.__name__: family
    for family in (
        *(uniform, skewed, clustered, capacitated, quantities, heavy),
        *(regions, paths, arbitrary, kidney, intervals),
        *(matching, bipartite, roads, dense, knapsack),
    )
}
"""(number of candidates, seed) -> problem; the same arguments give the same problem."""


def write_problem(problem: PackingProblem, directory: Path) -> None:
    """As the problem directory that store.problems reads."""
    columns = {
        "candidates": {"candidate": np.arange(problem.n), "weight": problem.weights},
        "demands": {"candidate": problem.candidates(), "resource": problem.resources.astype(np.int64), "quantity": problem.quantities},
        "resources": {"resource": np.arange(problem.m), "capacity": problem.capacities},
    }
    for name, table in columns.items():
        parquet.write_table(
            pa.table({column: pa.array(values, pa.int64()) for column, values in table.items()}), directory / f"{name}.parquet"
        )


def _several(n: int, seed: int, m: int, capacities: tuple[int, int]) -> PackingProblem:
    rng = np.random.default_rng(seed)
    free = rng.integers(capacities[0], capacities[1] + 1, m)
    owner, resource = _pairs(rng.integers(0, m, (n, 3)))
    wanted = np.minimum(rng.integers(1, 4, len(owner)), free[resource])
    return PackingProblem.from_triples(rng.integers(1, 10_001, n), owner, resource, wanted, free)


def _units(weights: Int64, resources: Int64, capacities: Int64) -> PackingProblem:
    """resources: int64[n, d], what each candidate wants one unit of."""
    owner, resource = _pairs(resources)
    return PackingProblem.from_triples(weights, owner, resource, np.ones(len(owner), np.int64), capacities)


def _pairs(resources: Int64) -> tuple[Int64, Int64]:
    """(candidate, resource) rows without repeats, from int64[n, d]."""
    n, d = resources.shape
    key = np.unique(np.repeat(np.arange(n), d) * (int(resources.max()) + 1) + resources.ravel())
    owner, resource = np.divmod(key, int(resources.max()) + 1)
    return owner, resource


def _zipf(rng: np.random.Generator, m: int, shape: tuple[int, int], exponent: float) -> Int64:
    """Numbers below m, the i-th in proportion to 1 / (i + 1) ** exponent."""
    share = np.cumsum(1.0 / np.arange(1, m + 1) ** exponent)
    numbers: Int64 = np.searchsorted(share, rng.random(shape) * share[-1])
    return numbers


def _auction(value: np.ndarray[tuple[int], np.dtype[np.float64]], owner: Int64, good: Int64, goods: int) -> PackingProblem:
    """Whole prices in hundredths, one unit of each good, and one more for each bidder, who wins one bid of three."""
    n = len(value)
    bidder = np.arange(n) // 3
    key = np.unique(owner * goods + good)  # a bundle names a good once
    owner, good = np.divmod(key, goods)
    owner, resource = np.concatenate((owner, np.arange(n))), np.concatenate((good, goods + bidder))
    weights = np.ceil(100 * value).astype(np.int64)
    return PackingProblem.from_triples(
        weights, owner, resource, np.ones(len(owner), np.int64), np.ones(goods + int(bidder[-1]) + 1, np.int64)
    )


def _graph(weights: Int64, edges: Int64) -> PackingProblem:
    """An independent set: vertices exclude each other where an edge, int64[e, 2], joins them."""
    owner, resource = edges.ravel(), np.repeat(np.arange(len(edges)), 2)
    return PackingProblem.from_triples(weights, owner, resource, np.ones(len(owner), np.int64), np.ones(len(edges), np.int64))


def _cycles(gives: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> Int64:
    """int64[c, 3]: directed cycles of 2 (third member -1) or 3 members, each once, its smallest member first."""
    one, other = np.nonzero(np.triu(gives & gives.T))
    twos = np.stack((one, other, np.full(len(one), -1)), 1)
    threes = [twos]
    for i in range(len(gives)):
        j, k = np.nonzero(gives[i, i + 1 :, None] & gives[i + 1 :, i + 1 :] & gives[i + 1 :, i][None, :])
        threes.append(np.stack((np.full(len(j), i), j + i + 1, k + i + 1), 1))
    return np.concatenate(threes)
