"""What goes wrong around us: a full disk, a client that freezes in a transaction, clients whose clocks are a day off."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pipeline_project.engine.engine import Engine
from pipeline_project.store.artifacts import Artifacts
from pipeline_project.store.database import Database
from tests.chaos.crashing import database_of_its_own, folder
from tests.store.planting import run
from tests.world import World, entered

PROJECT = Path(__file__).parents[2]
ITEMS = 30_000
MOUNT, UMOUNT = (shutil.which(name) or "/bin/false" for name in ("mount", "umount"))
SMALL, LARGE = "24m", "400m"

FROZEN = """
import os, signal, sys
from tests.chaos.breaking import at_step
from tests.chaos.nursery import engine_at

engine = engine_at(*sys.argv[1:])
with at_step(engine.database, 5, lambda _: os.kill(os.getpid(), signal.SIGSTOP)):
    engine.intake.cancel("p", ["a"])
"""

SKEWED = """
import datetime, json, os, sys, time

from tests.chaos.nursery import engine_at

off = float(sys.argv.pop(1))
os.environ["TZ"] = "Pacific/Kiritimati"
time.tzset()
true_time, Honest = time.time, datetime.datetime

class Skewed(Honest):
    @classmethod
    def now(cls, tz=None):
        return Honest.now(tz) + datetime.timedelta(seconds=off)

time.time = lambda: true_time() + off
for name, module in list(sys.modules.items()):
    if name.startswith("pipeline_project") and getattr(module, "datetime", None) is Honest:
        module.datetime = Skewed

engine = engine_at(*sys.argv[1:3])
pool = sys.argv[3]
report = engine.cycles.run(pool)
claims = engine.execution.claim(pool, "e", most=9, ttl_s=60)
answers = engine.execution.complete(pool, [(row["item"], row["token"]) for row in claims if row["item"] == "a"])
swept = engine.upkeep.sweep()
swept["leases"] = [row["lease_until"].isoformat() for row in claims]
print(json.dumps({"day": str(report["day"]), "accepted": [row["accepted"] for row in answers], **swept}))
"""


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True, cwd=PROJECT)


def where(engine: Engine) -> tuple[str, str]:
    return engine.database.url.render_as_string(hide_password=False), engine.artifacts.root


def test_a_client_that_freezes_in_a_transaction_keeps_nobody_waiting_for_long(engine: Engine) -> None:
    world = World(engine)
    engine.intake.create_pool("p")
    world.submit("a")
    frozen = python(FROZEN, *where(engine))
    try:
        _, how = os.waitpid(frozen.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(how)
        with engine.database.begin() as connection:
            assert run(connection, "show idle_in_transaction_session_timeout").scalar_one() == "5s"
        with entered(engine.database) as administrator:
            idle = "select count(*) from pg_stat_activity where datname = current_database() and state = 'idle in transaction'"
            assert run(administrator, idle).scalar_one() == 1
        assert engine.intake.cancel("p", ["a"], reason="somebody else") == ["a"]
        assert world.item("a")["reason"] == "somebody else"
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
        frozen.communicate(timeout=60)
    assert world.events("a") == ["submit", "cancel"]  # thawed, it found its session gone, and then nothing left to do
    assert engine.upkeep.check() == []


def test_clocks_of_clients_that_are_a_day_off_have_no_effect(engine: Engine) -> None:
    day = 86_400.0
    for pool in ("early", "late"):
        world = World(engine, pool)
        engine.intake.create_pool(pool)
        world.resources(node=9)
        soon = world.now().timestamp() + 3600
        for key in "ab":
            world.submit(key, 1, {"node": 1}, expires_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(soon)))
    skewed = {pool: python(SKEWED, str(off), *where(engine), pool) for pool, off in (("early", -day), ("late", day))}
    for pool, process in skewed.items():
        told, _ = process.communicate(timeout=200)
        answer = json.loads(told)
        world = World(engine, pool)
        assert answer["day"] == str(engine.inquiry.today())
        assert answer["accepted"] == [True]
        assert answer["expired"] == answer["holds_released"] == answer["leases_lapsed"] == answer["artifacts_dropped"] == 0
        assert world.states() == {"a": "completed", "b": "claimed"}
        left = [(world.item("b")["lease_until"] - world.now()).total_seconds()]
        assert all(-300 < seconds <= 60 for seconds in left)
    assert engine.upkeep.check() == []


@contextmanager
def small_disk() -> Iterator[Path]:
    """A tmpfs of a few MB; only an administrator of the machine may mount one."""
    with folder("pipeline-disk-") as place:
        mounted = subprocess.run([MOUNT, "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(place)], capture_output=True, check=False)
        if mounted.returncode:
            pytest.skip("mounting a tmpfs needs an administrator's rights on this machine")
        try:
            yield place
        finally:
            subprocess.run([UMOUNT, "--lazy", str(place)], check=True)


def test_a_full_disk_loses_nothing_and_when_there_is_room_again_the_same_call_succeeds(tmp_path: Path) -> None:
    with small_disk() as disk, database_of_its_own() as database:
        move_to(database, disk)
        engine = Engine.over(database, Artifacts(str(tmp_path / "artifacts")), timezone="UTC")
        world = World(engine)
        engine.intake.create_pool("p")
        world.resources(node=ITEMS)
        rows = [{"key": f"i{n}", "weight": n, "demands": {"node": 1}} for n in range(ITEMS)]
        with pytest.raises(sa.exc.DBAPIError) as raised:
            engine.intake.submit("p", rows)
        assert raised.value.orig is not None
        assert getattr(raised.value.orig, "sqlstate", None) == "53100"
        assert engine.upkeep.check() == []
        assert engine.inquiry.counts("p") == {}
        subprocess.run([MOUNT, "-o", f"remount,size={LARGE}", str(disk)], check=True)
        assert engine.intake.submit("p", rows).accepted == ITEMS
        assert engine.upkeep.check() == []


def move_to(database: Database, disk: Path) -> None:
    """The tables; the log stays where it is, for a server without a log ends, and recovers when there is room."""
    assert database.server is not None
    place: Any = disk / "tables"
    place.mkdir()
    database.server.server.account.own(place)
    for engine in database._engines:
        engine.dispose()
    administrator = sa.create_engine(database.admin.set(database="postgres"), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with administrator.connect() as connection:
        run(connection, f"create tablespace small location '{place}'")
        run(connection, f"alter database {database.name} set tablespace small")
