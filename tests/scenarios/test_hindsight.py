"""The bound is the true optimum, on small days by trying every set, on the real one by its number."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, combinations

from hypothesis import given
from hypothesis import strategies as st

from pipeline_project.scenarios.flights import Departure, read_departures
from pipeline_project.scenarios.hindsight import Interval, by_quarter, optimum
from pipeline_project.scenarios.stands import AIRPORT, DAY, STAND_TIME, STANDS

NOON = datetime(2013, 7, 11, 16, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def interval(weight: int, begin: int, minutes: int) -> Interval:
    return Interval(weight=weight, begin=NOON + begin * MINUTE, end=NOON + (begin + minutes) * MINUTE)


intervals = st.lists(st.builds(interval, st.integers(0, 50), st.integers(0, 20), st.integers(1, 10)), max_size=9)


def fits(chosen: tuple[Interval, ...], capacity: int) -> bool:
    return all(sum(i.begin <= NOON + minute * MINUTE < i.end for i in chosen) <= capacity for minute in range(30))


def by_minute(departures: Sequence[Departure]) -> list[Interval]:
    """The stand times of those that left, to the minute: finer than what the day decides about, to see what quarter hours cost."""
    return [Interval(weight=d.seats, begin=d.actual - STAND_TIME, end=d.actual) for d in departures if d.actual]


def in_order(intervals: Sequence[Interval], capacity: int = STANDS) -> int:
    """What serving them one after the other gives: each gets a stand if one is free for its whole time."""
    served: list[Interval] = []
    for new in intervals:
        rivals = [i for i in served if i.begin < new.end and new.begin < i.end]
        moments = [new.begin, *(i.begin for i in rivals if i.begin > new.begin)]
        if all(sum(i.begin <= moment < i.end for i in rivals) < capacity for moment in moments):
            served.append(new)
    return sum(i.weight for i in served)


@given(intervals, st.integers(0, 3))
def test_the_optimum_is_the_best_of_all_sets_that_fit(those: list[Interval], capacity: int) -> None:
    every_set = chain.from_iterable(combinations(those, size) for size in range(len(those) + 1))
    assert optimum(those, capacity) == max(sum(i.weight for i in chosen) for chosen in every_set if fits(chosen, capacity))


@given(intervals, st.integers(0, 3))
def test_serving_in_order_takes_whoever_fits_with_those_already_served(those: list[Interval], capacity: int) -> None:
    served: list[Interval] = []
    for new in those:
        if fits((*served, new), capacity):
            served.append(new)
    assert in_order(those, capacity) == sum(i.weight for i in served)


def test_a_stand_is_free_in_the_minute_its_plane_leaves() -> None:
    assert optimum([interval(1, 0, 10), interval(1, 10, 10)], capacity=1) == 2
    assert optimum([interval(1, 0, 11), interval(1, 10, 10)], capacity=1) == 1


def test_a_departure_touches_the_quarter_hours_from_an_hour_before_until_it_leaves() -> None:
    assert by_quarter(7, NOON) == Interval(weight=7, begin=NOON - 60 * MINUTE, end=NOON)
    assert by_quarter(7, NOON + MINUTE) == Interval(weight=7, begin=NOON - 60 * MINUTE, end=NOON + 15 * MINUTE)


def test_the_real_day_to_the_minute() -> None:
    """What whole-day knowledge gives without quarter hours: the 333 that left, each from 60 minutes before its real time until then."""
    minutes = by_minute(read_departures(DAY, AIRPORT))
    assert len(minutes) == 333
    assert optimum(minutes) == 39_833
    assert in_order(sorted(minutes, key=lambda i: -i.weight)) == 39_723
    assert in_order(sorted(minutes, key=lambda i: i.begin)) == 36_696
