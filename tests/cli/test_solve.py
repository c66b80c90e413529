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
        (["--seconds", "0"], 2, "--seconds: expected a finite time, more than 0, found 0.0"),
        (["--seconds", "nan"], 2, "--seconds: expected a finite time, more than 0, found nan"),
        (["--steps", "0"], 2, "steps: expected a whole number from 1 to"),
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


def with_columns(directory: Path, **columns: list[Any]) -> Path:
    """The same four candidates, 70, 50, 60 and 40, with further columns."""
    table = pa.table({"candidate": [70, 50, 60, 40], "weight": [2, 3, 4, 1], **columns})
    pq.write_table(table, directory / "candidates.parquet")
    return directory


def test_priorities_decide_before_weights_and_each_level_has_its_proof(directory: Path) -> None:
    answer = solved(with_columns(directory, priority=[0, 1, 1, 3]), "--steps", "1000000")
    assert set(answer) == FIELDS | {"levels"}
    assert answer["selected"] == [40, 70]
    assert answer["levels"] == [
        {"name": "priority 0", "value": 2, "upper_bound": 2, "optimal": True},
        {"name": "priority 1", "value": 0, "upper_bound": 0, "optimal": True},
        {"name": "priority 3", "value": 1, "upper_bound": 1, "optimal": True},
    ]
    assert (answer["value"], answer["upper_bound"], answer["gap"], answer["optimal"]) == (2, 2, 0.0, True)
    assert answer["verified"]


def test_further_weights_decide_among_equals(directory: Path) -> None:
    with_columns(directory, weight_3=[0, 1, 0, 0], weight_2=[7, 7, 5, 0])
    same = pa.table({"candidate": [70, 50, 60], "weight": [4, 4, 4], "weight_2": [7, 7, 5], "weight_3": [0, 1, 0]})
    assert solved(directory)["selected"] == [40, 60]
    pq.write_table(same, directory / "candidates.parquet")
    answer = solved(directory)
    assert answer["selected"] == [50]
    assert [(level["name"], level["value"]) for level in answer["levels"]] == [("weight", 4), ("weight_2", 7), ("weight_3", 1)]


def test_a_person_sees_each_level(directory: Path) -> None:
    done = pipeline_solve(with_columns(directory, priority=[0, 1, 1, 3]))
    assert done.returncode == 0
    assert "priority 3" in done.stdout
    assert done.stdout.count("proven optimal") == 3


def test_levels_that_fit_no_scale_are_answered_in_turn(directory: Path) -> None:
    large = with_columns(directory, weight=[2**60, 2**60, 2**60 + 1, 1], weight_2=[2**61, 1, 2**61 + 1, 0], weight_3=[1, 5, 2**60, 3])
    answer = solved(large, "--steps", "1000000")
    assert answer["selected"] == [40, 60]
    assert (answer["verified"], answer["optimal"]) == (True, True)
    assert [level["value"] for level in answer["levels"]] == [2**60 + 2, 2**61 + 1, 2**60 + 3]
    assert all(level["optimal"] and level["upper_bound"] == level["value"] for level in answer["levels"])


def test_steps_beyond_all_counting_are_refused_and_endless_seconds_are_not(directory: Path) -> None:
    done = pipeline_solve(directory, "--steps", str(10**20), "--json")
    assert done.returncode == 2
    assert "steps: expected a whole number from 1 to" in json.loads(done.stdout)["error"]["message"]
    assert solved(directory, "--seconds", "1e300")["optimal"]


def changing(directory: Path, seed: int, gone: int = 0) -> Path:
    """300 candidates of ids 0, 7, 14, ...; the first `gone` of them make way for as many new ones, and ten weights are drawn anew."""
    rng = np.random.default_rng(seed)
    ids, weights = np.arange(300) * 7, rng.integers(1, 1000, 300)
    wanted, capacities = rng.integers(0, 80, 900), rng.integers(2, 6, 80)
    if gone:
        ids[:gone] += 3
        weights[-10:] = rng.integers(1, 1000, 10)
    directory.mkdir()
    pq.write_table(pa.table({"candidate": ids, "weight": weights}), directory / "candidates.parquet")
    demands = {"candidate": np.repeat(ids, 3), "resource": wanted * 5, "quantity": np.ones(900, np.int64)}
    pq.write_table(pa.table(demands), directory / "demands.parquet")
    pq.write_table(pa.table({"resource": np.arange(80) * 5, "capacity": capacities}), directory / "resources.parquet")
    return directory


def test_a_saved_answer_is_repaired_and_gone_on_from_when_the_files_change(tmp_path: Path) -> None:
    saved, repaired = tmp_path / "answer.json", tmp_path / "repaired.json"
    before = solved(changing(tmp_path / "before", seed=1), "--steps", "3000000", "--save", saved)
    assert set(before) == FIELDS
    now = changing(tmp_path / "now", seed=1, gone=4)
    answer = solved(now, "--start", saved, "--repair", "--save", repaired)
    assert set(answer) == FIELDS | {"start"}
    assert answer["verified"]
    assert answer["solvers"] == {"repair": 300}
    start = answer["start"]
    assert (start["new"], start["altered"], start["gone"]) == (4, 10, 4)
    assert start["kept"] == len(set(before["selected"]) & set(answer["selected"]))
    assert start["selected"] == len(before["selected"]) > start["kept"] > 60
    on = solved(now, "--start", repaired, "--steps", "3000000")
    assert (on["start"]["new"], on["start"]["altered"], on["start"]["gone"]) == (0, 0, 0)
    assert on["verified"]
    assert on["value"] >= answer["value"]
    assert on["upper_bound"] <= answer["upper_bound"]


def test_nothing_changed_and_a_repair_keeps_the_very_answer(directory: Path) -> None:
    before = solved(directory, "--save", directory / "answer.json")
    again = solved(directory, "--start", directory / "answer.json", "--repair")
    assert (again["hash"], again["optimal"]) == (before["hash"], True)


def test_a_person_sees_what_changed_and_what_was_kept(directory: Path) -> None:
    solved(directory, "--save", directory / "answer.json")
    pq.write_table(pa.table({"candidate": [70, 50, 60, 41], "weight": [2, 9, 4, 1]}), directory / "candidates.parquet")
    done = pipeline_solve(directory, "--start", directory / "answer.json", "--repair")
    assert done.returncode == 0, done.stderr
    assert "1 new, 1 altered, 1 gone" in done.stdout
    assert "0 of the 2 selected before" in done.stdout


def test_what_cannot_be_saved_or_started_from_is_refused_before_any_work(directory: Path) -> None:
    def refusal(*arguments: str | Path) -> str:
        done = pipeline_solve(*arguments, "--json")
        assert done.returncode == 2, done.stdout + done.stderr
        return str(json.loads(done.stdout)["error"]["message"])

    wrong = directory / "wrong.json"
    wrong.write_text("{}")
    assert "wrong.json: expected an object with format, found" in refusal(directory, "--start", wrong)
    assert "--repair: expected --start FILE beside it" in refusal(directory, "--repair")
    assert "--save: expected a file in a folder that exists" in refusal(directory, "--save", directory / "nowhere" / "answer.json")
    with_columns(directory, priority=[0, 1, 1, 3])
    assert "--save: expected a problem with weights alone, found objective levels" in refusal(directory, "--save", wrong)
    assert "--start: expected a problem with weights alone, found objective levels" in refusal(directory, "--start", wrong)
    assert wrong.read_text() == "{}"
