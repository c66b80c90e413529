"""The meter: steps decide, and the clock only when there is one and it strikes."""

from __future__ import annotations

from pipeline_project.solvers.meter import HICCUP, SLICE, Meter
from pipeline_project.solvers.solver import Budget


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_without_seconds_no_clock_is_read() -> None:
    def forbidden() -> float:
        raise AssertionError("read")

    meter = Meter(Budget(steps=10), forbidden)
    assert meter.slice() == 10
    meter.spend(10)
    assert meter.slice() == 0
    assert not meter.struck


def test_work_comes_in_slices() -> None:
    assert Meter(Budget(steps=10 * SLICE)).slice() == SLICE


def test_when_the_clock_strikes_there_is_no_more_work() -> None:
    clock = Clock()
    meter = Meter(Budget(steps=10, seconds=1.0), clock)
    assert meter.slice() == 10
    clock.now = 1.0
    assert meter.slice() == 0
    assert meter.struck


def test_a_phase_gets_its_share_of_both_and_its_cost_is_booked() -> None:
    clock = Clock()
    meter = Meter(Budget(steps=1000, seconds=10.0), clock)
    phase = meter.phase(0.25)
    assert phase.left == 250
    clock.now = 2.5
    assert phase.slice() == 0
    phase.spend(40)
    meter.close(phase)
    assert (meter.left, meter.struck) == (960, True)


def test_a_solver_with_its_own_meter_gets_what_is_left_after_its_beginnings() -> None:
    clock = Clock()
    meter = Meter(Budget(steps=10, seconds=2.0), clock)
    assert meter.budget(seconds_to_begin=0.5) == Budget(steps=10, seconds=1.5)
    assert meter.budget(seconds_to_begin=2.0) is None
    assert meter.struck


def test_slow_cores_are_asked_for_less_where_no_clock_can_stop_them() -> None:
    clock = Clock()
    meter = Meter(Budget(steps=10_000, seconds=10.0), clock)
    clock.now = 2.0 + HICCUP
    meter.compare(1_000, 1_000)  # usually a second's work
    clock.now = 5.0
    assert (meter.at_most(10_000, 100), meter.phase(0.5).at_most(10_000, 100)) == (250, 125)
    meter.reserve(1.0)
    assert meter.seconds_left == 3.0


def test_fast_cores_and_a_hiccup_change_no_rate() -> None:
    clock = Clock()
    meter = Meter(Budget(steps=10_000, seconds=10.0), clock)
    clock.now = HICCUP
    meter.compare(1, 1_000)
    clock.now = 5.0
    assert meter.at_most(10_000, 100) == 500
