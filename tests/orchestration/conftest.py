"""The control room over a simulated world: the definitions as Dagster loads them, on an instance that forgets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date

import dagster as dg
import pytest

from pipeline_project.core.snapshot import Mode
from pipeline_project.orchestration import assets, definitions, io
from pipeline_project.orchestration.inprocess import ControlRoom
from pipeline_project.orchestration.partitions import POOLS
from pipeline_project.orchestration.requests import LIVE_CYCLE, CycleRequest
from pipeline_project.settings import Settings
from tests.world import NOON, World

TODAY = NOON.date()


@pytest.fixture(scope="session")
def loaded() -> dg.Definitions:
    return definitions.control_room(Settings())


@pytest.fixture(scope="session")
def job(loaded: dg.Definitions) -> dg.JobDefinition:
    return loaded.resolve_job_def(LIVE_CYCLE)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        ephemeral.add_dynamic_partitions(POOLS.name or "", ["p"])
        yield ephemeral


@pytest.fixture
def room(world: World, job: dg.JobDefinition, instance: dg.DagsterInstance) -> ControlRoom:
    return ControlRoom(engine=world.engine, job=job, instance=instance)


@pytest.fixture
def contested(world: World) -> World:
    """Three items want one place; the heaviest is worth most."""
    world.resources(gate=1)
    for weight, key in enumerate(("light", "middle", "heavy"), 1):
        world.submit(key, weight, {"gate": 1})
    return world


Materialize = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def materialize(world: World, loaded: dg.Definitions, instance: dg.DagsterInstance) -> Materialize:
    """These assets alone, with their checks, as a person does in the UI: no tag says which mode."""

    def chosen(*names: str, day: date = TODAY, tags: dict[str, str] | None = None) -> dg.ExecuteInProcessResult:
        asked = CycleRequest(pool=world.pool, day=day, mode=Mode.LIVE)
        return dg.materialize(
            [*(loaded.assets or ()), *(loaded.asset_checks or ())],
            selection=list(names),
            instance=instance,
            partition_key=asked.partition_key,
            tags=tags,
            resources={"engine": world.engine, "artifacts": io.artifacts},
        )

    return chosen


ALL = tuple(asset.key.to_user_string() for asset in assets.SELECTION)
