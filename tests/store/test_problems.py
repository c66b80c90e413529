"""Problem directories: ids may be any int64, and what is not a problem is refused by file, column and row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_project.core.errors import Refused, UsageError
from pipeline_project.store.problems import BATCH, read_problem

CANDIDATES = {"candidate": [-7, 2**62, 3], "weight": [10, 20, 30]}
DEMANDS = {"candidate": [3, -7, 2**62, 3], "resource": [900, 900, -1, -1], "quantity": [1, 1, 2, 1]}
RESOURCES = {"resource": [-1, 5], "capacity": [4, 9]}


def write(directory: Path, **tables: dict[str, list[Any]] | pa.Table) -> Path:
    for name, columns in ({"candidates": CANDIDATES, "demands": DEMANDS, "resources": RESOURCES} | tables).items():
        pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), directory / f"{name}.parquet")
    return directory


def test_candidates_keep_their_ids_in_ascending_order(tmp_path: Path) -> None:
    files = read_problem(write(tmp_path))
    assert files.candidates.tolist() == [-7, 3, 2**62]
    assert files.problem.weights.tolist() == [10, 30, 20]


def test_a_resource_that_no_file_names_has_capacity_one(tmp_path: Path) -> None:
    problem = read_problem(write(tmp_path)).problem
    assert problem.capacities.tolist() == [4, 1]  # -1 as the file says, 900 by default; 5 is demanded by nobody
    (tmp_path / "resources.parquet").unlink()
    assert read_problem(tmp_path).problem.capacities.tolist() == [1, 1]


def test_an_empty_problem_is_a_problem(tmp_path: Path) -> None:
    none: list[int] = []
    candidates = pa.table({"candidate": pa.array(none, pa.int64()), "weight": pa.array(none, pa.int64())})
    demands = pa.table({name: pa.array(none, pa.int64()) for name in DEMANDS})
    assert read_problem(write(tmp_path, candidates=candidates, demands=demands)).problem.n == 0


def test_narrow_integers_and_several_row_groups_are_read_as_they_are(tmp_path: Path) -> None:
    write(tmp_path)
    table = pa.table({"candidate": pa.array(range(10), pa.int32()), "weight": pa.array(range(10), pa.uint16())})
    pq.write_table(table, tmp_path / "candidates.parquet", row_group_size=3)
    pq.write_table(pa.table({"candidate": [1], "resource": [1], "quantity": [1]}), tmp_path / "demands.parquet")
    assert read_problem(tmp_path).problem.weights.tolist() == list(range(10))


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        ({"candidates": {"candidate": [1, 1], "weight": [1, 2]}}, "candidates.parquet: candidate: expected each once, found 1 twice"),
        ({"candidates": {"candidate": [-7, 3], "weight": [1, -2]}}, "weight of candidate 3, row 2: expected >= 0, found -2"),
        ({"candidates": {"candidate": [1], "weight": [1.5]}}, "candidates.parquet: weight: expected a column of type int64, found double"),
        ({"candidates": {"candidate": [1], "weight": [float("nan")]}}, "expected a column of type int64, found double, for example nan"),
        ({"candidates": {"candidate": [1, 2], "weight": [1, None]}}, "candidates.parquet: weight, row 2: expected an int64, found nothing"),
        (
            {"candidates": {"candidate": ["a"], "weight": [1]}},
            "candidates.parquet: candidate: expected a column of type int64, found string",
        ),
        ({"candidates": pa.table({"candidate": [1], "weight": pa.array([2**63], pa.uint64())})}, "weight: expected numbers within int64"),
        (
            {"candidates": {"candidate": [3, 4], "weight": [1, 1]}},
            "expected candidates of candidates.parquet, found -7 .2 such rows in all",
        ),
        ({"demands": {"candidate": [3], "resource": [1], "quantity": [0]}}, "quantity of candidate 3, row 1: expected >= 1, found 0"),
        ({"resources": {"resource": [1], "capacity": [-1]}}, "capacity of resource 1, row 1: expected >= 0, found -1"),
        ({"resources": {"resource": [1, 1], "capacity": [1, 2]}}, "resources.parquet: resource: expected each once, found 1 twice"),
        ({"candidates": {"candidate": [-7, 3, 2**62], "weight": [2**62, 2**62, 5]}}, "sum of all weights: expected at most"),
    ],
)
def test_what_makes_no_problem_is_refused_with_its_place(tmp_path: Path, tables: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        read_problem(write(tmp_path, **tables))


def test_missing_folders_files_and_columns_are_mistakes_of_the_call(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a problem directory"):
        read_problem(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"candidates.parquet: expected a Parquet file with columns candidate, weight, found no such file"):
        read_problem(tmp_path)
    write(tmp_path, demands={"candidate": [3], "resource": [1]})
    with pytest.raises(UsageError, match="found candidate, resource; missing: quantity"):
        read_problem(tmp_path)
    (tmp_path / "demands.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(UsageError, match="found one that cannot be read"):
        read_problem(tmp_path)


def test_a_page_that_is_not_what_it_says_and_a_column_that_is_there_twice_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "demands.parquet"
    table = pa.table({name: list(range(1, 2000)) for name in ("candidate", "resource", "quantity")})
    pq.write_table(table, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + bytes(400) + whole[440:])
    with pytest.raises(UsageError, match=r"demands.parquet: expected a Parquet file, found one that cannot be read"):
        read_problem(tmp_path)
    names = ["candidate", "resource", "quantity", "quantity"]
    pq.write_table(pa.Table.from_arrays([pa.array([3])] * 4, names=names), path)
    with pytest.raises(UsageError, match="expected each column once, found quantity more than once"):
        read_problem(tmp_path)


def test_what_is_longer_than_a_batch_is_read_whole_and_a_hole_near_its_end_is_found(tmp_path: Path) -> None:
    n = 2 * BATCH + 7
    ids = np.arange(n)
    demands = {"candidate": ids, "resource": ids % 5, "quantity": ids % 3 + 1}
    write(tmp_path, candidates={"candidate": ids, "weight": ids + 1}, demands=demands)
    problem = read_problem(tmp_path).problem
    assert problem.weights.tolist() == list(range(1, n + 1))
    assert problem.quantities.tolist() == demands["quantity"].tolist()
    weights = [*range(1, n), None]
    with pytest.raises(Refused, match=f"weight, row {n}: expected an int64, found nothing .1 such rows in all"):
        read_problem(write(tmp_path, candidates={"candidate": ids, "weight": weights}))


def test_ids_without_gaps_and_with_gaps_are_found_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    owner, wanted = rng.integers(0, 50, 200), rng.integers(0, 30, 200)
    digests = set()
    for step in (1, 1_000_003):
        table = pa.table({"candidate": owner * step, "resource": wanted * step, "quantity": np.ones(200, np.int64)})
        write(tmp_path, candidates=pa.table({"candidate": np.arange(50) * step, "weight": np.arange(50)}), demands=table)
        (tmp_path / "resources.parquet").unlink()
        digests.add(read_problem(tmp_path).problem.digest())
    assert len(digests) == 1


def test_priority_and_further_weights_follow_the_ids(tmp_path: Path) -> None:
    further = {"weight_3": [7, 8, 9], "priority": [0, 2, 1], "weight_2": [4, 5, 6]}
    files = read_problem(write(tmp_path, candidates=CANDIDATES | further))
    assert files.priority is not None
    assert files.priority.tolist() == [0, 1, 2]
    assert [column.tolist() for column in files.further] == [[4, 6, 5], [7, 9, 8]]
    files = read_problem(write(tmp_path, candidates=CANDIDATES | {"client": ["a", "b", "c"]}))
    assert (files.priority, files.further) == (None, ())


@pytest.mark.parametrize(
    ("columns", "failure", "sentence"),
    [
        ({"priority": [0, -1, 0]}, Refused, f"priority of candidate {2**62}, row 2: expected >= 0, found -1"),
        ({"priority": ["high", "low", "low"]}, Refused, "priority: expected a column of type int64, found string, for example 'high'"),
        ({"weight_2": [1, 1, -5]}, Refused, "weight_2 of candidate 3, row 3: expected >= 0, found -5"),
        ({"weight_2": [1, None, 5]}, Refused, "weight_2, row 2: expected an int64, found nothing"),
        ({"weight_3": [1, 1, 1]}, UsageError, "expected further weights as weight_2, without gaps, found weight_3"),
        ({"weight2": [1, 1, 1]}, UsageError, "expected further weights as weight_2, without gaps, found weight2"),
    ],
)
def test_levels_that_are_none_are_refused_with_their_place(
    tmp_path: Path, columns: dict[str, Any], failure: type[Exception], sentence: str
) -> None:
    with pytest.raises(failure, match=sentence):
        read_problem(write(tmp_path, candidates=CANDIDATES | columns))
