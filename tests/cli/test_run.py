"""`exec` and `test` become other programs: what those are given, and what they keep alive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_project.cli import run

PIPELINE = Path(sys.executable).with_name("pipeline")
SHOW = "import json, os, sys; print(json.dumps([sys.executable, sys.argv[1:], dict(os.environ)]))"


def execute(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.defpath, "HOME": str(home), "PIPELINE_HOME": str(home), "PIPELINE_DATABASE_URL": "postgresql://elsewhere/db"}
    return subprocess.run([PIPELINE, "exec", *command], env=environment, capture_output=True, text=True, check=False)


def test_a_program_finds_our_python_and_a_home_for_dagster_and_gets_its_options_untouched(tmp_path: Path) -> None:
    done = execute(tmp_path / "home", "--", "python", "-c", SHOW, "--json", "--help", "x y")
    python, arguments, environment = json.loads(done.stdout)
    assert Path(python).parent == PIPELINE.parent
    assert arguments == ["--json", "--help", "x y"]
    assert environment["PIPELINE_HOME"] == str(tmp_path / "home")
    assert Path(environment["DAGSTER_HOME"]).is_dir()
    assert environment["GX_ANALYTICS_ENABLED"] == "False"
    assert (Path(environment["DAGSTER_HOME"]) / "dagster.yaml").exists() == (run.PROJECT / "dagster.yaml").exists()


def test_a_programs_exit_code_is_ours(tmp_path: Path) -> None:
    assert execute(tmp_path, "--", "sh", "-c", "exit 7").returncode == 7


def test_an_unknown_program_is_a_usage_error_with_its_name(tmp_path: Path) -> None:
    done = execute(tmp_path, "--", "no-such-program")
    assert done.returncode == 2
    assert "no-such-program: no such program on PATH" in done.stderr


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ["-n", "3"]),
        (["-k", "word", "--color=no"], ["-n", "3", "-k", "word", "--color=no"]),
        (["-n0", "tests/core"], ["-n0", "tests/core"]),
        (["--pdb"], ["--pdb"]),
        (["-p", "no:xdist"], ["-p", "no:xdist"]),
    ],
)
def test_the_suite_runs_on_three_processes_unless_the_arguments_say_otherwise(
    given: list[str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[str] = []
    monkeypatch.setenv("PIPELINE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "execve", lambda _program, command, _environment: became.extend(command))
    run.run_tests(given)
    assert became == [sys.executable, "-m", "pytest", *expected]
    assert Path.cwd() == run.PROJECT
