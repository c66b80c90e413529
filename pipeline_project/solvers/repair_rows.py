"""The loops of a repair: charge everybody once, then stay in the rows of what changed and near them."""

from __future__ import annotations

import numba
import numpy as np

from pipeline_project.core.packing import Int32, Int64
from pipeline_project.solvers.incidence import INCIDENCE, Incidence, take
from pipeline_project.solvers.kernels import f8, flag, i4, i8, kernel
from pipeline_project.solvers.prices import SAFE
from pipeline_project.solvers.solver import Bools


@kernel(i8[::1], i8[::1], i4[::1], i8[::1], i8[::1], i8[::1], i8, flag[::1], i8[::1], flag[::1], i8[::1], returns=flag)
def charge_all(
    weights: Int64,
    starts: Int64,
    resources: Int32,
    quantities: Int64,
    capacities: Int64,
    prices: Int64,
    scale: int,
    chosen: Bools,
    worth: Int64,
    counted: Bools,
    left: Int64,
) -> bool:
    """One pass over the demands: what each candidate is worth beyond its charges, in 1/scale points, and whether it fits alone.

    Takes what the chosen hold out of `left`; strikes those that do not fit alone. False, at once, where a sum might not fit int64.
    """
    for c in range(len(weights)):
        rest, size, fits_alone = weights[c] * scale, 0.0, True
        for e in range(starts[c], starts[c + 1]):
            r, q = resources[e], quantities[e]
            size += float(q) * float(prices[r])
            rest -= q * prices[r]
            if q > capacities[r]:
                fits_alone = False
        if size > SAFE:
            return False
        worth[c], counted[c] = rest, fits_alone
        if chosen[c]:
            chosen[c] = fits_alone
            if fits_alone:
                for e in range(starts[c], starts[c + 1]):
                    left[resources[e]] -= quantities[e]
    return True


@kernel(i8[::1], i8[::1], i8[::1], i8[::1], flag[::1], i8[::1], flag[::1], returns=flag)
def charge_rows(owner: Int64, row: Int64, amount: Int64, prices: Int64, counted: Bools, worth: Int64, wanted: Bools) -> bool:
    """The same for further rows, given entry by entry; marks the rows that somebody who counts is in."""
    for i in range(len(owner)):
        c = owner[i]
        if float(amount[i]) * float(prices[row[i]]) > SAFE:
            return False
        worth[c] -= amount[i] * prices[row[i]]
        if worth[c] < -SAFE:
            return False
        if counted[c]:
            wanted[row[i]] = True
    return True


@kernel(INCIDENCE, i8[::1], flag[::1])
def free_unwanted(inc: Incidence, prices: Int64, counted: Bools) -> None:
    """A resource that nobody who counts demands bounds nothing: it costs nothing."""
    for r in range(len(prices)):
        h, end = inc.row_starts[r], inc.row_starts[r + 1]
        while h < end and not counted[inc.holders[h]]:
            h += 1
        if h == end:
            prices[r] = 0


@kernel(i8[::1], i8[::1], returns=f8)
def size_of(capacities: Int64, prices: Int64) -> float:
    """How large the sum of all charges for what there is may be on the way."""
    size = 0.0
    for r in range(len(prices)):
        size += abs(float(capacities[r])) * float(prices[r])
    return size


@kernel(i8[::1], i8[::1], returns=i8)
def charge_for(capacities: Int64, prices: Int64) -> int:
    total = 0
    for r in range(len(prices)):
        total += capacities[r] * prices[r]
    return total


@kernel(i8[::1], flag[::1], returns=i8)
def sum_worth(worth: Int64, counted: Bools) -> int:
    """What those who count are worth beyond the prices, all together."""
    total = 0
    for c in range(len(worth)):
        if counted[c]:
            total += max(0, worth[c])
    return total


@kernel(INCIDENCE, i8[::1], flag[::1])
def touch(inc: Incidence, candidates: Int64, touched: Bools) -> None:
    for c in candidates:
        for e in range(inc.starts[c], inc.starts[c + 1]):
            touched[inc.resources[e]] = True


@kernel(INCIDENCE, flag[::1], i8[::1], i8[::1], flag[::1])
def relieve(inc: Incidence, chosen: Bools, left: Int64, worth: Int64, touched: Bools) -> None:
    """Put out, of each overdrawn resource, whom prices would miss least, until it is not; marks what that touches."""
    for r in range(len(left)):
        if left[r] >= 0:
            continue
        begin, end, count = inc.row_starts[r], inc.row_starts[r + 1], 0
        holding = np.empty(end - begin, np.int64)
        for h in range(begin, end):
            if chosen[inc.holders[h]]:
                holding[count] = inc.holders[h]
                count += 1
        least = np.argsort(worth[holding[:count]], kind="mergesort")
        for i in least:
            if left[r] >= 0:
                break
            c = holding[i]
            chosen[c] = False
            take(inc, left, c, -1)
            for e in range(inc.starts[c], inc.starts[c + 1]):
                touched[inc.resources[e]] = True


@kernel(INCIDENCE, i8[::1], i8[::1], i8[::1], flag[::1], i8, returns=numba.types.UniTuple(i8, 2))
def descend(inc: Incidence, rows: Int64, prices: Int64, worth: Int64, counted: Bools, holders_max: int) -> tuple[int, int]:
    """Move each row's price to where the bound is lowest in it alone, and worths with it: (by how much the bound fell, work)."""
    fell, work = 0, 0
    for r in rows:
        begin, end, count = inc.row_starts[r], inc.row_starts[r + 1], 0
        if end - begin > holders_max:
            continue
        work += 4 * (end - begin)
        who, rates = np.empty(end - begin, np.int64), np.empty(end - begin)
        for h in range(begin, end):
            if counted[inc.holders[h]]:
                who[count] = h
                # the price at which this holder is worth nothing beyond its demands
                rates[count] = worth[inc.holders[h]] / inc.held[h] + prices[r]
                count += 1
        used, price, above = 0, 0.0, -1.0
        for i in np.argsort(-rates[:count], kind="mergesort"):
            if used + inc.held[who[i]] > inc.capacities[r]:
                price = rates[i] if used < inc.capacities[r] or above < 0.0 else 0.5 * (rates[i] + above)
                break
            used += inc.held[who[i]]
            above = rates[i]
        new = np.int64(min(max(0.0, price), SAFE))
        gain, safe = inc.capacities[r] * (prices[r] - new), float(inc.capacities[r]) * float(new) < SAFE
        for h in who[:count]:
            before = worth[inc.holders[h]]
            safe = safe and float(before) - float(inc.held[h]) * float(new - prices[r]) > -SAFE
            gain += max(0, before) - max(0, before + inc.held[h] * (prices[r] - new))
        if safe and gain > 0:
            fell += gain
            for h in range(begin, end):
                worth[inc.holders[h]] += inc.held[h] * (prices[r] - new)
            prices[r] = new
    return fell, work


@kernel(INCIDENCE, i8, i8[::1], flag[::1], flag[::1], i8[::1], i8, i8, i8, flag[::1], i8[::1], i8, returns=i8)
def _near_in(
    inc: Incidence,
    r: int,
    left: Int64,
    chosen: Bools,
    counted: Bools,
    worth: Int64,
    near: int,
    crowd: int,
    members_max: int,
    known: Bools,
    found: Int64,
    count: int,
) -> int:
    """Append to `found` whoever of one row is in doubt; returns how many there are then."""
    begin, end = inc.row_starts[r], inc.row_starts[r + 1]
    limit = near if end - begin <= crowd else near // (end - begin) * crowd
    for h in range(begin, end):
        c = inc.holders[h]
        if known[c] or not counted[c] or count >= members_max:
            continue
        loss = worth[c] if chosen[c] else -worth[c]
        if loss <= limit or (not chosen[c] and left[r] >= inc.held[h] and end - begin <= crowd):
            known[c] = True
            found[count] = c
            count += 1
    return count


@kernel(INCIDENCE, i8[::1], returns=i8[::1])
def _rows_of(inc: Incidence, candidates: Int64) -> Int64:
    """The rows that these demand, one after the other, some more than once."""
    count = 0
    for c in candidates:
        count += inc.starts[c + 1] - inc.starts[c]
    rows, at = np.empty(count, np.int64), 0
    for c in candidates:
        for e in range(inc.starts[c], inc.starts[c + 1]):
            rows[at] = inc.resources[e]
            at += 1
    return rows


@kernel(INCIDENCE, i8[::1], flag[::1], i8[::1], flag[::1], flag[::1], i8[::1], i8, i8, i8, i8, returns=i8[::1])
def around(
    inc: Incidence,
    changed: Int64,
    touched: Bools,
    left: Int64,
    chosen: Bools,
    counted: Bools,
    worth: Int64,
    near: int,
    crowd: int,
    rings: int,
    members_max: int,
) -> Int64:
    """Those that changed, and up to `rings` rows away whoever prices leave in doubt, or something is free for; the next first.

    near   how much somebody may lose by moving, in the unit of worth, to be in doubt; less in rows with more holders than `crowd`
    """
    found = np.empty(min(len(worth), max(members_max, len(changed))), np.int64)
    known, seen = np.zeros(len(worth), np.bool_), np.zeros(len(left), np.bool_)
    count, begun = 0, 0
    for c in changed:
        if counted[c] and not known[c]:
            known[c] = True
            found[count] = c
            count += 1
    rows: Int64 = np.flatnonzero(touched)
    for _ in range(rings):
        ended = count
        for r in rows:
            if not seen[r]:
                seen[r] = True
                count = _near_in(inc, r, left, chosen, counted, worth, near, crowd, members_max, known, found, count)
        rows = _rows_of(inc, found[begun:count])
        begun = ended
    return found[:count].copy()


@kernel(INCIDENCE, i8[::1], flag[::1], i8[::1], i8[::1], i4[::1], i8[::1])
def carve(inc: Incidence, members: Int64, chosen: Bools, room: Int64, starts: Int64, resources: Int32, quantities: Int64) -> None:
    """The demands of the members alone, with what the chosen among them hold given back to `room`."""
    at = 0
    for i in range(len(members)):
        c = members[i]
        if chosen[c]:
            take(inc, room, c, -1)
        for e in range(inc.starts[c], inc.starts[c + 1]):
            resources[at], quantities[at] = inc.resources[e], inc.quantities[e]
            at += 1
        starts[i + 1] = at


@kernel(INCIDENCE, i8[::1], flag[::1], flag[::1], i8[::1])
def adopt(inc: Incidence, members: Int64, found: Bools, chosen: Bools, left: Int64) -> None:
    """The members as found; everybody else stays."""
    for i in range(len(members)):
        c = members[i]
        if chosen[c] != found[i]:
            take(inc, left, c, 1 if found[i] else -1)
            chosen[c] = found[i]
