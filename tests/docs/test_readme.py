"""The five minutes of the README, as they stand there."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from pipeline_project.cli.main import run
from pipeline_project.settings import Settings
from pipeline_project.store import schema
from pipeline_project.store.database import Database
from pipeline_project.store.embedded import EmbeddedPostgres
from tests.docs.pages import PROJECT, blocks, read

README = read(PROJECT / "README.md")
FIVE_MINUTES = README.split("\n## ")[2]


@pytest.fixture
def workplace(settings: Settings, server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, and settings that lead to a database nobody has made yet."""
    name = f"readme_{uuid4().hex}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_HOME", str(settings.home))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", name)
    monkeypatch.setenv("PIPELINE_ARTIFACTS", str(tmp_path / "artifacts"))
    yield tmp_path
    schema.drop(Database.find(name, settings))


def test_five_minutes_on_your_own_table(workplace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (workplace / "farm.sql").write_text(blocks(FIVE_MINUTES, "sql")[0])
    (workplace / "farm.yaml").write_text(blocks(FIVE_MINUTES, "yaml")[0])
    answers = [give(line, capfd) for block in blocks(FIVE_MINUTES, "sh") for line in block.splitlines()]
    assert len(answers) == 13
    _, _, _, pulled, first, why, claimed, completed, second, listed, checked, cycles, alerts = answers

    assert pulled["accepted"] == 4
    assert first["value"] == first["upper_bound"] == 1000
    assert [blocker["resource"] for blocker in why["verdicts"][0]["blockers"]] == ["gpu"]
    assert [(claim["item"], claim["token"]) for claim in claimed["claims"]] == [("job-2", 1), ("job-3", 1)]
    assert all(claim["accepted"] for claim in completed["claims"])
    assert second["value"] == second["upper_bound"] == 900
    states = {item["key"]: item["state"] for item in listed["items"]}
    assert states == {"job-1": "selected", "job-2": "completed", "job-3": "completed", "job-4": "pending"}

    assert checked["violated"] == []
    assert [cycle["selected"] for cycle in cycles["cycles"]] == [1, 2]
    assert alerts["alerts"] == []


def test_the_two_commands_are_the_ones_it_begins_with() -> None:
    assert blocks(README, "sh")[0].splitlines() == ["./pipeline demo --no-ui", "./pipeline test"]


def give(line: str, capfd: pytest.CaptureFixture[str]) -> Any:
    """Give a command as a person would, and ask for JSON on top; a program that `exec` becomes needs a process of its own."""
    wrapper, *arguments = shlex.split(line)
    assert wrapper == "./pipeline"
    if arguments[0] == "exec":
        script = Path(sys.executable).with_name("pipeline")
        subprocess.run([script, *arguments], check=True)
        return None
    code = run([*arguments, "--json"])
    captured = capfd.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)
