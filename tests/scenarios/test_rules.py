"""Simple rules over small days, where the right end is known by hand, and over the real one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_project.core.lifecycle import State
from pipeline_project.scenarios.flights import Departure
from pipeline_project.scenarios.hindsight import upper_bound
from pipeline_project.scenarios.rules import Apron, first_come, greedy, play
from pipeline_project.scenarios.stands import Day, Wish, cell, real_day

NOON = datetime(2013, 7, 11, 16, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def departure(key: str, seats: int, minute: int, delay: int | None = 0) -> Departure:
    scheduled = NOON + minute * MINUTE
    return Departure(key=key, seats=seats, plane=None, scheduled=scheduled, actual=None if delay is None else scheduled + delay * MINUTE)


@st.composite
def days(draw: st.DrawFn) -> Day:
    row = st.tuples(st.integers(0, 300), st.integers(0, 150), st.none() | st.integers(-15, 200))
    rows = draw(st.lists(row, max_size=10))
    flights = [departure(f"UA{n}", seats, minute, delay) for n, (seats, minute, delay) in enumerate(rows)]
    return Day.of(flights, stands=draw(st.integers(0, 3)))


def test_first_come_serves_the_early_plane_and_greedy_the_large_one() -> None:
    day = Day.of([departure("early", 50, 0), departure("large", 200, 30)], stands=1)
    assert play(day, first_come).states == {"early": State.COMPLETED, "large": State.EXPIRED}
    assert play(day, greedy).states == {"early": State.EXPIRED, "large": State.COMPLETED}
    assert (play(day, first_come).value, play(day, greedy).value) == (50, 200)


def test_a_plane_on_its_stand_is_not_sent_away_for_a_larger_one() -> None:
    # The large one would leave at 13:10; at 11:15 it is known to leave at 12:55 and to want the stand from 11:45 on.
    first, large = departure("first", 50, 0), departure("large", 200, 70, delay=-15)
    assert play(Day.of([first, large], stands=1), greedy).states == {"first": State.COMPLETED, "large": State.EXPIRED}


def test_a_cancelled_plane_leaves_its_stand_to_the_next() -> None:
    # Announced at 11:30: in time for a stand from 11:30, too late for one from 11:15.
    cancelled = departure("cancelled", 300, 0, delay=None)
    in_time, too_late = (Day.of([cancelled, departure("next", 10, minute)], stands=1) for minute in (30, 15))
    assert play(in_time, greedy).states == {"cancelled": State.CANCELLED, "next": State.COMPLETED}
    assert play(too_late, greedy).states == {"cancelled": State.CANCELLED, "next": State.EXPIRED}


def test_a_delay_gives_the_hold_back_and_keeps_the_place_in_the_queue() -> None:
    day = Day.of([departure("late", 100, 0, delay=60), departure("other", 50, 15), departure("last", 200, 60)], stands=1)
    assert play(day, first_come).states == {"late": State.COMPLETED, "other": State.EXPIRED, "last": State.EXPIRED}
    enough = Day.of([departure("late", 100, 0, delay=75), departure("other", 50, 15)], stands=1)
    assert set(play(enough, first_come).states.values()) == {State.COMPLETED}


@given(days(), st.randoms(use_true_random=False))
def test_no_rule_overdraws_a_stand_or_beats_the_bound_of_hindsight(day: Day, random: Random) -> None:
    def any_order(waiting: Sequence[Wish]) -> Sequence[Wish]:
        return random.sample(waiting, len(waiting))

    for rule in (greedy, first_come, any_order):
        assert play(day, rule).value <= upper_bound(day)


@given(days())
def test_at_the_end_of_the_day_every_departure_has_left_a_stand_or_expired_or_was_cancelled(day: Day) -> None:
    outcome = play(day, greedy)
    cancelled = {d.key for d in day.departures if d.actual is None}
    assert outcome.states.keys() == {d.key for d in day.departures}
    assert all(state in {State.COMPLETED, State.EXPIRED, State.CANCELLED} for state in outcome.states.values())
    assert {key for key, state in outcome.states.items() if state is State.CANCELLED} <= cancelled
    assert outcome.value == sum(d.seats for d in day.departures if outcome.states[d.key] is State.COMPLETED)


@given(days())
def test_with_a_stand_for_everybody_every_rule_reaches_the_bound(day: Day) -> None:
    roomy = Day.of(day.departures, stands=len(day.departures))
    assert play(roomy, greedy) == play(roomy, first_come)
    assert play(roomy, greedy).value == upper_bound(roomy) == sum(d.seats for d in day.departures if d.actual)


def test_the_invariant_finds_a_planted_double_booking() -> None:
    apron = Apron(capacity={cell(NOON): 1})
    for key in ("one", "two"):
        apron.wishes[key] = Wish(at=NOON, key=key, weight=1, cells=(cell(NOON),), expires_at=NOON)
        apron.states[key] = State.CLAIMED
    with pytest.raises(AssertionError, match="held"):
        apron.check()
    apron.in_use.update([cell(NOON)] * 2)
    with pytest.raises(AssertionError, match="overdrawn"):
        apron.check()


def test_the_real_day_under_both_rules_and_with_hindsight() -> None:
    day = real_day()
    large, early = play(day, greedy), play(day, first_come)
    assert (large.value, early.value, upper_bound(day)) == (37_194, 32_536, 37_952)
    assert [large.count(state) for state in (State.COMPLETED, State.EXPIRED, State.CANCELLED)] == [242, 110, 8]
    assert [early.count(state) for state in (State.COMPLETED, State.EXPIRED, State.CANCELLED)] == [247, 99, 14]
