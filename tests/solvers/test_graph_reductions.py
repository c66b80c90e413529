"""What is left of a graph has, with what is decided, the optimum of the whole, and every set found in it finds its way back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import networkx as nx
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline_project.core.packing import Int64
from pipeline_project.solvers import graph_reductions
from pipeline_project.solvers.graph_board import RULES, Board
from pipeline_project.solvers.graph_reductions import Graph, Kernelized, kernelize
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.solver import Bools, Budget

UNTOUCHED: Final = -77
Edges = set[tuple[int, int]]


def limited(steps: int) -> Meter:
    return Meter(Budget(steps=max(1, steps)))


def unlimited() -> Meter:
    return limited(10**9)


def sparse(rng: np.random.Generator) -> tuple[int, Edges]:
    n = int(rng.integers(1, 19))
    return n, some_pairs(rng, n, 0.15)


def dense(rng: np.random.Generator) -> tuple[int, Edges]:
    n = int(rng.integers(1, 14))
    return n, some_pairs(rng, n, 0.5)


def tree(rng: np.random.Generator) -> tuple[int, Edges]:
    n = int(rng.integers(1, 19))
    return n, {(int(rng.integers(0, v)), v) for v in range(1, n)}


def ring(rng: np.random.Generator) -> tuple[int, Edges]:
    n = int(rng.integers(3, 19))
    return n, {(v, (v + 1) % n) for v in range(n)} | some_pairs(rng, n, 0.03)


def grid(rng: np.random.Generator) -> tuple[int, Edges]:
    wide, high = int(rng.integers(2, 6)), int(rng.integers(2, 5))
    right = {(y * wide + x, y * wide + x + 1) for y in range(high) for x in range(wide - 1)}
    return wide * high, right | {(v, v + wide) for v in range(wide * (high - 1))}


def cliques(rng: np.random.Generator) -> tuple[int, Edges]:
    n, edges = int(rng.integers(4, 17)), set()
    for _ in range(4):
        members = rng.choice(n, size=min(n, 5), replace=False).tolist()
        edges |= {(a, b) for a in members for b in members if a < b}
    return n, edges


def regular(rng: np.random.Generator) -> tuple[int, Edges]:
    n = 2 * int(rng.integers(4, 12))
    return n, set(nx.random_regular_graph(int(rng.integers(3, 5)), n, int(rng.integers(2**31))).edges)


def apart(rng: np.random.Generator) -> tuple[int, Edges]:
    """Enough of them that their log is longer than what one rule may write; each is still small enough to try every subset."""
    n, edges = 0, set()
    for _ in range(16):
        size, part = regular(rng)
        edges |= {(a + n, b + n) for a, b in part}
        n += size
    return n, edges


def some_pairs(rng: np.random.Generator, n: int, share: float) -> Edges:
    return {(a, b) for a in range(n) for b in range(a + 1, n) if rng.random() < share}


KINDS: Final = (sparse, dense, tree, ring, grid, cliques, regular)
WEIGHTS: Final[dict[str, tuple[int, int]]] = {"few": (1, 5), "some for nothing": (0, 9), "narrow": (90, 120), "wide": (1, 10**12)}
Kind = Callable[[np.random.Generator], tuple[int, Edges]]


def graph_of(n: int, edges: Edges) -> Graph:
    ends = np.array(sorted({(a, b) for a, b in edges if a != b} | {(b, a) for a, b in edges if a != b}), np.int64).reshape(-1, 2)
    starts = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(ends[:, 0], minlength=n), out=starts[1:])
    return Graph(starts, ends[:, 1].astype(np.int32))


def neighbours_of(graph: Graph) -> list[list[int]]:
    return [part.tolist() for part in np.split(graph.neighbours, graph.starts[1:-1])] if len(graph.starts) > 1 else []


def optimum(graph: Graph, weights: Int64) -> int:
    """Every subset, but what is decided by the same rest of the graph only once."""
    blocks = [sum(1 << u for u in near) | 1 << v for v, near in enumerate(neighbours_of(graph))]
    worth, known = weights.tolist(), {0: 0}

    def best(left: int) -> int:
        if left not in known:
            v = left.bit_length() - 1
            known[left] = max(best(left & ~(1 << v)), worth[v] + best(left & ~blocks[v]))
        return known[left]

    return best((1 << len(worth)) - 1)


def independent(graph: Graph, chosen: Bools) -> bool:
    owner = np.repeat(np.arange(len(chosen)), np.diff(graph.starts))
    return not (chosen[owner] & chosen[graph.neighbours]).any()


def some_set(rng: np.random.Generator, graph: Graph, share: float) -> Bools:
    """A random independent set; maximal where share is 1."""
    near, chosen = neighbours_of(graph), np.zeros(len(graph.starts) - 1, np.bool_)
    for v in rng.permutation(len(near)):
        chosen[v] = rng.random() < share and not any(chosen[u] for u in near[v])
    return chosen


def check(case: str, rng: np.random.Generator, graph: Graph, weights: Int64, smaller: Kernelized) -> None:
    well_formed(smaller)
    assert smaller.offset + optimum(smaller.graph, smaller.weights) == optimum(graph, weights), case
    for share in (0.3, 1.0):
        chosen = some_set(rng, smaller.graph, share)
        restored = smaller.restore(chosen)
        assert independent(graph, restored), case
        assert int(weights[restored].sum()) == smaller.offset + int(smaller.weights[chosen].sum()), case
        earlier = some_set(rng, graph, share)
        projected = smaller.project(earlier)
        assert independent(smaller.graph, projected), case
        if not smaller.fired["unconfined"]:
            assert smaller.offset + int(smaller.weights[projected].sum()) >= int(weights[earlier].sum()), case


def well_formed(smaller: Kernelized) -> None:
    starts, neighbours = smaller.graph
    owner = np.repeat(np.arange(len(smaller.weights)), np.diff(starts))
    edges = set(zip(owner.tolist(), neighbours.tolist(), strict=True))
    assert len(edges) == len(neighbours), "no repeats"
    assert all(a != b and (b, a) in edges for a, b in edges), "no loops, both ends"
    assert (smaller.weights > 0).all()


def random_case(rng: np.random.Generator, kind: Kind, scale: str) -> tuple[Graph, Int64]:
    n, edges = kind(rng)
    low, high = WEIGHTS[scale]
    return graph_of(n, edges), rng.integers(low, high, n, endpoint=True)


@pytest.mark.parametrize("scale", WEIGHTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_optimum_is_kept_and_every_set_finds_its_way_back(kind: Kind, scale: str) -> None:
    for seed in range(150):
        rng = np.random.default_rng(seed)
        graph, weights = random_case(rng, kind, scale)
        check(f"seed {seed}", rng, graph, weights, kernelize(graph, weights, unlimited()))


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_after_any_number_of_steps_it_is_correct(kind: Kind) -> None:
    rng = np.random.default_rng(7)
    graph, weights = random_case(rng, kind, "few")
    whole = kernelize(graph, weights, unlimited())
    assert whole.exhausted
    lengths = set()
    for steps_max in range(0, whole.steps + 2, 1 + whole.steps // 150):
        smaller = kernelize(graph, weights, limited(steps_max))
        lengths.add(len(smaller.ends))
        check(f"after {steps_max} steps", rng, graph, weights, smaller)
    assert len(lengths) > min(3, len(whole.ends) - 1), "it was stopped in between"


def test_every_rule_has_its_day() -> None:
    fired: Counter[str] = Counter()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        graph, weights = random_case(rng, regular if seed % 2 else sparse, "narrow" if seed % 3 else "few")
        fired.update(kernelize(graph, weights, unlimited()).fired)
    assert set(fired) == set(RULES)
    assert all(fired.values()), fired


def test_sums_close_to_the_end_of_int64_do_not_overflow() -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        n, edges = (sparse, regular)[seed % 2](rng)
        graph, weights = graph_of(n, edges), rng.integers((2**63 - 1) // n * 9 // 10, (2**63 - 1) // n, n)
        check(f"seed {seed}", rng, graph, weights, kernelize(graph, weights, unlimited()))


def test_the_sum_of_weights_grows_to_no_more_than_half_of_int64() -> None:
    structions = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n, edges = regular(rng)
        graph, weights = graph_of(n, edges), rng.integers(2**62 // n * 9 // 10, 2**62 // n, n)
        for steps_max in range(0, 4_000, 100):
            smaller = kernelize(graph, weights, limited(steps_max))
            structions += smaller.fired["struction"] + smaller.fired["plateau"] + smaller.fired["growth"]
            assert sum(smaller.weights.tolist()) <= 2**62, f"seed {seed}, {steps_max} steps"
    assert structions


@pytest.mark.parametrize("what", ["pool", "log", "ends", "vertices"])
def test_where_memory_ends_reducing_ends(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    roomy, stops = graph_reductions._board, set()
    beyond: NDArray[np.signedinteger] = np.zeros(0, np.int64)

    def cramped(graph: Graph, weights: Int64) -> Board:
        nonlocal beyond
        board, n = roomy(graph, weights), len(weights)
        column: NDArray[np.signedinteger] = getattr(board, what)
        least = {"pool": len(graph.neighbours), "log": 256, "ends": 65, "vertices": n}[what]
        beyond = column[least + extra :]
        beyond[:] = UNTOUCHED
        return board._replace(**{what: column[: least + extra]})

    monkeypatch.setattr(graph_reductions, "_board", cramped)
    for seed in range(6):
        for extra in (0, 1, 7, 30, 100):
            rng = np.random.default_rng(seed)
            graph, weights = random_case(rng, apart, "narrow")
            smaller = kernelize(graph, weights, unlimited())
            stops.add(len(smaller.weights))
            assert (beyond == UNTOUCHED).all(), f"seed {seed}, extra {extra}"
            check(f"seed {seed}, extra {extra}", rng, graph, weights, smaller)
    assert len(stops) > 1


def roads(rng: np.random.Generator, side: int) -> Graph:
    """A grid with a third of its edges closed."""
    v = np.arange(side * side).reshape(side, side)
    pairs = np.concatenate([np.stack([v[:, :-1], v[:, 1:]], -1).reshape(-1, 2), np.stack([v[:-1], v[1:]], -1).reshape(-1, 2)])
    return graph_of(side * side, set(map(tuple, pairs[rng.random(len(pairs)) > 1 / 3].tolist())))


def test_little_is_left_of_a_road_network_and_the_way_back_holds() -> None:
    rng = np.random.default_rng(3)
    graph = roads(rng, 60)
    weights = rng.integers(1, 200, 3600)
    smaller = kernelize(graph, weights, unlimited())
    well_formed(smaller)
    assert len(smaller.weights) < 36
    for _ in range(20):
        earlier = some_set(rng, graph, 1.0)
        chosen = smaller.project(earlier)
        assert independent(smaller.graph, chosen)
        restored = smaller.restore(chosen)
        assert independent(graph, restored)
        assert int(weights[restored].sum()) == smaller.offset + int(smaller.weights[chosen].sum())
        assert int(weights[restored].sum()) > int(weights[earlier].sum())


def test_of_a_dense_graph_it_soon_lets_go() -> None:
    rng = np.random.default_rng(5)
    n, per_row = 4_000, 12
    graph = graph_of(n, {(v, int(u)) for v in range(n) for u in rng.integers(0, n, per_row)})
    weights = rng.integers(1, 1000, n)
    smaller = kernelize(graph, weights, unlimited())
    assert smaller.steps < 300_000, "of three million"
    assert not smaller.exhausted
    assert len(smaller.weights) > 0.95 * n


def test_pendants_of_a_hub_do_not_wake_each_other() -> None:
    n = 20_000
    edges = {(0, v) for v in range(1, n)}
    weights = np.full(n, 3)
    weights[0] = 2 * n
    smaller = kernelize(graph_of(n, edges), weights, unlimited())
    assert (len(smaller.weights), smaller.offset) == (0, 3 * (n - 1))
    assert smaller.steps < 20 * n


def test_the_same_graph_gives_the_same_bytes_and_is_not_changed() -> None:
    rng = np.random.default_rng(11)
    graph = roads(rng, 40)
    weights = rng.integers(1, 9, 1600)
    before = [column.copy() for column in (*graph, weights)]
    one, two = kernelize(graph, weights, limited(20_000)), kernelize(graph, weights, limited(20_000))
    assert all(np.array_equal(a, b) for a, b in zip(before, (*graph, weights), strict=True))
    assert (one.offset, one.steps, one.fired) == (two.offset, two.steps, two.fired)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(columns(one), columns(two), strict=True))


def columns(smaller: Kernelized) -> list[NDArray[np.signedinteger]]:
    return [smaller.graph.starts, smaller.graph.neighbours, smaller.weights, smaller.log, smaller.ends]


def test_nothing_is_a_graph_too() -> None:
    smaller = kernelize(Graph(np.zeros(1, np.int64), np.zeros(0, np.int32)), np.zeros(0, np.int64), unlimited())
    assert smaller.exhausted
    assert (smaller.offset, len(smaller.restore(np.zeros(0, np.bool_)))) == (0, 0)
