"""What happens by the clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from pipeline_project.core.errors import CheckFailed
from pipeline_project.engine.upkeep import Checked, Upkeep
from pipeline_project.orchestration import jobs, schedules
from pipeline_project.orchestration.definitions import control_room
from pipeline_project.orchestration.partitions import POOLS
from pipeline_project.orchestration.requests import LIVE_CYCLE, MODE_TAG, POOL_TAG
from pipeline_project.settings import Settings
from tests.world import World

AT = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
ITEMS = "select 'i' || n as key, n as weight, '{}'::jsonb as demands from generate_series(1, 3) n"


@pytest.fixture
def kept() -> Iterator[dg.DagsterInstance]:
    """A schedule's context reopens the instance, so it must be one that is kept somewhere."""
    with dg.instance_for_test() as instance:
        yield instance


def evaluate(schedule: dg.ScheduleDefinition, world: World, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    repository = control_room(Settings()).get_repository_def()
    resources = {"engine": world.engine}
    context = dg.build_schedule_context(instance=instance, scheduled_execution_time=AT, repository_def=repository, resources=resources)
    return list(schedule.evaluate_tick(context).run_requests or ())


def in_flight(instance: dg.DagsterInstance, job: str, pool: str) -> None:
    tags = {POOL_TAG: pool, MODE_TAG: "live"}
    instance.add_run(dg.DagsterRun(job_name=job, tags=tags, status=dg.DagsterRunStatus.STARTED))


# Dagster warns of the tags that it gives to runs of multi-dimensional partitions itself.
@pytest.mark.filterwarnings("ignore:Non-compliant tag keys like .'dagster/partition/date':DeprecationWarning")
def test_the_safety_net_asks_for_every_active_pool_with_work(contested: World, kept: dg.DagsterInstance) -> None:
    for pool in ("empty", "paused"):
        contested.engine.intake.create_pool(pool)
    contested.engine.intake.submit("paused", [{"key": "x", "weight": 1, "demands": {}}])
    contested.engine.intake.pause("paused")
    (request,) = evaluate(schedules.cycle_all_pools, contested, kept)
    assert (request.partition_key, request.tags[MODE_TAG]) == ("2026-01-15|p", "live")
    assert kept.get_dynamic_partitions(POOLS.name or "") == ["p"]


def test_the_safety_net_does_not_start_a_second_cycle(contested: World, kept: dg.DagsterInstance) -> None:
    in_flight(kept, LIVE_CYCLE, "p")
    assert evaluate(schedules.cycle_all_pools, contested, kept) == []


def test_a_source_is_pulled_when_it_is_due_and_not_twice_at_once(world: World, kept: dg.DagsterInstance) -> None:
    assert evaluate(schedules.pull_sources, world, kept) == []
    world.policy({"source": {"items": ITEMS}})
    (request,) = evaluate(schedules.pull_sources, world, kept)
    assert request.run_config["ops"] == {"pull_source": {"config": {"pool": "p"}}}
    in_flight(kept, "pull_sources", "p")
    assert evaluate(schedules.pull_sources, world, kept) == []


def test_a_pull_submits_what_the_source_shows_and_says_so_in_the_catalogue(world: World, instance: dg.DagsterInstance) -> None:
    world.policy({"source": {"items": ITEMS}})
    jobs.pull_sources.execute_in_process(run_config=jobs.pull_config("p"), instance=instance, resources={"engine": world.engine})
    assert sorted(world.states()) == ["i1", "i2", "i3"]
    (seen,) = instance.fetch_observations(dg.AssetKey("work_items"), limit=1).records
    assert seen.asset_observation
    assert seen.asset_observation.metadata["accepted"].value == 3


def test_a_pull_that_fails_leaves_its_reason_with_the_pool(world: World, instance: dg.DagsterInstance) -> None:
    world.policy({"source": {"items": "select nonsense"}})
    with pytest.raises(Exception, match="nonsense"):
        jobs.pull_sources.execute_in_process(run_config=jobs.pull_config("p"), instance=instance, resources={"engine": world.engine})
    source = world.engine.inquiry.pool("p")["source"]
    assert "nonsense" in str(source)


def test_a_sweep_does_its_work(contested: World, instance: dg.DagsterInstance) -> None:
    contested.cycle()
    contested.advance(hours=1)
    jobs.sweep.execute_in_process(instance=instance, resources={"engine": contested.engine})
    assert contested.state("heavy") == "pending"


def test_a_sweep_that_finds_a_broken_invariant_fails(world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as planted:
        broken = [{"name": "over_allocated", "rows": 2, "examples": [{"key": "gate"}]}]
        planted.setattr(Upkeep, "check_new", lambda _: Checked(violated=broken, items=None))
        with pytest.raises(CheckFailed, match="over_allocated: 2 rows, such as"):
            jobs.sweep.execute_in_process(instance=instance, resources={"engine": world.engine})


def test_sweeps_do_not_pile_up(world: World, kept: dg.DagsterInstance) -> None:
    assert len(evaluate(schedules.sweep, world, kept)) == 1
    in_flight(kept, "sweep", "")
    assert evaluate(schedules.sweep, world, kept) == []
