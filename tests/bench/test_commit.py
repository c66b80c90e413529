"""The commit and bare SQL do the same to the same items, and leave a healthy database."""

from __future__ import annotations

from datetime import timedelta

from pipeline_project.bench import commit
from pipeline_project.engine.engine import Engine
from tests.store.planting import run
from tests.world import World, entered


def test_peers_move_the_same_items_and_every_row_has_its_figures(world: World) -> None:
    engine: Engine = world.engine
    protocol = commit.Protocol(items=2000, demands=3, resources=500, chunks=[1000], peers=["pipeline", "raw"], runs=1)
    rows = commit.compare(engine, protocol, lambda _: None)
    assert [(row["peer"], row["what"], row["chunk"]) for row in rows] == [
        ("pipeline", "commit", 1000),
        ("pipeline", "rollback", 1000),
        ("raw", "commit", 1000),
        ("pipeline", "expire", None),
    ]
    assert all(row["per_second"] > 0 and 0 < row["longest_transaction_s"] <= row["seconds"] for row in rows)
    assert world.now() == commit.BEGIN + timedelta(days=2)
    with entered(engine.database) as connection:
        assert run(connection, "select sum(selected), count(*) from raw.cycle_chunk").one() == (2000, 2)
        ours = run(connection, "select sum(quantity), count(*) from pipeline.item_demand").one()
        assert run(connection, "select sum(in_use) from raw.resource").scalar_one() == ours[0]
        assert run(connection, "select count(*) from raw.transition").scalar_one() == 2000
        assert run(connection, "select count(*) from raw.decision where verdict = 'selected'").scalar_one() == 2000
