"""Break statement 1 of a use case, then 2, then 3, until it runs through; after each, the same call again finishes it, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import count
from typing import Any

import pytest

from pipeline_project.core.errors import PipelineError
from pipeline_project.engine.engine import Engine
from tests.chaos.breaking import Broken, Countdown, at_commit, at_statement, fail, terminator

STATEMENTS_LIMIT = 100
"""No use case below has so many: a test that never runs through is told from one that does."""

Breakage = Callable[[Engine, int], AbstractContextManager[Countdown]]
SELECTED = {"x", "y", "d"}


def exception(engine: Engine, n: int) -> AbstractContextManager[Countdown]:
    return at_statement(engine.database, n, fail)


def terminated(engine: Engine, n: int) -> AbstractContextManager[Countdown]:
    return at_statement(engine.database, n, terminator(engine.database))


def lost_answer(engine: Engine, n: int) -> AbstractContextManager[Countdown]:
    return at_commit(engine.database, n)


BREAKAGES = pytest.mark.parametrize("breakage", [exception, terminated, lost_answer])


def pools(engine: Engine) -> Iterator[tuple[int, str]]:
    """One pool after the other, each with a bundle and two lone items of which one finds no room."""
    for n in count(1):
        pool = f"p{n}"
        engine.intake.create_pool(pool)
        engine.intake.put_resources(pool, [{"key": "node", "capacity": 3}, {"key": "fuel", "capacity": 9, "kind": "consumable"}])
        crew = {"weight": 5, "demands": {"node": 1, "fuel": 1}, "bundle_key": "crew", "bundle_size": 2}
        lone = {"demands": {"node": 1}}
        rows = [{"key": "x", **crew}, {"key": "y", **crew}, {"key": "c", "weight": 1, **lone}, {"key": "d", "weight": 2, **lone}]
        assert engine.intake.submit(pool, rows).accepted == 4
        yield n, pool


def broken_everywhere(engine: Engine, breakage: Breakage, prepare: Callable[[str], Any], act: Callable[[str, Any], Any]) -> Iterator[str]:
    """Each pool after its call was broken at the next point, and made again; ends when there is no further point.

    Ending a session takes the server and the retries most of a second: of those breaks every third does.
    """
    for number, pool in pools(engine):
        n = 3 * number - 2 if breakage is terminated else number
        assert n < STATEMENTS_LIMIT
        prepared = prepare(pool)
        with breakage(engine, n) as countdown:
            try:
                act(pool, prepared)
            except (Broken, PipelineError):
                assert countdown.done
        act(pool, prepared)
        yield pool
        if not countdown.done:
            assert n > 1
            return


def events(engine: Engine, pool: str) -> dict[str, list[str]]:
    return {row["key"]: [move["event"] for move in engine.inquiry.timeline(pool, row["key"])] for row in engine.inquiry.items(pool)}


@BREAKAGES
def test_a_commit_broken_anywhere_and_made_again_happens_once(engine: Engine, breakage: Breakage) -> None:
    def plan(pool: str) -> str:
        return str(engine.cycles.plan(pool)["cycle"])

    for pool in broken_everywhere(engine, breakage, plan, lambda pool, key: engine.cycles.commit_planned(key, pool=pool)):
        assert events(engine, pool) == {key: ["submit", "select"] if key in SELECTED else ["submit"] for key in "xycd"}
        (cycle,) = engine.inquiry.cycles(pool)
        assert (cycle["status"], cycle["committed_value"], cycle["selected"]) == ("published", 12, 3)
    assert engine.upkeep.check() == []


@BREAKAGES
def test_a_rollback_broken_anywhere_and_made_again_happens_once(engine: Engine, breakage: Breakage) -> None:
    def run(pool: str) -> str:
        return str(engine.cycles.run(pool)["cycle"])

    for pool in broken_everywhere(engine, breakage, run, lambda pool, key: engine.cycles.rollback(key, pool=pool)):
        assert events(engine, pool)["d"] == ["submit", "select", "release"]
        assert engine.inquiry.cycles(pool)[0]["status"] == "rolled_back"
        assert all(row["in_use"] == 0 for row in engine.inquiry.resources(pool))
    assert engine.upkeep.check() == []


@BREAKAGES
def test_an_import_broken_anywhere_and_made_again_happens_once(engine: Engine, breakage: Breakage) -> None:
    rows = [{"key": "d", "weight": 7, "demands": {"node": 1}}, {"key": "new", "weight": 1, "demands": {"node": 2}}]

    for pool in broken_everywhere(engine, breakage, engine.cycles.run, lambda pool, _: engine.intake.submit(pool, rows)):
        moves = events(engine, pool)
        assert moves["d"] == ["submit", "select", "release", "revise"]
        assert moves["new"] == ["submit"]
    assert engine.upkeep.check() == []


@BREAKAGES
def test_a_completion_broken_anywhere_and_made_again_happens_once(engine: Engine, breakage: Breakage) -> None:
    def claim(pool: str) -> list[tuple[str, int]]:
        engine.cycles.run(pool)
        return [(claim["item"], claim["token"]) for claim in engine.execution.claim(pool, "e", most=9)]

    for pool in broken_everywhere(engine, breakage, claim, engine.execution.complete):
        assert events(engine, pool)["d"] == ["submit", "select", "claim", "complete"]
        assert {row["key"]: (row["in_use"], row["spent"]) for row in engine.inquiry.resources(pool)} == {"node": (0, 0), "fuel": (0, 2)}
    assert engine.upkeep.check() == []


@BREAKAGES
def test_a_failure_broken_anywhere_and_reported_again_counts_once(engine: Engine, breakage: Breakage) -> None:
    def claim(pool: str) -> list[tuple[str, int]]:
        engine.cycles.run(pool)
        return [(claim["item"], claim["token"]) for claim in engine.execution.claim(pool, "e", most=9)]

    for pool in broken_everywhere(engine, breakage, claim, lambda pool, claims: engine.execution.fail(pool, claims, error="boom")):
        assert events(engine, pool)["d"] == ["submit", "select", "claim", "retry"]
    assert engine.upkeep.check() == []
