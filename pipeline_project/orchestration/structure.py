"""What any snapshot must look like, whatever it says: Great Expectations over its three tables."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pipeline_project.core.columns import suggestion
from pipeline_project.core.errors import Refused
from pipeline_project.core.snapshot import Snapshot
from pipeline_project.orchestration.faults import Fault, Faults

if TYPE_CHECKING:
    import great_expectations as gx
    import pandas as pd

EXAMPLES: Final = 5
BUILT_IN: Final = Path(__file__).with_name("snapshot_suite.json")
TABLES: Final[Mapping[str, Sequence[str]]] = {
    "items": ("item_id", "key", "version", "weight"),
    "demands": ("item_id", "resource", "quantity", "of"),
    "resources": ("resource_id", "key", "free", "capacity"),
}
"""What a suite may speak of; `of` is the number of resources."""

Suite = Mapping[str, Sequence[Mapping[str, Any]]]


class SuiteRefused(Refused):
    """The Great Expectations suite cannot be used. The message names the file, the line, what is expected there and what was found."""


def structural_faults(snapshot: Snapshot, suite: Suite | None = None) -> Faults:
    """Expectations that do not hold, each with the first rows that break it; empty = sound. About 0.1 s, and 2 s before the first."""
    chosen = load_suite(None) if suite is None else suite
    return [fault for name, frame in _frames(snapshot).items() if chosen.get(name) for fault in _faults(name, frame, chosen[name])]


def load_suite(path: Path | None) -> Suite:
    """A suite file: for each table a list of expectations as Great Expectations writes them. None = the built-in one.

    Looks at everything but what only Great Expectations itself knows, whose import takes seconds. Raises SuiteRefused.
    """
    where = path or BUILT_IN
    try:
        return _read_suite(where, where.stat().st_mtime_ns)
    except OSError as failure:
        raise SuiteRefused(f"{where}: expected a JSON file with a Great Expectations suite, found none ({failure.strerror})") from None


@lru_cache(maxsize=8)
def _read_suite(path: Path, _mtime_ns: int) -> Suite:
    text = path.read_text(encoding="utf-8")
    try:
        document = json.loads(text)
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        raise SuiteRefused(f"{path}: line {line}: expected JSON, found {error}") from None
    if not isinstance(document, dict) or not all(isinstance(rules, list) for rules in document.values()):
        raise SuiteRefused(f"{path}: line 1: expected an object of lists, one a table ({', '.join(TABLES)})")
    for table, rules in document.items():
        if table not in TABLES:
            raise SuiteRefused(f"{path}: line {_line_of(text, table, 0)}: expected one of {', '.join(TABLES)}, found {table!r}")
        for number, rule in enumerate(rules):
            if wrong := _wrong_with(table, rule):
                raise SuiteRefused(f"{path}: line {_line_of(text, table, number + 1)}: {table}, rule {number + 1}: {wrong}")
    return document


def _wrong_with(table: str, rule: Any) -> str | None:
    if not isinstance(rule, dict) or not isinstance(rule.get("type"), str) or not isinstance(rule.get("kwargs"), dict):
        return f'expected {{"type": "expect_...", "kwargs": {{...}}}}, found {json.dumps(rule)[:80]}'
    if rule["type"] not in _known_expectations():
        return (
            f"type: expected an expectation of Great Expectations, found {rule['type']!r}{suggestion(rule['type'], _known_expectations())}"
        )
    for name, given in rule["kwargs"].items():
        columns = given if name == "column_list" else [given] if name in ("column", "column_A", "column_B") else []
        for column in columns:
            if column not in TABLES[table]:
                return f"{name}: expected a column of {table} ({', '.join(TABLES[table])}), found {column!r}"
    return None


def _line_of(text: str, table: str, rule: int) -> int:
    """The line of a table, or of its rule by number from 1; where two are on a line, near enough."""
    at = text.index(json.dumps(table))
    for _ in range(rule):
        at = text.find("{", at + 1)
        depth, end = 0, at
        for end in range(at, len(text)):
            depth += (text[end] == "{") - (text[end] == "}")
            if depth == 0:
                break
        found, at = at, end
    return text.count("\n", 0, found if rule else at) + 1


@cache
def _known_expectations() -> frozenset[str]:
    """The names of the files in which Great Expectations keeps its expectations: known without importing it."""
    spec = importlib.util.find_spec("great_expectations")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    return frozenset(path.stem for folder in folders for path in Path(folder, "expectations", "core").glob("expect_*.py"))


def warm() -> None:
    """Load what the first check would have to: seconds, which a worker spends before there is anything to check."""
    for name in TABLES:
        _batches(name)


def _frames(snapshot: Snapshot) -> dict[str, pd.DataFrame]:
    import pandas as pd

    s = snapshot
    items = {"item_id": s.item_ids, "key": s.keys.to_pylist(), "version": s.versions, "weight": s.weights}
    owners = np.repeat(s.item_ids, np.diff(s.indptr))
    demands = {"item_id": owners, "resource": s.resources, "quantity": s.quantities, "of": np.full(len(owners), len(s.resource_ids))}
    resources = {"resource_id": s.resource_ids, "key": s.resource_keys.to_pylist(), "free": s.free, "capacity": s.capacities}
    return {"items": pd.DataFrame(items), "demands": pd.DataFrame(demands), "resources": pd.DataFrame(resources)}


def _expectations(rules: Sequence[Mapping[str, Any]]) -> list[Any]:
    _context()  # telemetry goes off before anything else is made
    from great_expectations import expectations as gxe

    return [getattr(gxe, "".join(part.capitalize() for part in rule["type"].split("_")))(**rule["kwargs"]) for rule in rules]


def _faults(name: str, frame: pd.DataFrame, rules: Sequence[Mapping[str, Any]]) -> list[Fault]:
    import great_expectations as gx

    expectations = _expectations(rules)
    batch = _batches(name).get_batch({"dataframe": frame})
    suite = gx.ExpectationSuite(name=name, expectations=expectations)
    if batch.validate(suite, result_format="BOOLEAN_ONLY").success:  # half the work, and nearly always all of it
        return []
    return [_fault(name, frame, one) for one in batch.validate(suite, result_format="COMPLETE").results if not one.success]


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
    """Imported here and once: it takes seconds. Kept in memory, silent, and telling nobody about it."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context
