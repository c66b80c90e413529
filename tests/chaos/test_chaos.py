"""Eight processes in one small pool, one after the other killed with -9 wherever it is; then all drains, and every answer was true."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline_project.core.errors import Retryable, StalePlan
from pipeline_project.core.policy import Policy
from pipeline_project.engine.commit import Commit
from pipeline_project.engine.engine import Engine
from pipeline_project.store import cycles
from tests.chaos.depth import Depth
from tests.chaos.parts import CHUNK, CYCLE_LEASE_S, PARTS, POLICY, RESOURCES, Troupe
from tests.store.planting import run
from tests.world import entered

SECONDS = 20
PATIENCE_S = 60
"""A crowd that has published nothing yet plays on for so long: the machine may have others to serve."""
ALIVE = {"pending", "selected", "claimed"}
ROUNDS_MAX = 150
"""A fifth of a second each: within half a minute everything has drained, on a machine that has half a minute for it."""


@pytest.fixture
def pool(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(cycles, "LEASE_S", CYCLE_LEASE_S)
    monkeypatch.setattr(Commit, "_chunk_size", lambda _: CHUNK)
    engine.intake.create_pool("p", Policy.from_document(POLICY, "test"))
    engine.intake.put_resources("p", RESOURCES)
    engine.intake.submit("p", [{"key": "first", "weight": 1, "demands": {"r0": 1}}])
    engine.cycles.run("p")  # a cold cache of compiled loops is filled before the clock starts
    return "p"


def test_processes_are_killed_and_nothing_is_lost_nothing_twice_nobody_in_the_way(
    engine: Engine, pool: str, depth: Depth, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    killed = play(engine, pool, ledger, depth)
    answers = [json.loads(line) for line in ledger.read_text().splitlines()]
    done = Counter(what for what, *_ in answers)
    depth.tell(f"{killed} processes killed; answered: {dict(done)}")
    assert engine.upkeep.check() == []
    depth.tell(drain(engine, pool))
    assert engine.upkeep.check() == []
    assert all(row["in_use"] == 0 for row in engine.inquiry.resources(pool))
    assert done.keys() >= {"submit", "publish", "claim"}
    assert broken_promises(engine, pool, answers) == []


def play(engine: Engine, pool: str, ledger: Path, depth: Depth) -> int:
    dice = random.Random(depth.seed)
    killed = 0
    with Troupe(engine, pool, ledger) as troupe:
        for part in PARTS:
            troupe.start(part, dice.randrange(10**9))
        until = time.monotonic() + (depth.soak_s or SECONDS)
        told = time.monotonic()
        while time.monotonic() < until or not (was_published(ledger) or time.monotonic() > until + PATIENCE_S):
            time.sleep(dice.random())
            part = dice.choice(list(PARTS))
            troupe.kill(part)
            troupe.start(part, dice.randrange(10**9))
            killed += 1
            if time.monotonic() - told > 5:
                told = time.monotonic()
                depth.tell(f"{killed} killed, {until - told:.0f} s to go: {engine.inquiry.counts(pool)}")
    return killed


def was_published(ledger: Path) -> bool:
    return ledger.exists() and b'"publish"' in ledger.read_bytes()


def drain(engine: Engine, pool: str) -> str:
    """Let the last items through, one cycle after the other; how long that took."""
    began = time.monotonic()
    engine.intake.put_resources(pool, [{**row, "capacity": 10**6} for row in RESOURCES])
    for rounds in range(1, ROUNDS_MAX + 1):
        try:
            engine.upkeep.sweep()
            engine.cycles.run(pool)
            claims = [(claim["item"], claim["token"]) for claim in engine.execution.claim(pool, "last", most=100_000)]
            engine.execution.complete(pool, claims)
        except (Retryable, StalePlan):
            pass  # a killed owner's lease has not lapsed yet
        if not (counts := engine.inquiry.counts(pool)).keys() & ALIVE:
            return f"drained in {time.monotonic() - began:.1f} s and {rounds} rounds: {counts}"
        time.sleep(0.2)
    raise AssertionError(f"it did not drain: {engine.inquiry.counts(pool)}, {engine.inquiry.cycles(pool, most=3)}")


def broken_promises(engine: Engine, pool: str, answers: list[Any]) -> list[Any]:
    """What was answered to somebody, and is not so."""
    with entered(engine.database) as connection:
        moves = run(connection, "select k.key, t.event, t.token from pipeline.transition t join pipeline.item_key k using (item_id)").all()
        ways = {(row.cycle_key, row.status) for row in run(connection, "select cycle_key, status::text as status from pipeline.cycle")}
    happened = {(event, key, token) for key, event, token in moves}
    cancelled = {key for key, event, _ in moves if event == "cancel"}
    known = {key for key, _, _ in moves}
    failures = ("retry", "requeue", "fail", "quarantine")
    claims = Counter((key, token) for what, *of in answers if what == "claim" for key, token in of[0])
    broken: list[Any] = [["claimed twice", *claim] for claim, times in claims.items() if times > 1]
    for what, of in answers:
        match what:
            case "submit":
                good = set(of) <= known
            case "cancel":
                good = of in cancelled
            case "claim" | "complete":
                good = all((what, key, token) in happened for key, token in of)
            case "fail":
                good = all(any((event, key, token) in happened for event in failures) for key, token in of)
            case "publish":
                good = any((of, status) in ways for status in ("published", "rolling_back", "rolled_back"))
            case "roll back":
                good = (of, "rolled_back") in ways
            case _:
                raise AssertionError(what)
        if not good:
            broken.append([what, of])
    return broken
