"""A run is given up when no living worker says twice that it is in it, and at no other time."""

from __future__ import annotations

import dagster as dg
import pytest

from pipeline_project.orchestration import lost_workers
from pipeline_project.settings import Settings

STARTED, FAILURE = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE


class Watched:
    """The sensor, ticking over an instance, and the runs that workers say they are in."""

    def __init__(self, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
        self.instance = instance
        self.in_work: set[str] = set()
        self.cursor: str | None = None
        monkeypatch.setattr(lost_workers, "_in_work", lambda _: self.in_work)

    def run(self, tags: dict[str, str] | None = None) -> str:
        made = dg.DagsterRun(job_name="live_cycle", status=STARTED, tags=tags or {"dagster-celery/task_id": "t"})
        return self.instance.add_run(made).run_id

    def tick(self) -> None:
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        lost_workers.lost_workers(context)
        self.cursor = context.cursor

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run
        return run.status


@pytest.fixture
def watched(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(instance, monkeypatch)


def test_a_run_that_is_in_no_worker_twice_is_failed_so_that_it_is_begun_anew(watched: Watched) -> None:
    lost, alive = watched.run(), watched.run()
    watched.in_work = {alive}
    watched.tick()
    assert watched.status(lost) is STARTED
    watched.tick()
    assert (watched.status(lost), watched.status(alive)) == (FAILURE, STARTED)


def test_one_missing_answer_gives_up_nothing(watched: Watched) -> None:
    run = watched.run()
    for answered in (False, True, False, True):
        watched.in_work = {run} if answered else set()
        watched.tick()
    assert watched.status(run) is STARTED


def test_a_run_that_celery_knows_nothing_of_is_left_alone(watched: Watched) -> None:
    run = watched.run(tags={"by": "hand"})
    for _ in range(3):
        watched.tick()
    assert watched.status(run) is STARTED


def test_where_redis_does_not_answer_nothing_is_known_and_nothing_given_up(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = instance.add_run(dg.DagsterRun(job_name="live_cycle", status=STARTED, tags={"dagster-celery/task_id": "t"}))
    monkeypatch.setattr(lost_workers.settings, "load", lambda: Settings(broker_url="redis://127.0.0.1:1/0"))
    for _ in range(2):
        with pytest.raises(Exception, match=r"127\.0\.0\.1:1"):
            lost_workers.lost_workers(dg.build_sensor_context(instance=instance, cursor=f'["{run.run_id}"]'))
    again = instance.get_run_by_id(run.run_id)
    assert again
    assert again.status is STARTED
