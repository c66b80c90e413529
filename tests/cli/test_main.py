"""How a command line ends: its exit code, one document or one sentence, and no traceback but for a bug."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from pipeline_project.cli import failures
from pipeline_project.core import errors
from pipeline_project.engine.inquiry import Inquiry
from pipeline_project.store.database import Database
from tests.cli.conftest import CommandLine
from tests.world import entered

PIPELINE = Path(sys.executable).with_name("pipeline")
HEAVY = ("numpy", "sqlalchemy", "dagster", "numba", "pydantic_settings", "alembic", "pandas", "pyarrow")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["items", "imprt", "--json"], "No such command 'imprt'. Did you mean 'import'? See `pipeline items --help`."),
        (["items", "import", "x.csv", "--json"], "Missing option '--pool'. See `pipeline items import --help`."),
        (["pools", "list", "--jsno", "--json"], "No such option: --jsno"),
        (["nonsense", "--json"], "No such command 'nonsense'. See `pipeline --help`."),
    ],
)
def test_a_wrong_command_line_is_one_document_and_exits_2(anywhere: CommandLine, arguments: list[str], sentence: str) -> None:
    document = anywhere(*arguments[:-1], exits=2)
    assert document["error"]["kind"] == "UsageError"
    assert document["error"]["message"].startswith(sentence)
    assert anywhere.shown(*arguments[:-1], exits=2) == ("", f"UsageError: {document['error']['message']}\n")


def test_a_noun_without_a_verb_shows_its_help(anywhere: CommandLine) -> None:
    out, _ = anywhere.shown("items", exits=2)
    assert "import" in out


def test_an_unreadable_setting_is_named(anywhere: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_FIRST_DAY", "someday")
    failed = anywhere("pools", "list", exits=2)["error"]
    assert failed["message"].startswith("PIPELINE_FIRST_DAY: ")
    assert "found 'someday'" in failed["message"]


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (errors.PipelineError, 1),
        (errors.UsageError, 2),
        (errors.StalePlan, 3),
        (errors.CheckFailed, 4),
        (errors.Refused, 5),
        (errors.Unknown, 5),
        (errors.DatabaseUnavailable, 1),
        (errors.SchemaMismatch, 1),
        (errors.CycleInFlight, 1),
    ],
)
def test_every_expected_failure_has_its_exit_code(
    anywhere: CommandLine, monkeypatch: pytest.MonkeyPatch, failure: type[errors.PipelineError], code: int
) -> None:
    monkeypatch.setattr("pipeline_project.engine.engine.Engine.open", raising(failure("because")))
    assert anywhere("pools", "list", exits=code) == {"error": {"kind": failure.__name__, "message": "because"}}
    assert anywhere.shown("pools", "list", exits=code) == ("", f"{failure.__name__}: because\n")


def test_what_postgresql_refuses_is_one_sentence(pipeline: CommandLine, pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inquiry, "pools", lambda self: sql(self, "select 1 / 0"))
    failed = pipeline("pools", "list", exits=1)["error"]
    assert failed["kind"] == "DatabaseError"
    assert failed["message"].startswith("PostgreSQL 22012: division by zero.")
    monkeypatch.setattr(
        Inquiry,
        "pools",
        lambda self: sql(self, "insert into pipeline.pool (name, created_at) values ('p', now())"),
    )
    failed = pipeline("pools", "list", exits=5)["error"]
    assert failed["kind"] == "Refused"
    assert "pool_name_key" in failed["message"]


def test_who_may_not_and_who_waits_are_told_where_to_look(pipeline: CommandLine, pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inquiry, "pools", lambda self: sql(self, "delete from pipeline.item_state"))
    assert pipeline("pools", "list", exits=1)["error"]["message"].endswith("; the role in PIPELINE_ROLE may not do this.")
    monkeypatch.setattr(Inquiry, "pools", lambda self: sql(self, "do $$ begin raise lock_not_available; end $$"))
    assert pipeline("pools", "list", exits=1)["error"]["message"].endswith(
        "; somebody holds what it needs, and `pipeline feed status` may name who."
    )


def test_a_connection_that_breaks_is_one_sentence(pipeline: CommandLine, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(inquiry: Inquiry) -> None:
        with inquiry._database.begin() as connection, entered(database) as superuser:
            mine = connection.exec_driver_sql("select pg_backend_pid()").scalar_one()
            assert superuser.execute(sa.text("select pg_terminate_backend(:pid, 10000)"), {"pid": mine}).scalar_one()
            connection.exec_driver_sql("select 1")

    monkeypatch.setattr(Inquiry, "pools", broken)
    failed = pipeline("pools", "list", exits=1)["error"]
    assert failed["kind"] == "DatabaseUnavailable", failed
    assert "the connection to the database was lost" in failed["message"]


def test_a_bug_keeps_its_traceback(anywhere: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failures.explain(ZeroDivisionError()) is None
    assert failures.explain(exc.ArgumentError("ours")) is None
    monkeypatch.setattr("pipeline_project.engine.engine.Engine.open", raising(ZeroDivisionError("ours")))
    with pytest.raises(ZeroDivisionError):
        anywhere("pools", "list")


def test_ctrl_c_exits_130(anywhere: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline_project.engine.engine.Engine.open", raising(KeyboardInterrupt()))
    assert anywhere.shown("pools", "list", exits=130) == ("", "")


def test_the_console_script_ends_with_our_exit_code(tmp_path: Path) -> None:
    done = subprocess.run([PIPELINE, "items", "imprt", "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["kind"] == "UsageError"


def test_a_reader_that_leaves_early_is_no_traceback(anywhere: CommandLine) -> None:
    done = subprocess.run(["/bin/sh", "-c", f"'{PIPELINE}' policy show --reference | head -1"], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_help_imports_nothing_heavy() -> None:
    """Half a second is what a person does not wait for; a clock in a test would measure the machine."""
    script = f"import sys; from pipeline_project.cli import main; main.run(['--help']); print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def raising(failure: BaseException) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise failure

    return fail


def sql(inquiry: Inquiry, text: str) -> None:
    """The failure of a statement, not of a mock."""
    with inquiry._database.begin() as connection:
        connection.exec_driver_sql(text)
