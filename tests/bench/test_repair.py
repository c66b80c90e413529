"""What `pipeline bench repair` changes, and what it says about it."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline_project.bench.families import FAMILIES
from pipeline_project.bench.repair import changed
from pipeline_project.core.verification import Violation
from tests.cli.conftest import CommandLine
from tests.cli.conftest import anywhere as anywhere  # noqa: PLC0414  # a fixture, used by name

FIELDS = {
    *("family", "candidates", "changed", "seed", "seconds", "milliseconds", "value", "cold_value", "percent_of_cold"),
    *("upper_bound", "cold_upper_bound", "verified"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_half_of_the_share_is_altered_a_quarter_goes_and_as_many_come(family: str) -> None:
    problem, another = FAMILIES[family](400, 1), FAMILIES[family](400, 2)
    now, change = changed(problem, another, 0.1, seed=3)
    assert (now.n, now.m) == (400, problem.m)
    assert (len(change.new), change.gone) == (10, 10)
    assert 15 <= len(change.altered) <= 20  # a new weight may be the old one
    assert change.new.tolist() == list(range(390, 400))
    stayed = np.flatnonzero(change.candidates >= 0)
    same = stayed[~np.isin(change.candidates[stayed], change.altered)]
    assert problem.weights[same].tolist() == now.weights[change.candidates[same]].tolist()
    assert now.digest() == changed(problem, another, 0.1, seed=3)[0].digest() != changed(problem, another, 0.1, seed=4)[0].digest()


def test_a_row_for_each_share_seed_and_family(anywhere: CommandLine) -> None:
    arguments = ("bench", "repair", "--families", "uniform,heavy", "--sizes", "200", "--changed", "0.05,0.2", "--seconds", "0.2")
    rows = anywhere(*arguments, "--seeds", "1,2")["results"]
    assert [set(row) for row in rows] == [FIELDS] * 8
    assert [(row["family"], row["seed"], row["changed"]) for row in rows[:4]] == [
        ("uniform", 1, 0.05),
        ("uniform", 1, 0.2),
        ("uniform", 2, 0.05),
        ("uniform", 2, 0.2),
    ]
    assert all(row["verified"] and row["milliseconds"] > 0 and row["percent_of_cold"] > 90 for row in rows)
    assert all(row["value"] <= row["cold_upper_bound"] and row["cold_value"] <= row["upper_bound"] for row in rows)


def test_a_person_sees_a_table_and_how_far_it_is(anywhere: CommandLine) -> None:
    out, err = anywhere.shown("bench", "repair", "--families", "matching", "--sizes", "60", "--seconds", "0.1", "--seeds", "1")
    assert "repair; value and bound as shares of the cold solve's" in out
    assert out.count("matching") == 2
    assert err.count("matching  60  seed 1") == 2


def test_a_wrong_answer_is_shown_and_ends_as_a_failed_check(anywhere: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Violation(rule="value", subject="certificate", expected="1", found="2")
    monkeypatch.setattr("pipeline_project.bench.repair.verify", lambda *_: [wrong])
    out, err = anywhere.shown("bench", "repair", "--families", "matching", "--sizes", "60", "--seconds", "0.1", "--seeds", "1", exits=4)
    assert "no" in out.split()
    assert "the verifier found 2 of 2 answers wrong" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--families", "unifrom"], "--families: expected some of uniform, skewed"),
        (["--changed", "0"], "--changed: expected shares above 0 and up to 1"),
        (["--changed", "1.5"], "--changed: expected shares above 0 and up to 1"),
        (["--seconds", "soon"], "--seconds: expected numbers above 0"),
        (["--sizes", "3"], "--sizes: expected whole numbers from 40"),
        (["--seeds", "-1"], "--seeds: expected whole numbers"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_it_begins(anywhere: CommandLine, arguments: list[str], message: str) -> None:
    assert anywhere("bench", "repair", *arguments, exits=2)["error"]["message"].startswith(message)
