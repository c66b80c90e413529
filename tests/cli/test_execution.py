"""The executor's commands: claim, complete, fail, heartbeat."""

from __future__ import annotations

import pytest

from pipeline_project.cli.session import actor
from tests.cli.conftest import CommandLine, Submit


@pytest.fixture
def selected(pipeline: CommandLine, submit: Submit, pool: str) -> str:
    """A pool with items a and b:c selected, a first."""
    submit(**{"a": 9, "b:c": 8})
    pipeline("cycle", "run", "--pool", pool)
    return pool


def test_a_claim_gives_token_payload_and_lease(pipeline: CommandLine, selected: str) -> None:
    claims = pipeline("claim", "--pool", selected, "--executor", "e", "-n", "1", "--ttl", "60")["claims"]
    assert [(claim["item"], claim["token"], claim["payload"]) for claim in claims] == [("a", 1, None)]
    assert claims[0].keys() >= {"item", "token", "payload", "lease_until"}
    assert [claim["item"] for claim in pipeline("claim", "--pool", selected, "--executor", "f", "-n", "9")["claims"]] == ["b:c"]
    assert pipeline("claim", "--pool", selected, "--executor", "g") == {"claims": []}
    assert "nothing is selected" in pipeline.shown("claim", "--pool", selected, "--executor", "g")[0]


def test_completed_is_completed_however_often_it_is_said(pipeline: CommandLine, selected: str) -> None:
    pipeline("claim", "--pool", selected, "--executor", "e", "-n", "2")
    for _ in range(2):
        answers = pipeline("complete", "--pool", selected, "a:1", "b:c:1", "--result", '{"rows": 3}')["claims"]
        assert [(answer["item"], answer["accepted"], answer["state"]) for answer in answers] == [
            ("a", True, "completed"),
            ("b:c", True, "completed"),
        ]


@pytest.mark.parametrize("command", [["complete"], ["fail", "--error", "boom"]])
def test_a_stale_token_is_refused_with_the_reason_and_the_others_are_accepted(
    pipeline: CommandLine, selected: str, command: list[str]
) -> None:
    pipeline("claim", "--pool", selected, "--executor", "e", "-n", "2")
    answers = pipeline(*command, "--pool", selected, "a:1", "b:c:7", "nobody:1", exits=5)["claims"]
    assert [answer["accepted"] for answer in answers] == [True, False, False]
    assert "stale token: expected 1" in answers[1]["reason"]
    assert "no item of that key" in answers[2]["reason"]
    assert "stale token" in pipeline.shown(*command, "--pool", selected, "b:c:7", exits=5)[0]


@pytest.mark.parametrize(("command", "event"), [(["complete"], "complete"), (["fail", "--error", "boom"], "retry")])
def test_the_trail_says_who_brought_a_claim_back(pipeline: CommandLine, selected: str, command: list[str], event: str) -> None:
    pipeline("claim", "--pool", selected, "--executor", "e")
    pipeline(*command, "--pool", selected, "a:1")
    last = pipeline("items", "timeline", "a", "--pool", selected)["transitions"][-1]
    assert (last["event"], last["actor"]) == (event, actor())


def test_a_failed_item_is_tried_again_as_the_policy_says(pipeline: CommandLine, selected: str) -> None:
    pipeline("policy", "apply", pipeline.file("p.yaml", "retries: {backoff: 0s}"), "--pool", selected)
    pipeline("claim", "--pool", selected, "--executor", "e")
    (answer,) = pipeline("fail", "--pool", selected, "a:1", "--error", "boom")["claims"]
    assert (answer["accepted"], answer["state"]) == (True, "selected")
    claims = pipeline("claim", "--pool", selected, "--executor", "e", "-n", "2")["claims"]
    assert {claim["item"]: claim["token"] for claim in claims} == {"a": 2, "b:c": 1}


def test_a_heartbeat_prolongs_what_is_claimed(pipeline: CommandLine, selected: str) -> None:
    assert pipeline("heartbeat", "--pool", selected, "--executor", "e") == {"pool": "p", "executor": "e", "prolonged": 0}
    pipeline("claim", "--pool", selected, "--executor", "e", "-n", "2")
    assert pipeline("heartbeat", "--pool", selected, "--executor", "e", "--ttl", "2h")["prolonged"] == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["complete", "a"], "expected ITEM:TOKEN, such as job-7:1, found 'a'"),
        (["complete", "a:one"], "found 'a:one'"),
        (["complete", "a:1", "--result", "{"], "expected JSON, found '{'"),
        (["complete", "a:1", "--result", "[" * 5000], "(nested deeper than 100 levels)"),
        (["complete", "a:1", "--result", '{"n": 1, "n": 2}'], "the name 'n' twice in one object"),
        (["complete", "a:1", "--result", "[NaN]"], "results: expected values that JSON can say, found NaN or infinity, which are not JSON"),
        (["complete", "a:1", "--result", '"\\u0000"'], "found the character NUL"),
        (["claim", "--executor", "e", "-n", "0"], "-n"),
        (["claim", "--executor", "e", "--ttl", "soon"], "expected whole seconds, or a duration"),
        (["claim"], "--executor"),
        (["fail", "a:1"], "--error"),
    ],
)
def test_what_cannot_be_read_is_a_usage_error(pipeline: CommandLine, pool: str, arguments: list[str], sentence: str) -> None:
    assert sentence in pipeline(*arguments, "--pool", pool, exits=2)["error"]["message"]


def test_a_sweep_tells_what_it_did(pipeline: CommandLine, selected: str) -> None:
    swept = pipeline("upkeep", "sweep")
    assert (swept["expired"], swept["holds_released"], swept["leases_lapsed"]) == (0, 0, 0)
    assert "holds released" in pipeline.shown("upkeep", "sweep")[0]
