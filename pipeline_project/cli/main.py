"""`pipeline <noun> <verb>`: collects the nouns, and turns expected failures into one clear line and an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, NoReturn

import typer
from rich.text import Text

from pipeline_project.cli import console, failures
from pipeline_project.cli.failures import Failure

START, DATA, SELECTION, EXECUTORS, HISTORY = "Start", "Data", "Selection", "Executors", "History"
"""Panels of the first help page."""


def build() -> typer.Typer:
    """The whole command line. Its modules import what is heavy inside their functions: `pipeline --help` answers at once."""
    from pipeline_project.cli import (
        alerts,
        audit,
        bench,
        bench_cycles,
        bench_moves,
        bench_store,
        cycle,
        db,
        demo,
        doctor,
        execution,
        feed,
        items,
        policy,
        pools,
        resources,
        solve,
        up,
        upkeep,
    )
    from pipeline_project.cli import run as programs

    app = typer.Typer(
        name="pipeline",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        help="Select the best set of pending work under shared constraints, again and again.",
    )
    app.command("demo", epilog=demo.EXAMPLES, rich_help_panel=START)(demo.demo)
    app.command("doctor", epilog=doctor.EXAMPLES, rich_help_panel=START)(doctor.doctor)
    up.register(app, START)
    programs.register(app, START)
    for noun, module in {"db": db, "pools": pools, "items": items, "resources": resources, "policy": policy}.items():
        app.add_typer(module.app, name=noun, rich_help_panel=DATA)
    app.add_typer(cycle.app, name="cycle", rich_help_panel=SELECTION)
    app.command("solve", rich_help_panel=SELECTION, epilog=solve.EXAMPLES)(solve.solve)
    measured = typer.Typer(no_args_is_help=True, help="Measure. A benchmark that needs a database makes its own and drops it.")
    for part in (bench, bench_cycles, bench_moves, bench_store):
        measured.add_typer(part.app)
    app.add_typer(measured, name="bench", rich_help_panel=SELECTION)
    app.add_typer(upkeep.app, name="upkeep", rich_help_panel=SELECTION)
    app.add_typer(alerts.app, name="alerts", rich_help_panel=SELECTION)
    execution.register(app, EXECUTORS)
    app.add_typer(audit.app, name="audit", rich_help_panel=HISTORY)
    app.add_typer(feed.app, name="feed", rich_help_panel=HISTORY)
    return app


def main() -> NoReturn:
    """Console script `pipeline`."""
    sys.exit(run(sys.argv[1:]))


def run(given: Sequence[str]) -> int:
    """One command line; its exit code.

    0 ok, 2 usage, 3 stale plan, 4 check failed, 5 refused by a constraint, 130 interrupted, 1 anything else
    """
    try:
        code = _command()(list(given), standalone_mode=False, prog_name="pipeline")
    except typer.TyperException as misuse:
        return _misused(misuse, as_json=_wants_json(given))
    except Exception as failure:
        explained = failures.explain(failure)
        if explained is None:  # a bug of ours: its traceback is worth more than a sentence
            raise
        return _tell(explained, as_json=_wants_json(given))
    return code if isinstance(code, int) else 0


@cache
def _command() -> Any:
    """What typer makes of the app; it is the same each time, and takes a while."""
    return typer.main.get_command(build())


def _wants_json(given: Sequence[str]) -> bool:
    """Asked of the text, because a command line that cannot be parsed has no options."""
    return "--json" in given


def _misused(misuse: typer.TyperException, *, as_json: bool) -> int:
    """A wrong option, argument or command; for a noun without a verb its help is on the screen already."""
    said = misuse.format_message().strip().replace("?.", "?")
    if not said:
        return 2
    context = getattr(misuse, "ctx", None)
    hint = f" See `{context.command_path} --help`." if context else ""
    return _tell(Failure(kind="UsageError", message=said + ("" if said[-1] in ".?" else ".") + hint, exit_code=2), as_json=as_json)


def _tell(failure: Failure, *, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(json.dumps(failure.as_dict()) + "\n")
    console.err.print(Text.assemble((failure.kind, "bold red"), ": ", failure.message))
    return failure.exit_code
