"""Great Expectations, asked in a process beside this one: it takes seconds to load, and a run has other things to do meanwhile."""

from __future__ import annotations

import atexit
import pickle
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final

from pipeline_project.core.errors import PipelineError, Refused
from pipeline_project.orchestration.faults import Faults

JUDGE: Final = "pipeline_project.orchestration.judge"

Tables = Mapping[str, Mapping[str, Any]]
"""Of each table its columns, all of one length."""
Suite = Mapping[str, Sequence[Mapping[str, Any]]]
"""For each table a list of expectations as Great Expectations writes them."""


class SuiteRefused(Refused):
    """The Great Expectations suite cannot be used. The message names the file, the line, what is expected there and what was found."""


def judge(tables: Tables, suite: Suite) -> Faults:
    """Expectations that do not hold, each with the first row that breaks it; empty = sound. About 0.1 s, and 2 s before the first.

    Raises SuiteRefused for an expectation that Great Expectations will not have, PipelineError where its process died.
    """
    with _TURN:
        process = _process()
        try:
            answer = _answered(process, (tables, suite))
        except BaseException as failure:  # a run that is cancelled, too: the answer would be there still when the next one asks
            _process.cache_clear()
            _end(process)
            if not isinstance(failure, EOFError | BrokenPipeError | pickle.UnpicklingError):
                raise
            raise PipelineError(f"Great Expectations: its process ended with exit code {process.wait()} instead of an answer") from None
    if isinstance(answer, SuiteRefused):
        raise answer
    found: Faults = answer
    return found


def load() -> None:
    """Begin to load it; nobody waits. The process ends with this one, however that ends: then nothing more comes in."""
    _process()


_TURN: Final = threading.Lock()


@cache
def _process() -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-m", JUDGE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(_end, process)
    return process


def _answered(process: subprocess.Popen[bytes], question: tuple[Tables, Suite]) -> Any:
    assert process.stdin and process.stdout
    pickle.dump(question, process.stdin)
    process.stdin.flush()
    return pickle.load(process.stdout)  # noqa: S301  # from our own process


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(BrokenPipeError), process:  # what it was still to be told
        process.kill()
