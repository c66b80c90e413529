"""`pipeline db`: the database itself."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from pipeline_project import __version__
from pipeline_project.cli import console, session
from pipeline_project.cli.arguments import examples, instant
from pipeline_project.core.errors import CheckFailed

app = typer.Typer(no_args_is_help=True, help="The database: make it, migrate it, look at it, check what it promises.")

SHOWN = ("table", "rows", "bytes", "index_bytes", "bytes_a_day", "dead", "hot", "vacuumed_at")
SIMULATION = "Make a new database a simulation that is told the time, and believes it is this (ISO 8601)."


@app.command(
    epilog=examples(
        "pipeline db init",
        "pipeline db init --database postgresql://me@db.example.org/work",
        "pipeline db init --database rehearsal --simulation-start 2026-01-31T00:00:00Z",
    )
)
def init(
    simulation_start: Annotated[
        datetime | None, typer.Option("--simulation-start", parser=instant, metavar="TIME", help=SIMULATION)
    ] = None,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Create what is missing: roles, database, schema. Doing it again changes nothing."""
    from pipeline_project.store import schema

    with session.database(database) as found, console.working("initialising"):
        version = schema.create(found, simulation_start=simulation_start)
    document = {"database": found.name, "schema": version, "simulation_start": simulation_start}
    console.emit(document, as_json=as_json, human=[f"database {found.name} has schema {version}", "next: pipeline pools create NAME"])


@app.command(epilog=examples("pipeline db migrate"))
def migrate(database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Bring the schema to this version of the program, in one transaction. There is no way back but a backup."""
    from pipeline_project.store import schema

    with session.database(database) as found, console.working("migrating"):
        before = schema.version(found)
        after = schema.migrate(found)
    said = f"database {found.name}: schema {after}" + (", as it was" if after == before else f", before {before or 'none'}")
    console.emit({"database": found.name, "before": before, "schema": after}, as_json=as_json, human=[said])


@app.command(epilog=examples("pipeline db status", "pipeline db status --estimate --json"))
def status(
    estimate: Annotated[bool, typer.Option("--estimate", help="Do not count the rows: at once, however large the database is.")] = False,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Versions, the URL, who holds up the feed or VACUUM, and of each table rows, size, growth, dead rows, HOT updates, last vacuum."""
    from pipeline_project.store import catalog, feed, schema, seals

    with session.database(database) as found:
        version = schema.version(found)
        with found.begin(repeatable=True) as connection:
            server = catalog.server(connection)
            simulated = catalog.simulated(connection) if version else None
            current = version == schema.head()  # an older schema has no notes of its sizes
            tables = catalog.tables(connection, counted=not estimate) if current else []
            oldest, ahead = (catalog.oldest_snapshot(connection), catalog.partitions_ahead(connection)) if current else (None, 0)
            horizon_age = catalog.horizon_age(connection)
            history = {**feed.horizon_state(connection), "unsealed": seals.unsealed(connection)} if current else None
            holding = [*history["held_by"], *history["vacuum_held_by"]] if history else []
            hints = catalog.hints(tables, oldest, ahead, holding) if current else []
    about: dict[str, Any] = {
        "database": found.name,
        "url": found.url.set(drivername="postgresql").render_as_string(hide_password=True),
        "schema": version,
        "expected_schema": schema.head(),
        **{name: server[name] for name in ("server_version", "session_user", "superuser", "size_bytes")},
        "simulated_time": simulated,
        "code": __version__,
        "partitions_ahead": ahead,
        "horizon_age": horizon_age,
        "oldest_snapshot": oldest,
    }
    waiting = {name: history[name] for name in ("horizon", "waiting_rows", "waiting_s", "unsealed")} if history else {}
    human: list[Any] = [console.facts(f"Database {found.name}", {**about, "schema": version or "none: run pipeline db init", **waiting})]
    for title, holders in (("The feed's horizon is held by", "held_by"), ("VACUUM is held by", "vacuum_held_by")):
        if history and history[holders]:
            human.append(console.table(title, history[holders]))
    if tables:
        human.append(console.table("Tables", tables, SHOWN))
        human += hints
    console.emit({**about, "feed": history, "tables": tables, "hints": hints}, as_json=as_json, human=human)


@app.command(epilog=examples("pipeline db check", "pipeline db check --full --json"))
def check(
    full: Annotated[bool, typer.Option("--full", help="Look at every item, not only at those that moved since the last check.")] = False,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Look for rows that break a promise of the store. None on a healthy database; exit code 4 when there is one.

    Looks at the items that moved since the last check that found nothing, and once a week at all of them.
    """
    from pipeline_project.store import invariants

    with session.engine(database) as engine, console.working("checking"):
        checked = engine.upkeep.check_all() if full else engine.upkeep.check_new()
    violated, promises = checked.violated, len(invariants.names())
    looked_at = "every item" if checked.items is None else f"{checked.items} items that moved since the last check"
    document = {"violated": violated, "checked": promises, "full": checked.items is None, "items": checked.items}
    held = f"all {promises} invariants hold: looked at {looked_at}"
    console.emit(document, as_json=as_json, human=[console.listing("Violated", violated, none=held)])
    if violated:
        raise typer.Exit(CheckFailed.exit_code)
