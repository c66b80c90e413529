"""kill -9 of a process in the middle of a commit: when its lease has lapsed, another owner finishes the cycle, once."""

from __future__ import annotations

import signal
import subprocess
import sys

from pipeline_project.engine.cycle import Cycles
from pipeline_project.engine.engine import Engine
from tests.store.planting import run
from tests.world import entered

VICTIM = """
import os, signal, sys
import sqlalchemy as sa
from pipeline_project.engine.cycle import Cycles
from pipeline_project.store.artifacts import Artifacts
from pipeline_project.store.database import Database

url, artifacts, pool, key, word = sys.argv[1:]
database = Database(name="", url=sa.make_url(url), admin=sa.make_url(url))

@sa.event.listens_for(database.engine, "before_cursor_execute")
def die(connection, cursor, statement, *_):
    if word in statement:
        os.kill(os.getpid(), signal.SIGKILL)

Cycles(database, Artifacts(artifacts), "UTC").commit_planned(key, pool=pool)
"""
POINTS = {
    "begun": "pipeline.cycle_chunk where cycle_id",
    "locked": "from pipeline.resource",
    "selected": "insert into pipeline.decision",
    "chunk written": "status = 'published', published_at",
}


def test_whenever_a_process_dies_its_cycle_is_finished_once(engine: Engine) -> None:
    keys = {pool.replace(" ", "-"): word for pool, word in POINTS.items()}
    victims = {pool: start(engine, pool, word) for pool, word in keys.items()}
    for victim in victims.values():
        _, words = victim.communicate(timeout=120)
        assert victim.returncode == -signal.SIGKILL, words
    assert engine.cycles.finish_lapsed() == []  # their leases have not lapsed yet
    with entered(engine.database) as connection:
        stranded = "update pipeline.cycle set lease_until = pipeline.now() - interval '1 second' where status = 'committing'"
        assert run(connection, stranded).rowcount == len(POINTS)
    assert len(Cycles(engine.database, engine.artifacts, "UTC").finish_lapsed()) == len(POINTS)
    for pool in victims:
        (cycle,) = engine.inquiry.cycles(pool)
        assert (cycle["status"], cycle["selected"]) == ("published", 2)
        assert [[move["event"] for move in engine.inquiry.timeline(pool, key)] for key in "abc"] == [
            ["submit"],
            ["submit", "select"],
            ["submit", "select"],
        ]
    assert engine.upkeep.check() == []


def start(engine: Engine, pool: str, word: str) -> subprocess.Popen[str]:
    """A planned cycle in a pool of its own, and a process that commits it until it dies before the statement with this word."""
    engine.intake.create_pool(pool)
    engine.intake.put_resources(pool, [{"key": "node", "capacity": 2}])
    engine.intake.submit(pool, [{"key": key, "weight": weight, "demands": {"node": 1}} for weight, key in enumerate("abc", 1)])
    plan = engine.cycles.plan(pool)["cycle"]
    url = engine.database.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", VICTIM, url, engine.artifacts.root, pool, plan, word]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
