"""What the catalogue's figures are read as."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy as sa

from pipeline_project.store import catalog
from pipeline_project.store.database import Database

HEALTHY = {"table": "item_state", "rows": 100_000, "dead": 1_000}


@pytest.mark.parametrize(("rows", "dead", "said"), [(100_000, 20_000, False), (60_000, 40_000, True), (60, 40, False)])
def test_many_dead_rows_mean_that_autovacuum_is_behind(rows: int, dead: int, said: bool) -> None:
    hints = catalog.hints([{**HEALTHY, "rows": rows, "dead": dead}], None, 2)
    assert hints == (["item_state: 40% dead rows: autovacuum is behind; run `vacuum pipeline.item_state`"] if said else [])


def test_who_holds_a_snapshot_is_named(database: Database) -> None:
    """Seen by an engine that acts as the writer and logged in as the same user."""
    with psycopg.connect(database.url.set(drivername="postgresql").render_as_string(hide_password=False)) as frozen:
        frozen.execute("begin isolation level repeatable read")
        frozen.execute("select 1")
        with database.begin() as connection:
            held = catalog.oldest_snapshot(connection)
            assert connection.scalar(sa.text("select current_user")) == "pipeline_writer"
        assert held is not None
        assert held["pid"] == frozen.info.backend_pid
    (hint,) = catalog.hints([HEALTHY], {**held, "open_s": 900}, 2)
    assert hint.startswith(f"session {held['pid']}")
    assert "open for 900 s" in hint
