"""The rules behind `graph_reductions`: exact for maximum weight independent sets, tried from cheap to dear.

A vertex whose surroundings changed goes back to the cheapest tier; what fails in one tier waits in the next, which runs only while all
cheaper ones are empty.
"""

from __future__ import annotations

from typing import Final

from pipeline_project.solvers.graph_board import (
    ALIVE,
    BEGIN,
    BOARD,
    CONFINES,
    COUNTS,
    DEGREE,
    ENTRIES,
    GAVE_LEAF,
    GAVE_STRUCTION,
    GAVE_SWAP,
    GAVE_TWIN,
    GROWTH_MAX,
    HEAD,
    LEFT,
    LENGTH,
    LOGGED,
    MARK,
    OFFSET,
    POOLED,
    SHAPES,
    STAMP,
    STEPS,
    SUMS,
    TAIL,
    TIERS,
    TOTAL,
    USED,
    WAKES,
    WEIGHT,
    Board,
    bury,
    compact,
    delete,
    move,
    next_waiting,
    note,
    wait,
    wake_neighbours,
)
from pipeline_project.solvers.kernels import flag, i8, kernel

RULES: Final = (
    "neighbourhood",
    "pendant",
    "dominated",
    "simplicial",
    "twin",
    "unconfined",
    "outweighs",
    "fold",
    "struction",
    "plateau",
    "growth",
)
NEIGHBOURHOOD, PENDANT, DOMINATED, SIMPLICIAL, TWIN, UNCONFINED, OUTWEIGHS, FOLD, STRUCTION = range(9)

SUM_DEGREE: Final = 64  # larger neighbourhoods are not even added up
SCAN_DEGREE: Final = 48  # and these not compared: a set of neighbours is one word of bits
SCAN_STEPS: Final = 1_024  # what one comparison may visit
SET_DEGREE: Final = 7  # up to here all independent sets of neighbours are listed, 2**d at most
FAR_MAX: Final = 96  # neighbours of neighbours that a struction may join,
FAR_LENGTH: Final = 4_096  # and how long their lists may be: they are read in full
CONFINED_MAX: Final = 16
ENTRY_MAX: Final = 256  # what one rule may write to the log,
ENTRIES_MAX: Final = 64  # in how many entries
TOTAL_MAX: Final = 2**62  # so far structions may raise the sum of all weights, so that no sum of some of them overflows

NEAR, ADJACENT, SETS, EXCESS, FAR, TOUCHED, SET, SET_WEIGHT = range(8)  # rows of `scratch`
SCRATCH: Final = (8, 256)
NOBODY, NOT_EVEN_ALL = -1, -2


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
def _look_around(board: Board, v: int) -> bool:
    """Fill NEAR with the neighbours and ADJACENT with who of them are adjacent, and mark them; False when that is too much work.

    The list of the largest is not read: each edge stands in the other list as well.
    """
    compact(board, v)
    begin, degree = board.vertices[v, BEGIN], board.vertices[v, DEGREE]
    total, largest = 0, 0
    board.counts[STAMP] += 64
    stamp = board.counts[STAMP]
    for i in range(degree):
        u = int(board.pool[begin + i])
        board.scratch[NEAR, i], board.scratch[ADJACENT, i] = u, 0
        board.vertices[u, MARK] = stamp + i
        total += board.vertices[u, LENGTH]
        if board.vertices[u, LENGTH] > board.vertices[board.scratch[NEAR, largest], LENGTH]:
            largest = i
    total -= board.vertices[board.scratch[NEAR, largest], LENGTH]
    board.counts[STEPS] += degree
    if total > SCAN_STEPS:
        return False
    for i in range(degree):
        if i == largest:
            continue
        u = board.scratch[NEAR, i]
        compact(board, u)
        for k in range(board.vertices[u, BEGIN], board.vertices[u, BEGIN] + board.vertices[u, LENGTH]):
            j = board.vertices[board.pool[k], MARK] - stamp
            if j >= 0:
                board.scratch[ADJACENT, i] |= 1 << j
                board.scratch[ADJACENT, j] |= 1 << i
    board.counts[STEPS] += total
    return True


@kernel(BOARD, i8, returns=flag)
def _merge_twin(board: Board, v: int) -> bool:
    """Somebody who is not adjacent to v and has the same neighbours goes where v goes. After `_look_around`."""
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


@kernel(BOARD, i8, i8, returns=i8)
def _heavier_sets(board: Board, v: int, limit: int) -> int:
    """List in SETS the independent sets of neighbours that outweigh v, in EXCESS by how much; at most limit + 1. After `_look_around`."""
    degree, weight = board.vertices[v, DEGREE], board.vertices[v, WEIGHT]
    board.scratch[SET, 0] = board.scratch[SET_WEIGHT, 0] = 0
    sets, found = 1, 0
    for i in range(degree):
        own = board.vertices[board.scratch[NEAR, i], WEIGHT]
        for smaller in range(sets):
            if board.scratch[SET, smaller] & board.scratch[ADJACENT, i]:
                continue
            board.scratch[SET, sets] = board.scratch[SET, smaller] | 1 << i
            board.scratch[SET_WEIGHT, sets] = board.scratch[SET_WEIGHT, smaller] + own
            if board.scratch[SET_WEIGHT, sets] > weight:
                board.scratch[SETS, found] = board.scratch[SET, sets]
                board.scratch[EXCESS, found] = board.scratch[SET_WEIGHT, sets] - weight
                found += 1
                if found > limit:
                    board.counts[STEPS] += sets
                    return found
            sets += 1
    board.counts[STEPS] += sets
    return found


@kernel(BOARD, i8, returns=i8)
def _look_beyond(board: Board, v: int) -> int:
    """Fill FAR with the neighbours of the neighbours of v, TOUCHED with whose they are; their number, or -1. After `_look_around`."""
    degree, near = board.vertices[v, DEGREE], board.counts[STAMP]
    far, count = near + 64, 0
    board.counts[STAMP] += 1024
    for i in range(degree):
        x = board.scratch[NEAR, i]
        if board.vertices[x, DEGREE] > FAR_MAX:
            return -1
        compact(board, x)
        begin = board.vertices[x, BEGIN]
        board.counts[STEPS] += board.vertices[x, DEGREE]
        for k in range(begin, begin + board.vertices[x, DEGREE]):
            y = int(board.pool[k])
            mark = board.vertices[y, MARK]
            if y == v or near <= mark < far:
                continue
            if mark < near:
                if count == FAR_MAX or board.vertices[y, LENGTH] > FAR_LENGTH:
                    return -1
                board.vertices[y, MARK] = far + count
                board.scratch[FAR, count], board.scratch[TOUCHED, count] = y, 0
                count += 1
            board.scratch[TOUCHED, board.vertices[y, MARK] - far] |= 1 << i
    return count


@kernel(BOARD, i8, i8, i8, returns=flag)
def _affordable(board: Board, v: int, sets: int, count: int) -> bool:
    """Whether numbers, weights and lists of what the struction would leave find their place."""
    total, need = board.counts[TOTAL], 0
    for j in range(sets):
        if board.scratch[EXCESS, j] > TOTAL_MAX - total:
            return False
        total += board.scratch[EXCESS, j]
    for i in range(count):
        joins = 0
        for j in range(sets):
            joins += (board.scratch[TOUCHED, i] & board.scratch[SETS, j]) != 0
        need += 2 * (board.vertices[board.scratch[FAR, i], DEGREE] + 2 * joins)
    board.counts[STEPS] += count * sets
    fresh = max(0, sets - board.vertices[v, DEGREE] - 1)
    return bool(board.counts[POOLED] + need + 2 * sets * sets <= len(board.pool) and board.counts[USED] + fresh <= len(board.vertices))


@kernel(BOARD, i8, i8, i8)
def _raise(board: Board, j: int, sets: int, count: int) -> None:
    """The vertex of set j, under the number NEAR[j]."""
    x = board.scratch[NEAR, j]
    degree = sets - 1
    for i in range(count):
        degree += (board.scratch[TOUCHED, i] & board.scratch[SETS, j]) != 0
    board.vertices[x, LENGTH] = 0
    move(board, x, degree)
    board.vertices[x, WEIGHT], board.vertices[x, ALIVE] = board.scratch[EXCESS, j], 1
    board.vertices[x, DEGREE] = board.vertices[x, LENGTH] = degree
    board.counts[LEFT] += 1
    board.counts[TOTAL] += board.scratch[EXCESS, j]
    end = board.vertices[x, BEGIN]
    for other in range(sets):
        if other != j:
            board.pool[end] = board.scratch[NEAR, other]
            end += 1
    for i in range(count):
        if board.scratch[TOUCHED, i] & board.scratch[SETS, j]:
            board.pool[end] = board.scratch[FAR, i]
            end += 1
    board.counts[STEPS] += count + degree


@kernel(BOARD, i8, i8)
def _join(board: Board, i: int, sets: int) -> None:
    """The list of FAR[i] gets the new vertices whose sets it touched."""
    y, joins = board.scratch[FAR, i], 0
    for j in range(sets):
        joins += (board.scratch[TOUCHED, i] & board.scratch[SETS, j]) != 0
    move(board, y, board.vertices[y, LENGTH] + joins)
    end = board.vertices[y, BEGIN] + board.vertices[y, LENGTH]
    for j in range(sets):
        if board.scratch[TOUCHED, i] & board.scratch[SETS, j]:
            board.pool[end] = board.scratch[NEAR, j]
            end += 1
    board.vertices[y, LENGTH] += joins
    board.vertices[y, DEGREE] += joins
    wait(board, y, SUMS)


@kernel(BOARD, i8, i8)
def _struction(board: Board, v: int, sets: int) -> None:
    """Replace v and its neighbours by one vertex for each set that outweighs v, each adjacent to all others and to what the set touched.

    None of them chosen means v, one of them its set. After `_heavier_sets`. With no set this puts v in, with one it is a fold.
    """
    degree = board.vertices[v, DEGREE]
    count = _look_beyond(board, v)
    if count < 0 or not _affordable(board, v, sets, count):
        return
    if sets < 2:
        board.fired[FOLD if sets else OUTWEIGHS] += 1
    else:
        board.fired[STRUCTION + min(2, max(0, sets - degree))] += 1
    end = board.counts[LOGGED] + 3
    board.log[end], board.log[end + 1] = sets, board.counts[USED]
    for i in range(degree):
        board.log[end + 2 + i] = board.scratch[NEAR, i]
    for j in range(sets):
        board.log[end + 2 + degree + j] = board.scratch[SETS, j]
    note(board, GAVE_STRUCTION, v, degree, 2 + degree + sets)
    board.counts[OFFSET] += board.vertices[v, WEIGHT]
    delete(board, v)
    for i in range(degree):
        delete(board, board.scratch[NEAR, i])
    for i in range(count):
        compact(board, board.scratch[FAR, i])
    board.scratch[NEAR, degree] = v
    for j in range(degree + 1, sets):
        board.scratch[NEAR, j] = board.counts[USED]
        board.counts[USED] += 1
    for j in range(sets):
        _raise(board, j, sets, count)
    for i in range(count):
        _join(board, i, sets)
    for j in range(sets):
        wait(board, board.scratch[NEAR, j], SUMS)


@kernel(BOARD, i8, returns=flag)
def _shapes(board: Board, v: int) -> bool:
    """Domination, simplicial vertices, twins, folds. True when done with v until something around it changes."""
    degree, weight = board.vertices[v, DEGREE], board.vertices[v, WEIGHT]
    if degree > SCAN_DEGREE or not _look_around(board, v):
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
    sets = _heavier_sets(board, v, 1)
    if sets <= 1:
        _struction(board, v, sets)
    return sets <= 1


@kernel(BOARD, i8, i8, i8, returns=i8)
def _confine(board: Board, s: int, count: int, stamp: int) -> int:
    """Add s to the set: FAR are the neighbours of the set, TOUCHED the weight that each has in it. Their number, or -1."""
    board.vertices[s, MARK] = stamp + 512
    compact(board, s)
    begin, degree = board.vertices[s, BEGIN], board.vertices[s, DEGREE]
    for i in range(begin, begin + degree):
        u = int(board.pool[i])
        if board.vertices[u, MARK] < stamp:
            if count == board.scratch.shape[1]:
                return -1
            board.vertices[u, MARK] = stamp + count
            board.scratch[FAR, count], board.scratch[TOUCHED, count] = u, 0
            count += 1
        board.scratch[TOUCHED, board.vertices[u, MARK] - stamp] += board.vertices[s, WEIGHT]
    board.counts[STEPS] += degree
    return count


@kernel(BOARD, i8, i8, i8, returns=i8)
def _indispensable(board: Board, u: int, slack: int, stamp: int) -> int:
    """Whom of u's unmarked neighbours it takes for all of them to outweigh the slack: one vertex, or NOBODY, or NOT_EVEN_ALL do."""
    compact(board, u)
    begin, length = board.vertices[u, BEGIN], board.vertices[u, LENGTH]
    board.counts[STEPS] += length
    rest, heaviest, found = 0, 0, NOBODY
    for i in range(begin, begin + length):
        x = int(board.pool[i])
        if board.vertices[x, MARK] >= stamp:
            continue
        weight = board.vertices[x, WEIGHT]
        rest += min(heaviest, weight)
        if rest > slack:
            return NOBODY
        if weight > heaviest:
            heaviest, found = weight, x
    return NOT_EVEN_ALL if rest + heaviest <= slack else found


@kernel(BOARD, i8, returns=flag)
def _unconfined(board: Board, v: int) -> bool:
    """Whether some optimum leaves v out. Suppose that none does, so that all contain v, or more generally a set that grows from v.

    A neighbour u of the set at least as heavy as its neighbours in the set could replace them, so every optimum must also hold enough
    of u's other neighbours: all of them together being too light is a contradiction; all but one being too light puts that one into
    the set.
    """
    stamp, steps_end = board.counts[STAMP] + 64, board.counts[STEPS] + SCAN_STEPS
    board.counts[STAMP] += 1024
    s, count = v, 0
    for _ in range(CONFINED_MAX):
        if board.vertices[s, DEGREE] > SCAN_DEGREE or board.counts[STEPS] > steps_end:
            return False
        count = _confine(board, s, count, stamp)
        s = NOBODY
        for i in range(count):
            u = board.scratch[FAR, i]
            slack = board.vertices[u, WEIGHT] - board.scratch[TOUCHED, i]
            if slack >= 0 and board.vertices[u, DEGREE] <= SCAN_DEGREE:
                s = _indispensable(board, u, slack, stamp)
                if s != NOBODY:
                    break
        if s < 0:
            return s == NOT_EVEN_ALL
    return False


@kernel(BOARD, i8, i8)
def _counts(board: Board, v: int, tier: int) -> None:
    """Struction by how many vertices it saves: at once where two or more, else when nothing cheaper is left."""
    degree = board.vertices[v, DEGREE]
    if degree > SET_DEGREE or degree < 2 or not _look_around(board, v):
        return
    sets = _heavier_sets(board, v, degree + GROWTH_MAX)
    its_tier = COUNTS + max(0, sets - degree + 1)
    if its_tier <= tier:
        _struction(board, v, sets)
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
        if _unconfined(board, v):
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
