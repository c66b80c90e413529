"""`python -m pipeline_project.orchestration.judge SOCKET`: Great Expectations over the tables that come in, until standard input ends.

`expectations` starts it and asks it. Messages are pickled: both sides are one program.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import os
import pickle
import shutil
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from pipeline_project.orchestration.expectations import Suite, SuiteRefused, Tables
from pipeline_project.orchestration.faults import Fault, Faults

if TYPE_CHECKING:
    import great_expectations as gx
    import pandas as pd

EXAMPLES: Final = 5
RARELY_USED: Final = ("altair", "scipy.stats")
"""Of the sixty expectations one draws charts and three make statistical tests. Half of the time that loading takes would go into these."""
NOT_USED: Final = ("sqlalchemy",)
"""Optional to Great Expectations: it would judge tables in a database."""


def main(door: socket.socket) -> None:
    sys.stdout = sys.stderr  # theirs is for answers of their own
    threading.Thread(target=_end_with_whoever_started_us, args=[door], daemon=True).start()
    _load()
    while True:
        line, _ = door.accept()
        threading.Thread(target=_answer, args=[line], daemon=True).start()


def _end_with_whoever_started_us(door: socket.socket) -> None:
    os.read(sys.stdin.fileno(), 1)
    shutil.rmtree(Path(door.getsockname()).parent, ignore_errors=True)
    os._exit(0)


ANSWERS_MAX: Final = 2_000
"""Then it ends, and whoever misses it starts another: it grows by some 20 kB with each, and a code server lives for weeks."""
_NUMBERS: Final = itertools.count(1)
_TURN: Final = threading.Lock()
"""Great Expectations is not made for threads, and two would not be faster than one after the other."""


def _answer(line: socket.socket) -> None:
    """Question after question of one process."""
    with suppress(EOFError, ConnectionError), line, line.makefile("rwb") as both:
        while True:
            tables, suite = pickle.load(both)  # noqa: S301  # from our own program
            with _TURN:
                answer, number = _judged(tables, suite), next(_NUMBERS)
            pickle.dump(answer, both)
            both.flush()
            if number >= ANSWERS_MAX:
                os._exit(0)


def _load() -> None:
    for name in RARELY_USED:
        sys.modules[name] = _stand_in(name)
    for name in NOT_USED:
        sys.modules[name] = None  # type: ignore[assignment]  # as if it were not installed
    gc.disable()  # thousands of modules' worth of objects, and nothing to collect
    _context()
    gc.enable()


def _stand_in(name: str) -> ModuleType:
    """A module that is loaded when somebody wants something of it."""

    def wanted(attribute: str) -> Any:
        if attribute.startswith("__"):  # whoever goes through all modules asks for their files
            raise AttributeError(attribute)
        if sys.modules[name] is empty:
            del sys.modules[name]
        return getattr(importlib.import_module(name), attribute)

    empty = ModuleType(name)
    empty.__getattr__ = wanted  # type: ignore[method-assign]  # PEP 562
    return empty


def _judged(tables: Tables, suite: Suite) -> Faults | SuiteRefused:
    try:
        return [fault for name, columns in tables.items() if suite.get(name) for fault in _faults(name, columns, suite[name])]
    except SuiteRefused as refused:
        return refused


def _faults(name: str, columns: Mapping[str, Any], rules: Sequence[Mapping[str, Any]]) -> list[Fault]:
    import great_expectations as gx
    import pandas as pd

    suite = gx.ExpectationSuite(name=name, expectations=[_expectation(name, rule) for rule in rules])
    frame = pd.DataFrame(columns)
    batch = _batches(name).get_batch({"dataframe": frame})
    if batch.validate(suite, result_format="BOOLEAN_ONLY").success:  # half the work, and nearly always all of it
        return []
    return [_fault(name, frame, one) for one in batch.validate(suite, result_format="COMPLETE").results if not one.success]


def _expectation(table: str, rule: Mapping[str, Any]) -> Any:
    from great_expectations.expectations.registry import get_expectation_impl

    try:
        return get_expectation_impl(rule["type"])(**rule["kwargs"])
    except (TypeError, ValueError) as wrong:
        raise SuiteRefused(f"{table}: {rule['type']} {rule['kwargs']}: {wrong}") from None


def _fault(table: str, frame: pd.DataFrame, result: Any) -> Fault:
    rule = result.expectation_config
    columns = {key: value for key, value in rule.kwargs.items() if key != "batch_id"}
    raised = (result.exception_info or {}).get("exception_message")
    examples = (result.result.get("partial_unexpected_list") or [])[:EXAMPLES]
    found = raised or f"{result.result.get('unexpected_count')} such, {examples}"
    at = (result.result.get("unexpected_index_list") or [])[:1]
    row = {key: str(value) for key, value in frame.loc[at[0]].items()} if at else {}
    return Fault(f"{table}: {rule.type} {columns}: found {found}", table=table, expectation=rule.type, **row)


@cache
def _batches(name: str) -> Any:
    return _context().data_sources.add_pandas(name).add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)


@cache
def _context() -> gx.data_context.EphemeralDataContext:
    """Kept in memory, silent, and telling nobody about it."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
