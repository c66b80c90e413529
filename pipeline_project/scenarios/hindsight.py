"""The best that could have been done with the day known beforehand: bounds that no decision made during the day can beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from scipy.optimize import linprog

from pipeline_project.scenarios.stands import STANDS, Day, quarter_after, stand_from


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A stand from `begin` until just before `end`, worth `weight` >= 0."""

    weight: int
    begin: datetime
    end: datetime


def upper_bound(day: Day) -> int:
    """The most seats that can leave from a stand, with every real time and cancellation known from the start.

    No way of deciding during the day does better, whatever it knows. A departure counts only when it is completed; it took its
    stand when its first quarter hour began, after its real time was announced, so it holds the very cells that its real time asks
    for. Look at any quarter hour, and at all completed departures that touch it: each took its stand by then and left
    after its beginning, so at that moment all of them hold this cell, and the database allows no more holds than stands. The
    completed departures are therefore one of the sets among which this bound takes the best. (Cancelled ones only take room.)
    """
    stands = set(day.resources.values())
    assert len(stands) <= 1, f"one number of stands all day expected, found {stands}"
    return optimum([by_quarter(d.seats, d.actual) for d in day.departures if d.actual], stands.pop() if stands else 0)


def by_quarter(weight: int, leaves: datetime) -> Interval:
    """The quarter hours that a departure touches."""
    return Interval(weight=weight, begin=stand_from(leaves), end=quarter_after(leaves))


def optimum(intervals: Sequence[Interval], capacity: int = STANDS) -> int:
    """The greatest weight of intervals of which at most `capacity` overlap at any time.

    A linear program: its rows (who is there when an interval begins) have consecutive ones, so its matrix is totally unimodular
    and its value that of the best whole selection (Hoffman and Kruskal 1956; Arkin and Silverberg 1987 for intervals).
    """
    if not intervals:
        return 0
    begins = np.array([i.begin.timestamp() for i in intervals])
    ends = np.array([i.end.timestamp() for i in intervals])
    moments = np.unique(begins)[:, None]
    present = ((begins <= moments) & (moments < ends)).astype(np.float64)
    weights = np.array([i.weight for i in intervals], dtype=np.float64)
    result = linprog(-weights, A_ub=present, b_ub=np.full(len(moments), capacity, np.float64), bounds=(0, 1), method="highs")
    best = result.fun
    assert best is not None, result.message
    assert abs(best - round(best)) < 1e-6, f"a whole optimum expected, found {best}"
    return -round(best)
