"""What any snapshot must look like, whatever it says: Great Expectations over its three tables."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline_project.core.columns import suggestion
from pipeline_project.core.snapshot import Snapshot
from pipeline_project.orchestration import expectations
from pipeline_project.orchestration.expectations import Suite, SuiteRefused, Tables
from pipeline_project.orchestration.faults import Faults

BUILT_IN: Final = Path(__file__).with_name("snapshot_suite.json")
TABLES: Final[Mapping[str, Sequence[str]]] = {
    "items": ("item_id", "key", "version", "weight"),
    "demands": ("item_id", "resource", "quantity", "of"),
    "resources": ("resource_id", "key", "free", "capacity"),
}
"""What a suite may speak of; `of` is the number of resources."""


def structural_faults(snapshot: Snapshot, suite: Suite | None = None) -> Faults:
    """Expectations that do not hold, each with the first row that breaks it; empty = sound. Raises what `expectations.judge` raises."""
    return expectations.judge(_tables(snapshot), load_suite(None) if suite is None else suite)


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


def _tables(snapshot: Snapshot) -> Tables:
    s = snapshot
    owners = np.repeat(s.item_ids, np.diff(s.indptr))
    return {
        "items": {"item_id": s.item_ids, "key": s.keys.to_pylist(), "version": s.versions, "weight": s.weights},
        "demands": {"item_id": owners, "resource": s.resources, "quantity": s.quantities, "of": np.full(len(owners), len(s.resource_ids))},
        "resources": {"resource_id": s.resource_ids, "key": s.resource_keys.to_pylist(), "free": s.free, "capacity": s.capacities},
    }
