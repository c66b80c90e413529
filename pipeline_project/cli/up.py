"""`pipeline up`: Dagster's webserver and daemon on the current database, until somebody stops them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from pipeline_project.cli import console, session
from pipeline_project.cli.arguments import examples
from pipeline_project.cli.run import PROJECT
from pipeline_project.core.errors import PipelineError, UsageError

HOST: Final = "127.0.0.1"
PORT: Final = 3000
START_S: Final = 180.0
"""A cold machine needs this long to import Dagster and the definitions."""
STOP_S: Final = 20.0

Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port of the webserver on this machine; 0 takes a free one.")]
Seconds = Annotated[float | None, typer.Option("--seconds", min=0.0, metavar="N", help="Stop after so long. Default: when told to.")]

PlayedScenario = Annotated[
    str | None,
    typer.Option("--scenario", metavar="NAME", help="Look at the day that `pipeline demo` played; nothing runs by itself there."),
]


def register(app: typer.Typer, panel: str) -> None:
    app.command(
        "up",
        rich_help_panel=panel,
        epilog=examples("pipeline up", "pipeline up --port 3001 --database rehearsal", "pipeline up --scenario stands"),
    )(up)


def up(
    port: Port = PORT,
    seconds: Seconds = None,
    scenario: PlayedScenario = None,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Run Dagster's webserver and daemon (sensor, schedules, backfills) on this machine only, until ctrl-C or TERM."""
    if scenario:
        from pipeline_project.scenarios.scenario import environment, find

        os.environ.update(environment(find(scenario)))
    serve(live=scenario is None, port=port, seconds=seconds, where=database, as_json=as_json)


def serve(*, live: bool = True, port: int = PORT, seconds: float | None = None, where: str | None = None, as_json: bool = False) -> None:
    """Serve until a signal, or for so many seconds.

    live  the daemon too; without it the UI shows what there is, and nothing happens by itself
    """
    with served(live=live, port=port, where=where) as room:
        shown = {"url": room.url, "database": room.database, "logs": str(room.logs)}
        human = [f"Dagster: {room.url}", f"logs: {room.logs}", "ctrl-C stops it"]
        console.emit({**shown, "programs": list(room.running)}, as_json=as_json, human=human)
        sys.stdout.flush()
        _wait(seconds, room.running, room.logs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Dagster's programs while they run.

    url  None where no webserver was asked for
    """

    url: str | None
    database: str
    logs: Path
    running: Mapping[str, subprocess.Popen[bytes]]


@contextmanager
def served(*, live: bool = True, web: bool = True, port: int = 0, where: str | None = None) -> Iterator[Served]:
    """The webserver, and where it is live the daemon, for the length of the block."""
    port = _free(port) if web else 0
    programs = [["dagster-webserver", "--host", HOST, "--port", str(port)]] if web else []
    programs += [["dagster-daemon", "run"]] if live else []
    with _stoppable(), _environment(where) as (variables, logs), ExitStack() as stack:
        running = {program[0]: stack.enter_context(_running(program, variables, logs)) for program in programs}
        if web:
            with console.working("starting Dagster"):
                _wait_until_ready(port, running, logs)
        url = f"http://{HOST}:{port}" if web else None
        yield Served(url=url, database=variables["PIPELINE_DATABASE_URL"], logs=logs, running=running)


@contextmanager
def _environment(where: str | None) -> Iterator[tuple[dict[str, str], Path]]:
    """Variables of the programs, and a folder for their logs; the embedded server runs on meanwhile."""
    from pipeline_project.orchestration import home
    from pipeline_project.store import schema
    from pipeline_project.store.database import Database

    with session.logged() as settings:
        chosen = settings.model_copy(update={"database_url": where}) if where else settings
        database = Database.find(None, chosen)
        try:
            schema.check(database)
            variables = {**os.environ, **home.prepare(chosen, database)}
            logs = chosen.state_dir / "logs"
            logs.mkdir(parents=True, exist_ok=True)
            yield variables, logs
        finally:
            database.close()


@contextmanager
def _running(program: Sequence[str], variables: Mapping[str, str], logs: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a process group of its own, with everything it starts; all of it has ended when the block has."""
    command = [str(Path(sys.executable).with_name(program[0])), *program[1:], "--workspace", str(PROJECT / "workspace.yaml")]
    with _log(logs, program[0]).open("wb") as log:
        started = subprocess.Popen(
            command, env=variables, cwd=variables["DAGSTER_HOME"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield started
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if _ended(started, number):
                break


def _ended(started: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    """Signal the whole group; whether it is gone within the time it has, the code servers that the program started included."""
    give_up = time.monotonic() + STOP_S
    try:
        os.killpg(started.pid, number)
        while time.monotonic() < give_up:
            started.poll()  # takes its exit code, without which it would stay in the group
            os.killpg(started.pid, 0)
            time.sleep(0.05)
    except ProcessLookupError:
        return True
    return False


def _wait_until_ready(port: int, running: Mapping[str, subprocess.Popen[bytes]], logs: Path) -> None:
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        _refuse_ended(running, logs)
        with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.2)
    raise PipelineError(f"dagster-webserver did not answer on port {port} within {START_S:.0f} s; see {logs}")


def _wait(seconds: float | None, running: Mapping[str, subprocess.Popen[bytes]], logs: Path) -> None:
    """Until the time is up, or somebody says stop: for us that is no failure."""
    give_up = None if seconds is None else time.monotonic() + seconds
    with suppress(KeyboardInterrupt):
        while give_up is None or time.monotonic() < give_up:
            _refuse_ended(running, logs)
            time.sleep(0.2)


def _refuse_ended(running: Mapping[str, subprocess.Popen[bytes]], logs: Path) -> None:
    for name, process in running.items():
        if process.poll() is not None:
            lines = _log(logs, name).read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise PipelineError(f"{name} ended with exit code {process.returncode}: {lines[-1]}; see {_log(logs, name)}")


def _log(logs: Path, name: str) -> Path:
    return logs / f"{name}.log"


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
def _stoppable() -> Iterator[None]:
    """TERM does what ctrl-C does."""
    before: Any = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
