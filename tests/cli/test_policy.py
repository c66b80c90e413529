"""`pipeline policy` as a person and as a script meet it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline_project.cli import policy
from pipeline_project.core.errors import UsageError
from pipeline_project.core.policy import Policy

run = CliRunner().invoke


def test_lint_accepts_what_show_defaults_prints(tmp_path: Path) -> None:
    shown = run(policy.app, ["show", "--defaults"])
    file = tmp_path / "p.yaml"
    file.write_text(shown.stdout, encoding="utf-8")
    linted = run(policy.app, ["lint", str(file), "--json"])
    assert linted.exit_code == 0
    assert json.loads(linted.stdout) == {"file": str(file), "valid": True, "errors": [], "hash": Policy().hash}


def test_lint_names_every_error_and_exits_5(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("ttl:\n  hold: 5\nsolver: {sede: 1}\n")
    linted = run(policy.app, ["lint", str(file), "--json"])
    assert linted.exit_code == 5
    assert [(error["line"], error["field"]) for error in json.loads(linted.stdout)["errors"]] == [(2, "ttl.hold"), (3, "solver.sede")]
    assert run(policy.app, ["lint", str(file)]).stderr.count("expected") == 2


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b"\xff")
    for name in ("p.yaml", "nowhere.yaml"):
        with pytest.raises(UsageError, match="expected a YAML file in UTF-8"):
            policy.read(tmp_path / name)
