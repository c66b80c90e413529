"""Great Expectations, asked in a process beside this one: it takes seconds to load, and one that has loaded can serve many runs."""

from __future__ import annotations

import atexit
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from io import BufferedRWPair
from pathlib import Path
from typing import Any, Final

from pipeline_project.core.errors import PipelineError, Refused
from pipeline_project.orchestration.faults import Faults

JUDGE: Final = "pipeline_project.orchestration.judge"
LENT: Final = "PIPELINE_JUDGE"
"""Where, for the processes that this one begins, there is a judge that they may ask."""

Tables = Mapping[str, Mapping[str, Any]]
"""Of each table its columns, all of one length."""
Suite = Mapping[str, Sequence[Mapping[str, Any]]]
"""For each table a list of expectations as Great Expectations writes them."""


class SuiteRefused(Refused):
    """The Great Expectations suite cannot be used. The message names the file, the line, what is expected there and what was found."""


def judge(tables: Tables, suite: Suite) -> Faults:
    """Expectations that do not hold, each with the first row that breaks it; empty = sound. About 0.1 s, and 2 s before the first.

    Raises SuiteRefused for an expectation that Great Expectations will not have, PipelineError where its process died of it.
    """
    with _TURN:
        for _ in range(2):  # the first may have ended long ago, with the code server that lent it
            with suppress(*_GONE):
                answer = _answer((tables, suite))
                break
        else:
            raise PipelineError("Great Expectations: its process ended, or failed, instead of giving an answer; see the log")
    if isinstance(answer, SuiteRefused):
        raise answer
    found: Faults = answer
    return found


def load() -> None:
    """Begin to load it, unless one that was lent has done so already; nobody waits."""
    _line()


def lend() -> None:
    """For the runs that this process will begin: they find it loaded."""
    os.environ[LENT] = _ours()


_TURN: Final = threading.Lock()
_GONE: Final = EOFError, ConnectionError, pickle.UnpicklingError


@cache
def _line() -> BufferedRWPair:
    """To the one that was lent to this process; to one of its own, where there is none or it has ended."""
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(os.environ[LENT])
        except (KeyError, OSError):
            line.connect(_ours())
        return line.makefile("rwb")


def _answer(question: tuple[Tables, Suite]) -> Any:
    line = _line()
    try:
        pickle.dump(question, line)
        line.flush()
        return pickle.load(line)  # noqa: S301  # from our own process
    except BaseException:  # a run that is cancelled, too: the answer would be there still when the next one asks
        _line.cache_clear()
        with suppress(ConnectionError):
            line.close()
        raise


def _ours() -> str:
    """Where the one listens that this process started; another, where it died."""
    process, address = _started()
    if process.poll() is None:
        return address
    _started.cache_clear()
    return _started()[1]


@cache
def _started() -> tuple[subprocess.Popen[bytes], str]:
    """It ends with this process, however that ends: then its standard input does. Nobody else can reach a socket in a folder of ours."""
    stack = ExitStack()
    atexit.register(stack.close)
    folder = tempfile.TemporaryDirectory(prefix="pipeline-", dir="/tmp")  # 0700; a socket's path has room for 107 bytes
    address = str(Path(stack.enter_context(folder)) / "judge")
    with socket.socket(socket.AF_UNIX) as door:  # open before anybody is behind it: who comes early waits
        door.bind(address)
        door.listen()
        command = [sys.executable, "-m", JUDGE, str(door.fileno())]
        # In a group of its own: what the whole group of its starter is told to do, it learns by its input, and takes the folder with it.
        process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[door.fileno()], process_group=0))
    stack.callback(process.kill)
    return process, address
