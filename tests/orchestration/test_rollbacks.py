"""`rollback_cycle`: first a look, then exactly what was looked at, or nothing."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from pipeline_project.core.errors import StalePlan, UsageError
from pipeline_project.orchestration.rollbacks import RollbackConfig, rollback_cycle
from tests.world import World


@pytest.fixture
def cycle(contested: World) -> str:
    key: str = contested.cycle()["cycle"]
    return key


def launch(world: World, instance: dg.DagsterInstance, **config: Any) -> dict[str, dict[str, Any]]:
    """What each op says of what it did."""
    run = rollback_cycle.execute_in_process(run_config=config, instance=instance, resources={"engine": world.engine})
    outputs = [event for event in run.all_node_events if event.is_successful_output]
    return {str(event.step_key): {name: told.value for name, told in event.step_output_data.metadata.items()} for event in outputs}


def test_without_a_hash_it_only_shows_what_it_would_do(contested: World, instance: dg.DagsterInstance, cycle: str) -> None:
    told = launch(contested, instance, cycle=cycle)
    assert (told["preview_rollback"]["released"], told["preview_rollback"]["status"]) == (1, "published")
    assert told["apply_rollback"] == {}
    assert contested.state("heavy") == "selected"


def test_with_the_hash_it_does_what_was_shown(contested: World, instance: dg.DagsterInstance, cycle: str) -> None:
    previewed = launch(contested, instance, cycle=cycle, hold_s=3600)["preview_rollback"]["hash"]
    told = launch(contested, instance, cycle=cycle, previewed=previewed, hold_s=3600, reason="wrong prices")
    assert (told["apply_rollback"]["status"], told["apply_rollback"]["released"]) == ("rolled_back", 1)
    assert contested.item("heavy")["reason"] == "wrong prices"
    assert contested.cycle()["selected"] == 1
    assert contested.state("middle") == "selected"  # the heavy one stays out for an hour


def test_a_preview_that_no_longer_holds_is_refused(contested: World, instance: dg.DagsterInstance, cycle: str) -> None:
    previewed = launch(contested, instance, cycle=cycle)["preview_rollback"]["hash"]
    contested.claim("heavy")
    with pytest.raises(StalePlan, match=r"heavy was to be released .*, found claimed"):
        launch(contested, instance, cycle=cycle, previewed=previewed)
    assert contested.state("heavy") == "claimed"


@pytest.mark.parametrize("hold_s", [-5, 10**12])
def test_a_hold_of_no_length_or_without_end_is_refused_in_words(
    contested: World, instance: dg.DagsterInstance, cycle: str, hold_s: int
) -> None:
    with pytest.raises(UsageError, match=f"hold: expected 0 to 2147483647 seconds .*, found {hold_s}"):
        launch(contested, instance, cycle=cycle, hold_s=hold_s)


def test_the_launchpad_explains_every_field() -> None:
    fields = RollbackConfig.model_fields
    assert [name for name, field in fields.items() if field.is_required()] == ["cycle"]
    assert all(field.description for field in fields.values())
