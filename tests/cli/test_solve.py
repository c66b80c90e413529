"""`pipeline solve DIR` keeps the contract that others call: fields, exit codes, ids, and one JSON document."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

FIELDS = {
    "value",
    "upper_bound",
    "gap",
    "optimal",
    "selected",
    "hash",
    "steps",
    "seconds",
    "peak_mb",
    "verified",
    "reproducible",
    "solvers",
}


def pipeline_solve(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from pipeline_project.cli.main import main; main()", "solve", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def solved(*arguments: str | Path) -> dict[str, Any]:
    done = pipeline_solve(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A triangle of conflicts and one that conflicts with nobody."""
    pq.write_table(pa.table({"candidate": [70, 50, 60, 40], "weight": [2, 3, 4, 1]}), tmp_path / "candidates.parquet")
    demands = {"candidate": [70, 50, 50, 60, 60, 70], "resource": [1, 1, 2, 2, 3, 3], "quantity": [1] * 6}
    pq.write_table(pa.table(demands), tmp_path / "demands.parquet")
    return tmp_path


def test_the_document_has_the_fields_of_the_contract(directory: Path) -> None:
    answer = solved(directory, "--steps", "1000000")
    assert set(answer) == FIELDS
    assert (answer["value"], answer["upper_bound"], answer["gap"], answer["optimal"]) == (5, 5, 0.0, True)
    assert answer["selected"] == [40, 60]
    assert answer["verified"]
    assert answer["reproducible"]
    assert sum(answer["solvers"].values()) == 4


def test_a_person_gets_a_table(directory: Path) -> None:
    done = pipeline_solve(directory)
    assert done.returncode == 0
    assert "proven optimal" in done.stdout
    assert done.stderr == ""


def test_steps_alone_give_the_same_hash_in_every_process(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    pq.write_table(pa.table({"candidate": np.arange(3000), "weight": rng.integers(1, 1000, 3000)}), tmp_path / "candidates.parquet")
    demands = {"candidate": np.repeat(np.arange(3000), 3), "resource": rng.integers(0, 900, 9000), "quantity": np.ones(9000, np.int64)}
    pq.write_table(pa.table(demands), tmp_path / "demands.parquet")
    answers = [solved(tmp_path, "--steps", "40000000", "--seed", "3") for _ in range(2)]
    assert answers[0]["hash"] == answers[1]["hash"]
    assert answers[0]["steps"] == answers[1]["steps"] <= 41_000_000
    assert all(answer["reproducible"] for answer in answers)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--seconds", "0"], 2, "--seconds: expected more than 0, found 0.0"),
        (["--seconds", "nan"], 2, "--seconds: expected more than 0, found nan"),
        (["--steps", "0"], 2, "steps: expected a whole number >= 1, found 0"),
    ],
)
def test_nonsense_is_a_usage_error(directory: Path, arguments: list[str], code: int, sentence: str) -> None:
    done = pipeline_solve(directory, *arguments, "--json")
    assert done.returncode == code
    assert sentence in json.loads(done.stdout)["error"]["message"]


def test_a_folder_that_is_not_there_is_a_usage_error_and_bad_values_are_refused(directory: Path) -> None:
    assert pipeline_solve(directory / "nowhere").returncode == 2
    pq.write_table(pa.table({"candidate": [70, 50, 60, 40], "weight": [2, 3, -4, 1]}), directory / "candidates.parquet")
    done = pipeline_solve(directory, "--json")
    assert done.returncode == 5
    assert json.loads(done.stdout)["error"]["kind"] == "Refused"
