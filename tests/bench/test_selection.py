"""What is made of trials: every instance, budget, seed and peer once, placed against the best, and medians that hide no failure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline_project.bench import plots, selection
from pipeline_project.bench.families import FAMILIES, write_problem
from pipeline_project.bench.peers import PEERS
from pipeline_project.core.errors import UsageError
from tests.cli.conftest import CommandLine
from tests.cli.conftest import anywhere as anywhere  # noqa: PLC0414  # a fixture, used by name

FIELDS = {
    *("instance", "family", "n", "k", "peer", "seconds", "used", "seed", "value", "upper_bound", "gap", "percent", "from_bound"),
    *("proven", "peak_mb", "status", "reason", "late_value"),
}


def row(peer: str, value: int | None, bound: int | None = None, **others: Any) -> dict[str, Any]:
    given = {
        "instance": "i",
        "family": "f",
        "n": 9,
        "k": 9,
        "seconds": 1.0,
        "seed": 1,
        "used": 1.0,
        "peak_mb": 1.0,
        "status": "ok",
        "reason": "",
        "late_value": None,
    }
    return given | {"peer": peer, "value": value, "upper_bound": bound, "proven": value is not None and value == bound} | others


def test_everybody_is_placed_against_the_best_value_and_the_best_bound() -> None:
    ours, other, silent = selection.placed([row("pipeline", 90, 120), row("other", 100, 110), row("silent", None)])
    assert (ours["percent"], ours["gap"], ours["from_bound"]) == (90, 0.25, 20 / 110)
    assert (other["percent"], other["gap"]) == (100, 10 / 110)
    assert (silent["percent"], silent["gap"], silent["from_bound"]) == (None, None, None)


def test_a_bound_below_what_somebody_has_found_is_refuted() -> None:
    wrong, right = selection.placed([row("wrong", 90, 95), row("right", 100, 110)])
    assert (wrong["status"], wrong["upper_bound"], wrong["proven"]) == ("refuted", None, False)
    assert right["from_bound"] == 10 / 110


def test_a_seed_without_an_answer_pulls_the_median_down() -> None:
    rows = selection.placed([row("pipeline", value, seed=seed) for seed, value in enumerate((10, None, None))])
    (found,) = selection.medians(rows)
    assert (found["value"], found["answers"], found["seeds"]) == (0, 1, 3)


def test_a_family_is_ours_against_the_best_peer_instance_by_instance() -> None:
    values = {"a": (100, 99, 50), "b": (100, 40, 101), "c": (7, 7, 7)}
    rows = []
    for instance, triple in values.items():
        rows += selection.placed([row(peer, value, instance=instance) for peer, value in zip(("pipeline", "x", "y"), triple, strict=True)])
    (found,) = selection.against_best(rows)
    assert (found["instances"], found["ahead"], found["level"]) == (3, 1, 1)
    assert found["least"] == pytest.approx(100 * 100 / 101)
    assert found["ratio"] == 100


def test_what_came_late_does_not_count_but_is_not_hidden() -> None:
    (found,) = selection.against_best(selection.placed([row("pipeline", 90), row("x", 80), row("late", None, late_value=120)]))
    assert (found["best_peer"], found["ratio"], found["with_late"]) == ("x", 112.5, 75)


def test_a_folder_of_problems_and_a_problem_are_both_instances(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_problem(FAMILIES["uniform"](40, 1), tmp_path / name)
    assert [instance.name for instance in selection.stored(tmp_path)] == ["one", "two"]
    assert [instance.name for instance in selection.stored(tmp_path / "two")] == ["two"]
    with pytest.raises(UsageError, match="found none in"):
        selection.stored(tmp_path / "three")


def test_the_command_measures_everybody_once_and_draws(anywhere: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    # One that needs no compiled code stands in for ours: its own way through a trial is tested there.
    monkeypatch.setitem(PEERS, "pipeline", PEERS["greedy"])
    arguments = ("bench", "selection", "--families", "matching,quantities", "--sizes", "60", "--seconds", "0.4", "--peers", "networkx")
    picture = anywhere.folder / "gap.svg"
    document = anywhere(*arguments, "--plot", str(picture))
    rows = document["results"]
    assert [set(found) for found in rows] == [FIELDS] * 4
    assert [(found["family"], found["peer"], found["status"]) for found in rows] == [
        ("matching", "pipeline", "ok"),
        ("matching", "networkx", "ok"),
        ("quantities", "pipeline", "ok"),
        ("quantities", "networkx", "cannot"),
    ]
    assert rows[1]["proven"]
    assert rows[0]["value"] <= rows[1]["value"]
    assert [found["family"] for found in document["summary"]] == ["matching", "quantities"]
    assert "% below the best bound" in re.sub(r"<!--|-->", "", picture.read_text())


def test_a_person_gets_a_table_for_each_budget_and_sees_how_far_it_is(anywhere: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "pipeline", PEERS["greedy"])
    out, err = anywhere.shown("bench", "selection", "--families", "uniform", "--sizes", "50", "--seconds", "0.1,0.2", "--peers", "greedy")
    assert out.index("0.1 s, medians over seeds") < out.index("0.2 s, medians over seeds") < out.index("pipeline against the best peer")
    assert err.count("uniform-50-1") == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--families", "unifrom"], "--families: expected some of uniform, skewed"),
        (["--peers", "chils,gurobi"], "--peers: expected some of pipeline, chils"),
        (["--seconds", "1,0"], "--seconds: expected numbers above 0"),
        (["--seconds", "soon"], "--seconds: expected numbers above 0"),
        (["--sizes", "3"], "--sizes: expected whole numbers from 40"),
        (["--seeds", "-1"], "--seeds: expected whole numbers"),
        (["--plot", "gap.txt"], "--plot: expected a file that ends in"),
        (["--plot", "/nowhere/gap.svg"], "--plot: expected a folder that exists"),
        (["--instances", "/nowhere"], "--instances: expected a problem directory"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_it_begins(anywhere: CommandLine, arguments: list[str], message: str) -> None:
    assert anywhere("bench", "selection", *arguments, exits=2)["error"]["message"].startswith(message)


def test_a_peer_that_is_not_installed_is_named_with_what_installs_it(anywhere: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline_project.cli.bench.find_spec", lambda _: None)
    message = anywhere("bench", "selection", "--peers", "highs", exits=2)["error"]["message"]
    assert "highs is not installed" in message
    assert "remove .venv and run ./pipeline" in message


def test_a_panel_without_any_bound_is_drawn_empty(tmp_path: Path) -> None:
    plots.gap_over_time(selection.placed([row("pipeline", 5), row("other", None)]), tmp_path / "gap.png")
    assert (tmp_path / "gap.png").read_bytes().startswith(b"\x89PNG")
