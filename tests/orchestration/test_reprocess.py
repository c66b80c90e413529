"""A past day again, through Dagster: what the run tells about it, twice, killed anywhere, beside a live cycle."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from pipeline_project.core.policy import Policy
from pipeline_project.core.snapshot import Mode
from pipeline_project.engine.cycle import Cycles
from pipeline_project.engine.engine import Engine
from pipeline_project.orchestration import assets, turns
from pipeline_project.orchestration.home import PROJECT
from pipeline_project.orchestration.inprocess import ControlRoom
from pipeline_project.orchestration.partitions import day_and_pool_of, key_of
from pipeline_project.orchestration.requests import CYCLE_TAG, MODE_TAG
from pipeline_project.settings import Settings
from tests.orchestration.conftest import ALL, TODAY, Materialize
from tests.orchestration.from_environment import live_cycle
from tests.world import World

LONG = {"ttl": {"hold": "10d"}}


@pytest.fixture
def decided(room: ControlRoom, contested: World) -> World:
    """Yesterday's run gave the one place to the heaviest; since then another has become worth more."""
    contested.policy(LONG)
    room.run_cycle("p", TODAY)
    contested.advance(days=1)
    contested.engine.intake.revise("p", "light", {"weight": 9})
    return contested


def metadata(run: dg.ExecuteInProcessResult, asset: str = "committed_decisions") -> dict[str, Any]:
    (made,) = run.asset_materializations_for_node(asset)
    return dict(made.metadata)


def test_a_run_shows_the_difference_it_made_and_links_to_what_it_superseded(
    materialize: Materialize, instance: dg.DagsterInstance, decided: World
) -> None:
    (earlier,) = instance.get_runs()
    run = materialize(*ALL)
    told = metadata(run)
    assert {name: told[name].value for name in ("before", "after", "freed", "newly_selected")} == {
        "before": 3,
        "after": 9,
        "freed": 1,
        "newly_selected": 1,
    }
    assert [record.data for record in told["difference"].records] == [
        {"item": "heavy", "weight": 3, "change": "freed"},
        {"item": "light", "weight": 9, "change": "newly selected"},
    ]
    (superseded,) = [cycle for cycle in decided.engine.inquiry.cycles("p") if cycle["mode"] == "live"]
    assert told["supersedes"].value == f"- [cycle {superseded['cycle'][:8]}](/runs/{earlier.run_id}) of {TODAY}: 1 items"


def test_twice_is_once(materialize: Materialize, decided: World) -> None:
    first, second, third = (metadata(materialize(*ALL)) for _ in range(3))
    assert (first["changed"].value, second["changed"].value) == (2, 0)
    assert (second["freed"].value, second["newly_selected"].value, second["supersedes"].value) == (0, 0, "none")
    assert third["cycle_key"] == second["cycle_key"]  # an unchanged world makes no new cycle
    assert decided.states() == {"light": "selected", "middle": "pending", "heavy": "pending"}


def test_what_has_begun_or_ended_is_left_alone(materialize: Materialize, decided: World) -> None:
    decided.complete(decided.claim("heavy"))
    told = metadata(materialize(*ALL))
    assert (told["freed"].value, decided.state("heavy")) == (0, "completed")
    assert decided.events("heavy") == ["submit", "select", "claim", "complete"]


def test_days_and_pools_of_a_backfill_are_a_cycle_each(
    materialize: Materialize, room: ControlRoom, instance: dg.DagsterInstance, decided: World
) -> None:
    decided.engine.intake.create_pool("q")
    instance.add_dynamic_partitions("pools", ["q"])
    days = (TODAY, TODAY + timedelta(days=1))
    reports = [room.run_cycle(pool, day, Mode.REPROCESS) for day in days for pool in ("p", "q")]
    assert {(report["pool"], report["day"], report["mode"]) for report in reports} == {
        (pool, day, "reprocess") for day in days for pool in ("p", "q")
    }


def test_a_run_is_found_by_its_cycle_and_the_cycle_names_its_run(
    materialize: Materialize, instance: dg.DagsterInstance, decided: World
) -> None:
    run = materialize(*ALL, tags={MODE_TAG: "reprocess"})
    key = metadata(run)["cycle_key"].value
    (found,) = instance.get_runs(dg.RunsFilter(tags={CYCLE_TAG: key}))
    assert found.run_id == run.run_id


def test_the_audit_trail_names_the_run_that_decided(room: ControlRoom, instance: dg.DagsterInstance, contested: World) -> None:
    report = room.run_cycle("p", TODAY)
    (run,) = instance.get_runs()
    assert contested.engine.inquiry.lineage(report["cycle"])["run"] == run.run_id


def test_a_live_cycle_beside_it_waits_for_its_turn(materialize: Materialize, decided: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another owner is committing in the pool when the run wants to: nothing fails, and nothing is given away twice."""
    monkeypatch.setattr(turns, "WAIT_S", 0.1)
    other = Cycles(decided.engine.database, decided.engine.artifacts, "UTC")
    decided.submit("newcomer", 1, {})
    proposal = other.propose(other.graph(other.snapshot("p")))
    _, fence = other._begin("p", proposal)
    assert fence
    waited = threading.Event()
    honest = Cycles.commit

    def commit(self: Cycles, wanted: Any) -> Any:
        try:
            return honest(self, wanted)
        except Exception:
            if not waited.is_set():
                waited.set()
                honest(other, proposal)  # the other one comes to its end meanwhile
            raise

    monkeypatch.setattr(Cycles, "commit", commit)
    told = metadata(materialize(*ALL))
    assert waited.is_set()
    assert (told["status"].value, told["freed"].value, told["newly_selected"].value) == ("published", 1, 1)
    assert decided.use("gate") == (1, 0)
    assert decided.states() == {"light": "selected", "middle": "pending", "heavy": "pending", "newcomer": "selected"}


# -- killed with -9 in a process of its own, as a run worker has it, and re-executed

VICTIM = """
import os, signal, sys
import dagster as dg
import sqlalchemy as sa
from pipeline_project.engine.cycle import Cycles
from pipeline_project.engine.engine import Engine
from pipeline_project.orchestration import assets
from pipeline_project.orchestration.requests import CycleRequest
from tests.orchestration.from_environment import live_cycle

point, key, storage = sys.argv[1:]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if hasattr(Cycles, point):
    setattr(Cycles, point, die)

@sa.event.listens_for(sa.engine.Engine, "before_cursor_execute")
def look(connection, cursor, statement, *_):
    if point in statement:
        die()

with dg.DagsterInstance.local_temp(storage) as instance:
    wanted = [asset.key for asset in assets.SELECTION]  # their checks would take seconds to load
    tags = {"dagster/partition": key, "pipeline/mode": "reprocess"}
    dg.execute_job(dg.reconstructable(live_cycle), instance, tags=tags, asset_selection=wanted)
"""
POINTS = {
    "between-snapshot-and-graph": "graph",
    "between-graph-and-selection": "propose",
    "released-not-yet-recorded": "insert into pipeline.decision",
    "written-not-yet-published": "status = 'published', published_at",
}


@pytest.fixture
def environment(world: World, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run's own process finds the engine by."""
    monkeypatch.setenv("PIPELINE_HOME", str(settings.home))
    monkeypatch.setenv("PIPELINE_ARTIFACTS", str(tmp_path))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", world.engine.database.name)
    (tmp_path / "artifacts").mkdir(exist_ok=True)
    (tmp_path / world.engine.database.name).symlink_to(tmp_path / "artifacts")


def test_killed_anywhere_it_is_finished_by_its_re_execution_once(world: World, environment: None, tmp_path: Path) -> None:
    engine, storage = world.engine, tmp_path / "dagster"
    storage.mkdir()
    with dg.DagsterInstance.local_temp(str(storage)) as instance:
        instance.add_dynamic_partitions("pools", list(POINTS))
        for pool in POINTS:
            furnish(engine, pool)
        world.advance(days=1)
        for pool in POINTS:
            engine.intake.revise(pool, "light", {"weight": 9})
        victims = {pool: start(point, key_of(TODAY, pool), storage) for pool, point in POINTS.items()}
        for victim in victims.values():
            _, words = victim.communicate(timeout=200)
            assert victim.returncode == -signal.SIGKILL, words
        world.advance(minutes=2)  # the leases of the dead lapse
        runs = {day_and_pool_of(run.tags["dagster/partition"])[1]: run for run in instance.get_runs()}
        for pool in POINTS:
            instance.report_run_failed(runs[pool])  # as run monitoring does
            options = dg.ReexecutionOptions.from_failure(runs[pool].run_id, instance)
            tags = {"dagster/partition": key_of(TODAY, pool), MODE_TAG: "reprocess"}
            how = {"tags": tags, "reexecution_options": options, "asset_selection": [asset.key for asset in assets.SELECTION]}
            with dg.execute_job(dg.reconstructable(live_cycle), instance, **how) as finished:
                assert finished.success
    for pool in POINTS:
        assert {row["key"]: row["state"] for row in engine.inquiry.items(pool)} == {"light": "selected", "heavy": "pending"}
        assert [move["event"] for move in engine.inquiry.timeline(pool, "heavy")] == ["submit", "select", "release"]
        assert [move["event"] for move in engine.inquiry.timeline(pool, "light")] == ["submit", "revise", "select"]
        (again,) = [cycle for cycle in engine.inquiry.cycles(pool) if cycle["mode"] == "reprocess"]
        assert (again["status"], engine.inquiry.lineage(again["cycle"])["freed"]) == ("published", 1)


def furnish(engine: Engine, pool: str) -> None:
    """One place, given to the heavier of two."""
    engine.intake.create_pool(pool)
    engine.intake.apply_policy(pool, Policy.from_document(LONG, "test"))
    engine.intake.put_resources(pool, [{"key": "gate", "capacity": 1}])
    engine.intake.submit(pool, [{"key": key, "weight": weight, "demands": {"gate": 1}} for weight, key in enumerate(("light", "heavy"), 1)])
    engine.cycles.run(pool)


def start(point: str, key: str, storage: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", VICTIM, point, key, str(storage)]
    return subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
