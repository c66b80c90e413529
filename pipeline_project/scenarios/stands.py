"""One day of an airport as items and resources: planes want contact stands, and the day keeps changing.

Resources are quarter hours of the stands, `stand 2013-07-11T06:15` with the number of stands as capacity. A departure wants one
of every quarter hour that it touches from 60 minutes before it leaves until it leaves, and is worth its seats.

What is known when, by our rules (the delays and cancellations themselves are the real ones):

    6 h before the scheduled time     the departure becomes known, with its scheduled time
    2 h before the scheduled time     its real time is announced, early or late, if other quarter hours follow from it
    first quarter hour wanted begins  it takes its stand, if it has been selected; if not it boards from a bus, and expires
    30 min before the scheduled time  its cancellation is announced, and it leaves the stand it may have taken
    the real time                     it leaves, and its seats count

So the real time is always known a cycle before a stand is taken, never after: a claimed item is never revised.
Holds last until just before the next cycle, so that each cycle decides anew about all that has not taken its stand. With holds
that last until the stand is taken, whoever is known first blocks whoever is worth more, and no selection, however good, can help.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeVar

from pipeline_project.core.errors import Refused
from pipeline_project.scenarios.flights import NEW_YORK, Departure, read_departures

DAY: Final = date(2013, 7, 11)
AIRPORT: Final = "EWR"
STANDS: Final = 20

QUARTER: Final = timedelta(minutes=15)
STAND_TIME: Final = timedelta(minutes=60)
KNOWN_AHEAD: Final = timedelta(hours=6)
REAL_TIME_AHEAD: Final = timedelta(hours=2)
CANCELLED_AHEAD: Final = timedelta(minutes=30)
CLAIM_WITHIN: Final = timedelta(minutes=5)
"""A stand is taken at the beginning of its first quarter hour; the rest is for clocks that tick while the day is played."""
CYCLE_EVERY: Final = timedelta(minutes=30)
HOLD: Final = timedelta(minutes=25)
"""Longer than until the last claim before the next cycle (15 minutes), shorter than until that cycle."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a departure wants from `at` on: one stand in each of the cells (resource keys), or nothing from expires_at on."""

    at: datetime
    key: str
    weight: int
    cells: tuple[str, ...]
    expires_at: datetime

    @property
    def demands(self) -> dict[str, int]:
        return dict.fromkeys(self.cells, 1)


class Known(Wish):
    """The departure becomes known: submit it."""

    __slots__ = ()


class Delayed(Wish):
    """Its real time is announced, later or earlier: revise it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """It will not leave: cancel it, unless it has expired."""

    at: datetime
    key: str


Event = Known | Delayed | Cancelled
W = TypeVar("W", bound=Wish)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What happens at one quarter hour, in the order of the fields; keys and events are those since the step before.

    left    complete those of them that have a stand
    events  submit, revise, cancel
            then sweep: expired items and lapsed holds
    cycle   run one
    claims  now their stand time begins: claim those of them that are selected
    """

    at: datetime
    left: tuple[str, ...]
    events: tuple[Event, ...]
    cycle: bool
    claims: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What a day consists of, whoever decides about it. `resources`: key -> capacity, in order of time."""

    departures: tuple[Departure, ...]
    events: tuple[Event, ...]
    resources: dict[str, int]

    @classmethod
    def of(cls, departures: Iterable[Departure], stands: int = STANDS) -> Day:
        """Raises Refused for a departure so early that no cycle lies between its announcement and its stand time."""
        departures = tuple(departures)
        events = sorted((event for d in departures for event in _events(d)), key=lambda event: (event.at, event.key))
        times = [time for d in departures for time in (d.scheduled, d.actual or d.scheduled)]
        quarters = _quarters(stand_from(min(times)), max(times)) if times else []
        return cls(departures=departures, events=tuple(events), resources={cell(quarter): stands for quarter in quarters})

    def steps(self) -> Iterator[Step]:
        """The day from the first event to the last departure, quarter hour by quarter hour. The same for the engine and for every rule."""
        left: dict[datetime, list[str]] = defaultdict(list)
        events: dict[datetime, list[Event]] = defaultdict(list)
        claims: dict[datetime, list[str]] = defaultdict(list)
        for d in sorted(self.departures, key=lambda d: (d.actual or d.scheduled, d.key)):
            claims[stand_from(d.actual or d.scheduled)].append(d.key)
            if d.actual:
                left[quarter_after(d.actual)].append(d.key)
        for event in self.events:
            events[quarter_after(event.at)].append(event)
        busy = left.keys() | events.keys()
        for at in _quarters(min(busy), max(busy) + QUARTER) if busy else []:
            cycle = not (at - EPOCH) % CYCLE_EVERY
            yield Step(at=at, left=tuple(left[at]), events=tuple(events[at]), cycle=cycle, claims=tuple(claims[at]))


def real_day() -> Day:
    """The departures of 2013-07-11 at Newark: 360, of which 27 were cancelled and many delayed."""
    return Day.of(read_departures(DAY, AIRPORT))


def cell(quarter: datetime) -> str:
    """The resource key of a quarter hour."""
    return f"stand {quarter.astimezone(NEW_YORK):%Y-%m-%dT%H:%M}"


def stand_from(leaves: datetime) -> datetime:
    """When the first quarter hour begins that a departure wants."""
    wanted = leaves - STAND_TIME
    return wanted - (wanted - EPOCH) % QUARTER


def quarter_after(time: datetime) -> datetime:
    """The first quarter hour that begins at that time or later."""
    return time + (EPOCH - time) % QUARTER


def _quarters(first: datetime, until: datetime) -> list[datetime]:
    return [first + n * QUARTER for n in range(-((first - until) // QUARTER))]


def _events(departure: Departure) -> Iterator[Event]:
    scheduled, actual = departure.scheduled, departure.actual
    yield _wish(Known, departure, at=scheduled - KNOWN_AHEAD, leaves=scheduled)
    if actual is None:
        yield Cancelled(at=scheduled - CANCELLED_AHEAD, key=departure.key)
        return
    announced = scheduled - REAL_TIME_AHEAD
    if stand_from(actual) < announced + CYCLE_EVERY:
        expected = f"expected to take its stand a cycle after its real time is announced, from {announced + CYCLE_EVERY:%H:%M} on"
        raise Refused(f"{departure.key}: {expected}; found {stand_from(actual):%H:%M} (UTC). Leave it out of the day")
    if _cells(actual) != _cells(scheduled):
        yield _wish(Delayed, departure, at=announced, leaves=actual)


def _wish(kind: type[W], departure: Departure, *, at: datetime, leaves: datetime) -> W:
    expires_at = stand_from(leaves) + CLAIM_WITHIN
    return kind(at=at, key=departure.key, weight=departure.seats, cells=_cells(leaves), expires_at=expires_at)


def _cells(leaves: datetime) -> tuple[str, ...]:
    return tuple(map(cell, _quarters(stand_from(leaves), leaves)))
