"""`pipeline up`: Dagster's webserver and daemon on the current database, until somebody stops them."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from pipeline_project.cli import console, scale_out, session
from pipeline_project.cli.arguments import examples
from pipeline_project.cli.programs import Program, running
from pipeline_project.cli.run import PROJECT
from pipeline_project.core.errors import PipelineError, UsageError

if TYPE_CHECKING:
    from pipeline_project.settings import Settings

HOST: Final = "127.0.0.1"
PORT: Final = 3000
START_S: Final = 180.0
"""A cold machine needs this long to import Dagster and the definitions."""

Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port of the webserver on this machine; 0 takes a free one.")]
Seconds = Annotated[float | None, typer.Option("--seconds", min=0.0, metavar="N", help="Stop after so long. Default: when told to.")]

Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, metavar="N", help="Let so many Celery workers run the cycles; needs Redis. Default: a process each."),
]

PlayedScenario = Annotated[
    str | None,
    typer.Option("--scenario", metavar="NAME", help="Look at the day that `pipeline demo` played; nothing runs by itself there."),
]


def register(app: typer.Typer, panel: str) -> None:
    app.command(
        "up",
        rich_help_panel=panel,
        epilog=examples(
            "pipeline up", "pipeline up --port 3001 --database rehearsal", "pipeline up --workers 2", "pipeline up --scenario stands"
        ),
    )(up)


def up(
    port: Port = PORT,
    seconds: Seconds = None,
    workers: Workers = None,
    scenario: PlayedScenario = None,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Run Dagster's webserver and daemon (sensor, schedules, backfills) on this machine only, until ctrl-C or TERM."""
    if scenario:
        if workers:
            raise UsageError("--workers: nothing runs by itself on a scenario's day, so --scenario has no work for them; leave one out")
        from pipeline_project.scenarios.scenario import environment as of_scenario
        from pipeline_project.scenarios.scenario import find

        os.environ.update(of_scenario(find(scenario)))
    serve(live=scenario is None, port=port, seconds=seconds, workers=workers, where=database, as_json=as_json)


def serve(
    *,
    live: bool = True,
    port: int = PORT,
    seconds: float | None = None,
    workers: int | None = None,
    where: str | None = None,
    as_json: bool = False,
) -> None:
    """Serve until a signal, or for so many seconds.

    live     the daemon too; without it the UI shows what there is, and nothing happens by itself
    workers  so many Celery workers on this machine run the cycles; None = whatever PIPELINE_RUN_LAUNCHER says
    """
    with served(live=live, port=port, workers=workers, where=where) as room:
        shown = {"url": room.url, "database": room.database, "logs": str(room.logs)}
        human = [f"Dagster: {room.url}", f"logs: {room.logs}", "ctrl-C stops it"]
        console.emit({**shown, "programs": [program.name for program in room.programs]}, as_json=as_json, human=human)
        sys.stdout.flush()
        _wait(seconds, room.programs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Dagster's programs while they run.

    url  None where no webserver was asked for
    """

    url: str | None
    database: str
    logs: Path
    programs: Sequence[Program]


@contextmanager
def served(*, live: bool = True, web: bool = True, port: int = 0, workers: int | None = None, where: str | None = None) -> Iterator[Served]:
    """The webserver, where it is live the daemon, and so many Celery workers, for the length of the block."""
    port = _free(port) if web else 0
    commands = [dagster_program("dagster-webserver", "--host", HOST, "--port", str(port))] if web else []
    commands += [dagster_program("dagster-daemon", "run")] if live else []
    with stoppable(), session.logged() as settings, ExitStack() as stack:
        chosen = settings.model_copy(update={"database_url": where}) if where else settings
        _, variables, logs, started = stack.enter_context(environment(chosen, workers))
        folder = Path(variables["DAGSTER_HOME"])
        programs = [stack.enter_context(running(Path(command[0]).name, command, variables, folder, logs)) for command in commands]
        programs += stack.enter_context(scale_out.workers(workers or 0, variables, logs)) + started
        if web:
            with console.working("starting Dagster"):
                _wait_until_ready(port, programs, logs)
        url = f"http://{HOST}:{port}" if web else None
        yield Served(url=url, database=variables["PIPELINE_DATABASE_URL"], logs=logs, programs=programs)


@contextmanager
def environment(chosen: Settings, workers: int | None) -> Iterator[tuple[Settings, dict[str, str], Path, list[Program]]]:
    """Settings and variables of the programs, a folder for their logs, and what runs beside them, as the embedded server does."""
    from pipeline_project.orchestration import home
    from pipeline_project.store import schema
    from pipeline_project.store.database import Database

    with ExitStack() as stack:
        database = Database.find(None, chosen)
        stack.callback(database.close)
        schema.check(database)
        _refuse_unloadable(chosen)
        logs = chosen.state_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        started: list[Program] = []
        if workers:
            broker, started = stack.enter_context(scale_out.broker(chosen, logs))
            chosen = chosen.model_copy(update={"run_launcher": "celery", "broker_url": broker})
        yield chosen, {**os.environ, **home.prepare(chosen, database)}, logs, started


def _refuse_unloadable(chosen: Settings) -> None:
    """Now, in words: the programs would start all the same, and nothing would run."""
    from pipeline_project.cli import examination

    for finding in examination.written(chosen):
        if finding.status == "fail":
            raise UsageError(f"{finding.name}: {finding.found}; {finding.advice}")


def dagster_program(name: str, *arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name(name)), *arguments, "--workspace", str(PROJECT / "workspace.yaml")]


def _wait_until_ready(port: int, programs: Sequence[Program], logs: Path) -> None:
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        _refuse_ended(programs)
        with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.2)
    raise PipelineError(f"dagster-webserver did not answer on port {port} within {START_S:.0f} s; see {logs}")


def _wait(seconds: float | None, programs: Sequence[Program]) -> None:
    """Until the time is up, or somebody says stop: for us that is no failure."""
    give_up = None if seconds is None else time.monotonic() + seconds
    with suppress(KeyboardInterrupt):
        while give_up is None or time.monotonic() < give_up:
            _refuse_ended(programs)
            time.sleep(0.2)


def _refuse_ended(programs: Sequence[Program]) -> None:
    for program in programs:
        program.refuse_ended()


def _free(port: int) -> int:
    """The port itself where it is free, a free one for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as failure:
            raise UsageError(f"--port: expected a free port, found {port} ({failure.strerror}); choose another, or 0 for any") from None
        taken: int = probe.getsockname()[1]
        return taken


@contextmanager
def stoppable() -> Iterator[None]:
    """TERM does what ctrl-C does."""
    before: Any = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
