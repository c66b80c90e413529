"""Equal content has equal versions, whoever made it and when; other content, other code or another change has others."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from pipeline_project.orchestration import versions
from pipeline_project.orchestration.requests import SEEN_TAG
from tests.orchestration.conftest import ALL, Materialize
from tests.world import World, settle


def of_run(run: dg.ExecuteInProcessResult) -> dict[str, str]:
    made = {asset: run.asset_materializations_for_node(asset)[0] for asset in ALL}
    return {asset: (event.tags or {})[versions.DATA_VERSION] for asset, event in made.items()}


def test_a_world_that_comes_again_has_the_same_versions(materialize: Materialize, contested: World) -> None:
    materialize(*ALL)  # takes the one place: from now on a cycle changes nothing
    first, again = of_run(materialize(*ALL)), of_run(materialize(*ALL))
    assert first == again
    contested.submit("newcomer", 1, {"gate": 1})
    assert all(version != again[asset] for asset, version in of_run(materialize(*ALL)).items())


def test_each_snapshot_observes_how_far_the_feed_had_come(materialize: Materialize, contested: World, instance: dg.DagsterInstance) -> None:
    settle(contested.engine)
    materialize(*ALL)
    (seen,) = instance.fetch_observations(dg.AssetKey("work_items"), limit=1).records
    assert seen.asset_observation
    position = contested.engine.inquiry.position()
    assert (seen.asset_observation.tags or {})[versions.DATA_VERSION] == position
    assert instance.get_runs()[0].tags[SEEN_TAG] == position, "which tells the sensor what it need not ask for again"


def test_what_the_snapshot_was_made_of_is_in_its_provenance(materialize: Materialize, contested: World) -> None:
    settle(contested.engine)
    position = contested.engine.inquiry.position()
    materialize("pending_items")
    tags = materialize("pending_items").asset_materializations_for_node("pending_items")[0].tags or {}
    assert tags["dagster/input_data_version/work_items"] == position


def test_code_that_changes_has_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "PACKAGE", tmp_path)
    (tmp_path / "solvers").mkdir()
    source = tmp_path / "solvers" / "greedy.py"
    found = []
    for text in ("a = 1", "a = 2", "a = 1"):
        source.write_text(text)
        versions.code_version.cache_clear()
        found.append(versions.code_version("solvers"))
    versions.code_version.cache_clear()
    assert found[0] == found[2] != found[1]


def test_every_asset_has_the_code_version_of_the_rooms_that_make_it(loaded: dg.Definitions) -> None:
    graph = loaded.resolve_asset_graph()
    found = {asset: graph.get(dg.AssetKey(asset)).code_version for asset in ALL}
    assert found["proposed_selections"] == versions.code_version("core", "solvers")
    assert len(set(found.values())) == len(ALL)


def test_the_catalogue_knows_whom_to_ask_and_what_each_asset_is_made_with(loaded: dg.Definitions) -> None:
    graph = loaded.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert (node.owners, node.description is not None, bool(node.kinds), node.tags.get("domain") is not None) == (
            ["team:operations"],
            True,
            True,
            True,
        )
