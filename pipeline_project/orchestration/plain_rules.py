"""The expectations that a few lines of NumPy answer, as Great Expectations would: loading that costs a new process three seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc

Column = Any
"""An array of whole numbers, none missing; or text as Arrow has it (pyarrow has no types that mypy knows)."""
Columns = Mapping[str, Column]
Rule = Mapping[str, Any]


def hold(columns: Columns, rules: Sequence[Rule]) -> bool:
    """True only where every rule certainly holds. False says nothing: a rule is broken, or not one of these. O(k n log n)."""
    if len({len(column) for column in columns.values()}) != 1:
        return False  # no table at all
    return all(is_plain(rule) and ANSWERS[rule["type"]](columns, rule["kwargs"]) for rule in rules)


def is_plain(rule: Rule) -> bool:
    """Whether it is one of these, and asks for nothing beyond: `mostly`, `row_condition` and the like mean something else."""
    return rule["type"] in ANSWERS and set(rule["kwargs"]) <= ASKED[rule["type"]]


def _not_null(columns: Columns, asked: Mapping[str, Any]) -> bool:
    column = columns[asked["column"]]
    return isinstance(column, np.ndarray) or int(column.null_count) == 0


def _unique(columns: Columns, asked: Mapping[str, Any]) -> bool:
    column = columns[asked["column"]]
    if isinstance(column, np.ndarray):
        return len(np.unique(column)) == len(column)
    return int(pc.count_distinct(column, mode="only_valid").as_py()) == len(column) - int(column.null_count)


def _between(columns: Columns, asked: Mapping[str, Any]) -> bool:
    column, least, most = columns[asked["column"]], asked.get("min_value"), asked.get("max_value")
    if not isinstance(column, np.ndarray) or not all(limit is None or type(limit) is int for limit in (least, most)):
        return False
    if not len(column):
        return True
    return (least is None or int(column.min()) >= least) and (most is None or int(column.max()) <= most)


def _unique_together(columns: Columns, asked: Mapping[str, Any]) -> bool:
    together = [columns[name] for name in asked["column_list"]]
    if not together or not all(isinstance(column, np.ndarray) for column in together):
        return False
    order = np.lexsort(together)
    same = np.ones(max(0, len(order) - 1), bool)
    for column in together:
        same &= column[order][1:] == column[order][:-1]
    return not same.any()


def _greater(columns: Columns, asked: Mapping[str, Any]) -> bool:
    a, b = columns[asked["column_A"]], columns[asked["column_B"]]
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        return False
    return bool((a >= b).all() if asked.get("or_equal") else (a > b).all())


ANSWERS: Final[Mapping[str, Callable[[Columns, Mapping[str, Any]], bool]]] = {
    "expect_column_values_to_not_be_null": _not_null,
    "expect_column_values_to_be_unique": _unique,
    "expect_column_values_to_be_between": _between,
    "expect_compound_columns_to_be_unique": _unique_together,
    "expect_column_pair_values_a_to_be_greater_than_b": _greater,
}
ASKED: Final[Mapping[str, frozenset[str]]] = {
    "expect_column_values_to_not_be_null": frozenset({"column"}),
    "expect_column_values_to_be_unique": frozenset({"column"}),
    "expect_column_values_to_be_between": frozenset({"column", "min_value", "max_value"}),
    "expect_compound_columns_to_be_unique": frozenset({"column_list"}),
    "expect_column_pair_values_a_to_be_greater_than_b": frozenset({"column_A", "column_B", "or_equal"}),
}
