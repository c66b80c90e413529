"""`pipeline cycle`: planned, committed, looked into, replayed, taken back, decided anew."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine, Submit

FIELDS = {"cycle", "pool", "status", "value", "upper_bound", "gap", "selected", "deferred", "stale", "nofit", "seconds"}


def test_run_plans_and_commits(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=9, b=8, c=7, d=1)
    report = pipeline("cycle", "run", "--pool", pool)
    assert report.keys() >= FIELDS
    assert (report["pool"], report["status"], report["value"], report["upper_bound"], report["gap"]) == ("p", "published", 24, 24, 0)
    assert (report["selected"], report["deferred"], report["stale"], report["nofit"]) == (3, 1, 0, 0)
    assert "published" in pipeline.shown("cycle", "run", "--pool", pool)[0]


def test_a_plan_selects_nothing_until_it_is_committed(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=9)
    planned = pipeline("cycle", "plan", "--pool", pool)
    assert planned.keys() >= FIELDS
    assert (planned["status"], planned["selected"]) == ("planned", 1)
    assert pipeline("items", "show", "a", "--pool", pool)["state"] == "pending"
    committed = pipeline("cycle", "commit", planned["cycle"][:8])
    assert committed.keys() >= FIELDS
    assert (committed["cycle"], committed["status"]) == (planned["cycle"], "published")
    assert pipeline("items", "show", "a", "--pool", pool)["state"] == "selected"
    assert pipeline("cycle", "commit", planned["cycle"])["status"] == "published"


def test_a_person_is_told_how_to_commit_a_plan(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=9)
    out, _ = pipeline.shown("cycle", "plan", "--pool", pool)
    assert "next: pipeline cycle commit " in out


def test_a_plan_of_which_nothing_holds_is_stale(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=9)
    planned = pipeline("cycle", "plan", "--pool", pool)["cycle"]
    submit(a=10)
    failed = pipeline("cycle", "commit", planned, exits=3)["error"]
    assert failed["kind"] == "StalePlan"
    assert "plan again" in failed["message"]
    assert pipeline("cycle", "show", planned)["status"] == "abandoned"


def test_a_plan_of_which_something_holds_is_committed_as_far_as_it_does(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=9, b=8)
    planned = pipeline("cycle", "plan", "--pool", pool)["cycle"]
    submit(a=10)
    committed = pipeline("cycle", "commit", planned)
    assert (committed["selected"], committed["stale"], committed["value"]) == (1, 1, 8)


def test_cycles_are_listed_newest_first(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    assert "pipeline cycle run" in pipeline.shown("cycle", "list")[0]
    submit(a=9)
    first = pipeline("cycle", "run", "--pool", pool)["cycle"]
    submit(b=9)
    second = pipeline("cycle", "run", "--pool", pool)["cycle"]
    assert [row["cycle"] for row in pipeline("cycle", "list")["cycles"]] == [second, first]
    assert [row["cycle"] for row in pipeline("cycle", "list", "--pool", pool, "--limit", "1")["cycles"]] == [second]
    assert first[:8] in pipeline.shown("cycle", "list")[0]


def test_show_has_the_certificate_and_the_best_decisions(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=9, b=8)
    cycle = pipeline("cycle", "run", "--pool", pool)["cycle"]
    shown = pipeline("cycle", "show", cycle[:6])
    assert shown.keys() >= FIELDS - {"seconds"}
    assert [(row["key"], row["rank"], row["verdict"]) for row in shown["decisions"]] == [("a", 1, "selected"), ("b", 2, "selected")]
    assert shown["certificate"]["seed"] == 0
    assert "Decisions" in pipeline.shown("cycle", "show", cycle)[0]


def test_an_unknown_cycle_is_refused(pipeline: CommandLine, pool: str) -> None:
    for verb in ("commit", "show", "replay", "verify", "rollback"):
        assert pipeline("cycle", verb, "ffff", exits=5)["error"]["kind"] == "Unknown"


def test_a_replay_gives_the_same_answer(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=9, b=8, c=7, d=1)
    cycle = pipeline("cycle", "run", "--pool", pool)["cycle"]
    replayed = pipeline("cycle", "replay", cycle)
    assert (replayed["same"], replayed["hash"]) == (True, replayed["replayed_hash"])


def test_a_replay_that_differs_exits_4(pipeline: CommandLine, submit: Submit, pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(a=9)
    cycle = pipeline("cycle", "run", "--pool", pool)["cycle"]
    monkeypatch.setattr("pipeline_project.engine.cycle.Cycles.replay", lambda *_, **__: REPLAYED_OTHERWISE)
    assert pipeline("cycle", "replay", cycle, exits=4)["same"] is False
    assert "The answer differs" in pipeline.shown("cycle", "replay", cycle, exits=4)[1]


REPLAYED_OTHERWISE = {"cycle": "c", "pool": "p", "same": False, "hash": "1", "replayed_hash": "2", "value": 0, "reproducible": False}


def test_verify_finds_a_sound_selection_sound(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=9)
    cycle = pipeline("cycle", "run", "--pool", pool)["cycle"]
    assert pipeline("cycle", "verify", cycle) == {"cycle": cycle, "pool": "p", "verified": True, "violations": []}


def test_verify_exits_4_when_an_artifact_was_tampered_with(pipeline: CommandLine, submit: Submit, pool: str, tmp_path: Path) -> None:
    submit(a=9)
    cycle = pipeline("cycle", "run", "--pool", pool)["cycle"]
    (stored,) = (tmp_path / "artifacts").glob("**/proposed_selections/selection.parquet")
    stored.write_bytes(stored.read_bytes() + b"x")
    failed = pipeline("cycle", "verify", cycle, exits=4)["error"]
    assert failed["kind"] == "CheckFailed"
    assert "the file was changed after the cycle" in failed["message"]


def test_verify_exits_4_when_the_verifier_objects(
    pipeline: CommandLine, submit: Submit, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(a=9)
    cycle = pipeline("cycle", "run", "--pool", pool)["cycle"]
    monkeypatch.setattr("pipeline_project.engine.cycle.verify", lambda *_: ["overdrawn"])
    assert pipeline("cycle", "verify", cycle, exits=4)["violations"] == ["overdrawn"]
    assert "UNSOUND" in pipeline.shown("cycle", "verify", cycle, exits=4)[0]


def test_a_rollback_can_be_previewed(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=9, b=8)
    cycle = pipeline("cycle", "run", "--pool", pool)["cycle"]
    preview = pipeline("cycle", "rollback", cycle, "--preview")
    assert (preview["status"], preview["released"], preview["preview"]) == ("published", 2, True)
    assert pipeline("items", "list", "--pool", pool)["by_state"] == {"selected": 2}


def test_a_rollback_with_hold_keeps_the_next_cycle_off(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=9)
    cycle = pipeline("cycle", "run", "--pool", pool)["cycle"]
    rolled = pipeline("cycle", "rollback", cycle, "--hold", "2h", "--reason", "wrong prices")
    assert (rolled["status"], rolled["released"], rolled["preview"]) == ("rolled_back", 1, False)
    assert pipeline("cycle", "run", "--pool", pool)["selected"] == 0
    assert pipeline("items", "timeline", "a", "--pool", pool)["transitions"][-1]["reason"] == "wrong prices"


def test_a_reprocess_tells_what_changed_day_by_day(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=3, b=2, c=1)
    today = pipeline("cycle", "run", "--pool", pool, "--day", "2026-01-31")["day"]
    submit(better=9)
    answer = pipeline("cycle", "reprocess", "--pool", pool, "--from", "2026-01-30", "--to", "2026-01-31")
    assert (answer["pool"], answer["changed"]) == ("p", 0)
    assert [cycle["day"] for cycle in answer["cycles"]] == ["2026-01-30", today]
    assert all(cycle.keys() >= FIELDS | {"changed"} for cycle in answer["cycles"])
    assert "0 items changed" in pipeline.shown("cycle", "reprocess", "--pool", pool, "--from", today, "--to", today)[0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["reprocess", "--from", "2026-02-01", "--to", "2026-01-31"], "expected --from no later than --to"),
        (["reprocess", "--from", "2026-01-31", "--to", "2999-01-01"], "reprocess: expected days up to today, "),
        (["reprocess", "--from", "yesterday", "--to", "2026-01-31"], "expected a day such as 2026-01-31, found 'yesterday'"),
        (["run", "--day", "31.1.2026"], "expected a day such as 2026-01-31, found '31.1.2026'"),
    ],
)
def test_a_day_that_is_none_is_a_usage_error(pipeline: CommandLine, pool: str, arguments: list[str], sentence: str) -> None:
    assert sentence in pipeline("cycle", *arguments, "--pool", pool, exits=2)["error"]["message"]


def test_a_day_may_be_named(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=1)
    assert date.fromisoformat(pipeline("cycle", "plan", "--pool", pool, "--day", "2026-01-31")["day"]) == date(2026, 1, 31)


def test_another_cycle_in_flight_is_one_sentence(pipeline: CommandLine, submit: Submit, pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(a=1)
    with monkeypatch.context() as patched:
        patched.setattr("pipeline_project.engine.cycle.Cycles._publish", lambda *_: None)
        assert pipeline("cycle", "run", "--pool", pool)["status"] == "committing"
    submit(b=1)
    failed = pipeline("cycle", "run", "--pool", pool, exits=1)["error"]
    assert failed["kind"] == "CycleInFlight"
    assert "is committing by" in failed["message"]


def test_a_rollback_does_what_was_previewed_or_exits_3(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=9, b=8)
    cycle = pipeline("cycle", "run", "--pool", pool)["cycle"]
    preview = pipeline("cycle", "rollback", cycle, "--preview")
    assert [(item["item"], item["effect"]) for item in preview["items"]] == [("a", "release"), ("b", "release")]
    shown = pipeline.shown("cycle", "rollback", cycle, "--preview")[0]
    assert f"--expect {preview['hash']}" in shown.replace("\n", " ")
    pipeline("items", "cancel", "a", "--pool", pool)
    refused = pipeline("cycle", "rollback", cycle, "--expect", preview["hash"], exits=3)["error"]
    assert (refused["kind"], "a was to be released" in refused["message"]) == ("StalePlan", True)
    hash_now = pipeline("cycle", "rollback", cycle, "--preview")["hash"]
    assert pipeline("cycle", "rollback", cycle, "--expect", hash_now)["released"] == 1
    both = pipeline("cycle", "rollback", cycle, "--preview", "--expect", "x", exits=2)
    assert "expected --preview or --expect" in both["error"]["message"]


def test_what_a_preview_says_to_do_next_does_what_it_previewed(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=9)
    cycle = pipeline("cycle", "run", "--pool", pool)["cycle"]
    shown = pipeline.shown("cycle", "rollback", cycle, "--preview", "--hold", "2h", "--compensate")[0]
    _, command = shown.split("next: pipeline ")
    assert pipeline(*command.split())["released"] == 1
