"""`pipeline pools`: made once, listed, paused and resumed."""

from __future__ import annotations

from tests.cli.conftest import CommandLine, Submit


def test_a_pool_is_made_once_and_keeps_its_policy(pipeline: CommandLine) -> None:
    policy = pipeline.file("policy.yaml", "solver: {seed: 7}")
    assert pipeline("pools", "create", "p")["created"] is True
    again = pipeline("pools", "create", "p", "--policy", policy)
    assert (again["created"], again["policy_version"]) == (False, 1)
    said, _ = pipeline.shown("pools", "create", "p", "--policy", policy)
    assert "it keeps its policy (version 1)" in said
    assert f"pipeline policy apply {policy} --pool p" in said


def test_a_pool_may_be_made_with_a_policy(pipeline: CommandLine) -> None:
    made = pipeline("pools", "create", "p", "--policy", pipeline.file("policy.yaml", "solver: {seed: 7}"))
    shown = pipeline("policy", "show", "--pool", "p")
    assert shown["hash"] == made["policy_hash"]
    assert shown["policy"]["solver"]["seed"] == 7


def test_a_name_that_would_not_be_safe_in_a_partition_key_is_refused(pipeline: CommandLine) -> None:
    for name in ["a|b", "", "a/b", "..", "x" * 65, "ä", "a b", "a\n"]:
        refused = pipeline("pools", "create", name, exits=5)["error"]
        assert refused["kind"] == "Refused"
        assert "pool name: expected 1 to 64 of A-Z a-z 0-9 _ -, found" in refused["message"]
    assert pipeline("pools", "list") == {"pools": []}


def test_lists_answer_with_their_noun(pipeline: CommandLine, submit: Submit) -> None:
    submit(a=1)
    (only,) = pipeline("pools", "list")["pools"]
    assert (only["pool"], only["status"], only["pending"], only["resources"]) == ("p", "active", 1, 1)
    assert "p" in pipeline.shown("pools", "list")[0]


def test_where_there_is_none_a_person_is_told_what_to_do(pipeline: CommandLine) -> None:
    assert pipeline("pools", "list") == {"pools": []}
    assert "pipeline pools create NAME" in pipeline.shown("pools", "list")[0]


def test_a_paused_pool_makes_no_cycle_until_it_is_resumed(pipeline: CommandLine, pool: str) -> None:
    assert pipeline("pools", "pause", pool) == {"pool": pool, "status": "paused", "changed": True}
    assert pipeline("pools", "pause", pool)["changed"] is False
    assert "is paused" in pipeline("cycle", "run", "--pool", pool, exits=5)["error"]["message"]
    assert pipeline("pools", "resume", pool) == {"pool": pool, "status": "active", "changed": True}
    pipeline("cycle", "run", "--pool", pool)


def test_show_tells_counts_and_what_happened_last(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=1, b=1)
    shown = pipeline("pools", "show", pool)
    assert shown["items"] == {"pending": 2}
    assert [event["kind"] for event in shown["events"]] == ["capacity_changed", "pool_created"]
    assert "2 pending" in pipeline.shown("pools", "show", pool)[0]


def test_an_unknown_pool_is_refused_with_those_that_exist(pipeline: CommandLine, pool: str) -> None:
    for command in (
        ["pools", "show", "q"],
        ["items", "list", "--pool", "q"],
        ["resources", "list", "--pool", "q"],
        ["cycle", "run", "--pool", "q"],
        ["claim", "--pool", "q", "--executor", "e"],
        ["policy", "show", "--pool", "q"],
    ):
        refused = pipeline(*command, exits=5)["error"]
        assert refused == {"kind": "Unknown", "message": f"pool 'q': expected one that exists ({pool})"}
