"""`pipeline exec -- CMD` and `pipeline test`: this process becomes another program, with everything set for it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

import pipeline_project
from pipeline_project.cli.arguments import examples
from pipeline_project.core.errors import UsageError

if TYPE_CHECKING:  # imported inside the functions: `pipeline --help` must not wait for pydantic
    from pipeline_project.settings import Settings
    from pipeline_project.store.database import Database
    from pipeline_project.store.embedded import EmbeddedPostgres

PROJECT: Final = Path(pipeline_project.__file__).parents[1]
VERBATIM: Final = {"ignore_unknown_options": True, "allow_interspersed_args": False}  # the other program's options are its own
PROCESSES: Final = "3"  # on two cores: a test waits for a server, or for other processes, a third of its time
OWN_PROCESSES: Final = ("-n", "--numprocesses", "--pdb", "--trace", "no:xdist")  # pytest arguments that know how many processes they want


def register(app: typer.Typer, panel: str) -> None:
    app.command(
        "exec", context_settings=VERBATIM, rich_help_panel=panel, epilog=examples("pipeline exec -- dagster dev", "pipeline exec -- psql")
    )(execute)
    app.command(
        "test", context_settings=VERBATIM, rich_help_panel=panel, add_help_option=False, epilog=examples("pipeline test tests/core -x")
    )(run_tests)


def execute(
    command: Annotated[list[str], typer.Argument(metavar="CMD...", help="The program and its arguments; write `--` before them.")],
) -> None:
    """Run a program with PATH, Dagster's and our variables set, and the embedded server held for its life."""
    from pipeline_project import settings

    become(command, settings.load())


def run_tests(arguments: Annotated[list[str] | None, typer.Argument(metavar="[PYTEST ARGUMENTS]")] = None) -> None:
    """Run the test suite, on three processes unless the arguments say otherwise."""
    chosen = list(arguments or ())
    parallel = [] if any(argument.startswith(OWN_PROCESSES) for argument in chosen) else ["-n", PROCESSES]
    os.chdir(PROJECT)
    os.execve(sys.executable, [sys.executable, "-m", "pytest", *parallel, *chosen], {**os.environ, **_ground()})  # noqa: S606  # as below


def become(command: list[str], chosen: Settings) -> NoReturn:
    """Replace this process by the command: what holds the embedded server is then the command itself, to its end."""
    from pipeline_project.store.database import Database

    database = Database.find(None, chosen)
    variables = {**os.environ, **_ground(), **_for_dagster(command[0], chosen, database)}
    if database.server:
        database.server.keep_across_exec()
        variables |= _for_psql(database.server, database.name, variables["PATH"])
    program = shutil.which(command[0], path=variables["PATH"])
    if program is None:
        raise UsageError(f"{command[0]}: no such program on PATH, which starts with {Path(sys.executable).parent}.")
    sys.stdout.flush()
    os.execve(program, command, variables)  # noqa: S606  # no shell is wanted: the arguments are a list


def _ground() -> dict[str, str]:
    """Our Python and its programs are found first, and nobody tells the world about us."""
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "GX_ANALYTICS_ENABLED": "False",
    }


def _for_dagster(program: str, chosen: Settings, database: Database) -> dict[str, str]:
    """So that Dagster finds its home; its own programs find their database made, others need none."""
    from pipeline_project.orchestration import home

    if Path(program).name.startswith("dagster"):
        return home.prepare(chosen, database)
    home.make_folder(chosen)
    return home.variables(chosen, database)


def _for_psql(server: EmbeddedPostgres, database: str, path: str) -> dict[str, str]:
    """So that psql and pg_dump of the server's own version are found, and find the database, as its administrator."""
    from pipeline_project.store.embedded import SUPERUSER

    ours, _, theirs = path.partition(os.pathsep)
    return {
        "PATH": os.pathsep.join([ours, str(server.server.binaries.folder), theirs]),
        "PGHOST": str(server.server.socket),
        "PGDATABASE": database,
        "PGUSER": SUPERUSER,
    }
