"""A pool follows a table somebody else owns, and never loses its head when that table looks wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from pipeline_project.core.errors import Refused
from pipeline_project.store.times import LATEST
from tests.world import World, entered

POLICY: dict[str, Any] = {
    "source": {
        "items": "select key, price as weight, jsonb_build_object('gpu', gpus) as demands from job",
        "resources": "select 'gpu' as key, 4 as capacity",
        "on_vanish": "cancel",
        "max_vanish": 30,
    }
}
Change = Callable[[str], None]


@pytest.fixture
def change(world: World) -> Change:
    """Somebody else's SQL, on a table with ten jobs that the pool follows."""

    def run(sql: str) -> None:
        with entered(world.engine.database) as connection:
            connection.execute(sa.text(sql))

    run("create table job (key text primary key, price int, gpus int)")
    run("insert into job select 'job-' || n, 10 * n, 1 from generate_series(0, 9) n")
    run("grant select on job to pipeline")
    world.policy(POLICY)
    return run


def pull(world: World) -> dict[str, Any]:
    return world.engine.intake.pull(world.pool)


def test_a_pull_brings_what_is_new_and_revises_what_changed(world: World, change: Change) -> None:
    assert pull(world)["accepted"] == 10
    change("insert into job values ('job-10', 1, 1)")
    change("update job set price = 77 where key = 'job-3'")
    again = pull(world)
    assert (again["accepted"], again["revised"], again["unchanged"]) == (1, 1, 9)
    assert world.item("job-3")["weight"] == 77


def test_an_expiry_at_infinity_is_one_beyond_all_years(world: World, change: Change) -> None:
    items = {"items": "select key, price as weight, jsonb '{}' as demands, timestamptz 'infinity' as expires_at from job"}
    world.policy({"source": {**POLICY["source"], **items}})
    assert pull(world)["accepted"] == 10
    assert world.item("job-3")["expires_at"] == LATEST
    assert pull(world)["unchanged"] == 10


def test_what_vanished_is_cancelled_and_comes_back_with_its_row(world: World, change: Change) -> None:
    pull(world)
    change("delete from job where key = 'job-3'")
    assert pull(world)["cancelled"] == 1
    assert world.state("job-3") == "cancelled"
    change("insert into job values ('job-3', 30, 1)")
    pull(world)
    assert world.state("job-3") == "pending"
    assert world.events("job-3") == ["submit", "cancel", "revive", "revise"]


def test_when_more_vanished_than_the_policy_allows_nothing_is_cancelled(world: World, change: Change) -> None:
    pull(world)
    change("delete from job")
    report = pull(world)
    assert report["cancelled"] == 0
    assert "10 of 10 pending items vanished" in report["withheld"]
    assert set(world.states().values()) == {"pending"}


def test_what_is_at_work_is_left_alone_though_it_vanished(world: World, change: Change) -> None:
    pull(world)
    world.cycle()
    token = world.claim("job-9")
    change("delete from job where key in ('job-8', 'job-9')")
    assert pull(world)["cancelled"] == 0
    assert (world.state("job-8"), world.state("job-9")) == ("selected", "claimed")
    assert world.complete(token)[0]["accepted"]


@pytest.mark.parametrize(
    ("query", "refusal"),
    [
        ("delete from job returning key, 1 as weight, '{}'::jsonb as demands", "syntax error"),
        ("select 'job-' || nextval('counter') as key, 1 as weight, '{}'::jsonb as demands", "read-only transaction"),
    ],
)
def test_a_source_reads_and_nothing_else(world: World, change: Change, query: str, refusal: str) -> None:
    change("grant all on job to pipeline")
    change("create sequence counter")
    change("grant all on sequence counter to pipeline")
    world.policy({"source": {"items": query}})
    with pytest.raises(Refused, match=refusal):
        pull(world)


def test_a_table_that_was_not_granted_is_refused_by_name(world: World, change: Change) -> None:
    change("revoke all on job from pipeline")
    with pytest.raises(Refused, match="permission denied for table job"):
        pull(world)
