"""Rounded rows: one resource's row times a fraction, some of its candidates complemented, mixed-integer rounded.

Marchand, Wolsey: Aggregation and mixed integer rounding to solve MIPs, Oper. Res. 49, 2001. Covers, "not all of these", are among them.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Final

import numpy as np

from pipeline_project.core.packing import Int64
from pipeline_project.core.selection import NO_CUTS, Cuts
from pipeline_project.solvers.incidence import INCIDENCE, Incidence
from pipeline_project.solvers.kernels import f8, flag, i8, kernel
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.solver import Bools, Floats

TAKEN: Final = 0.01  # of a candidate: less is noise of the iterations
TRIES: Final = 16  # candidates of one row that are complemented on trial
OWN: Final = 8  # candidates of one row whose quantities become multipliers
SLOTS: Final = 8  # quantities of which a row's rounded amounts are remembered
MULTIPLIERS: Final = sorted({Fraction(p, q) for q in range(2, 9) for p in range(1, q)}, key=lambda u: (u.denominator, u))


def rounded_rows(inc: Incidence, share: Floats, violation_min: float, meter: Meter) -> Cuts:
    """For each tight resource the rounded row that the relaxation breaks most, if any by at least `violation_min` along its normal."""
    widest = int(np.diff(inc.row_starts).max(initial=0))
    found, ends, complemented = np.empty((inc.m, 3), np.int64), np.zeros(inc.m + 1, np.int64), np.empty(inc.k, np.int64)
    numerators, denominators = (np.array([getattr(u, part) for u in MULTIPLIERS], np.int64) for part in ("numerator", "denominator"))
    flags, state = (np.empty(widest, np.bool_), np.empty(widest, np.bool_)), np.zeros(3, np.int64)
    while state[ROW] < inc.m and (steps := meter.slice()):
        state[SPENT] = 0
        _separate(inc, share, numerators, denominators, violation_min, steps, *flags, found, ends, complemented, state)
        meter.spend(int(state[SPENT]))
    count = int(state[COUNT])
    columns = found[:count].T.copy()
    return replace(
        NO_CUTS,
        resource=columns[0],
        numerator=columns[1],
        denominator=columns[2],
        price=np.zeros(count, np.int64),
        complemented_starts=ends[: count + 1].copy(),
        complemented=complemented[: ends[count]].copy(),
    )


@kernel(i8, i8, i8, returns=i8)
def _rounded_amount(amount: int, denominator: int, kept: int) -> int:
    """The rounding function, in 1/(denominator - kept); `kept` is the remainder of the right-hand side. It never overestimates a sum."""
    whole = amount // denominator
    return whole * (denominator - kept) + max(0, amount - whole * denominator - kept)


@kernel(INCIDENCE, i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], returns=i8)
def write_out(
    inc: Incidence,
    resource: Int64,
    numerator: Int64,
    denominator: Int64,
    complemented_starts: Int64,
    complemented: Int64,
    owner: Int64,
    row: Int64,
    amount: Int64,
    capacities: Int64,
) -> int:
    """The rows in numbers: row[i] takes amount[i] for candidate owner[i]. Fills them (returns how many) and the first capacities."""
    used, absent, rounded = 0, np.zeros(len(owner), np.int8), np.empty((SLOTS, 3), np.int64)
    for i in range(len(resource)):
        first, last = inc.row_starts[resource[i]], inc.row_starts[resource[i] + 1]
        j, end, rest = complemented_starts[i], complemented_starts[i + 1], inc.capacities[resource[i]]
        for e in range(first, last):
            while j < end and complemented[j] < inc.holders[e]:
                j += 1
            absent[e - first] = j < end and complemented[j] == inc.holders[e]
            rest -= inc.held[e] * absent[e - first]
        rest *= numerator[i]
        whole = rest // denominator[i]
        kept = rest - whole * denominator[i]
        capacities[i] = whole * (denominator[i] - kept)
        rounded[:] = 0
        for e in range(first, last):
            quantity, away = inc.held[e], absent[e - first]
            slot = quantity % SLOTS
            if rounded[slot, 2] != quantity:  # few quantities are different, and a division is dear
                rounded[slot, 0] = _rounded_amount(quantity * numerator[i], denominator[i], kept)
                rounded[slot, 1] = -_rounded_amount(-quantity * numerator[i], denominator[i], kept)
                rounded[slot, 2] = quantity
            takes = rounded[slot, away]
            capacities[i] += away * takes
            owner[used], row[used], amount[used] = inc.holders[e], i, takes
            used += takes > 0
    return used


@kernel(INCIDENCE, i8, i8, i8, f8[::1], flag[::1], returns=f8)
def _efficacy(inc: Incidence, r: int, numerator: int, denominator: int, share: Floats, absent: Bools) -> float:
    """How far the relaxation is beyond the rounded row, along its normal; negative: within. absent: by position in the row."""
    first = inc.row_starts[r]
    rest = inc.capacities[r]
    for e in range(first, inc.row_starts[r + 1]):
        if absent[e - first]:
            rest -= inc.held[e]
    rest *= numerator
    whole = rest // denominator
    kept = rest - whole * denominator
    if kept == 0:
        return -1.0  # says no more than the row itself
    beyond, norm = -float(whole * (denominator - kept)), 0.0
    for e in range(first, inc.row_starts[r + 1]):
        x, sign = share[inc.holders[e]], 1
        if absent[e - first]:
            x, sign = 1.0 - x, -1
        takes = float(_rounded_amount(sign * inc.held[e] * numerator, denominator, kept))
        beyond += takes * x
        norm += takes * takes
    return beyond / np.sqrt(norm) if norm > 0.0 else -1.0


@kernel(INCIDENCE, i8, i8, i8, f8[::1], flag[::1], i8[::1], returns=f8)
def _complement(inc: Incidence, r: int, numerator: int, denominator: int, share: Floats, absent: Bools, spent: Int64) -> float:
    """Complement what is mostly taken, then whoever is partly taken, one by one, where it breaks the row further."""
    first, last = inc.row_starts[r], inc.row_starts[r + 1]
    for e in range(first, last):
        absent[e - first] = share[inc.holders[e]] > 0.5
    best = _efficacy(inc, r, numerator, denominator, share, absent)
    tries = 1
    for e in range(first, last):
        if tries > TRIES:
            break
        if not TAKEN < share[inc.holders[e]] < 1.0 - TAKEN:
            continue
        tries += 1
        absent[e - first] = not absent[e - first]
        now = _efficacy(inc, r, numerator, denominator, share, absent)
        if now > best:
            best = now
        else:
            absent[e - first] = not absent[e - first]
    spent[0] += tries * (last - first)
    return best


@kernel(INCIDENCE, f8[::1], i8, returns=flag)
def _worth_rounding(inc: Incidence, share: Floats, r: int) -> bool:
    """A tight row with a quantity above 1, whose products with the multipliers surely fit."""
    used, most, total = 0.0, 0, 0
    for e in range(inc.row_starts[r], inc.row_starts[r + 1]):
        used += inc.held[e] * share[inc.holders[e]]
        most = max(most, inc.held[e])
        total += inc.held[e]
    return most > 1 and used > 0.95 * inc.capacities[r] and float(total + inc.capacities[r]) * 16.0 * float(most) < 2.0**60


ROW, COUNT, SPENT = range(3)


@kernel(INCIDENCE, f8[::1], i8[::1], i8[::1], f8, i8, flag[::1], flag[::1], i8[:, ::1], i8[::1], i8[::1], i8[::1])
def _separate(
    inc: Incidence,
    share: Floats,
    numerators: Int64,
    denominators: Int64,
    least: float,
    steps: int,
    absent: Bools,
    best_absent: Bools,
    found: Int64,
    ends: Int64,
    complemented: Int64,
    state: Int64,
) -> None:
    """For each tight resource the rounded row that is broken most, if any: by the given multipliers, and by one over the quantities
    (times 1, 2, 4, 8) of candidates that are partly taken. state: where to begin and where it ended, see the indices above."""
    count = state[COUNT]
    own, spent = np.empty(4 * OWN, np.int64), np.zeros(1, np.int64)
    for r in range(state[ROW], len(inc.capacities)):
        if spent[0] >= steps:
            break
        state[ROW] = r + 1
        first, last = inc.row_starts[r], inc.row_starts[r + 1]
        spent[0] += last - first
        if not _worth_rounding(inc, share, r):
            continue
        owns, most = 0, 0
        for e in range(first, last):
            most = max(most, inc.held[e])
            if inc.held[e] > 8 and owns < 4 * OWN and TAKEN < share[inc.holders[e]] < 1.0 - TAKEN:
                for i in range(4):
                    own[owns + i] = inc.held[e] << i
                owns += 4
        plain = len(numerators) if most <= 64 else 0
        best, numerator, denominator = least, 0, 1
        for i in range(plain + owns):
            p = numerators[i] if i < plain else 1
            d = denominators[i] if i < plain else own[i - plain]
            if i < plain and d > most + 2:
                continue  # says nothing that a smaller denominator has not said
            now = _complement(inc, r, p, d, share, absent, spent)
            if now > best:
                best, numerator, denominator = now, p, d
                best_absent[: last - first] = absent[: last - first]
        if numerator > 0:
            found[count, 0], found[count, 1], found[count, 2] = r, numerator, denominator
            count += 1
            ends[count] = ends[count - 1]
            for e in range(first, last):
                if best_absent[e - first]:
                    complemented[ends[count]] = inc.holders[e]
                    ends[count] += 1
    state[COUNT], state[SPENT] = count, spent[0]
