"""`pipeline policy` as a person and as a script meet it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline_project.cli import policy
from pipeline_project.core.errors import UsageError
from pipeline_project.core.policy import Policy
from tests.cli.conftest import CommandLine

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


def test_a_policy_is_applied_once_and_shown(pipeline: CommandLine, pool: str) -> None:
    file = pipeline.file("p.yaml", "solver: {seed: 7}")
    applied = pipeline("policy", "apply", file, "--pool", pool)
    assert (applied["version"], applied["changed"]) == (2, True)
    assert pipeline("policy", "apply", file, "--pool", pool) == {**applied, "changed": False}
    shown = pipeline("policy", "show", "--pool", pool)
    assert (shown["version"], shown["hash"], shown["policy"]["solver"]["seed"]) == (2, applied["hash"], 7)
    assert pipeline("policy", "show", "--pool", pool, "--version", "1")["policy"]["solver"]["seed"] == 0
    assert (
        "expected a policy version from 1 to 2, found 3"
        in pipeline("policy", "show", "--pool", pool, "--version", "3", exits=5)["error"]["message"]
    )


def test_what_show_prints_apply_takes_back(pipeline: CommandLine, pool: str) -> None:
    pipeline("policy", "apply", pipeline.file("p.yaml", "source: {items: 'select 1', every: 90s}"), "--pool", pool)
    out, _ = pipeline.shown("policy", "show", "--pool", pool)
    assert pipeline("policy", "apply", pipeline.file("again.yaml", out), "--pool", pool)["changed"] is False


def test_a_policy_with_errors_is_not_applied(pipeline: CommandLine, pool: str) -> None:
    refused = pipeline("policy", "apply", pipeline.file("p.yaml", "ttl: {hold: 5}"), "--pool", pool, exits=5)["error"]
    assert refused["kind"] == "PolicyRefused"
    assert "ttl.hold" in refused["message"]
    assert pipeline("policy", "show", "--pool", pool)["version"] == 1


def test_diff_names_each_field_that_differs(pipeline: CommandLine, pool: str) -> None:
    file = pipeline.file("p.yaml", "{solver: {seed: 7}, ttl: {hold: 1h}}")
    expected = [
        {"field": "ttl.hold", "before": "15m", "after": "1h"},
        {"field": "solver.seed", "before": 0, "after": 7},
    ]
    assert pipeline("policy", "diff", file, "--pool", pool)["changes"] == expected
    pipeline("policy", "apply", file, "--pool", pool)
    assert pipeline("policy", "diff", "--pool", pool, "--version", "1")["changes"] == expected
    assert pipeline("policy", "diff", file, "--pool", pool)["changes"] == []
    assert "no difference" in pipeline.shown("policy", "diff", file, "--pool", pool)[0]
    assert pipeline("policy", "diff", "--pool", pool, exits=2)["error"]["kind"] == "UsageError"


def test_show_wants_to_know_which(pipeline: CommandLine) -> None:
    assert "expected one of --pool POOL, --defaults and --reference" in pipeline("policy", "show", exits=2)["error"]["message"]
