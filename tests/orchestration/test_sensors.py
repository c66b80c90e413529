"""What wakes a pool, what does not, and what becomes of a run that failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.definitions.sensor_definition import SensorExecutionData  # no public name

from pipeline_project import settings
from pipeline_project.engine.engine import Engine
from pipeline_project.orchestration import sensors
from pipeline_project.orchestration.definitions import control_room
from pipeline_project.orchestration.partitions import POOLS, day_and_pool
from pipeline_project.orchestration.requests import LIVE_CYCLE, MODE_TAG, POOL_TAG, SEEN_TAG
from pipeline_project.orchestration.sensors import ATTEMPTS_MAX
from pipeline_project.settings import Settings
from tests.world import World, entered

# Dagster complains of its own tags where a partition has two dimensions.
pytestmark = pytest.mark.filterwarnings(r"ignore:Non-compliant tag keys like \['dagster/partition/date', 'dagster/:DeprecationWarning")


@dataclass
class Watcher:
    """The sensor and its daemon: ticks, keeps the cursor, and makes runs of what was asked for."""

    world: World
    instance: dg.DagsterInstance
    cursor: str | None = None
    asked: list[dg.RunRequest] = field(default_factory=list)

    def tick(self) -> list[dg.RunRequest]:
        self._settle()
        result = self.evaluated()
        self.cursor = result.cursor
        self.asked = list(result.run_requests or ())
        return self.asked

    def evaluated(self) -> SensorExecutionData:
        """As the code server does it, which judges every request by the job's definition."""
        room = control_room(settings.load()).get_repository_def()
        engine = {"engine": self.world.engine}
        with (
            dg.partition_loading_context(dynamic_partitions_store=self.instance),
            dg.build_sensor_context(instance=self.instance, cursor=self.cursor, repository_def=room, resources=engine) as context,
        ):
            return room.get_sensor_def("pending_work").evaluate_tick(context)

    def run(self, request: dg.RunRequest, status: dg.DagsterRunStatus, **more: str) -> None:
        tags = {**request.tags, "dagster/run_key": request.run_key or "", **more}
        self.instance.add_run(dg.DagsterRun(job_name=LIVE_CYCLE, tags=tags, status=status))

    def finish(self) -> None:
        """All that was asked for succeeds."""
        for request in self.asked:
            self.run(request, dg.DagsterRunStatus.SUCCESS)

    def seen(self) -> dict[str, str]:
        """What a run is tagged with whose snapshot is taken now."""
        self._settle()
        return {SEEN_TAG: self.world.engine.inquiry.position()}

    def _settle(self) -> None:
        """Until everything written so far is below the horizon: writers in the server's other databases hold it back, too."""
        with entered(self.world.engine.database) as connection:
            written = int(connection.exec_driver_sql("select pg_current_xact_id()::text").scalar_one())
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            if int(self.world.engine.inquiry.changes("0", self.world.now()).horizon) > written:
                return
            time.sleep(0.02)
        raise AssertionError("some transaction of another test holds the horizon back for a minute")


@pytest.fixture
def watcher(contested: World, monkeypatch: pytest.MonkeyPatch) -> Watcher:
    """Nobody has looked yet. A tick looks once."""
    monkeypatch.setattr(sensors, "WATCH_S", 0)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Watcher(contested, instance)


@pytest.fixture
def calm(watcher: Watcher) -> Watcher:
    """The first cycle has run, and its news was read."""
    watcher.tick()
    watcher.world.cycle()
    watcher.finish()
    assert watcher.tick() == []
    return watcher


def test_the_first_tick_asks_for_a_live_cycle_of_today_and_registers_the_pool(watcher: Watcher) -> None:
    (request,) = watcher.tick()
    assert request.partition_key == "2026-01-15|p"
    assert (request.tags[MODE_TAG], request.tags[POOL_TAG]) == ("live", "p")
    assert watcher.instance.get_dynamic_partitions(POOLS.name or "") == ["p"]
    pool, position, _, attempt = (request.run_key or "").split(":")
    assert (pool, attempt) == ("p", "1")
    assert int(position) > 0


def test_nothing_new_wakes_nobody(calm: Watcher) -> None:
    assert calm.tick() == []


def test_a_submission_wakes(calm: Watcher) -> None:
    calm.world.submit("new", 5, {"gate": 1})
    assert len(calm.tick()) == 1


def test_a_revision_wakes(calm: Watcher) -> None:
    calm.world.engine.intake.revise("p", "light", {"weight": 9})
    assert len(calm.tick()) == 1


def test_select_and_claim_do_not_wake_but_a_completion_does(calm: Watcher) -> None:
    claims = calm.world.claim()
    assert list(claims) == ["heavy"]
    assert calm.tick() == []
    calm.world.complete(claims)
    assert len(calm.tick()) == 1


def test_more_capacity_wakes(calm: Watcher) -> None:
    calm.world.resources(gate=2)
    assert len(calm.tick()) == 1


def test_another_policy_wakes(calm: Watcher) -> None:
    calm.world.policy({"limits": {"max_selected": 1}})
    assert len(calm.tick()) == 1


def test_a_not_before_that_passes_wakes(calm: Watcher) -> None:
    calm.world.submit("later", 5, {"gate": 1}, not_before="2026-01-15T12:10:00+00:00")
    calm.tick()
    calm.finish()
    calm.tick()
    calm.world.advance(minutes=9)
    assert calm.tick() == []
    calm.world.advance(minutes=2)
    assert len(calm.tick()) == 1


def test_a_paused_pool_sleeps_until_it_is_resumed(calm: Watcher) -> None:
    calm.world.engine.intake.pause("p")
    calm.world.submit("new", 5, {"gate": 1})
    assert calm.tick() == []
    calm.world.engine.intake.resume("p")
    assert len(calm.tick()) == 1


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED])
def test_one_live_cycle_of_a_pool_is_in_flight_and_what_happens_meanwhile_is_not_forgotten(
    watcher: Watcher, status: dg.DagsterRunStatus
) -> None:
    (request,) = watcher.tick()
    watcher.run(request, status)
    watcher.world.submit("new", 5, {"gate": 1})
    assert watcher.tick() == []
    (run,) = watcher.instance.get_runs()
    watcher.instance.delete_run(run.run_id)
    watcher.finish()
    (second,) = watcher.tick()
    assert second.run_key != request.run_key


def test_what_a_run_in_flight_has_seen_asks_for_no_other_run(watcher: Watcher) -> None:
    (request,) = watcher.tick()
    watcher.world.submit("new", 5, {"gate": 1})
    watcher.run(request, dg.DagsterRunStatus.STARTED)
    assert watcher.tick() == []
    (run,) = watcher.instance.get_runs()
    watcher.instance.add_run_tags(run.run_id, watcher.seen())
    assert watcher.tick() == []
    watcher.instance.handle_run_event(run.run_id, succeeded(run))
    assert watcher.tick() == []
    watcher.world.submit("newer", 5, {"gate": 1})
    assert len(watcher.tick()) == 1


def succeeded(run: dg.DagsterRun) -> dg.DagsterEvent:
    return dg.DagsterEvent(event_type_value=dg.DagsterEventType.RUN_SUCCESS.value, job_name=run.job_name)


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED])
def test_what_came_after_the_snapshot_or_was_seen_in_vain_asks_for_another_run(watcher: Watcher, status: dg.DagsterRunStatus) -> None:
    (request,) = watcher.tick()
    before = watcher.seen()
    watcher.world.submit("new", 5, {"gate": 1})
    watcher.run(request, status, **(before if status is dg.DagsterRunStatus.SUCCESS else watcher.seen()))
    (second,) = watcher.tick()
    assert (second.run_key or "").endswith(":1"), "the change's own first attempt"
    assert second.run_key != request.run_key


def test_a_not_before_that_passed_after_the_snapshot_asks_for_another_run(watcher: Watcher) -> None:
    watcher.world.submit("later", 5, {"gate": 1}, not_before="2026-01-15T12:10:00+00:00")
    (request,) = watcher.tick()
    watcher.run(request, dg.DagsterRunStatus.SUCCESS, **watcher.seen())
    watcher.world.advance(minutes=11)
    assert len(watcher.tick()) == 1


def test_two_changes_at_one_position_ask_for_two_runs(watcher: Watcher) -> None:
    """The horizon stands still as long as an import takes."""
    for minute in (10, 20):
        watcher.world.submit(f"at-{minute}", 5, {"gate": 1}, not_before=f"2026-01-15T12:{minute}:00+00:00")
    (request,) = watcher.tick()
    watcher.run(request, dg.DagsterRunStatus.SUCCESS, **watcher.seen())
    keys = set()
    with entered(watcher.world.engine.database) as importing:
        importing.exec_driver_sql("select pg_current_xact_id()")
        for _ in range(2):
            watcher.world.advance(minutes=11)
            result = watcher.evaluated()
            watcher.cursor = result.cursor
            (request,) = result.run_requests or ()
            watcher.run(request, dg.DagsterRunStatus.SUCCESS, **{SEEN_TAG: watcher.world.engine.inquiry.position()})
            keys.add(request.run_key)
    assert len(keys) == 2, "Dagster makes no second run of a key"


def test_what_happens_while_a_tick_looks_is_asked_for_by_that_tick(calm: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "WATCH_S", 60)
    monkeypatch.setattr(time, "sleep", lambda _: calm.world.submit("new", 5, {"gate": 1}))
    assert len(calm.evaluated().run_requests or ()) == 1


def test_a_failed_run_is_asked_for_again_under_another_key_but_not_for_ever(watcher: Watcher) -> None:
    keys = []
    while (asked := watcher.tick()) and len(keys) <= ATTEMPTS_MAX:
        keys.append(asked[0].run_key or "")
        watcher.run(asked[0], dg.DagsterRunStatus.FAILURE)
    assert [key.rsplit(":", 1)[1] for key in keys] == [str(n) for n in range(1, ATTEMPTS_MAX + 1)]
    assert len({key.rsplit(":", 1)[0] for key in keys}) == 1
    watcher.world.submit("new", 5, {"gate": 1})
    assert (watcher.tick()[0].run_key or "").endswith(":1")


def test_a_run_that_a_tick_asked_for_and_nobody_made_is_asked_for_again(watcher: Watcher) -> None:
    watcher.tick()
    (again,) = watcher.tick()
    assert (again.run_key or "").endswith(":2")


def test_what_a_person_cancelled_is_left_alone(watcher: Watcher) -> None:
    (request,) = watcher.tick()
    watcher.run(request, dg.DagsterRunStatus.CANCELED)
    assert watcher.tick() == []


def test_a_cursor_from_another_server_starts_over(calm: Watcher) -> None:
    assert calm.cursor
    horizon = calm.cursor.split('"')[3]
    calm.cursor = calm.cursor.replace(f'"{horizon}"', '"999999999999999"')
    assert len(calm.tick()) == 1


def test_what_a_run_saw_of_another_server_says_nothing_of_this_one(watcher: Watcher) -> None:
    (request,) = watcher.tick()
    watcher.run(request, dg.DagsterRunStatus.SUCCESS, **{SEEN_TAG: "999999999999998"})
    assert watcher.cursor
    horizon = watcher.cursor.split('"')[3]
    watcher.cursor = watcher.cursor.replace(f'"horizon": "{horizon}"', '"horizon": "999999999999999"')
    assert len(watcher.tick()) == 1


def test_while_somebody_else_writes_a_cycle_of_the_pool_it_waits(calm: Watcher) -> None:
    """From the command line, say: a run would be refused, and its failure be an alert."""
    calm.world.submit("new", 5, {"gate": 1})
    with entered(calm.world.engine.database) as connection:
        connection.exec_driver_sql("alter table pipeline.cycle disable trigger user")
        connection.exec_driver_sql("update pipeline.cycle set status = 'committing', lease_until = pipeline.now() + interval '1 minute'")
    assert calm.tick() == []
    with entered(calm.world.engine.database) as connection:
        connection.exec_driver_sql("update pipeline.cycle set status = 'published', lease_until = null")
        connection.exec_driver_sql("alter table pipeline.cycle enable trigger user")
    assert len(calm.tick()) == 1


def test_after_a_long_silence_everything_that_happened_is_one_request(calm: Watcher) -> None:
    for number in range(5):
        calm.world.submit(f"new-{number}", 5, {"gate": 1})
        calm.world.advance(hours=10)
    (request,) = calm.tick()
    assert request.partition_key == "2026-01-17|p", "of the day it is now, not of the days that passed"


def test_a_tick_that_was_cut_off_comes_again_with_the_same_requests(watcher: Watcher) -> None:
    before = watcher.cursor
    (first,) = watcher.tick()
    watcher.cursor = before
    (again,) = watcher.tick()
    assert (again.run_key or "").endswith(":1")
    assert again.partition_key == first.partition_key


def crowd(world: World, pools: int) -> None:
    for number in range(pools):
        name = f"q{number:03}"
        world.engine.intake.create_pool(name)
        world.engine.intake.submit(name, [{"key": "a", "weight": 1, "demands": {}}])


def test_a_hundred_pools_are_one_tick_and_as_many_questions_as_one(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    questions: list[str] = []
    sa.event.listen(watcher.world.engine.database.engine, "before_cursor_execute", lambda *given: questions.append(given[2]))
    for name in ("get_runs", "add_dynamic_partitions"):
        monkeypatch.setattr(dg.DagsterInstance, name, _counting(getattr(dg.DagsterInstance, name), questions))

    def questions_of_a_tick() -> int:
        watcher._settle()
        questions.clear()
        watcher.asked = list(watcher.evaluated().run_requests or ())
        return len(questions)

    watcher.tick()  # one pool was asked for and its run was never made
    for_one = questions_of_a_tick()
    assert len(watcher.asked) == 1
    crowd(watcher.world, 99)
    watcher.tick()
    for_hundred = questions_of_a_tick()
    assert len(watcher.asked) == 100
    assert for_hundred == for_one


def _counting(asked: Callable[..., Any], questions: list[str]) -> Callable[..., Any]:
    def counted(*given: Any, **more: Any) -> Any:
        questions.append(asked.__name__)
        return asked(*given, **more)

    return counted


def test_when_the_daemon_is_behind_the_queue_grows_no_longer_and_who_waited_longest_comes_first(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors, "IN_FLIGHT_MAX", 2)
    crowd(watcher.world, 3)
    first = watcher.tick()
    assert [request.tags[POOL_TAG] for request in first] == ["p", "q000"]
    for request in first:
        watcher.run(request, dg.DagsterRunStatus.STARTED)
    watcher.world.submit("again", 5, {"gate": 1})
    watcher.world.engine.intake.submit("q001", [{"key": "b", "weight": 1, "demands": {}}])
    assert watcher.tick() == []
    for run in watcher.instance.get_runs():
        watcher.instance.delete_run(run.run_id)
    for request in first:
        watcher.run(request, dg.DagsterRunStatus.SUCCESS)
    assert [request.tags[POOL_TAG] for request in watcher.tick()] == ["q001", "q002"], "p woke again, later than those who wait"


def test_dagster_does_not_retry_what_the_sensor_asks_for_again(watcher: Watcher) -> None:
    assert watcher.tick()[0].tags["dagster/max_retries"] == "0"


@pytest.mark.parametrize(
    ("zone", "at", "day"),
    [
        ("UTC", "2026-01-15T23:59:59+00:00", "2026-01-15"),
        ("UTC", "2026-01-16T00:00:00+00:00", "2026-01-16"),
        ("America/New_York", "2026-01-16T04:59:59+00:00", "2026-01-15"),
        ("America/New_York", "2026-01-16T05:00:00+00:00", "2026-01-16"),
        ("America/New_York", "2026-03-08T04:59:59+00:00", "2026-03-07"),  # the night in which clocks go forward
        ("America/New_York", "2026-03-09T03:59:59+00:00", "2026-03-08"),  # its day has 23 hours
        ("America/New_York", "2026-03-09T04:00:00+00:00", "2026-03-09"),
        ("Europe/Berlin", "2026-10-25T22:59:59+00:00", "2026-10-25"),  # clocks went back: this day has 25 hours
        ("Europe/Berlin", "2026-10-25T23:00:00+00:00", "2026-10-26"),
    ],
)
def test_the_day_of_a_live_cycle_is_the_installations_day(watcher: Watcher, zone: str, at: str, day: str) -> None:
    watcher.world.engine.upkeep.advance_clock(datetime.fromisoformat(at))
    watcher.world.engine = Engine.over(watcher.world.engine.database, watcher.world.engine.artifacts, timezone=zone)
    (request,) = watcher.tick()
    assert request.partition_key == f"{day}|p"
    days = day_and_pool(Settings(timezone=zone)).get_partitions_def_for_dimension("date")
    assert days.get_partition_keys(current_time=datetime.fromisoformat(at))[-1] == day, "and the newest that the catalogue has then"
