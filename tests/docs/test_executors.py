"""The page about executors: the calls it shows are run as they stand there."""

from __future__ import annotations

import psycopg

from tests.docs.pages import DOCS, blocks, read, rows
from tests.store.planting import run
from tests.world import World, entered

PAGE = read(DOCS / "executors.md")
ROLE, TURN = blocks(PAGE, "sql")


def test_the_turn_it_shows_goes_as_it_says(world: World) -> None:
    world.engine.intake.create_pool("farm")
    jobs = [{"key": f"job-{n}", "weight": 10 - n, "demands": {}, "payload": {"client": "Acme"}} for n in (2, 3)]
    world.engine.intake.submit("farm", jobs)
    world.engine.cycles.run("farm")
    with entered(world.engine.database) as superuser:
        for statement in ROLE.strip().split("\n"):
            run(superuser, statement)
    try:
        url = world.engine.database.admin.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as session:
            first, *calls = TURN.strip().split("\n")
            session.execute(first.encode())
            answers = [session.execute(call.encode()).fetchall() for call in calls]
    finally:
        with entered(world.engine.database) as superuser:
            run(superuser, "drop role render_worker")
    assert answers == [
        [("job-2", 1, {"client": "Acme"}, 1), ("job-3", 1, {"client": "Acme"}, 1)],
        [(2,)],
        [("job-2", True, "completed")],
        [("job-3", True, "selected")],
        [("job-3", False, "selected", "the claim is over; the item is selected")],
    ]


def test_it_lists_the_functions_with_the_names_of_their_arguments(world: World) -> None:
    listed = {cells[0].strip("`") for cells in rows(PAGE, "call | returns")}
    query = """
        select 'pipeline.' || p.proname || '(' || array_to_string(p.proargnames[: p.pronargs], ', ') || ')' from pg_proc p
         where p.pronamespace = 'pipeline'::regnamespace and p.prosecdef and has_function_privilege('pipeline_executor', p.oid, 'execute')
    """
    with entered(world.engine.database) as superuser:
        assert listed == set(run(superuser, query).scalars())
