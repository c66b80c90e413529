"""Programs that run beside a command and end with it, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline_project.core.errors import PipelineError

TIED: Final = Path(__file__).with_name("tied.py")
STOP_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A started program in a process group of its own, and where its words go."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def refuse_ended(self) -> None:
        """Raises PipelineError with its last words."""
        if self.process.poll() is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise PipelineError(f"{self.name} ended with exit code {self.process.returncode}: {lines[-1]}; see {self.log}")


@contextmanager
def running(name: str, command: Sequence[str], variables: Mapping[str, str], folder: Path, logs: Path) -> Iterator[Program]:
    """The program and everything it starts have ended when the block has.

    Where this process is killed, the kernel tells the program to stop (SIGTERM), and that one ends what it started.
    """
    tied = [sys.executable, "-IS", str(TIED), str(os.getpid()), *command]
    path = logs / f"{name}.log"
    with path.open("wb") as log:
        started = subprocess.Popen(
            tied, env=dict(variables), cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield Program(name=name, process=started, log=path)
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
