"""What NumPy says about a rule is what Great Expectations says, and where NumPy cannot know it says nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_project.core.snapshot import Snapshot
from pipeline_project.orchestration import plain_rules, structure
from tests.world import World

NUMBERS = st.lists(st.integers(-1, 2), min_size=0, max_size=5)
TEXTS = st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=0, max_size=5)
PLAIN: list[dict[str, Any]] = [
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "t"}},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "t"}},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "a"}},
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "min_value": 0}},
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "min_value": -1, "max_value": 1}},
    {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["a", "b"]}},
    {"type": "expect_column_pair_values_a_to_be_greater_than_b", "kwargs": {"column_A": "a", "column_B": "b"}},
    {"type": "expect_column_pair_values_a_to_be_greater_than_b", "kwargs": {"column_A": "a", "column_B": "b", "or_equal": True}},
]
"""Every type that NumPy answers, with every argument that it knows."""


def judged(columns: dict[str, Any], rule: dict[str, Any]) -> bool:
    """What Great Expectations says."""
    return not structure._faults("items", structure._frame(columns), [rule])


@given(numbers=NUMBERS, others=NUMBERS, texts=TEXTS)
@settings(max_examples=12, deadline=None)
def test_numpy_and_great_expectations_say_the_same(numbers: list[int], others: list[int], texts: list[str | None]) -> None:
    n = min(len(numbers), len(others), len(texts))
    columns = {"a": np.array(numbers[:n], np.int64), "b": np.array(others[:n], np.int64), "t": pa.array(texts[:n], pa.string())}
    assert [plain_rules.hold(columns, [rule]) for rule in PLAIN] == [judged(columns, rule) for rule in PLAIN]


def test_every_rule_that_numpy_answers_is_compared() -> None:
    assert {rule["type"] for rule in PLAIN} == set(plain_rules.ANSWERS)
    assert all(
        {name for rule in PLAIN if rule["type"] == kind for name in rule["kwargs"]} == asked for kind, asked in plain_rules.ASKED.items()
    )


@pytest.mark.parametrize(
    "rule",
    [
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "a", "value_set": [1]}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "min_value": 0, "mostly": 0.5}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "min_value": "2026-01-01"}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "t", "min_value": 0}},
        {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["a", "t"]}},
    ],
)
def test_what_numpy_does_not_know_it_leaves_to_great_expectations(rule: dict[str, Any]) -> None:
    assert not plain_rules.hold({"a": np.array([1]), "t": pa.array(["x"])}, [rule])


def test_columns_of_different_lengths_are_no_table() -> None:
    assert not plain_rules.hold({"a": np.array([1]), "b": np.array([1, 2])}, [])


@pytest.fixture
def snapshot(world: World) -> Snapshot:
    world.resources(gate=1)
    world.submit("job", 1, {"gate": 1})
    return world.engine.cycles.snapshot("p")


def test_a_rule_of_another_kind_is_judged_by_great_expectations(snapshot: Snapshot) -> None:
    suite = {"items": [{"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "weight", "value_set": [7]}}]}
    (fault,) = structure.structural_faults(snapshot, suite)
    assert fault.startswith("items: expect_column_values_to_be_in_set")
    assert structure.structural_faults(replace(snapshot, weights=np.array([7])), suite) == []


def test_a_process_that_only_sees_sound_snapshots_never_loads_great_expectations() -> None:
    code = (
        "import sys; from pipeline_project.orchestration import definitions, structure; structure.warm(structure.load_suite(None));"
        "print(sorted({'great_expectations', 'pandas', 'matplotlib', 'networkx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
