"""The check of a saved answer that docs/selection.md shows, run as it stands there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline_project.bench.families import FAMILIES, write_problem
from pipeline_project.cli.main import run
from tests.docs.pages import DOCS, blocks, read

(CHECK,) = blocks(read(DOCS / "selection.md"), "python")


@pytest.fixture
def answer(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """Of a problem of the family that the test names, in the folder where the check looks for it."""
    monkeypatch.chdir(tmp_path)
    Path("problem").mkdir()
    write_problem(FAMILIES[request.param](300, 1), Path("problem"))
    assert run(["solve", "problem", "--steps", "3000000", "--save", "answer.json", "--json"]) == 0
    return tmp_path / "answer.json"


@pytest.mark.parametrize("answer", ["quantities", "kidney"], indirect=True)
def test_the_check_that_is_shown_confirms_answers(answer: Path) -> None:
    exec(CHECK, {})  # noqa: S102  # the page's own code


@pytest.mark.parametrize("answer", ["quantities"], indirect=True)
def test_there_are_cuts_of_both_kinds_to_confirm(answer: Path) -> None:
    document = json.loads(answer.read_text())
    assert document["rounded_rows"]["price"]
    assert document["cliques"]["price"]


def add_a_candidate(answer: dict[str, Any]) -> None:
    answer["selected"] = answer["candidates"]["candidate"]


def claim_a_point_more(answer: dict[str, Any]) -> None:
    answer["value"] += 1


def lower_the_bound(answer: dict[str, Any]) -> None:
    answer["price_bound"] -= 1


@pytest.mark.parametrize("answer", ["quantities"], indirect=True)
@pytest.mark.parametrize("lie", [add_a_candidate, claim_a_point_more, lower_the_bound])
def test_the_check_that_is_shown_finds_lies(answer: Path, lie: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(answer.read_text())
    lie(document)
    answer.write_text(json.dumps(document))
    with pytest.raises(AssertionError):
        exec(CHECK, {})  # noqa: S102  # the page's own code
