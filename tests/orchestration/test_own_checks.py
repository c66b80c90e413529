"""Checks of an installation's own: five lines of Python, or a SQL file; each can fail, none can write."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from pipeline_project.core.errors import PipelineError, Refused
from pipeline_project.orchestration import checks, expectations, own_checks, structure
from pipeline_project.orchestration.definitions import control_room
from pipeline_project.orchestration.own_checks import CheckRefused, load
from pipeline_project.orchestration.structure import SuiteRefused, load_suite, structural_faults
from pipeline_project.settings import Settings
from tests.docs.pages import DOCS, blocks, read
from tests.orchestration.first_of_a_run import tell
from tests.world import World

FIVE_LINES = next(block for block in blocks(read(DOCS / "dagster.md"), "python") if "constraint_check" in block)
SQL_FILE = next(block for block in blocks(read(DOCS / "dagster.md"), "sql") if "-- asset:" in block)
HEAD = "-- asset: committed_decisions\n-- description: x\n"


def judged(world: World, check: own_checks.OwnCheck, made: Any) -> dg.AssetCheckResult:
    return checks.result(check.asset, checks._of_the_house(check), made, world.engine)


@pytest.mark.parametrize(("name", "text"), [("five.py", FIVE_LINES), ("file.sql", SQL_FILE)])
def test_the_checks_that_the_page_shows_find_what_they_look_for(contested: World, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    (check,) = load(tmp_path)
    report = contested.cycle()
    assert judged(contested, check, report).passed
    contested.submit("vip-1", 1, {"gate": 1})
    contested.claim()
    again = contested.cycle()
    result = judged(contested, check, again)
    assert not result.passed
    assert result.severity is dg.AssetCheckSeverity.WARN
    assert isinstance(result.metadata["rows"], dg.TableMetadataValue)
    assert [record.data["key"] for record in result.metadata["rows"].records] == ["vip-1"]


def test_they_are_in_the_catalogue_and_run_with_the_cycle(contested: World, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    (tmp_path / "always.sql").write_text(f"{HEAD}select :pool as pool, left(:cycle, 4) as cycle, :day as day")
    loaded = control_room(Settings(checks=tmp_path))
    run = loaded.resolve_job_def("live_cycle").execute_in_process(
        instance=instance, partition_key="2026-01-15|p", resources={"engine": contested.engine}
    )
    (own,) = [one for one in run.get_asset_check_evaluations() if one.check_name == "always"]
    assert not own.passed
    assert own.description == f"pool p, cycle {run.output_for_node('committed_decisions')['cycle'][:4]}, day 2026-01-15"


def test_a_query_that_cannot_be_run_is_a_failed_check_and_no_failed_run(contested: World, tmp_path: Path) -> None:
    (tmp_path / "typo.sql").write_text(f"{HEAD}select nonsense")
    (check,) = load(tmp_path)
    result = judged(contested, check, contested.cycle())
    assert not result.passed
    assert 'typo.sql: the query was refused by PostgreSQL: column "nonsense"' in (result.description or "")


LOUD = "from pipeline_project.orchestration.own_checks import constraint_check\n\n" + (
    '@constraint_check(asset="pending_items", severity="loud")\ndef x(made, query):\n    """y"""\n    return query("select 1")[7]\n'
)


def test_a_mistake_in_a_check_stops_no_pool(contested: World, tmp_path: Path, instance: dg.DagsterInstance) -> None:
    (tmp_path / "slip.py").write_text(LOUD.replace("loud", "warning"))
    run = (
        control_room(Settings(checks=tmp_path))
        .resolve_job_def("live_cycle")
        .execute_in_process(instance=instance, partition_key="2026-01-15|p", resources={"engine": contested.engine})
    )
    (own,) = [one for one in run.get_asset_check_evaluations() if one.check_name == "x"]
    assert own.description == f"{tmp_path / 'slip.py'}: line 3: the check itself failed: IndexError: list index out of range"
    assert contested.state("heavy") == "selected"


@pytest.mark.parametrize(
    "query",
    [
        "delete from pipeline.alert returning *",
        "insert into pipeline.alert default values returning 1",
        "select pipeline.advance_clock(now())",
        "select 1; drop schema pipeline cascade",
        "select 1) select 1; commit; create table public.x (y int); --",
        "select set_config('role', 'pipeline_writer', true), pg_sleep(0) from no_such_table",
    ],
)
def test_a_query_reads_and_nothing_else(world: World, query: str) -> None:
    with pytest.raises(Refused, match="the query was refused by PostgreSQL"):
        world.engine.inquiry.rows(query, pool="p", cycle="c", day=date(2026, 1, 15))


def test_a_query_is_the_readers_and_ends_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline_project.store import own_queries

    query = "select current_user::text as who, current_setting('transaction_read_only') as only"
    assert world.engine.inquiry.rows(query, pool="p", cycle="c", day=None) == [{"who": "pipeline_reader", "only": "on"}]
    monkeypatch.setattr(own_queries, "TIMEOUT_S", 0.2)
    with pytest.raises(Refused, match="statement timeout"):
        world.engine.inquiry.rows("select pg_sleep(20)", pool="p", cycle="c", day=None)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.sql", "-- asset: orders\n-- description: x\nselect 1", "asset: expected one of pending_items, .* found 'orders'"),
        ("a.sql", "-- asset: pending_items\nselect 1", "description: expected a sentence"),
        ("a.sql", f"{HEAD}-- severity: loud\nselect 1", "severity: expected one of warning, error, found 'loud'"),
        ("a.sql", f"{HEAD}-- colour: red\nselect 1", "line 3: expected one of name, .* found 'colour'"),
        ("a.sql", f"{HEAD}select 1\n where x = :who", "line 4: expected :pool, :cycle or :day, found :who"),
        ("a.sql", HEAD, "expected a query"),
        ("A-b.sql", f"{HEAD}select 1", "name: expected a-z, 0-9 and _"),
        ("a.py", "import nonsense_that_is_not_there", "a.py: line 1: cannot be loaded: ModuleNotFoundError"),
        ("a.py", "def f(:", r"a.py: cannot be loaded: SyntaxError: .*line 1"),
        ("a.py", LOUD, "a.py: line 3: severity: expected one of warning, error, found 'loud'"),
    ],
)
def test_what_is_no_check_is_refused_when_it_is_loaded(tmp_path: Path, name: str, text: str, found: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CheckRefused, match=found):
        control_room(Settings(checks=tmp_path))


def test_two_checks_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a.sql", "b.sql"):
        (tmp_path / name).write_text(f"-- name: same\n{HEAD}select 1")
    with pytest.raises(CheckRefused, match="expected another than same"):
        load(tmp_path)


def test_no_folder_is_no_check(tmp_path: Path) -> None:
    assert load(tmp_path / "nowhere") == []


# -- the suite of the snapshot


def test_a_suite_of_ones_own_replaces_the_built_in_one(contested: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "suite.json"
    rule = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "weight", "max_value": 2}}
    path.write_text(json.dumps({"items": [rule]}))
    monkeypatch.setenv("PIPELINE_SNAPSHOT_SUITE", str(path))
    (fault,) = checks.snapshot_is_valid(contested.engine.cycles.snapshot("p"), contested.engine)
    assert "found 1 such, [3]" in fault
    assert (fault.row["key"], fault.row["weight"]) == ("heavy", "3")  # type: ignore[attr-defined]


def test_a_table_without_rules_is_not_looked_at(contested: World) -> None:
    assert structural_faults(contested.engine.cycles.snapshot("p"), {}) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"items": [\n  {"type": }]}', "line 2: expected JSON, found Expecting value"),
        ("[]", "line 1: expected an object of lists"),
        ('{\n "orders": []}', "line 2: expected one of items, demands, resources, found 'orders'"),
        ('{"items": [\n {"type": "expect_magic", "kwargs": {}}]}', "line 2: items, rule 1: type: expected an expectation"),
        (
            '{"items": [\n {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "key"}},\n'
            ' {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "colour"}}]}',
            r"line 3: items, rule 2: column: expected a column of items \(item_id, .*found 'colour'",
        ),
        ('{"items": [\n {"kwargs": {}}]}', "line 2: items, rule 1: expected {"),
    ],
)
def test_a_broken_suite_is_refused_when_it_is_loaded(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "suite.json"
    path.write_text(text)
    with pytest.raises(SuiteRefused, match=found):
        control_room(Settings(snapshot_suite=path))


def test_a_suite_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SuiteRefused, match="found none"):
        load_suite(tmp_path / "nothing.json")


def test_the_built_in_suite_can_be_loaded() -> None:
    assert set(load_suite(None)) == set(structure.TABLES)


def test_what_only_great_expectations_knows_of_a_rule_is_refused_by_it_and_the_file_is_named(
    contested: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rule = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "weight", "min_value": "a", "size": 1}}
    path = tmp_path / "suite.json"
    path.write_text(json.dumps({"items": [rule]}))
    monkeypatch.setenv("PIPELINE_SNAPSHOT_SUITE", str(path))
    with pytest.raises(SuiteRefused, match=rf"^{path}: items: expect_column_values_to_be_between .*'size': 1"):
        checks.snapshot_is_valid(contested.engine.cycles.snapshot("p"), contested.engine)
    assert structural_faults(contested.engine.cycles.snapshot("p")) == []


def test_the_expectations_that_need_more_than_the_others_load_it(contested: World) -> None:
    snapshot = contested.engine.cycles.snapshot("p")
    weights = [int(weight) for weight in snapshot.weights]

    def divergence(share: float) -> list[str]:
        alike = {"values": weights, "weights": [share, *[(1 - share) / (len(weights) - 1)] * (len(weights) - 1)]}
        kwargs = {"column": "weight", "partition_object": alike, "threshold": 0.01}
        return list(structural_faults(snapshot, {"items": [{"type": "expect_column_kl_divergence_to_be_less_than", "kwargs": kwargs}]}))

    assert divergence(1 / len(weights)) == []
    assert "expect_column_kl_divergence_to_be_less_than" in divergence(0.9)[0]


def test_a_process_of_great_expectations_that_died_fails_no_check(contested: World) -> None:
    snapshot = contested.engine.cycles.snapshot("p")
    assert structural_faults(snapshot) == []
    dead, _ = expectations._started()
    dead.kill()
    dead.wait()
    assert structural_faults(snapshot) == []


def test_one_that_has_answered_for_long_makes_room_for_another(contested: World, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = contested.engine.cycles.snapshot("p")
    monkeypatch.setattr(expectations, "JUDGE", "tests.orchestration.short_lived_judge")
    expectations._started.cache_clear()
    expectations._line.cache_clear()
    for _ in range(2):
        assert structural_faults(snapshot) == []
        process, _address = expectations._started()
        assert process.wait(timeout=60) == 0


class Deadly:
    """Whoever reads it ends."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return os._exit, (9,)


def test_a_question_that_ends_it_fails_and_the_next_does_not(contested: World) -> None:
    with pytest.raises(PipelineError, match="its process ended, or failed, instead of giving an answer"):
        expectations.judge({"items": {"weight": Deadly()}}, {})
    assert structural_faults(contested.engine.cycles.snapshot("p")) == []


def test_a_run_that_outlives_who_lent_it_the_process_has_its_check_judged(contested: World, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from pipeline_project.orchestration import expectations as e; print(e._started()[1], flush=True); input()"
    snapshot = contested.engine.cycles.snapshot("p")
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as lender:
        assert lender.stdout
        monkeypatch.setenv(expectations.LENT, lender.stdout.readline().strip())
        expectations._line.cache_clear()
        expectations.load()
        lender.kill()
    assert structural_faults(snapshot) == []


def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next_one(contested: World, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = contested.engine.cycles.snapshot("p")
    wrong = {"items": [{"type": "expect_column_values_to_be_between", "kwargs": {"column": "weight", "max_value": 0}}]}
    with monkeypatch.context() as patch:
        patch.setattr(expectations.pickle, "load", interrupted)
        with pytest.raises(KeyboardInterrupt):
            structural_faults(snapshot, wrong)
    assert structural_faults(snapshot) == []


def interrupted(_: object) -> None:
    raise KeyboardInterrupt


def first_of_a_process(module: str) -> tuple[bool, bool]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=tell, args=(module, theirs))
    process.start()
    theirs.close()
    asks, started = ours.recv()
    process.join()
    return asks, started


@pytest.mark.parametrize(("module", "begins"), [("dagster._grpc.impl", True), ("dagster", False)])
def test_it_begins_to_load_as_soon_as_a_process_of_a_run_does(module: str, begins: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(expectations.LENT, raising=False)
    assert first_of_a_process(module) == (begins, begins)


def test_a_process_of_a_run_asks_the_one_that_was_lent_to_it_while_that_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(expectations.LENT, "")  # so that it is put back
    expectations.lend()
    assert first_of_a_process("dagster._grpc.impl") == (True, False)
    dead, _ = expectations._started()
    dead.kill()
    dead.wait()
    assert first_of_a_process("dagster._grpc.impl") == (True, True)
    expectations.lend()
    assert first_of_a_process("dagster._grpc.impl") == (True, False)
    expectations._line.cache_clear()  # ours was to the dead one


@pytest.mark.parametrize("end", [lambda owner: owner.kill(), lambda owner: os.killpg(owner.pid, signal.SIGTERM)], ids=["killed", "told to"])
def test_it_ends_with_whoever_started_it_however_that_ends(end: Callable[[subprocess.Popen[str]], None]) -> None:
    code = "from pipeline_project.orchestration import expectations as e; print(e._started()[1], flush=True); input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True) as owner:
        assert owner.stdout
        folder = Path(owner.stdout.readline()).parent
        assert folder.exists()
        end(owner)
    give_up = time.monotonic() + 60
    while folder.exists():  # the last thing it does is to take that away
        assert time.monotonic() < give_up, f"{folder} is still there"
        time.sleep(0.05)
