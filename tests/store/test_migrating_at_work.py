"""A migration comes by the same door as those who work, and so waits for them and never they for it while it waits for them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import sqlalchemy as sa

from pipeline_project.bench import large
from pipeline_project.bench.migration import AWAY
from pipeline_project.bench.scratch import fresh
from pipeline_project.settings import Settings
from pipeline_project.store import schema
from pipeline_project.store.embedded import EmbeddedPostgres
from tests.store.planting import run
from tests.world import entered

FIRST_HELD = {"0002": "executor", "0003": "cycle", "0004": "cycle", "0005": "cycle"}
"""What a claim, or a commit, locks before it moves an item: each migration that locks item_state, too, begins there."""


def test_who_is_in_the_middle_of_a_move_is_not_killed_by_a_migration(settings: Settings, server: EmbeddedPostgres) -> None:
    """Somebody holds the first lock of his work; a migration comes, and he goes on: whatever it had taken by then would stop him."""
    with fresh(f"t{uuid4().hex}", settings) as database, ThreadPoolExecutor(1) as threads:
        large.make(database, 1000, revision="0001")
        for number, (revision, first) in enumerate(FIRST_HELD.items()):
            with entered(database) as working:
                run(working, f"select from pipeline.{first} limit 1 for no key update")  # the names above
                migration = threads.submit(schema.migrate, database, revision=revision)
                wait_for_a_waiter(working)
                run(working, "set local lock_timeout = '2s'")
                assert working.execute(sa.text(AWAY), {"item": 990 + number}).rowcount == 1
                run(working, "insert into pipeline.pool_event (at, pool_id, kind, actor) values (pipeline.now(), 1, 'pool_paused', 'test')")
            assert migration.result(60) == revision


def wait_for_a_waiter(connection: sa.Connection) -> None:
    query = (
        "select count(*) from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())"
    )
    for _ in range(1200):
        if run(connection, query).scalar_one():
            return
        time.sleep(0.05)
    raise AssertionError("the migration waits for nobody")
