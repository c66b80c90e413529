"""The day as events and steps: nobody knows anything too early, nothing gets lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_project.core.errors import Refused
from pipeline_project.scenarios.flights import Departure
from pipeline_project.scenarios.stands import CLAIM_WITHIN, QUARTER, Cancelled, Day, Delayed, Known, cell, real_day, stand_from

NOON = datetime(2013, 7, 11, 16, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def departure(key: str = "UA1", *, at: datetime = NOON, delay: int | None = 0, seats: int = 100) -> Departure:
    actual = None if delay is None else at + delay * MINUTE
    return Departure(key=key, seats=seats, plane=None, scheduled=at, actual=actual)


@st.composite
def departures(draw: st.DrawFn) -> list[Departure]:
    rows = draw(st.lists(st.tuples(st.integers(0, 240), st.none() | st.integers(-15, 400)), max_size=12))
    return [departure(f"UA{n}", at=NOON + minute * MINUTE, delay=delay) for n, (minute, delay) in enumerate(rows)]


def cells_of(day: Day) -> list[tuple[str, ...]]:
    return [event.cells for event in day.events if not isinstance(event, Cancelled)]


def test_a_departure_on_the_hour_wants_the_four_quarter_hours_before_it() -> None:
    [cells] = cells_of(Day.of([departure()]))
    assert cells == ("stand 2013-07-11T11:00", "stand 2013-07-11T11:15", "stand 2013-07-11T11:30", "stand 2013-07-11T11:45")


def test_a_departure_between_two_quarter_hours_wants_every_one_that_it_touches() -> None:
    [cells] = cells_of(Day.of([departure(at=NOON + MINUTE)]))
    assert cells[0] == "stand 2013-07-11T11:00"
    assert cells[-1] == "stand 2013-07-11T12:00"
    assert len(cells) == 5


def test_a_departure_after_midnight_wants_cells_of_the_next_day() -> None:
    day = Day.of([departure(at=NOON + timedelta(hours=11, minutes=30), delay=45)])
    assert cells_of(day)[-1][-1] == "stand 2013-07-12T00:00"
    assert "stand 2013-07-12T00:00" in day.resources


def test_a_departure_is_known_six_hours_ahead_by_its_scheduled_time_and_its_delay_two_hours_ahead() -> None:
    known, delayed = Day.of([departure(delay=90)]).events
    assert isinstance(known, Known)
    assert isinstance(delayed, Delayed)
    assert (known.at, delayed.at) == (NOON - timedelta(hours=6), NOON - timedelta(hours=2))
    assert (known.cells[-1], delayed.cells[-1]) == ("stand 2013-07-11T11:45", "stand 2013-07-11T13:15")
    assert known.expires_at == NOON - timedelta(hours=1) + CLAIM_WITHIN
    assert delayed.expires_at == known.expires_at + timedelta(minutes=90)


def test_a_delay_within_the_same_quarter_hours_is_no_revision() -> None:
    assert [type(event) for event in Day.of([departure(at=NOON + MINUTE, delay=10)]).events] == [Known]


def test_a_cancellation_is_announced_half_an_hour_before_the_scheduled_time() -> None:
    _, cancelled = Day.of([departure(delay=None)]).events
    assert cancelled == Cancelled(at=NOON - timedelta(minutes=30), key="UA1")


def test_a_plane_too_early_for_a_cycle_between_its_announcement_and_its_stand_time_is_refused() -> None:
    Day.of([departure(delay=-30)])
    with pytest.raises(Refused, match=r"UA1: expected .* from 14:30 on; found 14:15"):
        Day.of([departure(delay=-31)])


def test_a_day_without_departures_has_no_steps() -> None:
    assert list(Day.of([]).steps()) == []


@given(departures())
def test_steps_bring_every_event_once_in_order_and_within_a_quarter_hour(flights: list[Departure]) -> None:
    day = Day.of(flights)
    steps = list(day.steps())
    assert [event for step in steps for event in step.events] == list(day.events)
    assert all(step.at - QUARTER < event.at <= step.at for step in steps for event in step.events)
    assert sorted(key for step in steps for key in step.claims) == sorted(d.key for d in flights)
    assert sorted(key for step in steps for key in step.left) == sorted(d.key for d in flights if d.actual)


@given(departures())
def test_steps_are_the_quarter_hours_and_every_other_one_has_a_cycle(flights: list[Departure]) -> None:
    steps = list(Day.of(flights).steps())
    assert all(after.at - before.at == QUARTER for before, after in pairwise(steps))
    assert all(step.cycle == (step.at.minute in (0, 30)) for step in steps)


@given(departures())
def test_a_stand_is_taken_with_its_real_time_known_before_it_expires_and_after_a_cycle_that_knew_it(flights: list[Departure]) -> None:
    latest: dict[str, Known | Delayed] = {}
    seen_by_a_cycle: set[Known | Delayed] = set()
    real = {d.key: d.actual or d.scheduled for d in flights}
    for step in Day.of(flights).steps():
        latest.update({event.key: event for event in step.events if not isinstance(event, Cancelled)})
        if step.cycle:
            seen_by_a_cycle.update(latest.values())
        for key in step.claims:
            assert latest[key].cells[0] == cell(step.at) == cell(stand_from(real[key]))
            assert latest[key].cells[-1] == cell(real[key] - MINUTE - (real[key] - MINUTE - NOON) % QUARTER)
            assert latest[key] in seen_by_a_cycle
            assert latest[key].expires_at > step.at


@given(departures())
def test_every_cell_that_is_ever_wanted_is_a_resource(flights: list[Departure]) -> None:
    day = Day.of(flights, stands=3)
    assert {cell for cells in cells_of(day) for cell in cells} <= day.resources.keys()
    assert set(day.resources.values()) <= {3}


def test_the_real_day_has_100_steps_50_cycles_and_603_events() -> None:
    day = real_day()
    steps = list(day.steps())
    kinds = [type(event) for event in day.events]
    assert (len(steps), sum(step.cycle for step in steps)) == (100, 50)
    assert (kinds.count(Known), kinds.count(Delayed), kinds.count(Cancelled)) == (360, 216, 27)
    assert (next(iter(day.resources)), len(day.resources)) == ("stand 2013-07-11T03:45", 80)
    assert set(day.resources.values()) == {20}
