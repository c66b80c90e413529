"""Pulling what is pending from somebody else's tables: idempotent, careful with an answer that is suddenly short."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import sqlalchemy as sa

from pipeline_project.core.errors import Refused, UsageError
from pipeline_project.store.database import Database
from tests.store.planting import run
from tests.world import World, entered

ITEMS = "select key, weight, demands from public.jobs order by key"
RESOURCES = "select key, capacity from public.machines;"
KEYS = [f"j{n}" for n in range(10)]


def make_tables(database: Database) -> None:
    """A team's own tables, readable by the engine's user and nothing else."""
    with entered(database) as connection:
        run(connection, "create table public.jobs (key text primary key, weight bigint not null, demands jsonb not null)")
        run(connection, "create table public.machines (key text, capacity bigint)")
        run(connection, "insert into public.machines values ('node', 3)")
        run(connection, "insert into public.jobs select key, 5, '{\"node\": 1}' from unnest(cast(:keys as text[])) key", keys=KEYS)
        run(connection, "grant select on public.jobs, public.machines to pipeline")


def change(world: World, statement: str, **parameters: Any) -> None:
    with entered(world.engine.database) as connection:
        run(connection, statement, **parameters)


def source(world: World, **fields: Any) -> None:
    world.policy({"source": {"items": ITEMS, "resources": RESOURCES, **fields}})


def pull(world: World) -> dict[str, Any]:
    report = world.engine.intake.pull(world.pool)
    return {name: report[name] for name in ("accepted", "unchanged", "revised", "cancelled")}


@pytest.fixture
def jobs(world: World) -> World:
    make_tables(world.engine.database)
    source(world, on_vanish="cancel", max_vanish=20)
    return world


def test_a_pull_brings_items_and_resources_and_again_nothing(jobs: World) -> None:
    assert pull(jobs) == {"accepted": 10, "unchanged": 0, "revised": 0, "cancelled": 0}
    assert pull(jobs) == {"accepted": 0, "unchanged": 10, "revised": 0, "cancelled": 0}
    assert jobs.cycle()["selected"] == 3
    state = jobs.engine.inquiry.pool("p")["source"]
    assert (state["rows"], state["error"]) == (10, None)


def test_a_changed_row_is_a_revision(jobs: World) -> None:
    pull(jobs)
    change(jobs, "update public.jobs set weight = 9 where key = 'j3'")
    assert pull(jobs)["revised"] == 1
    assert jobs.item("j3")["weight"] == 9


def test_a_row_that_vanished_is_cancelled_and_revives_when_it_reappears(jobs: World) -> None:
    pull(jobs)
    change(jobs, "delete from public.jobs where key = 'j3'")
    assert pull(jobs)["cancelled"] == 1
    assert (jobs.state("j3"), jobs.item("j3")["reason"]) == ("cancelled", "vanished from its source")
    change(jobs, "insert into public.jobs values ('j3', 5, '{\"node\": 1}')")
    assert pull(jobs)["revised"] == 1
    assert (jobs.state("j3"), jobs.events("j3")) == ("pending", ["submit", "cancel", "revive", "revise"])


def test_what_an_operator_cancelled_the_source_does_not_revive(jobs: World) -> None:
    pull(jobs)
    jobs.engine.intake.cancel("p", ["j3"])
    change(jobs, "update public.jobs set weight = 9 where key = 'j3'")
    report = jobs.engine.intake.pull("p")
    assert (jobs.state("j3"), report["refused"][0]["item"]) == ("cancelled", "j3")


def test_a_vanished_row_that_is_selected_stays(jobs: World) -> None:
    pull(jobs)
    jobs.cycle()
    (chosen, *_) = [key for key, state in jobs.states().items() if state == "selected"]
    change(jobs, "delete from public.jobs where key = :key", key=chosen)
    assert pull(jobs)["cancelled"] == 0
    assert jobs.state(chosen) == "selected"


def test_an_answer_that_is_suddenly_short_cancels_nothing_and_says_so(jobs: World) -> None:
    pull(jobs)
    change(jobs, "delete from public.jobs where key > 'j6'")
    report = jobs.engine.intake.pull("p")
    assert report["cancelled"] == 0
    assert "3 of 10 pending items vanished from the source (30 %), more than max_vanish 20 %" in report["withheld"]
    assert set(jobs.states().values()) == {"pending"}
    assert jobs.engine.inquiry.pool("p")["source"]["error"] == report["withheld"]


def test_an_empty_answer_cancels_nothing(jobs: World) -> None:
    pull(jobs)
    change(jobs, "delete from public.jobs")
    assert pull(jobs)["cancelled"] == 0
    assert set(jobs.states().values()) == {"pending"}


def test_by_default_what_vanishes_is_kept(jobs: World) -> None:
    source(jobs)
    pull(jobs)
    change(jobs, "delete from public.jobs where key = 'j3'")
    assert pull(jobs)["cancelled"] == 0
    assert jobs.state("j3") == "pending"


def test_a_producers_items_do_not_vanish_with_the_sources(jobs: World) -> None:
    pull(jobs)
    jobs.submit("mine")
    pull(jobs)
    assert jobs.state("mine") == "pending"


def test_a_row_that_is_refused_has_not_vanished(jobs: World) -> None:
    pull(jobs)
    change(jobs, "update public.jobs set weight = -1 where key = 'j3'")
    report = jobs.engine.intake.pull("p")
    assert ([refusal["item"] for refusal in report["refused"]], report["cancelled"]) == (["j3"], 0)
    assert jobs.item("j3")["weight"] == 5


def test_a_row_whose_refusal_does_not_show_its_key_has_not_vanished(jobs: World) -> None:
    """A key with a no-break space is a key; a message leaves it out, for a terminal may not show it."""
    source(jobs, on_vanish="cancel", max_vanish=100)
    change(jobs, "update public.jobs set key = 'j\u00a03' where key = 'j3'")
    pull(jobs)
    change(jobs, "update public.jobs set weight = -1 where key = 'j\u00a03'")
    report = jobs.engine.intake.pull("p")
    assert ([refusal["item"] for refusal in report["refused"]], report["cancelled"]) == ([None], 0)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("key, weight, demands, '{}'::jsonb as payloda", r"unknown column 'payloda' \(did you mean 'payload'\?\)"),
        ("key, weight, demands, nullif(key, 'j3') as remark", "unknown column 'remark'"),  # rows without one would be taken
        ("key, weight", "missing column 'demands'"),
        ("key, weight, demands, key", "column 'key' twice"),
    ],
)
def test_a_query_with_other_columns_is_refused_as_a_whole(jobs: World, columns: str, told: str) -> None:
    """Row by row nothing of it would be known, and everything have vanished."""
    pull(jobs)
    source(jobs, items=f"select {columns} from public.jobs", on_vanish="cancel", max_vanish=100)  # noqa: S608  # our own columns
    with pytest.raises(UsageError, match=rf"source\.items: {told}.* Expected the columns key, weight, demands and optionally payload"):
        jobs.engine.intake.pull("p")
    assert set(jobs.states().values()) == {"pending"}


@pytest.mark.parametrize(
    "query", ["select key from public.nothing", "delete from public.jobs returning key, weight, demands", "select 1/0"]
)
def test_a_query_that_fails_changes_nothing_and_is_remembered(jobs: World, query: str) -> None:
    pull(jobs)
    source(jobs, items=query, on_vanish="cancel", max_vanish=100)
    with pytest.raises(Refused, match="source: ") as failure:
        jobs.engine.intake.pull("p")
    jobs.engine.intake.pull_failed("p", failure.value)
    assert set(jobs.states().values()) == {"pending"}
    assert jobs.engine.inquiry.pool("p")["source"]["error"] == str(failure.value)


def test_a_source_may_be_another_database(
    world: World, clones: Callable[[], AbstractContextManager[Database]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with clones() as elsewhere:
        make_tables(elsewhere)
        monkeypatch.setenv("JOBS_DATABASE", elsewhere.url.render_as_string(hide_password=False))
        source(world, database="env:JOBS_DATABASE")
        assert pull(world)["accepted"] == 10


def test_a_variable_that_is_not_set_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBS_DATABASE", raising=False)
    source(world, database="env:JOBS_DATABASE")
    with pytest.raises(Refused, match="environment variable JOBS_DATABASE, found none"):
        world.engine.intake.pull("p")


def test_a_variable_that_holds_no_url_is_a_usage_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEIR_DATABASE", "postgresql://h:port/x")
    source(world, database="env:THEIR_DATABASE")
    with pytest.raises(UsageError, match="source: expected a URL such as"):
        world.engine.intake.pull("p")


def test_a_pool_without_a_source_is_not_pulled(world: World) -> None:
    with pytest.raises(Refused, match="its policy names no source"):
        world.engine.intake.pull("p")


def test_a_source_is_due_when_it_has_waited_long_enough(jobs: World) -> None:
    source(jobs, every="5m")
    assert jobs.engine.intake.due_pulls() == ["p"]
    pull(jobs)
    assert jobs.engine.intake.due_pulls() == []
    jobs.advance(minutes=5)
    assert jobs.engine.intake.due_pulls() == ["p"]
    jobs.engine.intake.pause("p")
    assert jobs.engine.intake.due_pulls() == []


def test_a_failure_of_our_own_is_not_blamed_on_the_source(jobs: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise sa.exc.OperationalError("insert", {}, RuntimeError("our disk is full"))

    monkeypatch.setattr(type(jobs.engine.intake), "_submit", broken)
    with pytest.raises(sa.exc.OperationalError, match="our disk is full"):
        jobs.engine.intake.pull("p")
