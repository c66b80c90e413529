"""`pipeline <noun> <verb>`: collects the nouns, and turns expected failures into one clear line and an exit code."""

from __future__ import annotations

import json
import sys

import typer

from pipeline_project.cli import console
from pipeline_project.core.errors import PipelineError

app = typer.Typer(
    name="pipeline",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Select the best set of pending work under shared constraints, again and again.",
)


def _register() -> None:
    """Each noun is a module of this package; importing them here keeps `import pipeline_project.cli` cheap."""
    from pipeline_project.cli import run

    run.register(app)
    from pipeline_project.cli import policy

    app.add_typer(policy.app, name="policy")
    from pipeline_project.cli import solve

    app.command("solve")(solve.solve)


def main() -> None:
    """Console script `pipeline`. Exit codes: 0 ok, 2 usage, 3 stale plan, 4 check failed, 5 refused by a constraint, 1 anything else."""
    _register()
    try:
        app()
    except PipelineError as failure:
        kind = type(failure).__name__
        if "--json" in sys.argv:
            sys.stdout.write(json.dumps({"error": {"kind": kind, "message": str(failure)}}) + "\n")
        console.err.print(f"[bold red]{kind}[/]: ", end="")
        console.err.print(str(failure), markup=False)
        sys.exit(failure.exit_code)
