"""Celery workers on this machine, and a Redis of their own where none is named: `pipeline up --workers 2`."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline_project.cli.programs import Program, running
from pipeline_project.core.errors import PipelineError, UsageError

if TYPE_CHECKING:
    from pipeline_project.settings import Settings

START_S: Final = 20.0
# Nothing on disk: a run that Redis forgot is failed by run monitoring, and asked for again.
REDIS: Final = ("--port", "0", "--unixsocketperm", "700", "--save", "", "--appendonly", "no")


@contextmanager
def broker(chosen: Settings, logs: Path) -> Iterator[tuple[str, list[Program]]]:
    """URL of the Redis in the settings, or of one of our own, which only we can reach, for the time of the block; and that program.

    Raises UsageError where there is neither one nor the program.
    """
    if chosen.broker_url:
        yield chosen.broker_url, []
        return
    program = shutil.which("redis-server")
    if program is None:
        raise UsageError(
            "--workers: expected redis-server on PATH, or the URL of a Redis in PIPELINE_BROKER_URL, found neither; "
            "Debian's package is redis-server"
        )
    with tempfile.TemporaryDirectory(prefix="pipeline-redis-") as folder:  # short: the path of a socket has 107 bytes
        socket = Path(folder) / "redis.sock"
        with running("redis-server", [program, "--unixsocket", str(socket), "--dir", folder, *REDIS], {}, Path(folder), logs) as redis:
            _wait_for(socket, redis)
            yield f"redis+socket://{socket}?virtual_host=0", [redis]


@contextmanager
def workers(count: int, variables: Mapping[str, str], logs: Path) -> Iterator[list[Program]]:
    """So many workers, each one run at a time, as other machines would have them."""
    with ExitStack() as stack:
        yield [stack.enter_context(worker(number, variables, logs)) for number in range(1, count + 1)]


@contextmanager
def worker(number: int, variables: Mapping[str, str], logs: Path) -> Iterator[Program]:
    name = f"worker-{number}"
    command = [sys.executable, "-m", "pipeline_project.orchestration.worker", "--hostname", f"{name}@%h", "--concurrency", "1"]
    with running(name, [*command, "--loglevel", "INFO"], variables, Path(variables["DAGSTER_HOME"]), logs) as started:
        yield started


def _wait_for(socket: Path, redis: Program) -> None:
    give_up = time.monotonic() + START_S
    while not socket.exists():
        redis.refuse_ended()
        if time.monotonic() > give_up:
            raise PipelineError(f"redis-server made no socket within {START_S:.0f} s; see {redis.log}")
        time.sleep(0.05)
