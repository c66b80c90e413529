"""The four assets: together, alone, again, after a failure, and on a day that is over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from pipeline_project.core.errors import StalePlan, Unknown, UsageError
from pipeline_project.core.snapshot import Mode
from pipeline_project.engine.cycle import Cycles
from pipeline_project.orchestration.inprocess import ControlRoom
from pipeline_project.orchestration.requests import MODE_TAG, CycleRequest
from pipeline_project.settings import Settings
from pipeline_project.store.database import Database
from tests.orchestration.conftest import ALL, TODAY, Materialize
from tests.orchestration.from_environment import live_cycle
from tests.world import World

STEPS = {"pending_items": "snapshot", "conflict_graph": "graph", "proposed_selections": "propose", "committed_decisions": "commit"}


def cycle_key(run: dg.ExecuteInProcessResult, asset: str) -> str:
    (made,) = run.asset_materializations_for_node(asset)
    return str(made.metadata["cycle_key"].value)


def test_a_run_selects_commits_and_tells_what_came_of_it(room: ControlRoom, contested: World) -> None:
    report = room.run_cycle("p", TODAY)
    assert contested.states() == {"light": "pending", "middle": "pending", "heavy": "selected"}
    assert (report["status"], report["value"], report["mode"]) == ("published", 3, "live")
    assert report["checks"] == {"passed": 8, "warned": 0, "failed": 0}


def test_every_asset_says_of_which_cycle_it_is_and_what_it_holds(materialize: Materialize, contested: World) -> None:
    run = materialize(*ALL)
    assert len({cycle_key(run, asset) for asset in ALL}) == 1
    metadata = {asset: run.asset_materializations_for_node(asset)[0].metadata for asset in ALL}
    assert metadata["pending_items"]["items"].value == 3
    assert metadata["conflict_graph"]["contested_resources"].value == 1
    assert metadata["committed_decisions"]["conflicts"].value.startswith("![conflicts](data:image/png;base64,")
    assert metadata["proposed_selections"]["upper_bound"].value == 3
    deferred = metadata["proposed_selections"]["top_deferred"]
    assert isinstance(deferred, dg.TableMetadataValue)
    assert [record.data for record in deferred.records] == [
        {"item": "middle", "weight": 2, "blockers": "gate"},
        {"item": "light", "weight": 1, "blockers": "gate"},
    ]
    assert metadata["committed_decisions"]["selected"].value == 1


def test_an_empty_pool_makes_a_run_too(room: ControlRoom) -> None:
    assert room.run_cycle("p", TODAY)["selected"] == 0


def test_nothing_between_the_assets_is_pickled(room: ControlRoom, contested: World) -> None:
    room.run_cycle("p", TODAY)
    artifacts = contested.engine.artifacts
    assert {path.rsplit(".", 1)[1] for path in artifacts.fs.find(artifacts.root)} == {"parquet", "json"}


def test_the_decisions_a_second_time_change_nothing(materialize: Materialize, contested: World) -> None:
    first = materialize(*ALL)
    again = materialize("committed_decisions")
    assert cycle_key(again, "committed_decisions") == cycle_key(first, "committed_decisions")
    assert contested.events("heavy") == ["submit", "select"]
    assert len(contested.engine.inquiry.cycles("p")) == 1


def test_one_asset_alone_reads_the_latest_of_its_partition(materialize: Materialize, contested: World) -> None:
    snapshot = materialize("pending_items")
    contested.submit("later", 9, {"gate": 1})
    graph = materialize("conflict_graph")
    assert cycle_key(graph, "conflict_graph") == cycle_key(snapshot, "pending_items")
    assert contested.state("heavy") == "pending"


def test_an_asset_whose_input_was_never_made_says_what_to_make(materialize: Materialize, contested: World) -> None:
    with pytest.raises(Unknown, match=r"proposed_selections of 2026-01-15\|p: expected a materialization, found none"):
        materialize("committed_decisions")


def test_inputs_of_different_cycles_are_refused(materialize: Materialize, contested: World) -> None:
    materialize("pending_items", "conflict_graph", "proposed_selections")
    contested.submit("later", 9, {"gate": 1})
    materialize("pending_items")
    with pytest.raises(StalePlan, match="re-materialize from pending_items"):
        materialize("committed_decisions")
    assert contested.state("heavy") == "pending"


def test_a_snapshot_of_this_run_does_not_meet_a_graph_of_another(materialize: Materialize, contested: World) -> None:
    materialize("pending_items", "conflict_graph")
    contested.submit("later", 9, {"gate": 1})
    with pytest.raises(StalePlan, match=r"conflict_graph of .*re-materialize from pending_items"):
        materialize("pending_items", "proposed_selections")


def test_a_past_day_without_a_tag_is_decided_anew(materialize: Materialize, room: ControlRoom, contested: World) -> None:
    room.run_cycle("p", TODAY)
    contested.policy({"limits": {"max_selected": 1}})
    contested.advance(days=1)
    run = materialize(*ALL)
    assert run.output_for_node("committed_decisions")["mode"] == "reprocess"
    again = materialize(*ALL)
    assert again.output_for_node("committed_decisions")["cycle"] == run.output_for_node("committed_decisions")["cycle"]


def test_a_live_run_that_passes_midnight_stays_live(materialize: Materialize, contested: World) -> None:
    contested.advance(days=1)
    report = materialize(*ALL, tags={MODE_TAG: "live"}).output_for_node("committed_decisions")
    assert (report["mode"], report["day"]) == ("live", TODAY)


def test_today_without_a_tag_is_live(materialize: Materialize, contested: World) -> None:
    assert materialize(*ALL).output_for_node("committed_decisions")["mode"] == "live"


def test_a_mode_nobody_knows_is_refused() -> None:
    with pytest.raises(UsageError, match="expected one of live, reprocess, found 'lively'"):
        CycleRequest.of_run("2026-01-15|p", {MODE_TAG: "lively"}, TODAY)
    assert CycleRequest.of_run("2026-01-15|p", {}, TODAY + timedelta(days=1)).mode is Mode.REPROCESS


@pytest.mark.parametrize("broken", STEPS)
def test_a_run_that_failed_at_any_step_is_finished_by_its_re_execution(
    broken: str, contested: World, settings: Settings, instance: dg.DagsterInstance, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    database: Database = contested.engine.database
    monkeypatch.setenv("PIPELINE_HOME", str(settings.home))
    monkeypatch.setenv("PIPELINE_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.name)
    asked = CycleRequest(pool="p", day=TODAY, mode=Mode.LIVE)

    def execute(**how: Any) -> dg.JobExecutionResult:
        tags = {**asked.tags, "dagster/partition": str(asked.partition_key)}
        return dg.execute_job(dg.reconstructable(live_cycle), instance, tags=tags, **how)

    def boom(*_: object) -> None:
        raise RuntimeError("boom")

    with monkeypatch.context() as planted:
        planted.setattr(Cycles, STEPS[broken], boom)
        with execute() as failed:
            assert not failed.success
    contested.submit("newcomer", 9, {"gate": 1})
    with execute(reexecution_options=dg.ReexecutionOptions.from_failure(failed.run_id, instance)) as finished:
        assert finished.success
    chosen = "newcomer" if broken == "pending_items" else "heavy"  # a snapshot that was taken stays the cycle's
    assert contested.state(chosen) == "selected"
