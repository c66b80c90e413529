"""The real departures: as many as the package says, with true times."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from pipeline_project.core.errors import Refused
from pipeline_project.scenarios.flights import Departure, read_departures


@pytest.fixture(scope="module")
def departures() -> tuple[Departure, ...]:
    return read_departures(date(2013, 7, 11), "EWR")


def test_the_day_has_360_departures_of_which_27_were_cancelled(departures: tuple[Departure, ...]) -> None:
    assert len(departures) == 360
    assert sum(d.actual is None for d in departures) == 27


def test_17_departures_without_a_known_plane_have_the_median_seats(departures: tuple[Departure, ...]) -> None:
    unknown = [d for d in departures if d.plane is None]
    assert len(unknown) == 17
    assert {d.seats for d in unknown} == {149}


def test_every_departure_has_a_key_of_its_own_and_at_least_two_seats(departures: tuple[Departure, ...]) -> None:
    assert len({d.key for d in departures}) == 360
    assert all(type(d.seats) is int and d.seats >= 2 for d in departures)


def test_keys_are_local_and_instants_are_utc(departures: tuple[Departure, ...]) -> None:
    first = departures[0]
    assert first.key == "US1431-0500"
    assert first.scheduled == datetime(2013, 7, 11, 9, 0, tzinfo=UTC)
    assert first.actual == datetime(2013, 7, 11, 8, 58, tzinfo=UTC)
    assert {d.scheduled.tzinfo for d in departures} == {UTC}


def test_departures_come_in_the_order_of_the_schedule(departures: tuple[Departure, ...]) -> None:
    assert list(departures) == sorted(departures, key=lambda d: (d.scheduled, d.key))


def test_a_delay_past_midnight_counts_on() -> None:
    late = next(d for d in read_departures(date(2013, 7, 7), "EWR") if d.key.startswith("EV4152-"))
    assert late.scheduled < datetime(2013, 7, 8, 4, 0, tzinfo=UTC)
    assert late.actual == datetime(2013, 7, 8, 4, 8, tzinfo=UTC)  # 00:08 in New York


def test_a_day_that_the_package_does_not_have_is_refused() -> None:
    with pytest.raises(Refused, match=r"2012-07-11 at EWR: expected a day of 2013 .*, found no flights"):
        read_departures(date(2012, 7, 11), "EWR")
