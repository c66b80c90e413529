"""`pipeline upkeep`: housekeeping that Dagster's schedule does too, by hand or from cron."""

from __future__ import annotations

import typer

from pipeline_project.cli import console, session
from pipeline_project.cli.arguments import examples

app = typer.Typer(no_args_is_help=True, help="Housekeeping, where Dagster's schedules do not do it.")


@app.callback()
def _only_subcommands() -> None:
    """A callback keeps typer from making the one command of this noun the noun itself."""


@app.command(epilog=examples("pipeline upkeep sweep", "pipeline upkeep sweep --json"))
def sweep(database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Expire items, release lapsed holds, fail lapsed leases, finish silent cycles, seal the audit trail, archive and drop what is old."""
    with session.engine(database) as engine, console.working("sweeping"):
        swept = engine.upkeep.sweep()
    console.emit(swept, as_json=as_json, human=[console.facts("Swept", swept)])
