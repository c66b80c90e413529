"""Who is measured: our portfolio, and others from PyPI, each used as its makers recommend, preparation included in its time."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from scipy import sparse

from pipeline_project.bench.trial import Cannot, Peer, Turn, answer
from pipeline_project.core.packing import Bools, Int64, PackingProblem
from pipeline_project.core.selection import Selection

EDGES_MAX: Final = 200_000_000
"""Of a conflict graph, repeats included; beyond, it would not fit in memory."""
HANDOVER_S: Final = 1e-7
"""Seconds to take an answer over, for each candidate."""


def _pipeline(problem: PackingProblem, turn: Turn) -> Selection:
    from pipeline_project.solvers import portfolio
    from pipeline_project.solvers.solver import Budget

    seconds = turn.left()
    return portfolio.solve(problem, Budget(steps=max(1, int(seconds * 10_000_000_000)), seconds=seconds), turn.seed)


def _greedy(problem: PackingProblem, turn: Turn) -> Selection:
    """The loop that everybody writes first: by weight, then by weight for what is demanded."""
    share = problem.quantities / np.maximum(problem.capacities[problem.resources], 1)
    size = np.bincount(problem.candidates(), share, problem.n)
    begin, resources, quantities = problem.indptr.tolist(), problem.resources.tolist(), problem.quantities.tolist()
    best = np.zeros(0, np.int64)
    for rank in (problem.weights.astype(float), problem.weights / np.maximum(size, 1e-9)):
        free, chosen = problem.capacities.tolist(), []
        for number, c in enumerate(np.argsort(-rank, kind="stable").tolist()):
            rows = range(begin[c], begin[c + 1])
            if all(quantities[e] <= free[resources[e]] for e in rows):
                chosen.append(c)
                for e in rows:
                    free[resources[e]] -= quantities[e]
            if number % 10_000 == 0 and turn.left() < 0.02 + problem.n * HANDOVER_S:
                break
        best = max(best, np.array(chosen, np.int64), key=lambda candidates: int(problem.weights[candidates].sum()))
        turn.report(answer(problem, best, None, "greedy"))
    return answer(problem, best, None, "greedy")


def _chils(problem: PackingProblem, turn: Turn) -> Selection:
    """Grossmann, Langedal, Schulz: https://arxiv.org/abs/2412.14198. One call with all the time: it does not continue over two."""
    import chils

    alive, graph = _conflicts(problem)
    n = len(alive)
    if graph.nnz == 0:  # a graph without edges kills it
        return answer(problem, alive, None, "chils")
    starts, neighbours, weights = graph.indptr.astype(np.int64), graph.indices.astype(np.int32), problem.weights[alive].copy()
    library = chils._lib
    library.chils_set_graph.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    library.chils_set_graph.restype = None
    library.chils_solution_get_independent_set.argtypes = [ctypes.c_void_p]
    library.chils_solution_get_independent_set.restype = ctypes.POINTER(ctypes.c_int)
    owner = chils.CHILS()  # releases what it holds when it goes
    solver = owner.solver
    # The graph in one piece: edge by edge through Python would not be fair.
    library.chils_set_graph(solver, n, starts.ctypes.data, neighbours.ctypes.data, weights.ctypes.data)
    del graph
    seconds = max(1e-3, turn.left() - 0.01 - n * HANDOVER_S)
    # It looks at its own clock once in 128 moves, which may take it seconds; it can be asked to stop at once, too.
    stop = threading.Timer(seconds, library.chils_request_stop)
    stop.daemon = True
    stop.start()
    library.chils_run_full(solver, seconds, 4, turn.seed)
    size = library.chils_solution_get_size(solver)
    found = library.chils_solution_get_independent_set(solver)
    inside = np.ctypeslib.as_array(found, (size,)).astype(np.int64) if size else np.zeros(0, np.int64)
    return answer(problem, alive[inside], None, "chils")


def _conflicts(problem: PackingProblem) -> tuple[Int64, Any]:
    """(candidates that fit at all, graph between them as CSR, sorted, no loops, no repeats), where conflicts say all there is to say."""
    alive, binding = _fits(problem), _binding(problem)
    rows = binding[problem.resources] & alive[problem.candidates()]
    owner, resource, quantity = problem.candidates()[rows], problem.resources[rows], problem.quantities[rows]
    order = np.lexsort((quantity, resource))
    holders = np.bincount(resource, minlength=problem.m)
    first = np.cumsum(holders) - holders
    shared = np.flatnonzero(holders >= 2)
    least = quantity[order][first[shared]] + quantity[order][first[shared] + 1]
    if (least <= problem.capacities[shared]).any():
        raise Cannot("a capacity that two candidates can share is no conflict between pairs")
    if (edges := float((holders * (holders - 1.0) / 2).sum())) > EDGES_MAX:
        raise Cannot(f"{edges:.2g} pairs of holders")
    number = np.cumsum(alive) - 1
    wants = sparse.csr_array((np.ones(len(owner), np.bool_), (number[owner], resource)), shape=(int(alive.sum()), problem.m))
    graph = (wants @ wants.T).tocsr()
    graph.sort_indices()
    beside = graph.indices != np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
    starts = np.concatenate(([0], np.cumsum(beside)))[graph.indptr]
    without_loops = sparse.csr_array((np.ones(int(beside.sum()), np.bool_), graph.indices[beside], starts), shape=graph.shape)
    return np.flatnonzero(alive), without_loops


def _fits(problem: PackingProblem) -> Bools:
    """bool[n]: candidates that fit when they are alone."""
    alive = np.ones(problem.n, np.bool_)
    alive[problem.candidates()[problem.quantities > problem.capacities[problem.resources]]] = False
    return alive


def _binding(problem: PackingProblem) -> Bools:
    """bool[m]: resources that cannot give everybody what it demands."""
    rows = _fits(problem)[problem.candidates()]
    return np.bincount(problem.resources[rows], problem.quantities[rows], problem.m) > problem.capacities


def _by_resource(problem: PackingProblem) -> Iterator[tuple[int, list[int], list[int]]]:
    """(capacity, holders, quantities) of each resource that binds."""
    order = np.argsort(problem.resources, kind="stable")
    owner, quantity = problem.candidates()[order], problem.quantities[order]
    ends = np.cumsum(np.bincount(problem.resources, minlength=problem.m))
    for r in np.flatnonzero(_binding(problem)).tolist():
        begin = int(ends[r - 1]) if r else 0
        yield int(problem.capacities[r]), owner[begin : ends[r]].tolist(), quantity[begin : ends[r]].tolist()


def _cpsat(problem: PackingProblem, turn: Turn) -> Selection:
    from ortools.sat.python import cp_model_helper as cp_sat

    alive = _fits(problem)
    model = cp_sat.CpModelProto()
    for fits in alive.tolist():
        model.variables.add().domain.extend((0, int(fits)))
    for capacity, holders, quantities in _by_resource(problem):
        if capacity == 1:
            model.constraints.add().at_most_one.literals.extend([c for c, q in zip(holders, quantities, strict=True) if q == 1])
        else:
            linear = model.constraints.add().linear
            linear.vars.extend(holders)
            linear.coeffs.extend(quantities)
            linear.domain.extend((0, capacity))
    model.objective.vars.extend(range(problem.n))
    model.objective.coeffs.extend((-problem.weights).tolist())
    parameters = cp_sat.SatParameters()
    parameters.num_workers, parameters.random_seed = turn.threads, turn.seed
    parameters.max_time_in_seconds = max(1e-3, turn.left() - 0.02 - problem.n * HANDOVER_S)
    search = cp_sat.SolveWrapper()
    search.set_parameters(parameters)
    response: Any = search.solve(model)  # type: ignore[no-untyped-call]  # OR-Tools' stubs leave it open
    if response.status not in {cp_sat.CpSolverStatus.OPTIMAL, cp_sat.CpSolverStatus.FEASIBLE}:  # UNKNOWN carries values too: rubbish
        return answer(problem, np.zeros(0, np.int64), None, "cpsat")
    chosen = np.flatnonzero(np.asarray(response.solution) == 1)
    return answer(problem, chosen, -response.best_objective_bound, "cpsat")


def _highs(problem: PackingProblem, turn: Turn) -> Selection:
    """Rows as they are. It minds its time limit at some places only: answers are sent as they are found."""
    import highspy

    binding, n = _binding(problem), problem.n
    kept = binding[problem.resources]
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_, lp.sense_ = n, int(binding.sum()), highspy.ObjSense.kMaximize
    lp.col_cost_ = problem.weights.astype(float)
    lp.col_lower_, lp.col_upper_ = np.zeros(n), _fits(problem).astype(float)
    lp.row_lower_, lp.row_upper_ = np.full(lp.num_row_, -highspy.kHighsInf), problem.capacities[binding].astype(float)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.num_col_, lp.a_matrix_.num_row_ = n, lp.num_row_
    lp.a_matrix_.start_ = np.concatenate(([0], np.cumsum(kept)))[problem.indptr].astype(np.int32)
    lp.a_matrix_.index_ = (np.cumsum(binding) - 1)[problem.resources[kept]].astype(np.int32)
    lp.a_matrix_.value_ = problem.quantities[kept].astype(float)
    lp.integrality_ = [highspy.HighsVarType.kInteger] * n
    solver = highspy.Highs()
    for option, value in {
        "output_flag": False,
        "threads": turn.threads,
        "random_seed": turn.seed,
        "mip_rel_gap": 0.0,
        "mip_abs_gap": 0.999,
    }.items():
        solver.setOptionValue(option, value)
    solver.passModel(lp)
    best = [np.zeros(0, np.int64)]

    def improved(event: Any) -> None:
        best[0] = np.flatnonzero(np.asarray(event.data_out.mip_solution) > 0.5)
        turn.report(answer(problem, best[0], event.data_out.mip_dual_bound, "highs"))

    solver.cbMipImprovingSolution += improved
    solver.setOptionValue("time_limit", max(1e-3, turn.left() - 0.02 - problem.n * HANDOVER_S))
    solver.run()
    info = solver.getInfo()
    if info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible:
        found = np.flatnonzero(np.asarray(solver.getSolution().col_value) > 0.5)
        best[0] = max(best[0], found, key=lambda candidates: int(problem.weights[candidates].sum()))
    return answer(problem, best[0], info.mip_dual_bound, "highs")


def _networkx(problem: PackingProblem, turn: Turn) -> Selection:
    """Maximum-weight matching where candidates want one or two units; else the best of many maximal independent sets."""
    rows = _binding(problem)[problem.resources]
    wanted = np.bincount(problem.candidates()[rows], minlength=problem.n)
    single = not (problem.capacities[problem.resources[rows]] > 1).any()
    if single and problem.n <= 30_000 and wanted.max(initial=0) <= 2:
        return _matching(problem, rows)
    return _independent_sets(problem, turn)


def _matching(problem: PackingProblem, rows: Bools) -> Selection:
    import networkx as nx

    fits = _fits(problem)
    wants: list[list[int]] = [[] for _ in range(problem.n)]
    for c, r in zip(problem.candidates()[rows].tolist(), problem.resources[rows].tolist(), strict=True):
        wants[c].append(r)
    graph: nx.Graph[int | str] = nx.Graph()
    for c in np.flatnonzero(fits & (problem.weights > 0)).tolist():
        ends: list[int | str] = [*wants[c], f"{c}a", f"{c}b"]
        one, other = ends[:2]  # who wants less than two has an end of its own
        weight = int(problem.weights[c])
        if not graph.has_edge(one, other) or graph.edges[one, other]["weight"] < weight:
            graph.add_edge(one, other, weight=weight, candidate=c)
    chosen = np.array([graph.edges[ends]["candidate"] for ends in nx.max_weight_matching(graph)], np.int64)
    return answer(problem, chosen, float(problem.weights[chosen].sum()), "networkx")


def _independent_sets(problem: PackingProblem, turn: Turn) -> Selection:
    import networkx as nx

    if problem.n > 5_000:
        raise Cannot(f"{problem.n:,} candidates are too many for its graphs")
    alive, conflicts = _conflicts(problem)
    if conflicts.nnz > 1_000_000:
        raise Cannot(f"{conflicts.nnz:,} conflicts are too many for its graphs")
    graph = nx.from_scipy_sparse_array(conflicts)
    best, number = np.zeros(0, np.int64), 0
    while number == 0 or turn.left() > 0.05:
        members = alive[np.array(nx.maximal_independent_set(graph, seed=turn.seed * 1_000_003 + number), np.int64)]
        if number == 0 or problem.weights[members].sum() > problem.weights[best].sum():
            best = members
            turn.report(answer(problem, best, None, "networkx"))
        number += 1
    return answer(problem, best, None, "networkx")


PIPELINE: Final = Peer(name="pipeline", solve=_pipeline, imports=("pipeline_project.solvers.portfolio",))
CHILS: Final = Peer(name="chils", solve=_chils, imports=("chils",))
CPSAT: Final = Peer(name="cpsat", solve=_cpsat, imports=("ortools.sat.python.cp_model_helper",))
HIGHS: Final = Peer(name="highs", solve=_highs, imports=("highspy",))
GREEDY: Final = Peer(name="greedy", solve=_greedy)
NETWORKX: Final = Peer(name="networkx", solve=_networkx, imports=("networkx",))

PEERS: Final = {peer.name: f"{__name__}:{peer.name.upper()}" for peer in (PIPELINE, CHILS, CPSAT, HIGHS, GREEDY, NETWORKX)}
"""Where a trial's process finds each of them."""
EXTRA: Final = {"chils": "chils", "highs": "highspy"}
"""Peers that the extra `bench` brings, and the module that must be there."""
