"""The rules behind `graph_reductions`: exact for maximum weight independent sets, tried from cheap to dear.

A vertex whose surroundings changed goes back to the cheapest tier; what fails in one tier waits in the next, which runs only while all
cheaper ones are empty.
"""

from __future__ import annotations

from typing import Final

from pipeline_project.solvers.graph_around import SCAN_DEGREE, look_around
from pipeline_project.solvers.graph_board import (
    ADJACENT,
    ALIVE,
    BEGIN,
    BOARD,
    CONFINES,
    COUNTS,
    DEGREE,
    DOMINATED,
    ENTRIES,
    GAVE_LEAF,
    GAVE_SWAP,
    GAVE_TWIN,
    GROWTH_MAX,
    HEAD,
    LENGTH,
    LOGGED,
    MARK,
    NEAR,
    NEIGHBOURHOOD,
    OFFSET,
    PENDANT,
    SHAPES,
    SIMPLICIAL,
    STAMP,
    STEPS,
    SUMS,
    TAIL,
    TIERS,
    TOTAL,
    TWIN,
    UNCONFINED,
    WAKES,
    WEIGHT,
    Board,
    bury,
    compact,
    delete,
    next_waiting,
    note,
    wait,
    wake_neighbours,
)
from pipeline_project.solvers.graph_confined import unconfined
from pipeline_project.solvers.graph_structions import heavier_sets, replace_by_sets
from pipeline_project.solvers.kernels import flag, i8, kernel

SUM_DEGREE: Final = 64  # larger neighbourhoods are not even added up
SET_DEGREE: Final = 7  # up to here all independent sets of neighbours are listed, 2**d at most
ENTRY_MAX: Final = 256  # what one rule may write to the log,
ENTRIES_MAX: Final = 64  # in how many entries


@kernel(BOARD, i8)
def _take(board: Board, v: int) -> None:
    """v is in, its neighbours are out."""
    note(board, GAVE_LEAF, v, 0, 0)
    board.counts[OFFSET] += board.vertices[v, WEIGHT]
    bury(board, v)
    begin, length = board.vertices[v, BEGIN], board.vertices[v, LENGTH]
    for i in range(begin, begin + length):
        u = int(board.pool[i])
        if board.vertices[u, ALIVE]:
            delete(board, u)
    board.counts[STEPS] += length + 1


@kernel(BOARD, i8)
def _transfer(board: Board, v: int) -> None:
    """The neighbours of v are a clique and heavier than v: v is in unless one of them is, which then is worth the difference."""
    compact(board, v)
    begin, degree, weight = board.vertices[v, BEGIN], board.vertices[v, DEGREE], board.vertices[v, WEIGHT]
    for i in range(degree):
        u = int(board.pool[begin + i])
        board.log[board.counts[LOGGED] + 3 + i] = u
        board.vertices[u, WEIGHT] -= weight
        if board.vertices[u, DEGREE] > SUM_DEGREE:
            wait(board, u, WAKES)  # or each of a hub's many pendants would wake all the others
        else:
            wake_neighbours(board, u)
    note(board, GAVE_LEAF, v, degree, degree)
    board.counts[TOTAL] -= weight * degree
    board.counts[OFFSET] += weight
    delete(board, v)


@kernel(BOARD, i8, returns=flag)
def _sums(board: Board, v: int) -> bool:
    """Neighbourhood removal, pendants. True when done with v until something around it changes."""
    degree, weight = board.vertices[v, DEGREE], board.vertices[v, WEIGHT]
    if degree > SUM_DEGREE:
        return True
    compact(board, v)
    i, total = board.vertices[v, BEGIN], 0
    end = i + degree
    while i < end and total <= weight:
        total += board.vertices[board.pool[i], WEIGHT]
        i += 1
    board.counts[STEPS] += degree - (end - i)
    if total <= weight:
        board.fired[NEIGHBOURHOOD] += 1
        _take(board, v)
    elif degree == 1:
        board.fired[PENDANT] += 1
        _transfer(board, v)
    return bool(total <= weight or degree == 1)


@kernel(BOARD, i8, returns=flag)
def _merge_twin(board: Board, v: int) -> bool:
    """Somebody who is not adjacent to v and has the same neighbours goes where v goes. After `look_around`."""
    degree, stamp = board.vertices[v, DEGREE], board.counts[STAMP]
    rarest = board.scratch[NEAR, 0]
    for i in range(1, degree):
        if board.vertices[board.scratch[NEAR, i], DEGREE] < board.vertices[rarest, DEGREE]:
            rarest = board.scratch[NEAR, i]
    if board.vertices[rarest, DEGREE] > SUM_DEGREE:
        return False
    compact(board, rarest)
    begin = board.vertices[rarest, BEGIN]
    board.counts[STEPS] += board.vertices[rarest, DEGREE]
    for i in range(begin, begin + board.vertices[rarest, DEGREE]):
        twin = int(board.pool[i])
        if twin == v or board.vertices[twin, DEGREE] != degree or board.vertices[twin, MARK] >= stamp:
            continue
        compact(board, twin)
        same, its_begin = 0, board.vertices[twin, BEGIN]
        while same < degree and board.vertices[board.pool[its_begin + same], MARK] >= stamp:
            same += 1
        board.counts[STEPS] += same
        if same == degree:
            note(board, GAVE_TWIN, twin, v, 0)
            delete(board, twin)
            board.vertices[v, WEIGHT] += board.vertices[twin, WEIGHT]
            board.counts[TOTAL] += board.vertices[twin, WEIGHT]
            wait(board, v, SUMS)
            return True
    return False


@kernel(BOARD, i8, returns=flag)
def _shapes(board: Board, v: int) -> bool:
    """Domination, simplicial vertices, twins, folds. True when done with v until something around it changes."""
    degree, weight = board.vertices[v, DEGREE], board.vertices[v, WEIGHT]
    if degree > SCAN_DEGREE or not look_around(board, v):
        return True
    everybody, whole, dominated = (1 << degree) - 1, 0, 0
    for i in range(degree):
        x = board.scratch[NEAR, i]
        if board.scratch[ADJACENT, i] | 1 << i != everybody:
            continue
        whole += 1
        if board.vertices[x, WEIGHT] <= weight:
            dominated += 1
            note(board, GAVE_SWAP, v, x, 0)
            delete(board, x)
    board.fired[DOMINATED] += dominated
    if whole == degree:
        board.fired[SIMPLICIAL] += 1
        _transfer(board, v)
        return True
    if dominated:
        return True  # the deletion has put v back into the first tier
    if degree > SET_DEGREE:
        return False
    if _merge_twin(board, v):
        board.fired[TWIN] += 1
        return True
    sets = heavier_sets(board, v, 1)
    if sets <= 1:
        replace_by_sets(board, v, sets)
    return sets <= 1


@kernel(BOARD, i8, i8)
def _counts(board: Board, v: int, tier: int) -> None:
    """Struction by how many vertices it saves: at once where two or more, else when nothing cheaper is left."""
    degree = board.vertices[v, DEGREE]
    if degree > SET_DEGREE or degree < 2 or not look_around(board, v):
        return
    sets = heavier_sets(board, v, degree + GROWTH_MAX)
    its_tier = COUNTS + max(0, sets - degree + 1)
    if its_tier <= tier:
        replace_by_sets(board, v, sets)
    elif its_tier < WAKES:
        wait(board, v, its_tier)


@kernel(BOARD, i8, i8)
def _try(board: Board, v: int, tier: int) -> None:
    """Apply what this tier knows; where it fails, v waits in the next."""
    if tier == SUMS:
        if not _sums(board, v):
            wait(board, v, SHAPES)
    elif tier == SHAPES:
        if not _shapes(board, v):
            wait(board, v, CONFINES)
    elif tier == CONFINES:
        if unconfined(board, v):
            board.fired[UNCONFINED] += 1
            delete(board, v)
        else:
            wait(board, v, COUNTS)
    elif tier < WAKES:
        _counts(board, v, tier)
    else:
        wake_neighbours(board, v)


@kernel(BOARD, i8, returns=flag)
def run(board: Board, steps_max: int) -> bool:
    """Apply rules until none applies (True), or the steps or the log are spent. Another call goes on from there."""
    counts = board.counts
    while counts[STEPS] < steps_max and counts[LOGGED] + ENTRY_MAX <= len(board.log) and counts[ENTRIES] + ENTRIES_MAX < len(board.ends):
        tier = 0
        while tier < TIERS and counts[HEAD + tier] == counts[TAIL + tier]:
            tier += 1
        if tier == TIERS:
            return True
        v = next_waiting(board, tier)
        counts[STEPS] += 1
        if board.vertices[v, ALIVE]:
            _try(board, v, tier)
    return False
