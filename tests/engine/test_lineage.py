"""From a committed decision back to what it was made from and by, and forward to what became of it."""

from __future__ import annotations

import pytest

from pipeline_project.core.decisions import Verdict
from pipeline_project.engine import actors
from tests.world import NOON, World, settle, until

DAY = NOON.date()
LONG = {"ttl": {"hold": "10d"}}


@pytest.fixture
def decided(world: World) -> World:
    """Two of three items have the two places; a run of the control room decided that, a day ago."""
    world.policy(LONG)
    world.resources(node=2)
    for weight, key in enumerate("abc", 1):
        world.submit(key, weight, {"node": 1})
    world.engine.acting_as(actors.run("r1")).cycles.run("p")
    world.advance(days=1)
    return world


def test_a_cycle_leads_back_to_its_snapshot_its_policy_its_code_and_its_run(decided: World) -> None:
    (cycle,) = decided.engine.inquiry.cycles("p")
    traced = decided.engine.inquiry.lineage(cycle["cycle"])
    proposal = decided.engine.artifacts.load_proposal("p", cycle["cycle"])
    snapshot = proposal.graph.snapshot
    assert traced["snapshot"] == decided.engine.artifacts.where("p", snapshot.cycle_key())
    assert (traced["policy_version"], traced["policy_hash"]) == (2, snapshot.policy.hash)
    assert traced["engine_version"] == snapshot.engine_version
    assert (traced["seed"], traced["selection_hash"]) == (snapshot.policy.solver.seed, proposal.selection.digest())
    assert (traced["decided_by"], traced["run"]) == ("dagster run r1", "r1")
    assert (traced["before"], traced["after"], traced["freed"], traced["newly_selected"]) == (0, 5, 0, 2)


def test_it_leads_forward_to_what_became_of_what_it_selected(decided: World) -> None:
    decided.policy({**LONG, "retries": {"max_attempts": 1}})
    claims = decided.claim()
    decided.complete({"c": claims["c"]})
    decided.fail({"b": claims["b"]}, error="out of memory")
    (cycle,) = decided.engine.inquiry.cycles("p")
    assert decided.engine.inquiry.lineage(cycle["cycle"])["outcomes"] == {"completed": 1, "failed": 1}
    why = decided.engine.inquiry.why("p", "c")
    assert (why["last_move"]["event"], why["last_move"]["token"], why["last_move"]["cycle"]) == ("complete", claims["c"], cycle["cycle"])
    assert (why["verdicts"][0]["cycle"], why["verdicts"][0]["run"]) == (cycle["cycle"], "r1")
    assert "out of memory" in str(decided.engine.inquiry.why("p", "b")["last_move"]["detail"])


def test_a_reprocess_says_what_it_changed_and_whose_place_it_took(decided: World) -> None:
    (earlier,) = decided.engine.inquiry.cycles("p")
    decided.engine.intake.revise("p", "a", {"weight": 9})
    (report,) = decided.engine.cycles.reprocess("p", DAY, DAY)
    inquiry = decided.engine.inquiry
    traced = inquiry.lineage(report["cycle"])
    assert (traced["before"], traced["after"], traced["freed"], traced["newly_selected"]) == (5, 12, 1, 1)
    assert [(old["cycle"], old["run"], old["items"]) for old in traced["superseded"]] == [(earlier["cycle"], "r1", 1)]
    assert inquiry.moved(report["cycle"], Verdict.RELEASED) == [{"item": "b", "weight": 2}]
    assert inquiry.moved(report["cycle"], Verdict.SELECTED) == [{"item": "a", "weight": 9}]
    assert inquiry.lineage(earlier["cycle"])["outcomes"] == {"elsewhere": 1, "selected": 1}


def test_who_rolled_a_cycle_back_did_not_decide_it(decided: World) -> None:
    (cycle,) = decided.engine.inquiry.cycles("p")
    decided.engine.cycles.rollback(cycle["cycle"])
    assert decided.engine.inquiry.lineage(cycle["cycle"])["run"] == "r1"


def test_the_feed_stands_still_while_nothing_happens_that_a_cycle_could_use(decided: World) -> None:
    before = position_after(decided, "0")
    decided.cycle()
    decided.claim("c")
    assert decided.engine.inquiry.position() == before
    decided.submit("new", 1)
    position_after(decided, before)


def position_after(world: World, before: str) -> str:
    """Transactions are numbered for the whole server: writers of other databases may hold the horizon back for a moment."""
    settle(world.engine)
    until(lambda: int(world.engine.inquiry.position()) > int(before))
    return world.engine.inquiry.position()


def test_two_engines_of_one_process_are_two_actors_and_a_run_is_one(decided: World) -> None:
    assert actors.process() != actors.process()
    assert actors.run_of(actors.run("r")) == "r"
    assert actors.run_of(actors.process()) is None
    assert actors.run_of(None) is None
