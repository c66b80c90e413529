"""A month in which work comes and goes leaves the hot tables as large as a few days make them."""

from __future__ import annotations

from pipeline_project.bench import month
from pipeline_project.bench.month import Load
from pipeline_project.engine.engine import Engine
from pipeline_project.store.artifacts import Artifacts
from pipeline_project.store.database import Database
from tests.store.planting import run
from tests.world import entered

LOAD = Load(days=30, cycles=1, items=20)


def test_a_month_of_load_does_not_grow_the_hot_tables(simulation: Database, tmp_path: object) -> None:
    engine = Engine.over(simulation, Artifacts(f"{tmp_path}/artifacts"), timezone="UTC")
    rows = month.live_through(engine, LOAD)
    week, end = rows[6], rows[-1]
    assert end["archived"] + end["item_state"] == end["submitted"] == 600
    assert max(row["item_state"] for row in rows) <= LOAD.hot_most
    for table in month.HOT:
        assert end[table] <= 2 * week[table], table
    assert end["hot_bytes"] <= 2 * week["hot_bytes"]
    assert end["months_detached"] == 1
    with entered(simulation) as connection:
        assert run(connection, "select count(*) from pipeline.cycle where not artifact_dropped").scalar_one() <= 3
    assert engine.upkeep.check() == []
