"""Every check passes on what the engine makes, and has a fault that it finds."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from pipeline_project.core.conflict_graph import ConflictGraph
from pipeline_project.core.decisions import Proposal
from pipeline_project.core.errors import CheckFailed
from pipeline_project.core.snapshot import Snapshot
from pipeline_project.engine.cycle import Cycles
from pipeline_project.engine.engine import Engine
from pipeline_project.engine.upkeep import Upkeep
from pipeline_project.orchestration import checks
from pipeline_project.orchestration.faults import Fault
from pipeline_project.orchestration.inprocess import ControlRoom
from pipeline_project.store.database import Database
from tests.orchestration.conftest import TODAY
from tests.world import World, entered


@pytest.fixture
def snapshot(contested: World) -> Snapshot:
    return contested.engine.cycles.snapshot("p")


@pytest.fixture
def graph(snapshot: Snapshot) -> ConflictGraph:
    return ConflictGraph.of(snapshot)


@pytest.fixture
def proposal(contested: World, graph: ConflictGraph) -> Proposal:
    return contested.engine.cycles.propose(graph)


def test_what_the_engine_makes_passes(contested: World, snapshot: Snapshot, graph: ConflictGraph, proposal: Proposal) -> None:
    engine = contested.engine
    report = engine.cycles.commit(proposal)
    made = {"pending_items": snapshot, "conflict_graph": graph, "proposed_selections": proposal, "committed_decisions": report}
    found = {check.called: check.judge(made[asset], engine) for asset, judged in checks.CHECKS.items() for check in judged}
    assert {name: faults for name, faults in found.items() if faults} == {}
    assert len(found) == 8


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [
        ("weights", np.array([1, -2, 3]), r"items: expect_column_values_to_be_between .*weight.*\[-2\]"),
        ("versions", np.array([0, 1, 1]), r"items: .*version.*\[0\]"),
        ("keys", pa.array(["a", "a", "b"]), r"items: expect_column_values_to_be_unique .*'a'"),
        ("keys", pa.array(["a", None, "b"]), r"items: expect_column_values_to_not_be_null .*key.*1 such"),
        ("quantities", np.array([1, 0, 1]), r"demands: .*quantity.*\[0\]"),
        ("resources", np.array([0, 7, 0], np.int32), r"demands: expect_column_pair_values_a_to_be_greater_than_b"),
        ("indptr", np.array([0, 2, 3, 3]), r"demands: expect_compound_columns_to_be_unique"),
        ("free", np.array([-1]), r"resources: .*free.*\[-1\]"),
        ("free", np.array([2]), r"resources: expect_column_pair_values_a_to_be_greater_than_b .*capacity"),
    ],
)
def test_a_snapshot_of_another_form_is_not_valid(column: str, value: Any, found: str, contested: World, snapshot: Snapshot) -> None:
    faults = checks.snapshot_is_valid(replace(snapshot, **{column: value}), contested.engine)
    assert len(faults) == 1
    assert re.search(found, faults[0]), faults


def test_a_snapshot_of_nothing_is_valid(world: World) -> None:
    assert checks.snapshot_is_valid(world.engine.cycles.snapshot("p"), world.engine) == []


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [
        ("weights", np.array([1, 2, 4]), "weight of candidate 2: expected 3, found 4"),
        ("capacities", np.array([2]), "capacity of resource 0: expected 1, found 2"),
        ("quantities", np.array([1, 1, 2]), "quantity of demand 2: expected 1, found 2"),
        ("indptr", np.array([0, 2, 2, 3]), "candidate 0 x resource 0"),
    ],
)
def test_a_graph_that_lost_something_of_its_snapshot_is_not_sound(
    column: str, value: Any, found: str, contested: World, graph: ConflictGraph
) -> None:
    problem = graph.problem
    object.__setattr__(problem, column, value)  # past its own checks, as a bug would
    faults = checks.graph_is_sound(graph, contested.engine)
    if column == "indptr":
        assert "candidate 1 x resource 0" in faults[0]
    else:
        assert faults == [f"{found} (1 such)"]


def test_an_item_in_no_candidate_makes_a_graph_unsound(contested: World, graph: ConflictGraph) -> None:
    lost = replace(graph, candidates=replace(graph.candidates, of_item=np.array([0, 1, 1])))
    assert checks.graph_is_sound(lost, contested.engine)[0].startswith("candidates: expected each of 3 items")


def test_a_limit_on_the_selection_belongs_to_a_sound_graph(contested: World) -> None:
    contested.policy({"limits": {"max_selected": 2}})
    graph = ConflictGraph.of(contested.engine.cycles.snapshot("p"))
    assert checks.graph_is_sound(graph, contested.engine) == []
    object.__setattr__(graph.problem, "capacities", np.array([1, 3]))
    assert checks.graph_is_sound(graph, contested.engine) == ["capacity of resource 1: expected 2, found 3 (1 such)"]


def test_an_overdrawn_resource_is_a_violation(contested: World, proposal: Proposal) -> None:
    greedy = replace(proposal, selection=replace(proposal.selection, chosen=np.array([0, 1, 2])))
    faults = checks.no_constraint_violated(greedy, contested.engine)
    assert "capacity: resource 0: expected at most 1, found 3" in faults


def test_a_selection_that_may_be_far_from_the_best_is_warned_of(contested: World, proposal: Proposal) -> None:
    certificate = replace(proposal.selection.certificate, upper_bound=6)
    far = replace(proposal, selection=replace(proposal.selection, certificate=certificate))
    assert checks.gap_within_policy(far, contested.engine) == [
        "gap: expected at most 5.00%, found 50.00%; give the policy's solver more steps"
    ]


def test_an_item_that_was_put_aside_as_too_large_is_warned_of_until_it_is_back(contested: World) -> None:
    contested.submit("huge", 2**63 - 1)
    snapshot = contested.engine.cycles.snapshot("p")
    (fault,) = checks.nothing_is_too_large(snapshot, contested.engine)
    assert fault.startswith(f"huge, weight {2**63 - 1}: put aside as too large: with it the weights of all that wait add up to")
    contested.submit("huge", 4)
    assert checks.nothing_is_too_large(contested.engine.cycles.snapshot("p"), contested.engine) == []


def test_work_that_no_cycle_came_to_look_at_is_warned_of(contested: World, snapshot: Snapshot) -> None:
    contested.advance(hours=1)
    assert checks.backlog_is_fresh(snapshot, contested.engine) == []
    contested.advance(seconds=1)
    assert checks.backlog_is_fresh(snapshot, contested.engine) == [
        "waiting for a first cycle: expected at most 3600 s, found 3 items, the first for 3601 s; does the daemon run?"
    ]


def test_what_a_cycle_has_seen_and_deferred_is_not_overlooked(contested: World, snapshot: Snapshot) -> None:
    contested.cycle()
    contested.advance(hours=5)
    assert checks.backlog_is_fresh(snapshot, contested.engine) == []


def test_an_item_that_never_wins_starves(contested: World) -> None:
    report = contested.cycle()
    contested.advance(days=1, seconds=1)
    contested.engine.upkeep.sweep()  # the heavy one's hold has lapsed: it waits, too, but had its turn
    waiting = checks.nobody_starves(report, contested.engine)
    assert [fault.split(";")[0] for fault in waiting] == ["light has waited 86401 s", "middle has waited 86401 s"]


def test_a_ledger_that_was_tampered_with_names_every_row(database: Database, engine: Engine) -> None:
    engine.intake.create_pool("p")
    engine.intake.put_resources("p", [{"key": "gate", "capacity": 3}, {"key": "spare", "capacity": 3}])
    engine.intake.submit("p", [{"key": "a", "weight": 1, "demands": {"gate": 1}}])
    report = engine.cycles.run("p")
    assert checks.ledger_invariants_hold(report, engine) == []
    with entered(database) as connection:
        connection.exec_driver_sql("alter table pipeline.resource disable trigger user")
        connection.exec_driver_sql("update pipeline.resource set in_use = 2")
    found = checks.ledger_invariants_hold(report, engine)
    assert [fault.split(":")[0] for fault in found] == ["in_use_drifted, row 1 of 2", "in_use_drifted, row 2 of 2"]
    assert re.search(r", in_use \d+, held \d+$", found[0]), found[0]  # numbers as a person writes them
    assert {(fault.row["key"], fault.row["held"]) for fault in found if isinstance(fault, Fault)} == {("gate", 1), ("spare", 0)}


def test_a_failed_check_names_its_rows_in_a_table(contested: World) -> None:
    report = contested.cycle()
    contested.advance(days=1, seconds=1)
    check = next(check for check in checks.CHECKS["committed_decisions"] if check.called == "nobody_starves")
    result = checks.result("committed_decisions", check, report, contested.engine)
    table = result.metadata["rows"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [(record.data["key"], record.data["waited_s"]) for record in table.records] == [("light", 86401), ("middle", 86401)]


def test_how_much_a_failed_check_matters_is_the_policys_to_say(contested: World) -> None:
    contested.policy({"checks": {"severity": {"nobody_starves": "error"}}})
    report = contested.cycle()
    contested.advance(days=1, seconds=1)
    check = next(check for check in checks.CHECKS["committed_decisions"] if check.called == "nobody_starves")
    assert checks.result("committed_decisions", check, report, contested.engine).severity is dg.AssetCheckSeverity.ERROR


def test_a_blocking_check_keeps_the_decisions_from_being_written(
    room: ControlRoom, contested: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losing(self: Cycles, snapshot: Snapshot) -> ConflictGraph:
        graph = ConflictGraph.of(snapshot)
        object.__setattr__(graph.problem, "capacities", np.array([2]))
        return graph

    monkeypatch.setattr(Cycles, "graph", losing)
    with pytest.raises(CheckFailed, match="graph_is_sound"):
        room.run_cycle("p", TODAY)
    assert set(contested.states().values()) == {"pending"}


def test_a_check_that_fails_after_the_commit_fails_no_run_but_is_counted(
    room: ControlRoom, contested: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    contested.advance(days=2)
    with monkeypatch.context() as planted:
        planted.setattr(Upkeep, "check_cycle", lambda *_, **__: [{"name": "over_allocated", "rows": 1, "examples": [{"resource_id": 1}]}])
        report = room.run_cycle("p", TODAY)
    assert report["checks"] == {"passed": 5, "warned": 2, "failed": 1}
    assert report["status"] == "published"
    assert instance.get_runs()[0].status is dg.DagsterRunStatus.SUCCESS
