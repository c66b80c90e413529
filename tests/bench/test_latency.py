"""The way from a change to its decision is measured where it happens; a daemon that does nothing is named."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import pytest

from pipeline_project.bench import cycles, latency
from pipeline_project.core.errors import CycleInFlight, PipelineError
from pipeline_project.engine import actors
from pipeline_project.engine.engine import Engine


@contextmanager
def daemon(engine: Engine) -> Iterator[None]:
    """What the daemon does, without Dagster: a cycle under a run's name in each pool that has work."""
    stopped = threading.Event()

    def work() -> None:
        mine = engine.acting_as(actors.run("r1"))
        while not stopped.is_set():
            for row in mine.inquiry.pools():
                if row["pool"] != latency.BESIDE and row["pending"]:
                    with suppress(CycleInFlight):
                        mine.cycles.run(row["pool"])
            time.sleep(0.02)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "PHASE_S", 0.01)
    monkeypatch.setattr(latency, "BACKLOG", 20)


def test_each_part_of_the_way_is_a_part_of_the_whole(engine: Engine) -> None:
    def stamps(run: str) -> latency.Stamps:
        assert run == "r1"
        submitted = max(move["at"] for key in ("change-0", "change-1") for move in _submitted(engine, key))
        return latency.Stamps(submitted + timedelta(milliseconds=1), submitted + timedelta(milliseconds=2))

    with daemon(engine):
        latency.warm_up(engine)
        row = latency.measure(engine, stamps, lambda: True, 2, 1)
        kept = latency.keep_up(engine, 3)
    assert row["changes"] == 2
    assert 0 < row["median_s"] <= row["p99_s"]
    assert row["dagster_share"] <= 1
    assert (kept["changes"], kept["per_minute"] > 0) == (3, True)


def _submitted(engine: Engine, key: str) -> list[dict[str, object]]:
    try:
        return engine.inquiry.timeline(latency.POOL, key)[:1]
    except PipelineError:
        return []


def test_a_daemon_that_does_nothing_is_named(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "WAIT_S", 0.1)
    with pytest.raises(PipelineError, match="does the daemon run"):
        latency.warm_up(engine)


def test_cycles_in_a_row_are_counted_with_what_they_leave(engine: Engine) -> None:
    stored = iter((1000, 7000))
    row = cycles.measure(engine, engine.cycles.run, "engine", 3, lambda: next(stored))
    assert (row["cycles"], row["stored_kb_per_cycle"]) == (3, 2.0)
    assert row["rss_after_mb"] > 0
    assert len(engine.inquiry.cycles(cycles.POOL)) == cycles.WARM_UP + 3
